"""The worker of `docs/examples/celery_jobs.py`, whose broker delivers again what took a second."""

from celery_jobs import app

__all__ = ["app"]

app.conf.broker_transport_options = {
    "visibility_timeout": 1,
    "unacked_restore_interval": 1,
    "unacked_restore_throttle": 1,
}
