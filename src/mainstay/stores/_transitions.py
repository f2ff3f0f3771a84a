"""What becomes of a record besides an acquisition: rules of the stores that do not leave it to SQL.

As `acquisition`, these are pure; a store calls each inside one transaction of its own.
"""

import attrs

from mainstay._core.owner import is_dead
from mainstay.errors import LeaseLostError, RunBusyError
from mainstay.stores.base import Change, Exit, Record, RunLease, has_applied, is_owned


def changed(
    record: Record, lease: RunLease, change: Change, *, kept: bool, now: float, wall: float
) -> Record | None:
    """Return a record after a change, with the lease renewed; None if the change is there already.

    Args:
        record: The record of the run.
        lease: The lease of who changes the run.
        change: What is written.
        kept: True if the result that the change builds on is kept, should there be one.
        now: Seconds of the store's clock.
        wall: Seconds since 1970.

    Raises:
        LeaseLostError: If the run is no longer the caller's, or lacks what the change builds on.
    """
    if has_applied(record, lease, change):
        return None
    is_cut = record.sequence < change.after or (change.after_result >= 0 and not kept)
    if is_cut or not is_owned(record, lease):
        raise LeaseLostError(lease.run.name, lease.run.key, lease.token)
    return Record(  # in half the time of `attrs.evolve`, at each save
        run=record.run, life=record.life, token=record.token, grant=record.grant,
        sequence=max(record.sequence, change.sequence),
        status="done" if change.finished else "running",
        owner=record.owner, expires=now + lease.seconds, seen=now,
        saved=now if change.progress else record.saved,
        attempt=record.attempt, crashes=0 if change.progress else record.crashes,
        exit=record.exit, error=record.error, arguments=record.arguments,
        created=record.created, updated=wall,
    )  # fmt: skip


def released(record: Record, how: Exit, error: str, *, now: float, wall: float) -> Record:
    """Return a record after the release of its run.

    Args:
        record: The record of the run.
        how: How the attempt ended.
        error: For people: the error that ended the attempt.
        now: Seconds of the store's clock.
        wall: Seconds since 1970.
    """
    return attrs.evolve(
        record, status="interrupted", exit=how, error=error, crashes=0, seen=now, updated=wall
    )


def gone_by_server(record: Record, now: float, *, cut_off: bool = False) -> Exit:
    """Return how the owner of a running run has gone, as `how_gone`, but by a server's clock.

    Args:
        record: The record of the run.
        now: Seconds of the server's clock.
        cut_off: True if the server knows that the process of the owner has ended.
    """
    if record.status != "running":
        return ""
    if cut_off or is_dead(record.owner, local=False):
        return "crash"
    return "takeover" if record.expires <= now else ""


def check_forgettable(record: Record, gone: Exit, now: float) -> None:
    """Raise an error if an owner works on the run.

    Args:
        record: The record of the run.
        gone: How its owner has gone, or "".
        now: Seconds of the clock that the record has its times by.

    Raises:
        RunBusyError: If its owner is there.
    """
    if record.status == "running" and not gone:
        run = record.run
        raise RunBusyError(run.name, run.key, str(record.owner), record.expires - now)
