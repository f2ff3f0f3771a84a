"""Retention: which finished runs are forgotten when another one ends."""

import contextlib

from mainstay._checkpoint.settings import CheckpointSettings, keep_limits
from mainstay._core.clock import wall_time
from mainstay._core.events import logger_of
from mainstay.errors import CheckpointError, RunBusyError
from mainstay.stores.base import Record, RunId


def forget_old(settings: CheckpointSettings, ended: RunId) -> None:
    """Forget what `keep` does not keep of the name of a run; what fails is only logged."""
    count, seconds = keep_limits(settings.keep)
    if count is None and seconds is None:
        return
    try:
        records = [record for record, state in settings.store.list(ended.name) if state == "done"]
        for run in too_many(records, ended, count, seconds, wall_time()):
            with contextlib.suppress(RunBusyError):  # rerun meanwhile, so no old run any more
                settings.store.forget(run)
    except CheckpointError as error:
        logger_of("checkpoint").warning("old runs of %s stay: %s", ended.name, error)


def too_many(
    finished: list[Record],
    ended: RunId,
    count: int | None,
    seconds: float | None,
    wall: float,
) -> list[RunId]:
    """Choose which of the *finished* runs to forget.

    Args:
        finished: The runs of one name that have ended.
        ended: The last of them, whatever the clock said when.
        count: How many of the newest to keep, or None for all.
        seconds: Up to which age to keep them, or None for any.
        wall: The present time, in seconds since 1970.
    """
    newest = sorted(finished, key=lambda each: (each.run == ended, each.updated), reverse=True)
    return [
        record.run
        for rank, record in enumerate(newest)
        if (count is not None and rank >= count)
        or (seconds is not None and wall - record.updated > seconds)
    ]
