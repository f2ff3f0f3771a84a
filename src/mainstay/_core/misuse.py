"""What users write at first: a decorator without its parentheses, another library's parameters.

Python's own message for these names neither the cure nor the word that is meant.
"""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def keywords_only(
    *, example: str, elsewhere: Mapping[str, str]
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Make a function that makes policies say what to write in place of what it cannot take.

    Args:
        example: How it is used.
        elsewhere: Parameters of other libraries, and what says the same here.
    """

    def decorated(make: Callable[P, R]) -> Callable[P, R]:
        name = make.__name__
        known = inspect.signature(make).parameters.keys()

        @functools.wraps(make)
        def call(*args: Any, **kwargs: Any) -> R:
            if args:
                raise TypeError(f"`{name}` takes its parameters by name only; write {example}")
            if not kwargs.keys() <= known:
                given = next(each for each in kwargs if each not in known)
                instead = elsewhere.get(given)
                cure = f"here it is {instead}" if instead else f"it takes {', '.join(known)}"
                raise TypeError(f"`{name}` has no parameter `{given}`; {cure}")
            return make(**kwargs)  # type: ignore[call-arg]  # as P says

        return call

    return decorated
