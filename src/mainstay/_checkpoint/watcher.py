"""Renews the lease of a run while an item takes long.

Every save renews the lease. Between saves a thread does, three times in each lease. It waits in
real time on purpose: a lease has to be renewed while nobody sleeps on the run's clock. It is a
daemon and ends with the run, so it keeps no process alive.
"""

import contextvars
import threading
from typing import TYPE_CHECKING

from mainstay.stores.base import RENEWALS_PER_LEASE

if TYPE_CHECKING:
    from mainstay._checkpoint.run import Run


class Renewer:
    """The thread that renews one lease, from `__init__` to `stop`."""

    __slots__ = ("_stopped",)

    def __init__(self, run: "Run") -> None:
        self._stopped = threading.Event()
        context = contextvars.copy_context()
        threading.Thread(
            target=context.run,
            args=(_renew, run, self._stopped),
            name=f"mainstay-lease-{run.id.key}",
            daemon=True,
        ).start()

    def stop(self) -> None:
        """Let the thread end; a renewal that is under way still ends first."""
        self._stopped.set()


def _renew(run: "Run", stopped: threading.Event) -> None:
    while not stopped.wait(run.rules.lease / RENEWALS_PER_LEASE):
        run.renew()
