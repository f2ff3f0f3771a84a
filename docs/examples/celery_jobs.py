"""A task of Celery that goes on where it was, on any worker, each time that it is delivered.

celery --app celery_jobs worker --concurrency 4
"""

import os
import signal
import time

from billiard import active_children
from celery import Celery, Task
from celery.exceptions import Reject
from celery.signals import worker_process_init, worker_shutting_down

from mainstay import Checkpoint, RunBusyError, RunInterruptedError, checkpointed, interrupt_all

app = Celery("celery_jobs", broker=os.environ.get("BROKER", "redis://127.0.0.1:6379"))
app.conf.update(
    task_acks_late=True,  # a task that was begun is still the broker's
    task_reject_on_worker_lost=True,  # a killed process of the pool gives its task back
    worker_prefetch_multiplier=1,  # no worker keeps tasks that others could begin
    broker_transport_options={"visibility_timeout": 3600},  # a killed worker gives its tasks back
)


@checkpointed(name="report", key="{day}", every=10, max_crashes=3)  # in $MAINSTAY_STORE
def report(cp: Checkpoint, day: str) -> str:
    """Work through a day, and return what came of it."""
    total = cp.state([0])
    for number in cp.iterate(range(200), key=lambda number: number):
        time.sleep(float(os.environ.get("SECONDS_PER_ITEM", "0.01")))
        total[0] += number
    return f"{day}: {total[0]}"


@app.task(bind=True, max_retries=None)  # to be busy is no failure
def make_report(self: Task, day: str) -> str:
    """Do the job, or what is left of it."""
    try:
        return report(day)
    except RunBusyError as error:
        raise self.retry(exc=error, countdown=error.retry_after) from None
    except RunInterruptedError as error:
        raise Reject(error, requeue=True) from None


@worker_process_init.connect
def listen(**_: object) -> None:
    """Let each process of the pool interrupt its runs when SIGUSR2 comes."""
    signal.signal(signal.SIGUSR2, lambda *_: interrupt_all())


@worker_shutting_down.connect
def give_back(**_: object) -> None:
    """Have the processes of the pool give back their tasks: SIGTERM came to the worker alone."""
    for process in active_children():
        os.kill(process.pid, signal.SIGUSR2)
