"""The worker of `docs/examples/procrastinate_jobs.py`, where all that takes long is done soon."""

import procrastinate_jobs
from procrastinate_jobs import app, main, retry_stalled_jobs

__all__ = ["main"]

procrastinate_jobs.STALLED = 2.0
app.worker_defaults |= {
    "update_heartbeat_interval": 0.2,
    "stalled_worker_timeout": 2.0,
    "fetch_job_polling_interval": 0.2,
    "shutdown_graceful_timeout": 1,
}
app.periodic(cron="* * * * * */1", periodic_id="hasty")(retry_stalled_jobs)
