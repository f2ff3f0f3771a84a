"""What counts as a failure: the `on=` of every policy.

`on` is an exception class below `Exception`, a tuple of them, or a predicate. One of our own
exception groups matches if every leaf of it does: classes are compared with the group as well,
predicates only ever see leaves.
"""

import inspect
from collections.abc import Callable
from typing import Any, TypeAlias, TypeGuard

import attrs

from mainstay._core.callables import Colour, colour_of, is_async
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
    return AsyncPredicate(on) if is_async(on) else Predicate(on)


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
        return isinstance(error, self.classes) or (
            _is_group_of_ours(error) and all(map(self, error.exceptions))
        )


@attrs.frozen
class Predicate:
    """The verdict of a predicate."""

    predicate: Judge

    def __call__(self, error: Exception) -> Any:
        if not _is_group_of_ours(error):
            return self.predicate(error)
        return _verdict_of_all([self(leaf) for leaf in error.exceptions])


@attrs.frozen
class AsyncPredicate:
    """The verdict of an async predicate, to be awaited."""

    predicate: Judge

    async def __call__(self, error: Exception) -> Any:
        if not _is_group_of_ours(error):
            return await self.predicate(error)
        return _verdict_of_all([await self(leaf) for leaf in error.exceptions])


def _is_group_of_ours(error: BaseException) -> TypeGuard[ExceptionGroup[Exception]]:
    return isinstance(error, MainstayError) and isinstance(error, ExceptionGroup)


def _verdict_of_all(verdicts: list[Any]) -> Any:
    """Give the verdict about a group: False if one is; else the first that says more than True."""
    if any(verdict is False for verdict in verdicts):
        return False
    return next((verdict for verdict in verdicts if verdict is not True), True)
