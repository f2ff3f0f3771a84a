"""What runs need while their own threads are busy: leases renewed, and to hear that a save is due.

One thread for each store of the process watches over all runs in it, however many there are. Every
save renews the lease of its run; between saves the thread does, three times in each lease, and
renews at once those whose time comes within a quarter of theirs, so that they soon keep step and a
round is one request. Where that fails it asks again after an eighth of the time.

The same thread sets `Schedule.due` when the time of a run's next save has come, so that the loops
need not ask the clock after every item. It waits in real time on purpose: a lease has to be renewed
while nobody sleeps on the run's clock. It is a daemon and ends with the last run, so it keeps no
process alive.
"""

import heapq
import math
import threading
from collections import deque
from collections.abc import Sequence
from contextvars import Context
from itertools import count
from typing import Protocol

import attrs

from mainstay._checkpoint.schedule import Schedule
from mainstay._core.clock import Clock, monotonic
from mainstay._core.context import helper_context
from mainstay._core.events import is_first, logger_of
from mainstay._core.failures import class_name, in_words
from mainstay._core.forks import around_forks
from mainstay.stores.base import RENEWALS_PER_LEASE, RunLease, Store

_TOGETHER = 1 / 4
_AFTER_FAILURE = 1 / 8
_MANY = 64
"""What is noted for later beyond this, and is out of date, is thrown away before its time."""


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


@attrs.define(eq=False)
class _WatchedRun:
    """A run in the watcher, until it is removed.

    Attributes:
        run: The run; None once it is removed, for the sake of what is noted for later.
        context: What its renewals run in: its clock, and nothing else of its caller's.
        between: Seconds between two renewals.
        renewal: When the next one is due.
    """

    run: Renewable | None
    context: Context
    between: float
    renewal: float


def _run_to_act_on(at: float, watched: _WatchedRun, *, save: bool) -> Renewable | None:
    """Return the run that something was noted for, unless it has ended, or another time counts."""
    run = watched.run
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
        self._runs: dict[int, _WatchedRun] = {}
        self._heap: list[tuple[float, int, _WatchedRun, bool]] = []
        self._news: deque[tuple[float, _WatchedRun, bool]] = deque()
        self._numbers = count()
        self._wake = threading.Event()
        self._until = -math.inf
        self._stopped = False
        threading.Thread(
            target=Context().run, args=(self._watch,), name="mainstay-leases", daemon=True
        ).start()

    def add(self, run: Renewable) -> None:
        """Watch over *run* from now on."""
        between = run.held.seconds / RENEWALS_PER_LEASE
        watched = _WatchedRun(run, helper_context(), between, monotonic() + between)
        self._runs[id(run)] = watched
        run.schedule.alarm = lambda at: self._add(at, watched, save=True)
        self._add(watched.renewal, watched, save=False)
        if run.schedule.due_at < math.inf:
            self._add(run.schedule.due_at, watched, save=True)

    def remove(self, run: Renewable) -> bool:
        """Forget *run*; return True if it was the last one, so that the thread ends."""
        watched = self._runs.pop(id(run), None)
        if watched is not None:
            watched.run = None
        if not self._runs:
            self._stopped = True
            self._wake.set()
        return self._stopped

    def _add(self, at: float, watched: _WatchedRun, *, save: bool) -> None:
        """Add what is to be done at a time, from any thread or handler."""
        self._news.append((at, watched, save))
        if at < self._until or len(self._news) > _MANY:
            self._wake.set()

    def _watch(self) -> None:
        while not self._stopped:
            self._wake.clear()
            self._take_in()
            self._until = until = self._heap[0][0] if self._heap else math.inf
            if self._news:  # noted before `_until` was there to be seen
                continue
            self._wake.wait(min(max(until - monotonic(), 0.0), threading.TIMEOUT_MAX))
            if not self._stopped:
                self._take_in()
                self._act(monotonic())

    def _take_in(self) -> None:
        while self._news:
            at, watched, save = self._news.popleft()
            heapq.heappush(self._heap, (at, next(self._numbers), watched, save))
        if len(self._heap) > 4 * len(self._runs) + _MANY:  # of each run two count, at most
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
            self._renew([*self._runs.values()], now)

    def _renew(self, runs: Sequence[_WatchedRun], now: float) -> None:
        """Renew the leases whose time has come or soon comes, those of one clock together."""
        groups: dict[int, list[tuple[_WatchedRun, Renewable]]] = {}
        for watched in runs:
            run = watched.run
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
    with _lock:
        watcher = _watchers.get(id(store))
        if watcher is not None and watcher.remove(run):
            del _watchers[id(store)]


def _after_fork_in_child() -> None:
    """Forget the parent's threads, which are not here, and the lock, which one may have held."""
    global _lock
    _watchers.clear()
    _lock = threading.RLock()


around_forks(in_child=_after_fork_in_child)
