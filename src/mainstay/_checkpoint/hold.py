"""`Hold`: the hold of one attempt on its run: the lease, the requests under it, and its end.

The hold numbers the saves, renews the lease with each save, and knows the last renewal. So it
decides for how long a save is sent again, and when a run is lost. `Run` decides what is in a save,
and what is counted with it.
"""

import os
from collections.abc import Callable

import attrs

from mainstay._checkpoint.schedule import Schedule
from mainstay._checkpoint.sending import MARGIN, Sender
from mainstay._core.clock import Clock
from mainstay._core.events import publish
from mainstay._core.exceptions import is_a
from mainstay._core.functions import task_or_thread
from mainstay._core.words import in_words
from mainstay._metrics.checkpoint import CheckpointRecorder
from mainstay.errors import (
    CheckpointError,
    LeaseLostError,
    RunCompleteError,
    RunInterruptedError,
    StoreUnavailableError,
)
from mainstay.events import LeaseLost
from mainstay.stores.base import RENEWALS_PER_LEASE, Change, Exit, Record, RunId, RunLease, Store


@attrs.define(eq=False)
class Hold:
    """The right to save a run, until it is used up.

    Attributes:
        lease: What the store gave; None if the run had ended already.
        acquired: When that was, by the clock.
        lost: True if somebody else has taken the run over.
        over: True if nothing more can be saved.
        interrupting: True if the run is to end at its next boundary.
        began_in: The task or thread in which the run began.
    """

    component: str
    sender: Sender
    recorder: CheckpointRecorder
    clock: Clock
    schedule: Schedule
    record: Record
    lease: RunLease | None
    acquired: float = attrs.field(init=False)
    lost: bool = attrs.field(default=False, init=False)
    over: bool = attrs.field(default=False, init=False)
    interrupting: bool = attrs.field(default=False, init=False)
    began_in: object = attrs.field(factory=task_or_thread, init=False)
    _pid: int = attrs.field(factory=os.getpid, init=False)
    _renewed: float = attrs.field(init=False)
    _sequence: int = attrs.field(default=0, init=False)
    _saved: int = attrs.field(default=0, init=False)
    _result: int = attrs.field(default=-1, init=False)
    _finishing: bool = attrs.field(default=False, init=False)
    _watch: Callable[[], bool] | None = attrs.field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self.acquired = self._renewed = self.clock.now()

    @property
    def held(self) -> RunLease:
        """The lease of a run that had not ended."""
        assert self.lease is not None  # noqa: S101 - asked of no other
        return self.lease

    def check_not_lost(self) -> None:
        """Raise LeaseLostError if somebody else has taken the run over."""
        if self.lost and self.lease is not None:
            raise LeaseLostError(self.component, self.record.run.key, self.lease.token)

    def ended(self) -> CheckpointError:
        """Return what is raised where a run is used after its end."""
        kind = RunInterruptedError if self.interrupting else RunCompleteError
        return kind(self.component, self.record.run.key)

    def is_of_caller(self, store: Store, run: RunId) -> bool:
        """True if a run of *store* is held by the code around the call that asks."""
        held = None if self.over or self.lease is None else self.lease.run
        return held == run and self.sender.store is store and self.began_in == task_or_thread()

    # Saves.

    def commit(self, change: Change) -> float:
        """Write a change; return the seconds that it took.

        Raises:
            LeaseLostError: If somebody else has taken the run over.
            StoreUnavailableError: If the store cannot be written to, as long as the lease lasts.
        """
        numbered, before = self._numbered(change), self.clock.now()
        try:
            self.sender.commit(self.held, numbered, self._patience)
        except Exception as error:
            self._not_written(error)
            raise
        return self._written(before, numbered)

    async def acommit(self, change: Change) -> float:
        """Write a change, as `commit`."""
        numbered, before = self._numbered(change), self.clock.now()
        try:
            await self.sender.acommit(self.held, numbered, self._patience)
        except Exception as error:
            self._not_written(error)
            raise
        return self._written(before, numbered)

    def _numbered(self, change: Change) -> Change:
        if self.lease is None or os.getpid() != self._pid:
            raise CheckpointError(
                f"{self.component}: run {self.record.run.key!r} belongs to process {self._pid}; a "
                f"forked child cannot save it"
            )
        if self.over:
            raise self.ended()
        self._sequence += 1
        self._finishing = change.finished
        return Change(  # a third of what `attrs.evolve` takes
            document=change.document, put=change.put, drop=change.drop, finished=change.finished,
            sequence=self._sequence, after=self._saved, after_result=self._result,
        )  # fmt: skip

    def _patience(self) -> float:
        """Return the seconds for which a save may still be sent again."""
        return self._renewed + self.held.seconds * (1 - MARGIN) - self.clock.now()

    def _not_written(self, error: Exception) -> None:
        if is_a(error, LeaseLostError):
            self.recorder.fenced()
            self._mark_lost()
        else:
            self.recorder.save_failed()

    def _written(self, before: float, change: Change) -> float:
        if change.document is not None:
            self._saved, self._result = change.sequence, -1
        elif change.put:
            self._result = max(change.put)
        self._renewed = max(self._renewed, before)
        return self.clock.now() - before

    # The lease between saves, from the thread that renews it and from the run's own.

    def was_renewed(self, now: float, *, lost: bool) -> None:
        """Record what the store said to a renewal, which was asked for at *now*."""
        if not lost:
            self._renewed = max(self._renewed, now)
        elif not self.over and not self._finishing:  # a run that has just ended has no lease
            self._mark_lost()

    def was_not_renewed(self) -> None:
        """Record that the store could not be asked; what cannot be renewed in its time is lost."""
        if not self.over and self.clock.now() - self._renewed >= self.held.seconds:
            self._mark_lost()

    def unwatched(self, watch: Callable[[], bool]) -> None:
        """Do without another thread, until *watch* has started one."""
        self._watch = watch
        self.schedule.ask_in_loops(True)

    def renew_alone(self) -> None:
        """Renew the lease if it is due and no watcher does; hand it to a watcher if possible.

        At boundaries.
        """
        watch = self._watch
        now = self.clock.now()
        if watch is None or now - self._renewed < self.held.seconds / RENEWALS_PER_LEASE:
            return
        try:
            lost = self.sender.store.renew([self.held])
        except StoreUnavailableError:
            self.was_not_renewed()
        else:
            self.was_renewed(now, lost=bool(lost))
        if watch():
            self._watch = None
            self.schedule.ask_in_loops(False)

    def _mark_lost(self) -> None:
        """Record that another owner has taken the run over."""
        if not self.lost:
            self.lost = True
            self.schedule.save_soon(always=True)
            self.recorder.lease_lost()
            event = LeaseLost(self.component, self.record.run.key, self.record.attempt)
            publish(event, self.recorder.listener_failed)

    # The end.

    def interrupt(self) -> None:
        """Save at the next boundary, and end there."""
        self.interrupting = True
        self.schedule.save_soon(always=True)

    def release(self, how: Exit, error: BaseException | None, drop: tuple[int, ...]) -> bool:
        """Release the run before its end; return False if there was nothing to release."""
        if not self._releases():
            return False
        self.sender.release(self.held, how, "" if error is None else in_words(error), drop)
        return True

    async def arelease(self, how: Exit, error: BaseException | None, drop: tuple[int, ...]) -> bool:
        """Release the run before its end, as `release`."""
        if not self._releases():
            return False
        await self.sender.arelease(self.held, how, "" if error is None else in_words(error), drop)
        return True

    def _releases(self) -> bool:
        """Return True if there is something to release, which is over from now on."""
        if self.lease is None or self.over or os.getpid() != self._pid:
            return False
        self.over = True
        return True
