"""How the functions that a user gave are called: `open`, `close`, the fence, and the probe.

pool      hook      runs
sync      plain     in the calling thread, which is always one of the library's
async     async     in the calling task
async     plain     in a daemon thread of its own, so that it cannot hold up the event loop

A thread cannot be ended: when the time of a hook is over, the pool stops waiting, and the thread
runs on.
"""

import asyncio
import contextlib
import contextvars
import functools
import threading
from collections.abc import Callable
from typing import Any

from mainstay._core.clock import monotonic
from mainstay._core.functions import close_coroutine, is_async, is_awaitable, name_of
from mainstay._core.words import kind_in_words
from mainstay.errors import MainstayError


class UnhealthyError(MainstayError):
    """A probe answered False: what `MemberStatus.error` and `MemberBroken.error` are then."""


class UnknownHealthError(Exception):
    """A probe could not tell, which says nothing of the member.

    Args:
        text: Why.
        kind: What kind of reason that is, in a word; each kind is logged once as a warning.
    """

    def __init__(self, text: str = "the probe answered None", kind: str = "None") -> None:
        super().__init__(text)
        self.kind: str = kind


def not_awaitable(value: Any, hook: str) -> Any:
    """Return the result of a hook of a sync pool.

    Raises:
        TypeError: If the result is an awaitable, which would never be awaited.
    """
    if is_awaitable(value):
        close_coroutine(value)
        raise TypeError(
            f"`{hook}` of a sync pool returned something to await; make it an `async def`, so "
            f"that the pool is async"
        )
    return value


async def awaited(value: Any) -> Any:
    """Return what a hook of an async pool has returned, once it is there."""
    return await value if is_awaitable(value) else value


async def called(
    hook: Callable[..., Any], *args: Any, late: Callable[[Any], object] | None = None
) -> Any:
    """Call a hook of an async pool; what it returns may have to be awaited (`awaited`).

    Args:
        hook: An async function, or a plain one, which is given a thread.
        *args: Its arguments.
        late: Given what a plain one returns after its caller was cancelled.
    """
    if is_async(hook):
        return hook(*args)
    event_loop = asyncio.get_running_loop()
    answer: asyncio.Future[Any] = event_loop.create_future()

    def deliver(value: Any, error: BaseException | None) -> None:
        if not answer.done():
            answer.set_result(value) if error is None else answer.set_exception(error)
        elif error is None and late is not None:
            late(value)

    def run() -> None:
        value: Any = None
        error: BaseException | None = None
        try:
            value = hook(*args)
        except StopIteration as raised:  # a future cannot hold a StopIteration
            error = RuntimeError(f"{name_of(hook)} raised StopIteration")
            error.__cause__ = raised
        except BaseException as raised:  # noqa: BLE001 - raised where it is awaited
            error = raised
        with contextlib.suppress(RuntimeError):  # the loop has been closed meanwhile
            event_loop.call_soon_threadsafe(deliver, value, error)

    try:
        _thread("mainstay-hook", run).start()
    except RuntimeError:  # no thread can be started just now, which is no fault of the member
        run()
    return await answer


def check_answer(answer: object) -> None:
    """Raise unless the answer of a probe is True.

    Raises:
        UnknownHealthError: If it is None.
        UnhealthyError: If it is False.
        TypeError: If it is no answer.
    """
    if answer is None:
        raise UnknownHealthError
    if answer is False:
        raise UnhealthyError("the probe answered False")
    if answer is not True:
        raise TypeError(f"a probe must return True, False or None, not {kind_in_words(answer)}")


def _thread(name: str, fn: Callable[..., object], /, *args: Any) -> threading.Thread:
    """Return a daemon thread that runs *fn* in a copy of the context, which is a helper's."""
    run = functools.partial(contextvars.copy_context().run, fn, *args)
    return threading.Thread(target=run, name=name, daemon=True)


class HookThreads:
    """The threads of a sync pool, each with the most seconds that are waited for its end."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget all threads, and the lock that one may hold: a forked child has none of them."""
        self._lock = threading.RLock()
        self._limits: dict[threading.Thread, float] = {}

    def begin(self, name: str, limit: float, fn: Callable[..., object], /, *args: Any) -> None:
        """Run *fn* in a thread, for whose end `join` waits for up to *limit* seconds."""
        thread = _thread(name, self._run, fn, *args)
        with self._lock:
            self._limits[thread] = limit
            try:
                thread.start()
            except RuntimeError:  # the system has none left, or the interpreter ends
                del self._limits[thread]
                raise

    def _run(self, fn: Callable[..., object], /, *args: Any) -> None:
        try:
            fn(*args)
        finally:
            with self._lock:
                self._limits.pop(threading.current_thread(), None)

    def join(self) -> None:
        """Wait for all threads, also for those that they begin; one that hangs is given up."""
        began = monotonic()
        while self._limits:
            with self._lock:
                thread, limit = self._limits.popitem() if self._limits else (None, 0.0)
            if thread is not None and thread is not threading.current_thread():
                seconds = max(0.0, began + limit - monotonic())
                thread.join(min(seconds, threading.TIMEOUT_MAX))
