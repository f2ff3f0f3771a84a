"""`Event` and `on_event`: how policies report what they did, to the log and to listeners.

A listener can neither break nor change a call: its exceptions are swallowed, and counted by the
recorder of the policy.
"""

import contextlib
import functools
import logging
import sys
import traceback
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, ClassVar, Literal, Protocol, TypeAlias

import attrs

from mainstay._core.functions import Kind, kind_of, name_of
from mainstay._core.threads import values_now
from mainstay._core.words import printable


@attrs.frozen
class Event:
    """The base of all events: something that a policy did. Frozen; subclasses add fields.

    Attributes:
        policy: The kind of policy: "retry" and so on.
        kind: What happened, in the past tense.
        component: The name of the policy.

    Example:
        >>> from mainstay import on_event
        >>> from mainstay.events import Event
        >>> def page_me(event: Event) -> None:
        ...     if event.kind == "breaker_changed":
        ...         print(event.policy, event.component, event)
        >>> stop = on_event(page_me)
        >>> stop()
    """

    policy: ClassVar[str]
    kind: ClassVar[str]
    _level: ClassVar[int] = logging.INFO
    component: str

    @property
    def level(self) -> int:
        """The level of the log line, as in `logging`; 0 if the event is not logged."""
        return self._level


Cause: TypeAlias = Literal["consecutive", "rate", "slow", "probe", "dissent"]
"""Why a member was ejected, or a breaker opened; here, so that events need no detector."""

Listener: TypeAlias = Callable[[Event], object]


class ListenerFailed(Protocol):
    """Is called with a listener that raised, and its exception; "reentry" if it was not called."""

    def __call__(
        self, listener: Callable[..., object], error: Exception, hook: str = "listener", /
    ) -> object: ...


# A library leaves it to the program whether its lines go anywhere.
logging.getLogger("mainstay").addHandler(logging.NullHandler())

_listeners: dict[object, Listener] = {}
"""By registration, so that a function may listen twice. No lock: handlers may come back in."""

_at_work: ContextVar[tuple[Listener, ...]] = ContextVar("mainstay_listeners", default=())


def on_event(fn: Listener) -> Callable[[], None]:
    """Call *fn* with every event of every policy of this process.

    Events are the frozen objects that the log lines are made from: `str(event)` is the line;
    `.policy`, `.kind` and `.component` say which policy did what; the other attributes have the
    figures and the exception, if there is one. *fn* runs in the thread or task of the call, so it
    should return soon. An exception from *fn* is swallowed and counted. Events that *fn* causes
    itself are not passed to *fn*.

    Args:
        fn: A plain function that takes one event.

    Returns:
        A function without parameters that ends the calls of *fn*.

    Raises:
        TypeError: If *fn* cannot be called, or is async or a generator.

    Metrics:
        Exceptions from *fn* count in `hook_errors_total` of the policy's metrics, and in
        `errors_total` with the name of *fn* as `component` and "event" as `policy`.

    Example:
        >>> from mainstay import on_event
        >>> stop = on_event(lambda event: print(event.kind, event.component))
        >>> stop()
    """
    registration = object()
    _listeners[registration] = checked_listener(fn)

    def stop() -> None:
        _listeners.pop(registration, None)

    return stop


def checked_listener(fn: Listener) -> Listener:
    """Return *fn*; raise if it cannot be called, or is not a plain function."""
    if not callable(fn):
        raise TypeError(f"`fn` must be callable with one event, not {fn!r}")
    if kind_of(fn) is not Kind.SYNC:
        raise TypeError(f"`fn` must be a plain function, and {name_of(fn)} would never be awaited")
    return fn


class _GuardedLogger(logging.LoggerAdapter[logging.Logger]):
    """A logger whose handlers cannot break a call."""

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        """Log a line; what a handler raises is printed, as `logging` prints what its own raise."""
        try:
            super().log(level, msg, *args, stacklevel=2, **kwargs)
        except Exception:  # noqa: BLE001 - the handlers are the user's
            if logging.raiseExceptions and sys.stderr:
                with contextlib.suppress(Exception):  # a stream that is closed
                    traceback.print_exc()


@functools.cache
def logger_of(policy: str) -> _GuardedLogger:
    """Return the logger of a kind of policy, as "mainstay.retry"."""
    logger = logging.getLogger(f"mainstay.{policy}")
    logger.addFilter(_in_one_line)
    return _GuardedLogger(logger, None)


def _in_one_line(record: logging.LogRecord) -> bool:
    """Escape what a name, or whatever else is put into a line, would command a terminal to do."""
    if isinstance(record.args, tuple):
        record.args = tuple(
            printable(str(each)) if isinstance(each, str | BaseException) else each
            for each in record.args
        )
    return True


_MOST_FIRSTS = 10_000
_seen: set[tuple[str, ...]] = set()


def is_first(*what: str) -> bool:
    """Return True the first time that this is asked in this process: what is said only once.

    After so many different things nothing counts as the first of its kind any more.
    """
    if what in _seen or len(_seen) >= _MOST_FIRSTS:
        return False
    _seen.add(what)
    return True


def forget_firsts() -> None:
    """Make everything the first of its kind again: for tests."""
    _seen.clear()


def is_observed(policy: str, level: int) -> bool:
    """True if an event of *level* would reach anybody; making one that does not is a waste."""
    return bool(_listeners) or logger_of(policy).logger.isEnabledFor(level)


def publish(event: Event, listener_failed: ListenerFailed) -> None:
    """Log *event* and pass it to every listener; their exceptions are swallowed.

    Args:
        event: The event.
        listener_failed: Called with each listener that raised, and its exception.
    """
    if event.level:
        notify(_log, event, listener_failed)
    for listener in values_now(_listeners):
        notify(listener, event, listener_failed)


def _log(event: Event) -> None:
    # Records must keep no exception alive: they get words. A handler that raises counts as a
    # listener that does.
    logger_of(event.policy).logger.log(event.level, "%s", str(event))


def notify(listener: Listener, event: Event, listener_failed: ListenerFailed) -> None:
    """Pass *event* to one listener; its exceptions are swallowed.

    A listener or log handler that uses a policy may cause events itself. These are not passed to a
    listener that is running, or it would never end.
    """
    at_work = _at_work.get()
    if listener in at_work:
        what = RecursionError("an event that a listener caused was not handed to that listener")
        listener_failed(listener, what, "reentry")
        return
    before = _at_work.set((*at_work, listener))
    try:
        listener(event)
    except Exception as error:  # noqa: BLE001 - whatever a listener raises must stay here
        listener_failed(listener, error)
    finally:
        _at_work.reset(before)
