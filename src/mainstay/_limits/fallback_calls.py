"""Calls with a fallback, sync beside async.

    the call             `on` says       there is an answer     then
    returns              -               -                      its value; kept, with `last_good`
    raises               no              -                      the exception
    raises               yes             yes                    the answer, outcome "recovered"
    raises               yes             no, or it is too old   the exception
    raises               cannot say      -                      the exception, with a note

What the fallback itself raises is raised, with the exception of the call as its cause.
"""

import copy as copying
import enum
import logging
from collections.abc import Callable, Hashable
from types import NoneType
from typing import Any, ClassVar

import attrs

from mainstay._core.call import PREDICATE_ERROR, Call, recorder_in
from mainstay._core.clock import monotonic
from mainstay._core.context import block_context, current_context, process_contexts
from mainstay._core.events import is_first, is_observed, logger_of, publish
from mainstay._core.exceptions import CAUSE, is_a
from mainstay._core.failures import Judge, is_delay
from mainstay._core.functions import (
    close_coroutine,
    is_awaitable,
    name_of,
    refused_awaitable,
    require_asyncio,
    wraps,
)
from mainstay._core.layers import Layer, classes_of
from mainstay._core.words import class_name, described, in_words
from mainstay._limits.last_good import LastGood, key_of, key_of_call
from mainstay._metrics.collector import recorders_of
from mainstay._metrics.fallbacks import FallbackRecorder
from mainstay._metrics.recorder import Recorder
from mainstay.errors import DeadlineExpiredError

POLICY = "fallback"

_COPIED = (list, dict, set)


class Source(enum.Enum):
    """What a fallback returns in place of an exception."""

    VALUE = "value"
    CALL = "call"
    LAST_GOOD = "last_good"

    @property
    def parameter(self) -> str:
        """The parameter that asks for it."""
        return "default" if self is Source.VALUE else self.value


@attrs.frozen(eq=False)
class FallbackSettings:
    """The checked parameters of a fallback.

    Attributes:
        judge: Returns the verdict of `on` about an exception.
        source: What is returned in place of the exception.
        age: The greatest age of a last good answer, in seconds.
        key: From the arguments of a call to the key of its answer; None to use the arguments.
        keep: The largest number of keys.
        copy: Copies an answer before it is kept and returned; None for no copy.
    """

    judge: Judge
    source: Source
    default: Any
    call: Callable[..., Any] | None
    age: float
    key: Callable[..., Any] | None
    keep: int
    copy: Callable[[Any], Any] | None


