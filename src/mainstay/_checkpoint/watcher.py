"""What a run needs while its own thread is busy: its lease renewed, and to hear that a save is due.

Every save renews the lease. Between saves a thread does, three times in each lease. The same
thread sets `Schedule.due` when the time of the next save has come, so that the loops need not ask
the clock after every item. It waits in real time on purpose: a lease has to be renewed while nobody
sleeps on the run's clock. It is a daemon and ends with the run, so it keeps no process alive.
"""

import threading
from collections.abc import Callable

from mainstay._checkpoint.schedule import Schedule
from mainstay._core.clock import monotonic
from mainstay._core.context import helper_context
from mainstay.stores.base import RENEWALS_PER_LEASE


class Watcher:
    """The thread that watches over one run, from `__init__` to `stop`.

    Args:
        component: What the run is called.
        schedule: When it saves.
        lease: Seconds that its lease lasts.
        renew: Renews the lease.
    """

    __slots__ = ("_between", "_renew", "_schedule", "_stopped")

    def __init__(
        self, component: str, schedule: Schedule, lease: float, renew: Callable[[], object]
    ) -> None:
        self._schedule = schedule
        self._between = lease / RENEWALS_PER_LEASE
        self._renew = renew
        self._stopped = False
        threading.Thread(
            target=helper_context().run,
            args=(self._watch,),
            name=f"mainstay-lease-{component}",
            daemon=True,
        ).start()

    def stop(self) -> None:
        """End the thread; a renewal that is under way is made first."""
        self._stopped = True
        self._schedule.changed.set()

    def _watch(self) -> None:
        schedule = self._schedule
        renewal, signalled_at = monotonic() + self._between, None
        while not self._stopped:
            due_at = schedule.due_at
            until = renewal if due_at == signalled_at else min(renewal, due_at)
            schedule.changed.wait(min(until - monotonic(), threading.TIMEOUT_MAX))
            schedule.changed.clear()
            if self._stopped:
                return
            now = monotonic()
            if due_at != signalled_at and due_at == schedule.due_at and now >= due_at:
                schedule.due, signalled_at = True, due_at
            if now >= renewal:
                self._renew()
                renewal = monotonic() + self._between
