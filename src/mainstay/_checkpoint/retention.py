"""`keep=`: which finished runs are removed when another run of the same name ends."""

import contextlib

from mainstay._checkpoint.settings import CheckpointSettings, keep_limits
from mainstay._core.context import current_context
from mainstay._core.events import logger_of
from mainstay.errors import CheckpointError, RunBusyError
from mainstay.stores.base import RunId
from mainstay.stores.selection import surplus_runs


def forget_old(settings: CheckpointSettings, ended: RunId) -> None:
    """Forget what `keep` does not keep of the name of a run; what fails is only logged."""
    count, seconds = keep_limits(settings.keep)
    if count is None and seconds is None:
        return
    try:
        wall = current_context().clock.wall()
        for run in surplus_runs(settings.store, ended, count, seconds, wall):
            with contextlib.suppress(RunBusyError):  # the run was started again meanwhile
                settings.store.forget(run)
    except CheckpointError as error:
        logger_of("checkpoint").warning(
            "old runs of %s could not be removed: %s", ended.name, error
        )
