"""`Watcher`: renews leases and sets saves due while the threads of the runs are busy.

One thread for each store of the process watches all runs in that store. Every save renews the lease
of its run; between saves, the thread renews it three times in each lease. Leases that are due
within a quarter of this time are renewed in the same round, so that soon all leases are renewed by
one request. If a renewal fails, it is sent again after an eighth of the time.

The same thread sets `Schedule.due` when the time of a run's next save has come, so that the loops
need not ask the clock after every item. It waits in real time on purpose: a lease has to be renewed
while nobody sleeps on the run's clock. It is a daemon and ends with the last run, so it keeps no
process alive.

A run is held by a weak reference. If an exception of a signal handler interrupts the end of a run,
nothing else ends it; then the thread learns that the run is gone, and releases it as the run itself
would have done. It also tries once more to release a run that the store did not release.

A signal handler may interrupt any of this code, and use runs itself. So it shares with that code
only a queue, a dict and a deque, whose operations are atomic, and a lock that its thread may hold
already. Only the thread ends itself, under that lock, so that no run is added too late.
"""

import heapq
import math
import queue
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextvars import Context
from itertools import count
from typing import Protocol
from weakref import ref

import attrs

from mainstay._checkpoint.schedule import Schedule
from mainstay._core.clock import Clock, monotonic
from mainstay._core.context import helper_context
from mainstay._core.events import is_first, logger_of
from mainstay._core.exits import end_with_subinterpreter
from mainstay._core.forks import around_forks
from mainstay._core.threads import values_now
from mainstay._core.words import class_name, in_words
from mainstay.stores.base import RENEWALS_PER_LEASE, RunLease, Store

_TOGETHER = 1 / 4
_AFTER_FAILURE = 1 / 8
_MANY = 64
"""What is noted for later beyond this, and is out of date, is thrown away before its time."""

_DROPPED = (
    "it ended while the store could not be told, or was cut short by an exception of a signal "
    "handler"
)


class Renewable(Protocol):
    """The hold on a run as its watcher sees it."""

    clock: Clock
    schedule: Schedule
    over: bool

    @property
    def held(self) -> RunLease:
        """The lease."""
        ...

    def was_renewed(self, now: float, *, lost: bool) -> None:
        """Record what the store said to a renewal, which was asked for at *now*."""
        ...

    def was_not_renewed(self) -> None:
        """Record that the store could not be asked."""
        ...


def _no_run() -> None:
    """Stand in for a run that is not watched any more."""


@attrs.define(eq=False)
class _WatchedRun:
    """A run in the watcher, until it is removed.

    Attributes:
        run: Returns the run; None once nobody has it, or it is removed.
        lease: Its lease.
        context: What its renewals run in: its clock, and nothing else of its caller's.
        between: Seconds between two renewals.
        renewal: When the next one is due.
    """

    run: Callable[[], Renewable | None]
    lease: RunLease
    context: Context
    between: float
    renewal: float


def _run_to_act_on(at: float, watched: _WatchedRun, *, save: bool) -> Renewable | None:
    """Return the run that something was noted for, unless it has ended, or another time counts."""
    run = watched.run()
    if run is None or run.over:
        return None
    return run if at == (run.schedule.due_at if save else watched.renewal) else None


