"""What a run needs while its own thread is busy: its lease renewed, and to hear that a save is due.

Every save renews the lease. Between saves a thread does, three times in each lease. The same
thread sets `Schedule.due` when the time of the next save has come, so that the loops need not ask
the clock after every item. It waits in real time on purpose: a lease has to be renewed while nobody
sleeps on the run's clock. It is a daemon and ends with the run, so it keeps no process alive.
"""

import contextvars
import threading
from typing import TYPE_CHECKING

from mainstay._core.clock import monotonic
from mainstay.stores.base import RENEWALS_PER_LEASE

if TYPE_CHECKING:
    from mainstay._checkpoint.run import Run


class Watcher:
    """The thread that watches over one run, from `__init__` to `stop`."""

    __slots__ = ("_run", "_stopped")

    def __init__(self, run: "Run") -> None:
        self._run = run
        self._stopped = False
        context = contextvars.copy_context()
        threading.Thread(
            target=context.run,
            args=(self._watch,),
            name=f"mainstay-lease-{run.id.name}",
            daemon=True,
        ).start()

    def stop(self) -> None:
        """Let the thread end; a renewal that is under way still ends first."""
        self._stopped = True
        self._run.schedule.changed.set()

    def _watch(self) -> None:
        run, schedule = self._run, self._run.schedule
        between = run.rules.lease / RENEWALS_PER_LEASE
        renewal, rung = monotonic() + between, None
        while not self._stopped:
            alarm = schedule.alarm
            until = renewal if alarm == rung else min(renewal, alarm)
            schedule.changed.wait(min(until - monotonic(), threading.TIMEOUT_MAX))
            schedule.changed.clear()
            if self._stopped:
                return
            now = monotonic()
            if alarm != rung and alarm == schedule.alarm and now >= alarm:
                schedule.due, rung = True, alarm
            if now >= renewal:
                run.renew()
                renewal = monotonic() + between
