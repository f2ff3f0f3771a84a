"""The requests of a run to its store, sync and async, and when a failed request is sent again.

The rules:

1. A request that fails with a `StoreUnavailableError` that is `retryable` is sent again until its
   patience ends; all others fail at once. The store knows a request again that it has carried out,
   and whose answer was lost. `retry` decides how long to wait, and if there is time for that. But
   these are not calls of `retry`: users would see them in their listeners, logs, spans and notes,
   and a retry around the run would count them as nested retries. Instead the log of checkpoints
   has them, and `checkpoint_store_retries_total` counts them.
2. Patience ends at the end of the lease, less a tenth of it for the transport, by the clock of the
   run and from the last renewal on: later, another owner may have the run. For an acquisition,
   patience is half a lease; for a release a third, since the lease ends by itself soon after.
3. Patience ends at once if the process was asked to end.
4. Waits are random, up to a limit that doubles, and that is a twentieth of the lease at most.
5. In async code a store that is an `AsyncStore` is awaited, and any other called in a thread; the
   waits are the task's in both. A cancellation is raised when the request has ended, so that the
   caller knows what was done; the request is not sent once more then.
"""

import logging
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

import attrs

from mainstay._checkpoint.promises import are_checked, check_promises
from mainstay._core.clock import SYSTEM, Clock
from mainstay._core.context import current_context
from mainstay._core.events import logger_of
from mainstay._core.threads import run_in_thread, to_its_end
from mainstay._metrics.checkpoint import CheckpointRecorder
from mainstay._retry.decision import default_wait, out_of_time
from mainstay.errors import StoreUnavailableError
from mainstay.stores._optional import WakingStore
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

_FIRST_WAIT = 0.04
_WAITS_PER_LEASE = 20
_SHORTEST_WAIT = 0.001

_GIVE, _SAVE, _RELEASE = "give the run", "take a save", "release the run"
"""What is asked of a store, as the log says it."""

_chance = random.random


def resend_wait(failures: int, lease: float, chance: float) -> float:
    """Return the seconds to wait before a request is sent again: rule 4.

    Args:
        failures: How often it has failed, from 1.
        lease: Seconds that the lease lasts.
        chance: A random number from 0 to 1.
    """
    longest = lease / _WAITS_PER_LEASE
    return max(_SHORTEST_WAIT, default_wait(failures, chance, _FIRST_WAIT, longest))


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
        return self._sent(_GIVE, lambda: self._acquired(run, request), lambda: patience)

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
        await self._asent(_GIVE, send, lambda: patience)

    def _acquired(self, run: RunId, request: Request) -> Acquisition:
        check_promises(self.store)
        return self.store.acquire(run, request)

    def commit(self, lease: RunLease, change: Change, patience: Callable[[], float]) -> None:
        """Write a change; *patience* is the seconds until nothing is to be sent any more."""
        self._sent(_SAVE, lambda: self.store.commit(lease, change), patience)

    async def acommit(self, lease: RunLease, change: Change, patience: Callable[[], float]) -> None:
        """Write a change; *patience* is the seconds until nothing is to be sent any more."""
        native = self.native
        if native is None:
            send = self._in_thread(lambda: self.store.commit(lease, change))
        else:
            send = lambda: to_its_end(native.acommit(lease, change))  # noqa: E731 - one of two
        await self._asent(_SAVE, send, patience)

    def release(self, lease: RunLease, how: Exit, error: str, drop: tuple[int, ...] = ()) -> None:
        """Release a run before its end."""
        patience = self.lease / RENEWALS_PER_LEASE
        send = lambda: self.store.release(lease, how, error, drop)  # noqa: E731 - as the others
        self._sent(_RELEASE, send, lambda: patience)

    async def arelease(
        self, lease: RunLease, how: Exit, error: str, drop: tuple[int, ...] = ()
    ) -> None:
        """Release a run before its end."""
        native, patience = self.native, self.lease / RENEWALS_PER_LEASE
        if native is None:
            send = self._in_thread(lambda: self.store.release(lease, how, error, drop))
        else:
            send = lambda: to_its_end(native.arelease(lease, how, error, drop))  # noqa: E731 - as above
        await self._asent(_RELEASE, send, lambda: patience)

    def wait(self, run: RunId, seconds: float, clock: Clock) -> None:
        """Wait before asking for a held run again, or until the store says that it was released."""
        store = self.store
        if clock is not SYSTEM or not isinstance(store, WakingStore):
            clock.sleep(seconds)
            return
        until = clock.now() + seconds
        try:
            store._wait_for_release(run, seconds)
        except StoreUnavailableError:  # the run is asked for next, which goes on or tells why not
            clock.sleep(max(0.0, until - clock.now()))

    async def await_(self, run: RunId, seconds: float, clock: Clock) -> None:
        """As `wait`, in async code."""
        store = self.store
        if clock is not SYSTEM or not isinstance(store, WakingStore):
            await clock.asleep(seconds)
            return
        until = clock.now() + seconds
        try:
            await store._await_release(run, seconds)
        except StoreUnavailableError:  # as in `wait`
            await clock.asleep(max(0.0, until - clock.now()))

    def _in_thread(self, call: Callable[[], T]) -> Callable[[], Awaitable[T]]:
        return lambda: run_in_thread(call)

    def _sent(self, what: str, send: Callable[[], T], patience: Callable[[], float]) -> T:
        again = None
        while True:
            try:
                return send()
            except StoreUnavailableError as error:
                again = again or self._again(what, patience)
                wait = again.wait_after(error)
                if wait is None:
                    raise
            current_context().clock.sleep(wait)

    async def _asent(
        self, what: str, send: Callable[[], Awaitable[T]], patience: Callable[[], float]
    ) -> T:
        again = None
        while True:
            try:
                return await send()
            except StoreUnavailableError as error:
                again = again or self._again(what, patience)
                wait = again.wait_after(error)
                if wait is None:
                    raise
            await current_context().clock.asleep(wait)

    def _again(self, what: str, patience: Callable[[], float]) -> "_Again":
        clock = current_context().clock
        return _Again(self, what, clock, clock.now() + patience())


@attrs.define(eq=False)
class _Again:
    """A request that has failed.

    Attributes:
        sender: Sends it.
        what: What the store is to do.
        clock: By which it waits.
        until: When its patience ends.
        failures: How often it has failed.
    """

    sender: Sender
    what: str
    clock: Clock
    until: float
    failures: int = 0

    def wait_after(self, error: StoreUnavailableError) -> float | None:
        """Return the seconds until it is sent again; None if it is not."""
        sender, left = self.sender, self.until - self.clock.now()
        if not error.retryable or left <= 0 or sender.ends():
            return None
        self.failures += 1
        wait = resend_wait(self.failures, sender.lease, _chance())
        if self.failures == 1:
            wait = min(wait, left / 2)  # once more, however short the lease
        if out_of_time(wait, left):
            return None
        sender.recorder.store_retried()
        logger_of("checkpoint").log(
            logging.WARNING if self.failures == 1 else logging.INFO,
            "%s: the store did not %s (failure %d): %s; it is asked again in %.3f s, and for "
            "%.1f s at most",
            sender.component, self.what, self.failures, error, wait, left,
        )  # fmt: skip
        return wait