class Watcher:
    """The thread that watches over the runs of one store.

    Args:
        store: Where the runs are.

    Raises:
        RuntimeError: If no thread can be started now.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._runs: dict[str, _WatchedRun] = {}  # by grant
        self._heap: list[tuple[float, int, _WatchedRun, bool]] = []
        self._news: deque[tuple[float, _WatchedRun, bool]] = deque()
        self._numbers = count()
        self._wake: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._until = -math.inf
        self._ends = False
        end_with_subinterpreter(self, Watcher._end)
        threading.Thread(
            target=Context().run, args=(self._watch,), name="mainstay-leases", daemon=True
        ).start()

    def add(self, run: Renewable) -> None:
        """Watch over *run* from now on."""
        lease = run.held
        between = lease.seconds / RENEWALS_PER_LEASE
        watched = _WatchedRun(
            ref(run, lambda _: self._wake_up(dropped=True)),
            lease,
            helper_context(),
            between,
            monotonic() + between,
        )
        self._runs[lease.grant] = watched
        run.schedule.alarm = lambda at: self._add(at, watched, save=True)
        self._add(watched.renewal, watched, save=False)
        if run.schedule.due_at < math.inf:
            self._add(run.schedule.due_at, watched, save=True)

    def remove(self, run: Renewable) -> None:
        """Forget *run*."""
        try:
            watched = self._runs.pop(run.held.grant, None)
            if watched is not None:
                watched.run = _no_run
        finally:
            if not self._runs:
                self._wake_up()

    def _wake_up(self, *, dropped: bool = False) -> None:
        """Have the thread look; *dropped* is True if nobody may have some run any more."""
        self._wake.put(dropped)

    def _add(self, at: float, watched: _WatchedRun, *, save: bool) -> None:
        """Add what is to be done at a time, from any thread or handler."""
        self._news.append((at, watched, save))
        if at < self._until or len(self._news) > _MANY:
            self._wake_up()

    def _watch(self) -> None:
        while self._goes_on():
            self._collect_news()
            self._until = until = self._heap[0][0] if self._heap else math.inf
            if self._news:  # noted before `_until` was there to be seen
                continue
            if self._woken(until):
                self._release_dropped()
            self._collect_news()
            self._act(monotonic())

    def _goes_on(self) -> bool:
        """Return False if there is no run left, and none will come."""
        if self._runs and not self._ends:
            return True
        with _lock:
            goes_on = bool(self._runs) and not self._ends
            if not goes_on and _watchers.get(id(self._store)) is self:
                del _watchers[id(self._store)]
            return goes_on

    def _end(self) -> None:
        """End the thread, also if there are runs, which are renewed no more."""
        self._ends = True
        self._wake_up()

    def _woken(self, until: float) -> bool:
        """Wait until then, or until somebody wakes it; return True if a run may be dropped."""
        dropped, wait = False, min(max(until - monotonic(), 0.0), threading.TIMEOUT_MAX)
        try:
            dropped = self._wake.get(timeout=wait)
            while True:
                dropped = self._wake.get_nowait() or dropped
        except queue.Empty:
            return dropped

    def _collect_news(self) -> None:
        while self._news:
            at, watched, save = self._news.popleft()
            heapq.heappush(self._heap, (at, next(self._numbers), watched, save))
        if len(self._heap) > 4 * len(self._runs) + _MANY:  # at most two of each run are valid
            self._heap = [
                (at, number, watched, save)
                for at, number, watched, save in self._heap
                if _run_to_act_on(at, watched, save=save) is not None
            ]
            heapq.heapify(self._heap)

    def _act(self, now: float) -> None:
        renew = False
        while self._heap and self._heap[0][0] <= now:
            at, _, watched, save = heapq.heappop(self._heap)
            run = _run_to_act_on(at, watched, save=save)
            if run is None:
                continue
            if save:
                run.schedule.due = True
            else:
                renew = True
        if renew:
            self._renew(values_now(self._runs), now)

    def _renew(self, runs: Sequence[_WatchedRun], now: float) -> None:
        """Renew the leases that are or soon will be due, with one request for each clock."""
        groups: dict[int, list[tuple[_WatchedRun, Renewable]]] = {}
        for watched in runs:
            run = watched.run()
            if (
                run is not None
                and not run.over
                and renews_now(watched.renewal, watched.between, now)
            ):
                groups.setdefault(id(run.clock), []).append((watched, run))
        for group in groups.values():
            renewed = group[0][0].context.run(self._renewed, [run for _, run in group])
            for watched, _ in group:
                wait = watched.between if renewed else watched.between * _AFTER_FAILURE
                watched.renewal = monotonic() + wait
                self._add(watched.renewal, watched, save=False)

    def _renewed(self, runs: Sequence[Renewable]) -> bool:
        """Renew leases; return False if the store could not be asked."""
        now = runs[0].clock.now()
        try:
            lost = {each.run for each in self._store.renew([run.held for run in runs])}
        except Exception as error:  # noqa: BLE001 - whatever a store raises, the thread goes on
            if is_first("renewal", self._store.url, class_name(error)):
                logger_of("checkpoint").warning("leases could not be renewed: %s", in_words(error))
            for run in runs:
                run.was_not_renewed()
            return False
        for run in runs:
            run.was_renewed(now, lost=run.held.run in lost)
        return True

    def _release_dropped(self) -> None:
        """Release the runs that nobody has any more, and that were not removed."""
        for watched in values_now(self._runs):
            lease = watched.lease
            if watched.run() is None and self._runs.pop(lease.grant, None) is watched:
                watched.context.run(self._release, lease)

    def _release(self, lease: RunLease) -> None:
        try:
            self._store.release(lease, "error", _DROPPED)
        except Exception as error:  # noqa: BLE001 - as above
            logger_of("checkpoint").warning(
                "%s: a run that has ended here is not released, so that others have to wait for "
                "the end of its lease: %s",
                lease.run.name,
                in_words(error),
            )


def renews_now(renewal: float, between: float, now: float) -> bool:
    """True if a lease is renewed at *now*: its time has come, or comes soon enough to keep step."""
    return renewal - now <= between * _TOGETHER


_watchers: dict[int, Watcher] = {}
_lock = threading.RLock()


def watch(store: Store, run: Renewable) -> None:
    """Watch over *run* from now on.

    Raises:
        RuntimeError: If no thread can be started now.
    """
    with _lock:
        watcher = _watchers.get(id(store))
        if watcher is None:
            watcher = _watchers[id(store)] = Watcher(store)
        watcher.add(run)


def unwatch(store: Store, run: Renewable) -> None:
    """Watch over *run* no more, if it was watched."""
    watcher = _watchers.get(id(store))
    if watcher is not None:
        watcher.remove(run)


def _after_fork_in_child() -> None:
    """Forget the parent's threads, which are not here, and the lock, which one may have held."""
    global _lock
    _watchers.clear()
    _lock = threading.RLock()


around_forks(in_child=_after_fork_in_child)
