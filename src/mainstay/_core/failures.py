"""`on=`: which exceptions are failures, for all policies; and the notes that policies leave.

`on` is a subclass of `Exception`, a tuple of such classes, or a predicate. An exception group of
mainstay matches if all its leaves match: classes are compared with the group as well, predicates
only see leaves. `NoMemberError` is the one exception: it is judged as a whole, and not by its
entries, which say why each member could not be called.

Exceptions are compared by their type, as `except` does. `isinstance` would also read `__class__`,
which a property of the user's class may answer falsely, or raise.
"""

import contextlib
import enum
import inspect
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeAlias, TypeGuard, TypeVar

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
from mainstay.errors import MainstayError, RejectedError

if TYPE_CHECKING:
    from typing_extensions import TypeIs

_Error = TypeVar("_Error", bound=BaseException)
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


# Notes on exceptions (PEP 678).

_LONGEST = 1_000
_LONGEST_IN_NOTES = 200
KEPT = 7  # the first attempt, the last five, and the one whose exception is raised


class AttemptLog(list[tuple[int, str, BaseException, float]]):
    """The failed attempts of one call, for the note that lists them.

    It keeps their exceptions, whose tracebacks lead to the call: `clear` it when the call ends.
    """

    __slots__ = ()

    def add(self, where: str, error: BaseException, seconds: float) -> None:
        """Record that an attempt failed.

        Args:
            where: Text to put after the number of the attempt, such as ", at member b".
            error: The exception of the attempt.
            seconds: The time that the attempt took.
        """
        made = self[-1][0] if self else 0
        self.append((made + 1, where, error, seconds))
        if made >= KEPT:
            del self[1]

    def note(self, summary: str, name: str = "attempt {}", *, whole: bool = False) -> str:
        """Return the note for the call's exception: *summary*, and the attempts before it.

        Args:
            summary: The beginning of the note.
            name: The word for an attempt.
            whole: True to list the last attempt too, if the call raises another exception.
        """
        lines = [
            f"{name.format(number)}{where}: {_in_one_line(error)} ({seconds:.3f} s)"
            for number, where, error, seconds in (self[:] if whole else self[:-1])
        ]
        if not lines:
            return summary
        left_out = self[-1][0] - len(self)
        if left_out:
            lines.insert(1, f"... and {counted(left_out, 'more attempt')}")
        heading = "the attempts:" if whole else "the attempts before:"
        return "\n  ".join([f"{summary}; {heading}", *lines])


def _in_one_line(error: BaseException) -> str:
    """Return `in_words` for the line of an attempt, since messages may have several lines."""
    return " ".join(in_words(error, _LONGEST_IN_NOTES).split())


def leave_note(
    error: BaseException, owner: str, text: str, kind: Callable[[str], str] = str
) -> None:
    """Leave the note "*owner*: *text*" on *error*, in place of an earlier one of that owner.

    *kind* makes the note of its text, if the note has to be recognized later.

    An exception that refuses notes is left as it is: a note is never worth an error.
    """
    with contextlib.suppress(Exception):
        start = f"{owner}: "
        notes = getattr(error, "__notes__", [])
        error.__notes__ = [n for n in notes if not str(n).startswith(start)]
        error.add_note(kind(start + text))


CAUSE: Any = BaseException.__dict__["__cause__"]
CONTEXT: Any = BaseException.__dict__["__context__"]
_EXCEPTIONS: Any = BaseExceptionGroup.__dict__["exceptions"]
"""What Python itself keeps of an exception: to read and set it so never asks a class of the user's,
which may refuse, as a frozen dataclass does."""


def is_a(error: BaseException | None, kind: type[_Error]) -> "TypeIs[_Error]":
    """True if *error* is of *kind*; unlike `isinstance`, never asks the error for its class."""
    return issubclass(type(error), kind)


def leaves_of(error: BaseException) -> list[BaseException]:
    """Return what a group holds, down to what is no group; a `NoMemberError` is none of them."""
    if not is_a(error, BaseExceptionGroup) or is_a(error, RejectedError):
        return [error]
    return [leaf for each in _EXCEPTIONS.__get__(error) for leaf in leaves_of(each)]


def is_refusal(error: BaseException) -> bool:
    """True if *error* says that nothing was called: also a group of such, as a `TaskGroup` raises.

    A breaker or a member around the call learns nothing from it.
    """
    kind = type(error)
    return issubclass(kind, RejectedError) or (
        issubclass(kind, BaseExceptionGroup)
        and all(issubclass(type(leaf), RejectedError) for leaf in leaves_of(error))
    )


def described(value: object) -> str:
    """Return the `repr` of something of the user's, or its class's name where that raises."""
    try:
        return repr(value)
    except Exception:  # noqa: BLE001 - a user's __repr__ may raise anything
        return f"a {class_name(value)}"


_own_name = type.__dict__["__name__"].__get__
"""Reads a class's own name, which its metaclass can neither hide nor make fail."""


def class_name(value: object) -> str:
    """Return the name of the class of something of the user's, at most 200 characters of it."""
    name: str = _own_name(type(value))
    return name[:_LONGEST_IN_NOTES]


def in_words(error: BaseException, longest: int = _LONGEST) -> str:
    """Return the class and message of an exception, or its class's name where the message raises.

    Returns:
        At most *longest* characters of the message, all of which can be written anywhere.
    """
    text = class_name(error)
    with contextlib.suppress(Exception):  # a user's __str__ may raise anything
        said = str(error)
        text = f"{text}: {said[:longest]}" if said else text
    return text.encode("utf-8", "backslashreplace").decode()


def printable(text: str, *, in_json: bool = False) -> str:
    """Escape what would begin a line, tell a terminal something, or show text in another order.

    Every line of the commands and of the log goes through here.

    Args:
        text: A text from users, exceptions or the content of a store.
        in_json: True if *text* is JSON: then the escapes of JSON are used, and lines are kept.
    """
    if text.isprintable():
        return text
    if in_json:
        return "".join(
            each if each.isprintable() or each == "\n" else _escaped_in_json(each) for each in text
        )
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)


def _escaped_in_json(each: str) -> str:
    units = each.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[place : place + 4]}" for place in range(0, len(units), 4))


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Return a number of things in words: "1 attempt", "3 attempts", "2 copies"."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"
