"""The thread that watches over a run while the run's own thread is busy."""

import contextvars
import threading
from datetime import timedelta
from time import monotonic

from mainstay import Metrics, deadline, remaining
from mainstay._checkpoint.schedule import Schedule
from mainstay._checkpoint.watcher import Watcher
from mainstay._core.clock import SYSTEM
from mainstay._metrics.collector import recorders_of


def watched(lease, every=1):
    """A schedule that is watched over, what is set at the second renewal, and when it began."""
    schedule = Schedule(every, SYSTEM, recorders_of(Metrics(None)).checkpoint("job"))
    schedule.begin()
    renewed, renewals = threading.Event(), []

    def renew():
        renewals.append(monotonic())
        if len(renewals) == 2:
            renewed.set()

    return schedule, renewed, monotonic(), Watcher("job", schedule, lease, renew)


def test_a_lease_is_renewed_three_times_in_its_time():
    _, renewed, began, watcher = watched(lease=0.3)
    assert renewed.wait(60)
    assert monotonic() - began >= 0.2
    watcher.stop()


def test_renewals_are_a_third_of_the_lease_apart():
    waits, waited = [], threading.Event()

    class Changed(threading.Event):
        def wait(self, timeout=None):
            waits.append(timeout)
            waited.set()
            return super().wait(timeout)

    schedule = Schedule(1, SYSTEM, recorders_of(Metrics(None)).checkpoint("job"))
    schedule.changed = Changed()
    watcher = Watcher("job", schedule, 30_000.0, lambda: None)
    assert waited.wait(60)
    watcher.stop()
    assert 9_900 < waits[0] <= 10_000


def test_it_says_that_a_save_is_due_when_the_time_has_come_and_not_before():
    schedule, renewed, _, watcher = watched(lease=0.06, every=timedelta(seconds=0.1))
    assert renewed.wait(60)  # it has looked at the time, and gone on
    due_at, waiting = schedule.due_at, threading.Event()
    while not schedule.due and monotonic() < due_at + 60:
        waiting.wait(0.01)
    assert schedule.due
    assert monotonic() >= due_at
    watcher.stop()


def test_it_has_a_context_of_its_own():
    """The deadline of whoever began the run, and what they keep in variables, are not its own."""
    request, seen, renewed = contextvars.ContextVar("request"), [], threading.Event()

    def renew():
        seen.append((remaining(), request.get(None)))
        renewed.set()

    schedule = Schedule(1, SYSTEM, recorders_of(Metrics(None)).checkpoint("job"))
    schedule.begin()
    with deadline(3600.0):
        request.set(object())
        watcher = Watcher("job", schedule, 0.03, renew)
    assert renewed.wait(60)
    watcher.stop()
    assert seen[0] == (None, None)
