"""What becomes of a run: from what its object says to what the next version of it says.

No function here asks a clock or a bucket, or knows what is sent when.
"""

from collections.abc import Callable, Mapping

import attrs

from mainstay.errors import LeaseLostError
from mainstay.stores import _transitions
from mainstay.stores._s3.failures import S3Failure
from mainstay.stores._s3.layout import (
    Document,
    Forgotten,
    ResultsPart,
    Stored,
    packed,
    together,
)
from mainstay.stores._s3.numbers import ranges_of, without
from mainstay.stores.base import (
    Acquired,
    Acquisition,
    Change,
    Exit,
    Poisoned,
    Record,
    Request,
    RunId,
    RunLease,
    acquisition,
    is_owned,
)

LARGEST_TAIL = 64 * 1024
"""Bytes of results, and of a document, that the object of a run has itself."""

Namer = Callable[[], str]
"""Returns a new name for a part each time."""


def acquired(
    before: Stored | Forgotten | None,
    run: RunId,
    request: Request,
    *,
    now: float,
    wall: float,
    silent: float,
) -> tuple[Acquisition, Stored | None]:
    """Decide who may work on *run*; return the answer, and what to write, if anything.

    Args:
        before: What its object says; None if there is none.
        run: Which run.
        request: What is asked for.
        now: Seconds of this process's clock.
        wall: Seconds since 1970.
        silent: For how many seconds the owner has written nothing, at least.
    """
    record = before.record if isinstance(before, Stored) else None
    gone: Exit = gone_by(record, silent) if record else ""
    if record is not None and record.grant != request.grant:
        record = _by_own_clock(record, now, silent)
    answer = acquisition(
        record,
        run,
        request,
        now=now,
        wall=wall,
        gone=gone,
        forgotten=before.token if isinstance(before, Forgotten) else 0,
    )
    match answer:
        case Acquired(began=True):
            return answer, Stored(answer.record)
        case Acquired() | Poisoned() if isinstance(before, Stored) and answer.record is not record:
            return answer, attrs.evolve(before, record=answer.record)
        case _:
            return answer, None


def _by_own_clock(record: Record, now: float, silent: float) -> Record:
    """Return the record with the times of its owner's clock as this process's clock has them."""
    moved = now - silent - record.seen
    return attrs.evolve(
        record, expires=record.expires + moved, seen=record.seen + moved, saved=record.saved + moved
    )


def gone_by(record: Record, silent: float) -> Exit:
    """Return how the owner of a run has gone; "" if it has not.

    Args:
        record: What the store knows of the run.
        silent: For how many seconds the owner has written nothing, at least.
    """
    return _transitions.gone_by_server(record, record.seen + silent)


def changed(
    before: Stored | Forgotten | None, lease: RunLease, change: Change, *, now: float, wall: float
) -> Stored | None:
    """Return a run after a change, with its lease renewed; None if the change is there already.

    Raises:
        LeaseLostError: If the run is no longer the caller's, or lacks what the change builds on.
        S3Failure: If a result has the number of another one.
    """
    if not isinstance(before, Stored):
        raise LeaseLostError(lease.run.name, lease.run.key, lease.token)
    record = _transitions.changed(
        before.record, lease, change, kept=_keeps(before, change.after_result), now=now, wall=wall
    )
    if record is None:
        return None
    puts = {number: packed(number, result) for number, result in change.put.items()}
    if any(before.tail.get(number, entry) != entry for number, entry in puts.items()):
        raise S3Failure.taken()
    latest, previous = before.latest, before.previous
    if change.document is not None:
        previous = change.document if change.finished else latest
        latest = change.document
    parts, tail = _dropped(before, change.drop)
    return Stored(
        record,
        latest,
        previous,
        parts,
        {**tail, **puts},
    )


def _keeps(before: Stored, number: int) -> bool:
    """True if the result of that number is kept."""
    live = (bounds for part in before.parts for bounds in part.live)
    return number in before.tail or any(first <= number <= last for first, last in live)


def released(
    before: Stored | Forgotten | None,
    lease: RunLease,
    how: Exit,
    error: str,
    drop: tuple[int, ...],
    *,
    now: float,
    wall: float,
) -> Stored | None:
    """Return a run after its release; None if it is no longer the caller's."""
    if not isinstance(before, Stored) or not is_owned(before.record, lease):
        return None
    parts, tail = _dropped(before, drop)
    record = _transitions.released(before.record, how, error, now=now, wall=wall)
    return attrs.evolve(before, record=record, parts=parts, tail=tail)


def _dropped(
    before: Stored, drop: tuple[int, ...]
) -> tuple[tuple[ResultsPart, ...], dict[int, bytes]]:
    """Return the parts and the tail without the results that are dropped."""
    if not drop:
        return before.parts, {**before.tail}
    gone, removed = {*drop}, ranges_of(drop)
    tail = {number: entry for number, entry in before.tail.items() if number not in gone}
    parts = (attrs.evolve(part, live=without(part.live, removed)) for part in before.parts)
    return tuple(part for part in parts if part.live), tail


def in_parts(stored: Stored, namer: Namer) -> tuple[Stored, Mapping[str, bytes]]:
    """Return a run with what is too long for its object in parts, and those parts by name.

    Args:
        stored: The run.
        namer: Names new parts.
    """
    written: dict[str, bytes] = {}

    def moved(document: Document) -> Document:
        if not isinstance(document, bytes) or len(document) <= LARGEST_TAIL:
            return document
        name = namer()
        written[name] = document
        return name

    latest, previous = moved(stored.latest), moved(stored.previous)
    parts, tail = stored.parts, stored.tail
    if sum(map(len, tail.values())) > LARGEST_TAIL:
        name = namer()
        written[name] = together(tail.values())
        parts, tail = (*parts, ResultsPart(name, ranges_of(tail))), {}
    return Stored(stored.record, latest, previous, parts, tail), written


def is_litter(part: str, token: int | None, owner: int, named: frozenset[str]) -> bool:
    """True if a part counts for nobody and never will.

    What an owner with a higher token writes is that owner's, whether it is named yet or not.

    Args:
        part: Its name.
        token: Of who wrote it, by its name.
        owner: The token of who asks.
        named: The names of the parts that the run has.
    """
    return token is not None and token < owner and part not in named
