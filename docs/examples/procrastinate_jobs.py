"""Tasks of Procrastinate that go on where they were, on any worker, each time they are fetched.

procrastinate --app procrastinate_jobs.app schema --apply   # once
python -c "import procrastinate_jobs; procrastinate_jobs.main()"   # a worker
"""

import asyncio
import contextlib
import logging
import math
import os
import signal
import time

from procrastinate import App, BaseRetryStrategy, PsycopgConnector, RetryDecision
from procrastinate.exceptions import UniqueViolation
from procrastinate.jobs import Job, Status

from mainstay import (
    AsyncCheckpoint,
    Checkpoint,
    RunBusyError,
    RunInterruptedError,
    checkpointed,
    interrupt_all,
)

DATABASE = os.environ.get("DATABASE_URL", "postgresql://127.0.0.1/jobs")
STALLED = 30.0  # seconds without a sign of life, after which the jobs of a worker are given back
PAUSE = float(os.environ.get("SECONDS_PER_ITEM", "0.01"))

app = App(
    connector=PsycopgConnector(conninfo=DATABASE),
    worker_defaults={
        "concurrency": 4,  # one more than there are long jobs, for `retry_stalled_jobs`
        "install_signal_handlers": False,  # those of `work` tell the runs as well
        "shutdown_graceful_timeout": 30,  # for the item in progress and its save
    },
)


class GoOn(BaseRetryStrategy):
    """Gives a job back that somebody works on, or whose worker ends; other failures are final."""

    def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision | None:  # noqa: ARG002 - as Procrastinate calls it
        """Return when the job is to be fetched again; None for never."""
        match exception:
            case RunBusyError():
                return RetryDecision(retry_in={"seconds": math.ceil(exception.retry_after)})
            case RunInterruptedError() | asyncio.CancelledError():
                return RetryDecision()
        return None


@checkpointed(store=DATABASE, name="report", key="{day}", every=10, max_crashes=3)
def report(cp: Checkpoint, day: str) -> str:
    """Work through a day, and return what came of it."""
    total = cp.state([0])
    for number in cp.iterate(range(200), key=lambda number: number):
        time.sleep(PAUSE)
        total[0] += number
    return f"{day}: {total[0]}"


@checkpointed(store=DATABASE, name="summary", key="{day}", every=10, max_crashes=3)
async def summary(cp: AsyncCheckpoint, day: str) -> str:
    """As `report`, in async code."""
    total = cp.state([0])
    async for number in cp.iterate(range(200), key=lambda number: number):
        await asyncio.sleep(PAUSE)
        total[0] += number
    return f"{day}: {total[0]}"


@app.task(retry=GoOn())
def make_report(day: str) -> str:
    """Do the job, or what is left of it, in a thread."""
    return report(day)


@app.task(retry=GoOn())
async def make_summary(day: str) -> str:
    """Do the job, or what is left of it, in the event loop."""
    return await summary(day)


@app.periodic(cron="* * * * *")
@app.task(queueing_lock="retry_stalled_jobs")
async def retry_stalled_jobs(timestamp: int) -> None:  # noqa: ARG001 - as Procrastinate calls it
    """Give back the jobs of workers that were killed."""
    jobs = app.job_manager
    for job in await jobs.get_stalled_jobs(seconds_since_heartbeat=STALLED):
        try:
            await jobs.retry_job(job)
        except UniqueViolation:  # another one with the same queueing lock is there for the rest
            await jobs.finish_job(job, Status.ABORTED, delete_job=False)


async def work() -> None:
    """Do jobs until SIGTERM comes; then give back what is not done."""
    loop = asyncio.get_running_loop()
    async with app.open_async():
        worker = asyncio.create_task(app.run_worker_async())

        def end() -> None:
            interrupt_all()
            worker.cancel()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, end)
        with contextlib.suppress(asyncio.CancelledError):
            await worker


def main() -> None:
    """Run a worker."""
    logging.basicConfig(level=logging.INFO)
    asyncio.run(work())
