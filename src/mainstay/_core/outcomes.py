"""What counts as a failure: the `on=` of every policy.

`on` is an exception class below `Exception`, a tuple of them, or a predicate. A class matches one
of our own exception groups if it matches every leaf of it.
"""

import inspect
from collections.abc import Callable
from typing import Any, TypeAlias

import attrs

from mainstay._core.callables import Colour, colour_of
from mainstay.errors import MainstayError

Classes: TypeAlias = type[Exception] | tuple[type[Exception], ...]
Judge: TypeAlias = Callable[[Exception], Any]
"""Takes a failed attempt's exception and gives the verdict of `on`: True, False, or more."""


def judge_of(on: object) -> Judge:
    """Turn what users give as `on=` into a function from the exception to a verdict.

    Raises:
        TypeError: If *on* is none of the accepted forms.
    """
    if isinstance(on, type | tuple):
        if on == ():
            raise TypeError("`on` must name at least one exception class, not ()")
        for each in on if isinstance(on, tuple) else (on,):
            _check_class(each)
        return ErrorClasses(on)
    if not callable(on):
        raise TypeError(
            f"`on` must be an exception class, a tuple of them, or a predicate, not {on!r}"
        )
    if colour_of(on) in (Colour.GENERATOR, Colour.ASYNC_GENERATOR):
        raise TypeError(f"`on` must return its verdict, and the generator {on!r} does not")
    return on


def _check_class(each: object) -> None:
    if not (inspect.isclass(each) and issubclass(each, BaseException)):
        raise TypeError(f"`on` takes exception classes, not {each!r}")
    if not issubclass(each, Exception):
        raise TypeError(
            f"`on` takes classes below Exception, not {each.__name__}: exceptions such as "
            f"KeyboardInterrupt and CancelledError are never failures"
        )


@attrs.frozen
class ErrorClasses:
    """The verdict of exception classes: whether an exception is of one of them."""

    classes: Classes

    def __call__(self, error: BaseException) -> bool:
        if isinstance(error, self.classes):
            return True
        if isinstance(error, BaseExceptionGroup) and isinstance(error, MainstayError):
            return all(map(self, error.exceptions))
        return False
