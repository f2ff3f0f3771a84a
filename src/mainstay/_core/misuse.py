"""Errors for first mistakes: a decorator without parentheses, parameters of other libraries.

Python's own messages for these mistakes name neither the cure nor the parameter that is meant.
"""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def shows_use(
    example: str, elsewhere: Mapping[str, str] | None = None
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Make a function, or the `__init__` of a class, say what to write where arguments do not fit.

    Args:
        example: How it is used.
        elsewhere: Parameters of other libraries, and what says the same here.
    """

    def decorated(make: Callable[P, R]) -> Callable[P, R]:
        return _showing_use(make, example=example, elsewhere=elsewhere or {})

    return decorated


def keywords_only(
    *, example: str, elsewhere: Mapping[str, str]
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Make wrong arguments of a function such as `retry` raise an error that says what to write.

    Args:
        example: How the function is used.
        elsewhere: Parameters of other libraries, and what to write instead.
    """

    def decorated(make: Callable[P, R]) -> Callable[P, R]:
        name = make.__name__
        checked = _showing_use(make, example=example, elsewhere=elsewhere)

        @functools.wraps(make)
        def call(*args: Any, **kwargs: Any) -> R:
            if args:
                raise TypeError(f"`{name}` takes its parameters by name only; write {example}")
            return checked(**kwargs)  # type: ignore[call-arg]  # as P says

        return call

    return decorated


def _showing_use(
    make: Callable[P, R], *, example: str, elsewhere: Mapping[str, str]
) -> Callable[P, R]:
    @functools.wraps(make)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return make(*args, **kwargs)
        except TypeError:
            problem = _problem(make, args, kwargs, elsewhere)
            if problem is None:  # the function was called, and raised the TypeError itself
                raise
        raise TypeError(f"`{_name(make)}` {problem}; write {example}")

    return call


def _problem(
    make: Callable[..., object],
    args: tuple[object, ...],
    kwargs: Mapping[str, object],
    elsewhere: Mapping[str, str],
) -> str | None:
    """Return why a function cannot be called with these arguments; None if it can."""
    signature = inspect.signature(make)
    known = [name for name in signature.parameters if name != "self"]
    for given in kwargs:
        if given not in known:
            instead = elsewhere.get(given)
            cure = f"here it is {instead}" if instead else f"it takes {', '.join(known)}"
            return f"has no parameter `{given}`; {cure}"
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        return f"cannot be called so: {error}"
    return None


def _name(make: Callable[..., object]) -> str:
    *_, owner, name = ("", *make.__qualname__.split("."))
    return owner if name.startswith("__") else name
