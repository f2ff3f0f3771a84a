"""`on=` and `on_result=`: which exceptions and results are failures, for all policies.

`on` is a subclass of `Exception`, a tuple of such classes, or a predicate. An exception group of
mainstay matches if all its leaves match: classes are compared with the group as well, predicates
only see leaves. `NoMemberError` is the one exception: it is judged as a whole, and not by its
entries, which say why each member could not be called.
"""

import enum
import inspect
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeAlias, TypeGuard

import attrs

from mainstay._core.functions import (
    Kind,
    close_coroutine,
    is_async,
    is_async_hook,
    is_awaitable,
    kind_of,
    name_of,
)
from mainstay._core.words import described
from mainstay.errors import MainstayError, RejectedError

Classes: TypeAlias = type[Exception] | tuple[type[Exception], ...]
Judge: TypeAlias = Callable[[Exception], Any]
"""From a failed attempt's exception to the verdict of `on`: True, False, or more."""


class Verdict(enum.Enum):
    """What a predicate `on` of a pool may return besides True and False.

    Example:
        >>> from mainstay import FailoverPool, Member, Verdict
        >>> members = [Member("a", "busy"), Member("b", "idle")]
        >>> pool = FailoverPool("workers", members, on=lambda error: Verdict.TRY_ANOTHER)
        >>> def work(worker: str) -> str:
        ...     if worker == "busy":
        ...         raise RuntimeError(worker)
        ...     return worker
        >>> pool.call(work)
        'idle'
    """

    MEMBER_FAILED = True
    """The failure counts against the member, and the call tries another member; equal to True."""
    TRY_ANOTHER = "try_another"
    """The member is healthy but busy, and the call tries another member."""
    STOP = False
    """The exception is no failure of the member, and passes through; equal to False."""

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, bool) and other is self.value)

    def __hash__(self) -> int:
        return hash(self.value)


FAILING = object()
"""The verdict about what a predicate with `failing` finds failing and would not send again: it
counts against what was called, and the exception is the caller's."""


# From `on=` to a judge.


def judge_of(on: object, parameter: str = "on") -> Judge:
    """Return the function from an exception to a verdict for what users give as `on=`.

    Args:
        on: An exception class, a tuple of them, or a predicate.
        parameter: The name that the error messages use.

    Raises:
        TypeError: If *on* is none of the accepted forms.
    """
    if isinstance(on, type | tuple):
        if on == ():
            raise TypeError(f"`{parameter}` must name at least one exception class, not ()")
        for each in on if isinstance(on, tuple) else (on,):
            _check_class(each, parameter)
        return ErrorClasses(on)
    if not callable(on):
        raise TypeError(
            f"`{parameter}` must be an exception class, a tuple of them, or a predicate, not {on!r}"
        )
    _check_no_strategy(on, parameter, "exception classes, or a predicate that takes an exception")
    if kind_of(on) in (Kind.GENERATOR, Kind.ASYNC_GENERATOR):
        raise TypeError(
            f"`{parameter}` must return its verdict, and the generator {name_of(on)} does not"
        )
    return AsyncPredicate(on) if is_async(on) else Predicate(on)


def verdict_judge_of(on: object) -> Judge:
    """Return the judge of a policy whose `on` may answer a `Verdict` and cannot be awaited.

    Raises:
        TypeError: If *on* is none of the accepted forms, or is async.
    """
    if is_async_hook(on):
        raise TypeError(f"`on` must be a plain predicate, and {name_of(on)} is async")
    judge = judge_of(on)
    if not isinstance(judge, Predicate):
        return judge
    predicate = judge.predicate
    failing = failing_of(on)
    if failing is not None:
        return Predicate(lambda error: _of_both_questions(predicate(error), failing(error)))
    return Predicate(lambda error: _as_bool(predicate(error)))


def failing_of(on: object) -> Callable[[Exception], object] | None:
    """Return the second question of an `on` that has one: whether what was called is failing."""
    failing = None if isinstance(on, type | tuple) else getattr(on, "failing", None)
    return failing if callable(failing) else None


def _of_both_questions(again: object, failing: object) -> object:
    """Return the verdict for a member: whether it is charged, and whether the call moves on."""
    if again is False:
        return FAILING if failing else False
    return True if failing else Verdict.TRY_ANOTHER


def _as_bool(answer: object) -> object:
    """Return a verdict as True or False where it equals one: groups are judged by these."""
    if is_delay(answer):
        return True
    if isinstance(answer, Verdict) and answer is not Verdict.TRY_ANOTHER:
        return answer.value
    return answer


def is_delay(answer: object) -> bool:
    """True if a predicate answered with a delay, which says that the exception passes."""
    return isinstance(answer, int | float | timedelta) and not isinstance(answer, bool)


