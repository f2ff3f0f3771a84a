"""What a run asks of its store, sync and async; sent again while the store fails for a moment.

The rules:

1. A request that fails with a `StoreUnavailableError` that is `retryable` is sent again, by `retry`
   itself, until its patience ends; all others fail at once. The store knows a request again that
   it has carried out, and whose answer was lost.
2. Patience ends with the lease, less a tenth of it for the way, by the clock of the run and from
   the last renewal on: later somebody else may have the run. An acquisition has half a lease; a
   release a third, since after that the lease is soon over by itself.
3. It ends at once where the process was asked to end.
4. Each waits at random, up to a span that doubles, and that is a twentieth of the lease at most.
5. In async code a store that is an `AsyncStore` is awaited, and any other called in a thread; the
   waits are the task's in both. A cancellation is raised when the request has ended, so that the
   caller knows what was done; the request is not sent once more then.
"""

import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

import attrs

from mainstay._checkpoint.promises import are_checked, check_promises
from mainstay._core.clock import SYSTEM, Clock
from mainstay._core.context import current_context, helper_context
from mainstay._core.events import logger_of
from mainstay._core.failures import is_a, judge_of
from mainstay._core.functions import Kind
from mainstay._core.threads import run_in_thread, to_its_end
from mainstay._metrics.checkpoint import CheckpointRecorder
from mainstay._metrics.recorders import Recorders
from mainstay._metrics.series import SeriesTable
from mainstay._retry.call import POLICY, BoundRetry
from mainstay._retry.loops import WRAPPERS
from mainstay._retry.settings import RetrySettings
from mainstay.errors import StoreUnavailableError
from mainstay.stores.base import (
    RENEWALS_PER_LEASE,
    Acquisition,
    AsyncStore,
    Change,
    Exit,
    Request,
    RunId,
    RunLease,
    Store,
)

T = TypeVar("T")

MARGIN = 0.1
"""The part of a lease, at its end, in which nothing is sent any more."""

_FIRST_SPAN = 0.02
_SPANS_PER_LEASE = 20
_SHORTEST_WAIT = 0.001

_unseen = Recorders(SeriesTable("mainstay", {})).calls("store", POLICY)
"""Takes what `retry` records here: users have `checkpoint_store_retries_total` for it."""

_chance = random.random


def resend_wait(failures: int, lease: float, chance: float) -> float:
    """Return the seconds to wait before a request is sent again: rule 4.

    Args:
        failures: How often it has failed, from 1.
        lease: Seconds that the lease lasts.
        chance: A random number from 0 to 1.
    """
    span = min(_FIRST_SPAN * 2.0 ** min(failures, 20), lease / _SPANS_PER_LEASE)
    return max(_SHORTEST_WAIT, chance * span)


