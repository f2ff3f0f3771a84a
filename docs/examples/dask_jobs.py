"""A task of Dask that goes on where it was when its worker is lost.

python -c "import dask_jobs; dask_jobs.main('tcp://scheduler:8786', '2026-11-30')"
"""

import os
import time

from distributed import Client, Reschedule, Worker, WorkerPlugin

from mainstay import Checkpoint, RunInterruptedError, checkpointed, interrupt_all


# In $MAINSTAY_STORE, which all workers reach.
@checkpointed(name="report", key="{day}", every=10, max_crashes=3, on_busy="wait")
def report(cp: Checkpoint, day: str) -> str:
    """Work through a day, and return what came of it."""
    total = cp.state([0])
    for number in cp.iterate(range(200), key=lambda number: number):
        time.sleep(float(os.environ.get("SECONDS_PER_ITEM", "0.01")))
        total[0] += number
    return f"{day}: {total[0]}"


def make_report(day: str) -> str:
    """Do the job, or what is left of it."""
    try:
        return report(day)
    except RunInterruptedError:
        raise Reschedule from None  # on another worker: this one ends


class GiveBack(WorkerPlugin):
    """Interrupts the runs of a worker that ends."""

    def teardown(self, worker: Worker) -> None:  # noqa: ARG002 - as Dask calls it
        """Let them save at their next boundary."""
        interrupt_all()


def main(scheduler: str, day: str) -> None:
    """Have the report of a day made, and print it."""
    with Client(scheduler) as client:
        client.register_plugin(GiveBack())
        print(client.submit(make_report, day, key=f"report-{day}").result())
