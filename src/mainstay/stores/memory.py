"""`MemoryStore`: runs in the memory of this process, for tests and for runs that end with it."""

import threading
from collections.abc import Sequence

import attrs

from mainstay._core.context import times_now
from mainstay._core.forks import reset_after_fork, unlocked_copy
from mainstay._core.sharing import Shared
from mainstay.errors import LeaseLostError
from mainstay.stores._transitions import changed, check_forgettable, released
from mainstay.stores.base import (
    Acquired,
    Acquisition,
    Change,
    Contents,
    Exit,
    Finished,
    Held,
    Poisoned,
    Promises,
    Record,
    Request,
    Result,
    RunId,
    RunLease,
    Status,
    acquisition,
    how_gone,
    is_owned,
    state_of,
)


@attrs.define
class _Stored:
    """A run and what is kept for it."""

    record: Record
    latest: bytes | None = None
    previous: bytes | None = None
    results: dict[int, Result] = attrs.field(factory=dict)

    def contents(self) -> Contents:
        return Contents(self.latest, self.previous, dict(self.results))


class MemoryStore(Shared):
    """Keeps runs in the memory of this process; nothing survives the process.

    Data is encoded to bytes and decoded as in the other stores, so that tests with this store test
    the same behaviour. The clock is that of the context: a `FakeClock` makes leases end. Safe to
    use from several threads.

    Example:
        >>> from mainstay import checkpoint_run
        >>> from mainstay.stores import MemoryStore
        >>> store = MemoryStore()
        >>> with checkpoint_run("nightly", store=store) as cp:
        ...     [row for row in cp.iterate("abc")]
        ['a', 'b', 'c']
        >>> with checkpoint_run("nightly", store=store) as cp:
        ...     cp.complete
        True
    """

    def __init__(self) -> None:
        self.url: str = f"memory://{id(self):x}"
        self._runs: dict[RunId, _Stored] = {}
        self._forgotten = 0
        self._lock = threading.RLock()  # a signal handler may come back in on the same thread
        reset_after_fork(self, MemoryStore._unlock)

    def _unlock(self) -> None:
        self._lock = unlocked_copy(self._lock)

    def acquire(self, run: RunId, request: Request) -> Acquisition:
        """Decide who may work on *run*."""
        now, wall = times_now()
        with self._lock:
            kept = self._runs.get(run)
            before = kept.record if kept else None
            gone: Exit = how_gone(before, now=now, wall=wall) if before else ""
            answer = acquisition(
                before, run, request, now=now, wall=wall, gone=gone, forgotten=self._forgotten
            )
            match answer:
                case Acquired(record=record, began=True):
                    kept = self._runs[run] = _Stored(record)
                case Acquired(record=record) | Poisoned(record=record) if kept:
                    kept.record = record
                case Held() | Finished() | _:
                    pass
            if kept is not None and isinstance(answer, Acquired | Finished):
                return attrs.evolve(answer, contents=kept.contents())
            return answer

    def load(self, run: RunId) -> Contents:
        """Return the saved data of *run*."""
        with self._lock:
            kept = self._runs.get(run)
            return Contents() if kept is None else kept.contents()

    def commit(self, lease: RunLease, change: Change) -> None:
        """Write *change* and renew the lease."""
        now, wall = times_now()
        with self._lock:
            kept = self._runs.get(lease.run)
            if kept is None:
                raise LeaseLostError(lease.run.name, lease.run.key, lease.token)
            record = changed(
                kept.record, lease, change,
                kept=change.after_result in kept.results, now=now, wall=wall,
            )  # fmt: skip
            if record is None:
                return
            if change.document is not None:
                kept.previous = change.document if change.finished else kept.latest
                kept.latest = change.document
            kept.results.update(change.put)
            for number in change.drop:
                kept.results.pop(number, None)
            kept.record = record

    def renew(self, leases: Sequence[RunLease]) -> Sequence[RunLease]:
        """Renew many leases at once; return those that are lost."""
        return [lease for lease in leases if not self._renewed(lease)]

    def _renewed(self, lease: RunLease) -> bool:
        try:
            self.commit(lease, Change())
        except LeaseLostError:
            return False
        return True

    def release(
        self, lease: RunLease, how: Exit, error: str = "", drop: tuple[int, ...] = ()
    ) -> None:
        """Release the run before its end."""
        now, wall = times_now()
        with self._lock:
            kept = self._runs.get(lease.run)
            if kept is None or not is_owned(kept.record, lease):
                return
            for number in drop:
                kept.results.pop(number, None)
            kept.record = released(kept.record, how, error, now=now, wall=wall)

    def list(
        self,
        name: str | None = None,
        *,
        status: Status | None = None,
        after: RunId | None = None,
        limit: int | None = None,
    ) -> Sequence[tuple[Record, Status]]:
        """Return runs, sorted by name and key, each with its state."""
        now, wall = times_now()
        with self._lock:
            records = [kept.record for run, kept in sorted(self._runs.items(), key=_by_run)]
        found: list[tuple[Record, Status]] = []
        for record in records:
            state = state_of(record, how_gone(record, now=now, wall=wall))
            if (
                name in (None, record.run.name)
                and (after is None or record.run > after)
                and status in (None, state)
            ):
                found.append((record, state))
        return found[:limit]

    def forget(self, run: RunId) -> bool:
        """Remove *run*."""
        now, wall = times_now()
        with self._lock:
            kept = self._runs.get(run)
            if kept is None:
                return False
            record = kept.record
            check_forgettable(record, how_gone(record, now=now, wall=wall), now)
            self._forgotten = max(self._forgotten, record.token)
            del self._runs[run]
            return True

    def probe(self) -> Promises:
        """Return what memory can promise: nothing beyond the end of the process."""
        return Promises(fenced=True, durable=False, failover="loses everything")

    def close(self) -> None:
        """Do nothing: there is nothing to close."""


def _by_run(item: tuple[RunId, _Stored]) -> RunId:
    return item[0]
