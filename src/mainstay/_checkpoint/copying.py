"""Copies of runs into another store, for users who outgrow one machine.

A run is copied with its identity: its documents, results and arguments, its `life`, from which
idempotency keys are made, and how its last attempt ended. Its next token is higher than all earlier
ones, so that a resource that remembers the highest token still refuses older ones. The number of
attempts and the times begin again.

Runs with an owner, poisoned runs, runs that the other store already has, and those whose name and
key it cannot hold are not copied. A run
that changes while it is copied is removed from the other store again.
"""

import contextlib
from collections.abc import Iterator
from itertools import chain

from mainstay._core.owner import this_process
from mainstay.errors import CheckpointError
from mainstay.stores.base import (
    Acquired,
    Change,
    Contents,
    Exit,
    Record,
    Request,
    RunId,
    RunLease,
    Status,
    Store,
)
from mainstay.stores.selection import pages

_LEASE = 60.0


def copy_runs(source: Store, target: Store, name: str | None) -> Iterator[tuple[RunId, str]]:
    """Copy runs, of one *name* or all; yield each with why it was left alone, or "".

    Raises:
        CheckpointError: If one of the stores cannot be used.
    """
    there = {record.run for record, _ in pages(target, name)}
    before: RunId | None = None
    for record, state in pages(source, name):
        if record.run in there:
            yield record.run, f"there is one in {target.url} already"
        else:
            yield record.run, _copied(source, target, record, state, before)
        before = record.run


def _copied(
    source: Store, target: Store, record: Record, state: Status, before: RunId | None
) -> str:
    if state == "running":
        return f"{record.owner} works on it"
    if state == "poisoned":
        return "it is poisoned; forget it, or end it where it is with another max_crashes"
    request = Request(
        owner=this_process(),
        life=record.life,
        lease=_LEASE,
        arguments=record.arguments,
        above=record.token,
    )
    try:
        answer = target.acquire(record.run, request)
    except ValueError as error:  # of this name and key, and of no other
        return str(error)
    if not isinstance(answer, Acquired):
        return f"there is one in {target.url} already"
    lease = RunLease(record.run, answer.record.token, answer.record.grant, _LEASE)
    try:
        _write(target, lease, source.load(record.run), record, state)
    except BaseException:
        with contextlib.suppress(CheckpointError):  # the first one is raised
            target.release(lease, "error")
            target.forget(record.run)
        raise
    if not _is_as_it_was(source, record, before):
        target.forget(record.run)
        return "it went on while it was copied; end its workers first"
    return ""


def _write(
    target: Store, lease: RunLease, contents: Contents, record: Record, state: Status
) -> None:
    done = state == "done"
    if contents.previous is not None and not done:
        target.commit(lease, Change(document=contents.previous, sequence=1))
    change = Change(document=contents.latest, put=contents.results, finished=done, sequence=2)
    if change.progress:
        target.commit(lease, change)
    if not done:
        how: Exit = "crash" if record.status == "running" else record.exit or "error"
        target.release(lease, how, record.error)


def _is_as_it_was(source: Store, record: Record, before: RunId | None) -> bool:
    """True if a run has not changed since it was read; *before* precedes it in the list."""
    nearest = source.list(record.run.name, after=before, limit=1)
    found = chain(nearest, pages(source, record.run.name))
    now = next((each for each, _ in found if each.run == record.run), None)
    return now is not None and (now.token, now.updated) == (record.token, record.updated)