@attrs.frozen(eq=False)
class Sender:
    """Sends the requests of one component to its store.

    Attributes:
        store: Where they go.
        component: What the runs are called.
        lease: Seconds that a lease lasts.
        recorder: Counts what is sent again.
        ends: True if the process was asked to end.
    """

    store: Store
    component: str
    lease: float
    recorder: CheckpointRecorder
    ends: Callable[[], bool]
    native: AsyncStore | None = attrs.field(init=False)
    """The store, if async code needs no thread for it."""

    def __attrs_post_init__(self) -> None:
        store = self.store
        object.__setattr__(self, "native", store if isinstance(store, AsyncStore) else None)

    def acquire(self, run: RunId, request: Request, left: float) -> Acquisition:
        """Ask for a run, for no longer than *left* seconds."""
        patience = min(left, self.lease / 2)
        return self._sent(lambda: self._acquired(run, request), lambda: patience)

    async def aacquire(
        self, run: RunId, request: Request, left: float, heard: Callable[[Acquisition], object]
    ) -> None:
        """Ask for a run, for no longer than *left* seconds.

        The answer goes to *heard*: it may have come where a cancellation is raised.
        """
        native, patience = self.native, min(left, self.lease / 2)

        async def ask(native: AsyncStore) -> None:
            heard(await native.aacquire(run, request))

        if native is None or not are_checked(self.store):
            send = self._in_thread(lambda: heard(self._acquired(run, request)))
        else:
            send = lambda: to_its_end(ask(native))  # noqa: E731 - one of two
        await self._asent(send, lambda: patience)

    def _acquired(self, run: RunId, request: Request) -> Acquisition:
        check_promises(self.store)
        return self.store.acquire(run, request)

    def commit(self, lease: RunLease, change: Change, patience: Callable[[], float]) -> None:
        """Write a change; *patience* is the seconds until nothing is to be sent any more."""
        self._sent(lambda: self.store.commit(lease, change), patience)

    async def acommit(self, lease: RunLease, change: Change, patience: Callable[[], float]) -> None:
        """Write a change; *patience* is the seconds until nothing is to be sent any more."""
        native = self.native
        if native is None:
            send = self._in_thread(lambda: self.store.commit(lease, change))
        else:
            send = lambda: to_its_end(native.acommit(lease, change))  # noqa: E731 - one of two
        await self._asent(send, patience)

    def release(self, lease: RunLease, how: Exit, error: str, drop: tuple[int, ...] = ()) -> None:
        """Release a run before its end."""
        patience = self.lease / RENEWALS_PER_LEASE
        self._sent(lambda: self.store.release(lease, how, error, drop), lambda: patience)

    async def arelease(
        self, lease: RunLease, how: Exit, error: str, drop: tuple[int, ...] = ()
    ) -> None:
        """Release a run before its end."""
        native, patience = self.native, self.lease / RENEWALS_PER_LEASE
        if native is None:
            send = self._in_thread(lambda: self.store.release(lease, how, error, drop))
        else:
            send = lambda: to_its_end(native.arelease(lease, how, error, drop))  # noqa: E731 - as above
        await self._asent(send, lambda: patience)

    def wait(self, run: RunId, seconds: float, clock: Clock) -> None:
        """Wait to ask again for a run that is held, or until the store says that it was left."""
        hear = getattr(self.store, "_wait_for_release", None)
        if hear is None or clock is not SYSTEM:
            clock.sleep(seconds)
            return
        until = clock.now() + seconds
        try:
            hear(run, seconds)
        except StoreUnavailableError:  # the run is asked for next, which goes on or tells why not
            clock.sleep(max(0.0, until - clock.now()))

    async def await_(self, run: RunId, seconds: float, clock: Clock) -> None:
        """As `wait`, in async code."""
        hear = getattr(self.store, "_await_release", None)
        if hear is None or clock is not SYSTEM:
            await clock.asleep(seconds)
            return
        until = clock.now() + seconds
        try:
            await hear(run, seconds)
        except StoreUnavailableError:  # as in `wait`
            await clock.asleep(max(0.0, until - clock.now()))

    def _in_thread(self, call: Callable[[], T]) -> Callable[[], Awaitable[T]]:
        return lambda: run_in_thread(call)

    def _sent(self, send: Callable[[], T], patience: Callable[[], float]) -> T:
        try:
            return send()
        except StoreUnavailableError as error:
            again = self._begin_again(error, patience)
            if again is None:
                raise
        current_context().clock.sleep(again.first_wait())
        repeated: Callable[[], T] = WRAPPERS[Kind.SYNC](again.bound(), send)
        return helper_context().run(repeated)

    async def _asent(self, send: Callable[[], Awaitable[T]], patience: Callable[[], float]) -> T:
        import asyncio  # noqa: PLC0415 - programs without async code do without it

        try:
            return await send()
        except StoreUnavailableError as error:
            again = self._begin_again(error, patience)
            if again is None:
                raise
        await current_context().clock.asleep(again.first_wait())
        repeated = WRAPPERS[Kind.ASYNC](again.bound(), send)
        loop = asyncio.get_running_loop()
        sending = loop.create_task(repeated(), context=helper_context())
        return await to_its_end(sending, again.give_up)

    def _begin_again(
        self, error: StoreUnavailableError, patience: Callable[[], float]
    ) -> "_Again | None":
        """Return how a request goes on that has failed; None if it does not."""
        seconds = patience()
        if not error.retryable or seconds <= 0 or self.ends():
            return None
        logger_of("checkpoint").warning(
            "%s: %s; the store is asked again for up to %.1f s", self.component, error, seconds
        )
        return _Again(self, seconds)


@attrs.define(eq=False)
class _Again:
    """A request that is sent again.

    Attributes:
        sender: Sends it.
        seconds: For how long.
        failures: How often it has failed.
    """

    sender: Sender
    seconds: float
    failures: int = 1
    _given_up: bool = attrs.field(default=False, init=False)

    def give_up(self) -> None:
        """Send it no more, since its caller was cancelled."""
        self._given_up = True

    def first_wait(self) -> float:
        """Return the seconds until the request is sent for the second time; they are used up."""
        wait = min(self._wait(), self.seconds / 2)
        self.seconds -= wait
        return wait

    def bound(self) -> BoundRetry:
        """Return the retry that sends it until it succeeds, or its time is over."""
        settings = RetrySettings(
            judge=judge_of(self._delay), attempts=None, timeout=self.seconds, attempt_timeout=None,
            wait=None, stop=None, on_result=None, budget=None, nested="allow",
        )  # fmt: skip
        return BoundRetry(settings, self.sender.component, _unseen)

    def _delay(self, error: Exception) -> float | bool:
        if self._given_up or self.sender.ends():
            return False
        if not is_a(error, StoreUnavailableError) or not error.retryable:
            return False
        self.failures += 1
        return self._wait()

    def _wait(self) -> float:
        self.sender.recorder.store_retried()
        return resend_wait(self.failures, self.sender.lease, _chance())