def checked_on_result(
    on_result: object, *, may_be_async: bool = False
) -> Callable[[Any], Any] | None:
    """Return what users give as `on_result=`, checked.

    Raises:
        TypeError: If it takes no result, or cannot answer for one.
    """
    if on_result is None:
        return None
    if not callable(on_result):
        raise TypeError(f"`on_result` must take a result and return a bool, not {on_result!r}")
    _check_no_strategy(on_result, "on_result", "a function that takes a result")
    if kind_of(on_result) in (Kind.GENERATOR, Kind.ASYNC_GENERATOR):
        raise TypeError(
            f"`on_result` must return its answer, but {name_of(on_result)} is a generator, which "
            f"would always count as True"
        )
    if not may_be_async and is_async_hook(on_result):
        raise TypeError(f"`on_result` must be a plain function, and {name_of(on_result)} is async")
    return on_result


def is_refused(on_result: Callable[[Any], object], value: object) -> bool:
    """True if `on_result` refuses a result; its exceptions pass through.

    Raises:
        TypeError: If `on_result` returns an awaitable, which would always count as True.
    """
    answer = on_result(value)
    if is_awaitable(answer):
        close_coroutine(answer)
        raise TypeError("`on_result` must return a bool, not an awaitable")
    return bool(answer)


def verdict_of(answer: object) -> object:
    """Return what `on` answered about an exception as a `Verdict`, or `FAILING`.

    Raises:
        TypeError: If it is none of the answers it may give.
    """
    if answer is FAILING:
        return FAILING
    if isinstance(answer, bool | Verdict):
        return Verdict(answer)
    raise TypeError(f"`on` must return True, False or a Verdict, not {described(answer)}")


def _check_class(each: object, parameter: str) -> None:
    if not (inspect.isclass(each) and issubclass(each, BaseException)):
        raise TypeError(f"`{parameter}` takes exception classes, not {each!r}")
    if not issubclass(each, Exception):
        raise TypeError(
            f"`{parameter}` takes classes below Exception, not {each.__name__}: exceptions such as "
            f"KeyboardInterrupt and CancelledError are never failures"
        )


def _check_no_strategy(given: object, parameter: str, instead: str) -> None:
    """Raise if *given* is of tenacity, which calls it with the state of a retry: it errs here."""
    if any(str(each.__module__).startswith("tenacity.") for each in type(given).__mro__):
        raise TypeError(
            f"`{parameter}` takes no strategy of tenacity here, as {type(given).__name__} is; give "
            f"{instead}"
        )


@attrs.frozen(repr=False)
class ErrorClasses:
    """The verdict of exception classes: True if an exception is of one of them."""

    classes: Classes

    def __str__(self) -> str:
        classes = self.classes if isinstance(self.classes, tuple) else (self.classes,)
        return ", ".join(each.__name__ for each in classes)

    def __call__(self, error: BaseException) -> bool:
        return issubclass(type(error), self.classes) or (
            _is_judged_by_leaves(error) and all(map(self, error.exceptions))
        )


def _called(predicate: Judge) -> str:
    """Return what a predicate is called in messages; one of ours, as `transient`, by its `repr`."""
    if str(type(predicate).__module__).startswith("mainstay."):
        return repr(predicate)
    return f"the predicate {name_of(predicate)}"


@attrs.frozen(repr=False)
class Predicate:
    """The verdict of a predicate."""

    predicate: Judge

    def __str__(self) -> str:
        return _called(self.predicate)

    def __call__(self, error: Exception) -> Any:
        if not _is_judged_by_leaves(error):
            return self.predicate(error)
        return _verdict_of_all([self(leaf) for leaf in error.exceptions])


@attrs.frozen(repr=False)
class AsyncPredicate:
    """The verdict of an async predicate, to be awaited."""

    predicate: Judge

    def __str__(self) -> str:
        return _called(self.predicate)

    async def __call__(self, error: Exception) -> Any:
        if not _is_judged_by_leaves(error):
            return await self.predicate(error)
        return _verdict_of_all([await self(leaf) for leaf in error.exceptions])


def _is_judged_by_leaves(error: BaseException) -> TypeGuard[ExceptionGroup[Exception]]:
    return (
        issubclass(type(error), MainstayError)
        and issubclass(type(error), ExceptionGroup)
        and not issubclass(type(error), RejectedError)
    )


def _verdict_of_all(verdicts: list[Any]) -> Any:
    """Return the verdict about a group: False if one is; else the first that is not just True."""
    if any(verdict is False for verdict in verdicts):
        return False
    return next((verdict for verdict in verdicts if verdict is not True), True)