@attrs.frozen(eq=False)
class BoundFallback:
    """A fallback, and what it stands in for."""

    settings: FallbackSettings
    component: str
    function: str
    recorder: Recorder
    answers: FallbackRecorder
    kept: LastGood | None

    def layers(self) -> tuple[Layer, ...]:
        """Return the worst case of a call, for `explain`."""
        classes = classes_of(self.settings.judge)
        then = self.settings.call
        return (Layer(kind="fallback", component=self.component, classes=classes, then=then),)

    def begin(self) -> "FallbackCall":
        """Begin a call in its context."""
        context = current_context()
        return self._call(context, context.clock.now())

    def resume(self, started: float) -> "FallbackCall":
        """Return the call that began without one on the fast path."""
        return self._call(current_context(), started)

    def _call(self, context: Any, started: float) -> "FallbackCall":
        recorder = recorder_in(context, self.recorder, self.component)
        return FallbackCall(self.component, recorder, context, started, self)

    def key(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Hashable:
        """Return what tells a call from others, before anything is called.

        Raises:
            TypeError: If it cannot be hashed.
        """
        key = self.settings.key
        if key is None:
            try:
                return key_of_call(args, kwargs)
            except TypeError as error:
                raise self._no_key("the arguments", error) from error
        try:
            made = key(*args, **kwargs)
        except Exception as error:
            call = self.begin()
            call.hook_broken("`key`", error)
            call.key_failed(error)
            raise
        try:
            return key_of(made)
        except TypeError as error:
            what = f"what `key` {name_of(key)} makes of the arguments"
            raise self._no_key(what, error) from error

    def _no_key(self, what: str, error: TypeError) -> TypeError:
        self.begin().key_failed(error)
        return TypeError(
            f"{self.component}: {what} cannot be told apart ({error}); give `key=`, a function of "
            f"the arguments that answers something that can be hashed"
        )

    @property
    def keep(self) -> Callable[[Hashable, Any, float], object] | None:
        """Keeps a good answer, given its key and when it came; None where none is kept."""
        kept, copy = self.kept, self.settings.copy
        if kept is None or copy is None:
            return None if kept is None else kept.put

        def keep_copy(key: Hashable, value: Any, now: float) -> None:
            try:
                copied = copy(value)
            except Exception as error:  # noqa: BLE001 - the call has an answer, which is not to be lost
                self.resume(now).hook_failed("`copy`", error)
                return
            kept.put(key, copied, now)

        return keep_copy


@attrs.define(eq=False)
class FallbackCall(Call[Recorder]):
    """One call with a fallback."""

    policy: ClassVar[str] = POLICY
    bound: BoundFallback

    def check_left(self) -> None:
        """Raise as a policy inside would if there is no time left.

        Raises:
            DeadlineExpiredError: If the deadline around the call is over.
        """
        if self.context.left() <= 0:
            raise DeadlineExpiredError(self.component)

    def key_failed(self, error: Exception) -> None:
        """Record that the call has no key, and ended before anything was called."""
        self.recorder.error(error)
        self.end("error")

    def hook_broken(self, hook: str, error: Exception) -> None:
        """Record that the call ends with what a parameter of the user's raised."""
        self.hook_failed(hook, error)
        self.recorder.gave_up("predicate_error")

    def returned(self, key: Hashable, value: Any) -> None:
        """Record an answer, and keep it where answers are kept."""
        if self.bound.keep is not None:
            self.bound.keep(self._timed(key), value, self.now())
        self.end("success")

    def _timed(self, key: Hashable) -> Hashable:
        """Return the key of an answer of this clock; that of the system has the plain ones."""
        now = self.context.clock.now
        return key if now is monotonic else (now, key)

    def caught(self, error: Exception, verdict: object) -> bool:
        """Record what the call raised; return True if the fallback stands in for it."""
        self.recorder.error(error)
        if is_delay(verdict):
            verdict = True
        if verdict is True:
            return True
        if verdict is False:
            self.not_matched(self.bound.settings.judge, error)
            over = is_a(error, DeadlineExpiredError) and self.context.left() <= 0
            self.give_up("not_retryable", error, "timeout" if over else "error", attempts=1)
            return False
        if verdict is not PREDICATE_ERROR:
            close_coroutine(verdict)
            what = f"`on` must return True or False, not {described(verdict)}"
            self.predicate_failed(error, what)
        self.give_up("predicate_error", error, "error", attempts=1)
        return False

    def at_hand(self, error: Exception, key: Hashable) -> Any:
        """Return the value or the last good answer; raise *error* if there is none."""
        settings, kept = self.bound.settings, self.bound.kept
        if kept is None:
            return self.answered(error, settings.default)
        now = self.now()
        good = kept.get(self._timed(key), now, settings.age)
        if good is None:
            self.end("error")
            raise error
        return self.answered(error, *good)

    def answered(self, error: Exception, value: Any, age: float | None = None) -> Any:
        """Record that the fallback answers; return what for."""
        settings = self.bound.settings
        if settings.source is Source.LAST_GOOD:
            value = self._copied(value)
        elif type(value) in _COPIED and settings.source is Source.VALUE:
            value = copying.copy(value)
        answers = self.bound.answers
        if self.context.metrics is not None:
            answers = recorders_of(self.context.metrics).fallbacks(self.component)
        answers.answered(settings.source.value, age)
        self.end("recovered")
        if is_observed(POLICY, logging.INFO):
            from mainstay.events import FallbackUsed  # noqa: PLC0415 - when first published

            event = FallbackUsed(self.component, settings.source.value, age, error)
            publish(event, self.recorder.listener_failed)
        return value

    def failed(self, broken: BaseException, error: Exception) -> None:
        """Record what is raised in place of an answer, unless it is *error* itself.

        It has *error* as its cause, unless the user has given it another one.
        """
        if broken is error:
            return
        if not is_a(broken, Exception):
            self.end_interrupted(broken, last=error)
            return
        if CAUSE.__get__(broken) is None and broken is not CAUSE.__get__(error):
            CAUSE.__set__(broken, error)
        self.note(broken, f"the fallback raised this in place of {in_words(error)}")
        self.recorder.error(broken)
        self.end("error")

    def _copied(self, value: Any) -> Any:
        copy = self.bound.settings.copy
        if copy is not None:
            try:
                return copy(value)
            except Exception as error:
                self.hook_broken("`copy`", error)
                raise
        function = self.bound.function
        if type(value) in _COPIED and is_first(POLICY, self.component, "copy", function):
            logger_of(POLICY).warning(
                "%s: a %s of %s is kept and handed out as it is; give `copy=`, such as "
                "`copy.deepcopy`, so that no caller can change the answer of another",
                self.component,
                class_name(value),
                function,
            )
        return value


def wrap_sync(bound: BoundFallback, fn: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a `def` with a fallback."""
    success = bound.recorder.success
    keep = bound.keep
    plain: type = NoneType  # of the last result: asked once for each change, not at every call

    @wraps(fn)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        nonlocal plain
        key = None if keep is None else bound.key(args, kwargs)
        started = monotonic()
        here = block_context()
        call = None
        if process_contexts or (here is not None and not (here.plain and started < here.deadline)):
            call = bound.begin()
        try:
            if call is not None:
                call.check_left()
            value = fn(*args, **kwargs)
        except Exception as error:
            call = call or bound.resume(started)
            if not call.caught(error, call.ask(bound.settings.judge, error)):
                raise
            return answer(call, error, key, args, kwargs)
        except BaseException as error:
            (call or bound.resume(started)).end_interrupted(error)
            raise
        if type(value) is not plain and is_awaitable(value):
            raise _awaitable_refused(call or bound.resume(started), fn, value)
        plain = type(value)
        if call is not None:
            call.returned(key, value)
            return value
        now = monotonic()
        if keep is not None:
            keep(key, value, now)
        success(now - started)
        return value

    return wrapper


def wrap_async(bound: BoundFallback, fn: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap an `async def` with a fallback."""
    success = bound.recorder.success
    keep = bound.keep
    on_asyncio = False  # asked at the first call: it is a system call in 3.11

    @wraps(fn)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        nonlocal on_asyncio
        if not on_asyncio:
            require_asyncio(bound.component)
            on_asyncio = True
        key = None if keep is None else bound.key(args, kwargs)
        started = monotonic()
        here = block_context()
        call = None
        if process_contexts or (here is not None and not (here.plain and started < here.deadline)):
            call = bound.begin()
        try:
            if call is not None:
                call.check_left()
            value = await fn(*args, **kwargs)
        except Exception as error:
            call = call or bound.resume(started)
            if not call.caught(error, await call.aask(bound.settings.judge, error)):
                raise
            return await aanswer(call, error, key, args, kwargs)
        except BaseException as error:
            (call or bound.resume(started)).end_interrupted(error)
            raise
        if call is not None:
            call.returned(key, value)
            return value
        now = monotonic()
        if keep is not None:
            keep(key, value, now)
        success(now - started)
        return value

    return wrapper


def _awaitable_refused(call: FallbackCall, fn: Callable[..., Any], value: object) -> TypeError:
    """End a call of a plain function that returned something to await."""
    error = refused_awaitable(fn, value)
    call.caught(error, False)
    return error


def answer(
    call: FallbackCall,
    error: Exception,
    key: Hashable,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    """Return the fallback's answer; raise what the call has raised if there is none."""
    then = call.bound.settings.call
    try:
        if then is None:
            return call.at_hand(error, key)
        value = then(error, *args, **kwargs)
        if is_awaitable(value):
            raise refused_awaitable(then, value)
        return call.answered(error, value)
    except BaseException as broken:
        call.failed(broken, error)
        raise
    finally:
        del error  # this frame is part of its traceback


async def aanswer(
    call: FallbackCall,
    error: Exception,
    key: Hashable,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    """As `answer`; what `call` returns may have to be awaited."""
    then = call.bound.settings.call
    try:
        if then is None:
            return call.at_hand(error, key)
        value = then(error, *args, **kwargs)
        return call.answered(error, await value if is_awaitable(value) else value)
    except BaseException as broken:
        call.failed(broken, error)
        raise
    finally:
        del error  # this frame is part of its traceback
