"""What each operation of the store asks of the bucket, step by step, for threads and tasks.

An operation is a generator: it yields requests, and is sent their answers. Nothing is locked
between two of them: what was read is written back only if the object is still as it was read. Where
the answer to such a write was lost, the object is read again: it has been written if it has the
nonce of this write.
"""

import contextlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import count
from typing import TypeVar

import attrs

from mainstay._core.clock import monotonic, wall_time
from mainstay.errors import LeaseLostError
from mainstay.stores._damaged import damaged_record
from mainstay.stores._s3.decisions import (
    acquired,
    changed,
    gone_by,
    in_parts,
    is_litter,
    released,
)
from mainstay.stores._s3.failures import S3Failure
from mainstay.stores._s3.layout import (
    TOMBSTONE_SIZES,
    Document,
    Forgotten,
    Stored,
    from_object,
    results_of,
    to_object,
    unpacked,
)
from mainstay.stores._s3.names import Names, new_part, token_of
from mainstay.stores._s3.requests import (
    ABSENT,
    Delete,
    Found,
    Get,
    Listed,
    ListPage,
    Put,
    S3Operation,
)
from mainstay.stores._transitions import check_forgettable
from mainstay.stores.base import (
    Acquired,
    Acquisition,
    Change,
    Contents,
    Exit,
    Finished,
    Record,
    Request,
    Result,
    RunId,
    RunLease,
    Status,
    state_of,
)

V = TypeVar("V")

PAGE = 1000
"""How many objects a server lists at once."""
_AT_ONCE = 64
_MOST_KNOWN = 10_000
_FRESH = 60.0
"""Seconds after which the server is asked for its time again."""
_RESOLUTION = 1.0
"""Seconds to which servers tell when an object was written."""


@attrs.frozen(eq=False)
class Version:
    """A version of an object.

    Attributes:
        stored: What it says.
        etag: Its ETag.
        nonce: Its nonce.
        modified: When it was written, by the server's clock; None if this process wrote it.
    """

    stored: Stored | Forgotten
    etag: str
    nonce: str
    modified: float | None = None


@attrs.frozen(eq=False)
class _Seen:
    """What an object said of its run when it was read for a list."""

    etag: str
    modified: float
    record: Record


@attrs.frozen(eq=False)
class _Write:
    """What is to be written under a lease.

    Attributes:
        lease: The lease.
        decide: From what is there to what is to be there, or to None if nothing is to be written.
    """

    lease: RunLease
    decide: Callable[[Stored | Forgotten | None], Stored | None]


@attrs.frozen(eq=False)
class _Plan:
    """A write that was decided: parts first, and then the object that names them."""

    write: _Write
    name: str
    stored: Stored
    nonce: str
    parts: Mapping[str, bytes]
    unnamed: frozenset[str]
    swap: Put


class S3Operations:
    """The operations of one store in one process, and what it knows of the objects.

    Args:
        names: What the objects are called.
    """

    def __init__(self, names: Names) -> None:
        self._names = names
        self.clock: Callable[[], float] = monotonic
        self._held: dict[tuple[str, str], Version] = {}
        self._observed: dict[str, tuple[str, float]] = {}
        self._seen: dict[str, _Seen] = {}
        self._server: tuple[float, float] | None = None

    # Runs.

    def acquiring(self, run: RunId, request: Request) -> S3Operation[Acquisition]:
        """Decide who may work on *run*."""
        name = self._names.run(run)
        while True:
            version = yield from self._reading(name, run)
            before = None if version is None else version.stored
            silent = yield from self._silence(name, version, request.grant)
            answer, stored = acquired(
                before, run, request, now=self.clock(), wall=wall_time(), silent=silent
            )
            if stored is not None:
                version = yield from self._swapping(name, run, version, stored)
                if version is None:
                    continue  # somebody was faster
            if not isinstance(answer, Acquired | Finished) or version is None:
                return answer
            kept = version.stored
            if not isinstance(kept, Stored):
                return answer
            if isinstance(answer, Acquired):
                self._hold(name, version, request.grant)
                yield from self._sweeping(run, before, kept)
            return attrs.evolve(answer, contents=(yield from self._gathering(run, kept)))

    def loading(self, run: RunId) -> S3Operation[Contents]:
        """Return what is kept for *run*."""
        name = self._names.run(run)
        version = yield from self._reading(name, run)
        while version is not None and isinstance(version.stored, Stored):
            try:
                return (yield from self._gathering(run, version.stored))
            except S3Failure as failure:
                before, version = version, (yield from self._reading(name, run))
                if failure.code != "CORRUPT" or version is None or version.etag == before.etag:
                    raise
                # A part was removed meanwhile, and the object does not name it any more.
        return Contents()

    def committing(self, lease: RunLease, change: Change) -> S3Operation[None]:
        """Write *change*."""
        lost = yield from self._writing([self._changing(lease, change)])
        if lost:
            raise LeaseLostError(lease.run.name, lease.run.key, lease.token)
        if change.finished:
            self._held.pop((self._names.run(lease.run), lease.grant), None)

    def renewing(self, leases: Sequence[RunLease]) -> S3Operation[list[RunLease]]:
        """Renew many leases; return those that are lost."""
        lost = yield from self._writing([self._changing(each, Change()) for each in leases])
        return [each for each in leases if each in lost]

    def releasing(
        self, lease: RunLease, how: Exit, error: str, drop: tuple[int, ...]
    ) -> S3Operation[None]:
        """Release a run."""

        def decide(before: Stored | Forgotten | None) -> Stored | None:
            return released(before, lease, how, error, drop, now=self.clock(), wall=wall_time())

        yield from self._writing([_Write(lease, decide)])
        self._held.pop((self._names.run(lease.run), lease.grant), None)

    def forgetting(self, run: RunId) -> S3Operation[bool]:
        """Remove *run*."""
        name = self._names.run(run)
        while True:
            [found] = yield [Get(name)]
            version = _version(found, run, mended=True)
            if version is None or isinstance(version.stored, Forgotten):
                return False
            record = version.stored.record
            silent = yield from self._silence(name, version)
            check_forgettable(record, gone_by(record, silent), record.seen + silent)
            gone = Forgotten(record.token)
            if (yield from self._swapping(name, run, version, gone)) is not None:
                yield from self._removing(run, record.token + 1, frozenset())
                return True

    def listing(
        self, name: str | None, status: Status | None, after: RunId | None, limit: int | None
    ) -> S3Operation[list[tuple[Record, Status]]]:
        """Return runs, sorted by name and key, each with its state."""
        folder = self._names.runs if name is None else self._names.runs_of(name)
        last = "" if after is None else self._names.run(after)
        found: list[tuple[Record, Status]] = []
        while limit is None or len(found) < limit:
            page: list[Listed]
            [page] = yield [ListPage(folder, last)]
            shown = [
                (each, run)
                for each in page
                if each.size not in TOMBSTONE_SIZES and (run := self._names.run_of(each.name))
            ]
            while shown and (limit is None or len(found) < limit):
                wanted = limit is not None and status is None
                size = min(_AT_ONCE, (limit or 0) - len(found)) if wanted else _AT_ONCE
                states = yield from self._states(shown[:size])
                found += [each for each in states if status in (None, each[1])]
                del shown[:size]
            if len(page) < PAGE:
                break
            last = page[-1].name
        return found[:limit]

    # Objects.

    def _reading(self, name: str, run: RunId) -> S3Operation[Version | None]:
        [found] = yield [Get(name)]
        return _version(found, run)

    def _swapping(
        self, name: str, run: RunId, version: Version | None, stored: Stored | Forgotten
    ) -> S3Operation[Version | None]:
        """Write an object that is still as it was read; return None if it is not."""
        nonce = _new_nonce()
        condition = ABSENT if version is None else version.etag
        [etag] = yield [Put(name, to_object(stored, nonce), condition)]
        if etag is not None:
            return Version(stored, etag, nonce)
        found = yield from self._reading(name, run)
        return found if found is not None and found.nonce == nonce else None

    def _changing(self, lease: RunLease, change: Change) -> _Write:
        return _Write(
            lease,
            lambda before: changed(before, lease, change, now=self.clock(), wall=wall_time()),
        )

    def _writing(self, writes: Sequence[_Write]) -> S3Operation[list[RunLease]]:
        """Write under leases; return those that are lost."""
        lost: list[RunLease] = []
        while writes:
            known = yield from self._versions(writes)
            plans: list[_Plan] = []
            for write, version in zip(writes, known, strict=True):
                try:
                    plan = self._planned(write, version)
                except LeaseLostError:
                    lost.append(write.lease)
                else:
                    plans += [] if plan is None else [plan]
            parts = [
                Put(self._names.part(plan.write.lease.run, part), data)
                for plan in plans
                for part, data in plan.parts.items()
            ]
            if parts:
                yield parts
            writes = yield from self._sent(plans)
        return lost

    def _versions(self, writes: Sequence[_Write]) -> S3Operation[list[Version | None]]:
        """Return the version of each object that is to be written, read where it is not known."""
        keys = [(self._names.run(each.lease.run), each.lease.grant) for each in writes]
        held = [self._held.pop(key, None) for key in keys]
        unknown = [each for each, known in enumerate(held) if known is None]
        if not unknown:
            return held
        answers = yield [Get(keys[each][0]) for each in unknown]
        read: list[Version | None] = [*held]
        for each, answer in zip(unknown, answers, strict=True):
            read[each] = _version(answer, writes[each].lease.run)
        return read

    def _planned(self, write: _Write, version: Version | None) -> _Plan | None:
        """Decide what to write; None if nothing is.

        Raises:
            LeaseLostError: If the run is no longer the caller's.
        """
        name = self._names.run(write.lease.run)
        stored = write.decide(None if version is None else version.stored)
        if stored is None or version is None or not isinstance(version.stored, Stored):
            if version is not None:
                self._hold(name, version, write.lease.grant)
            return None
        nonce, numbers = _new_nonce(), count()
        stored, parts = in_parts(stored, lambda: new_part(write.lease.token, nonce, next(numbers)))
        return _Plan(
            write,
            name,
            stored,
            nonce,
            parts,
            version.stored.names() - stored.names(),
            Put(name, to_object(stored, nonce), version.etag),
        )

    def _sent(self, plans: Sequence[_Plan]) -> S3Operation[list[_Write]]:
        """Send what was decided; return what is to be decided again, since somebody was faster."""
        etags = (yield [each.swap for each in plans]) if plans else []
        refused = [each for each, etag in zip(plans, etags, strict=True) if etag is None]
        answers = (yield [Get(each.name) for each in refused]) if refused else []
        found = {
            each.nonce: _version(answer, each.write.lease.run)
            for each, answer in zip(refused, answers, strict=True)
        }
        again: list[_Write] = []
        litter: list[str] = []
        for plan, etag in zip(plans, etags, strict=True):
            run = plan.write.lease.run
            now = Version(plan.stored, etag, plan.nonce) if etag is not None else found[plan.nonce]
            written = now is not None and now.nonce == plan.nonce
            useless = plan.unnamed if written else plan.parts
            litter += [self._names.part(run, part) for part in useless]
            if now is not None:
                self._hold(plan.name, now, plan.write.lease.grant)
            if not written:
                again.append(plan.write)
        yield from self._deleting(litter)
        return again

    def _hold(self, name: str, version: Version, grant: str) -> None:
        """Keep a version for the next write of who has *grant*."""
        if isinstance(version.stored, Stored):
            self._held[name, grant] = version
            if version.modified is None:
                _remember(self._observed, name, (version.etag, self.clock()))

    # What is kept for a run.

    def _gathering(self, run: RunId, stored: Stored) -> S3Operation[Contents]:
        names = sorted(stored.names())
        answers = (yield [Get(self._names.part(run, each)) for each in names]) if names else []
        data: dict[str, bytes] = {}
        for name, found in zip(names, answers, strict=True):
            if found is None:
                raise S3Failure.corrupt(f"part {name} of {run} is missing")
            data[name] = found.data

        def whole(document: Document) -> bytes | None:
            return data[document] if isinstance(document, str) else document

        results: dict[int, Result] = {}
        for part in stored.parts:
            inside = unpacked(data[part.name])
            try:
                for first, last in part.live:
                    results.update((each, inside[each]) for each in range(first, last + 1))
            except KeyError:
                raise S3Failure.corrupt(f"part {part.name} of {run} lacks results") from None
        results |= results_of(stored.tail)
        return Contents(whole(stored.latest), whole(stored.previous), dict(sorted(results.items())))

    def _sweeping(
        self, run: RunId, before: Stored | Forgotten | None, after: Stored
    ) -> S3Operation[None]:
        """Remove the parts that an acquisition leaves without a name."""
        if not isinstance(before, Stored) or before.record.grant == after.record.grant:
            return
        if before.record.status == "running":  # its owner may have died before it named a part
            yield from self._removing(run, after.record.token, after.names())
        else:
            gone = before.names() - after.names()
            yield from self._deleting([self._names.part(run, each) for each in gone])

    def _removing(self, run: RunId, below: int, named: frozenset[str]) -> S3Operation[None]:
        """Remove the parts of owners with lower tokens that are not named, if that succeeds."""
        folder, last = self._names.parts_of(run), ""
        with contextlib.suppress(S3Failure):
            while True:
                page: list[Listed]
                [page] = yield [ListPage(folder, last)]
                yield from self._deleting(
                    each.name
                    for each in page
                    if is_litter(each.name.rpartition("/")[2], token_of(each.name), below, named)
                )
                if len(page) < PAGE:
                    return
                last = page[-1].name

    def _deleting(self, names: Iterable[str]) -> S3Operation[None]:
        """Remove objects; what fails is left for the next sweep."""
        if gone := [*names]:
            with contextlib.suppress(S3Failure):
                yield [Delete(gone)]

    # Time, and lists.

    def _silence(self, name: str, version: Version | None, grant: str = "") -> S3Operation[float]:
        """Return for how many seconds the owner of a run has written nothing, at least."""
        if version is None or not isinstance(version.stored, Stored):
            return 0.0
        record = version.stored.record
        if record.grant == grant:
            return 0.0
        return (yield from self._silence_of(name, record, version.etag, version.modified or 0.0))

    def _silence_of(
        self, name: str, record: Record, etag: str, modified: float
    ) -> S3Operation[float]:
        """Return for how many seconds an owner has written nothing, at least.

        The first look at a version asks the server for how long it has been there; from then on,
        this process's own clock tells for how long it has not changed.
        """
        if record.status != "running" or gone_by(record, 0.0):
            return 0.0
        known = self._observed.get(name)
        if known is None or known[0] != etag:
            age = max(0.0, (yield from self._server_time()) - modified - _RESOLUTION)
            known = etag, self.clock() - age
            _remember(self._observed, name, known)
        return self.clock() - known[1]

    def _server_time(self) -> S3Operation[float]:
        """Return the time of the server's clock, or a little less: when something was written."""
        if self._server is None or self.clock() - self._server[0] > _FRESH:
            name = self._names.clock
            try:
                yield [Put(name, b"1")]
            except S3Failure as failure:
                if failure.code != "AccessDenied":
                    raise
                return 0.0  # who may only read sees that nothing changes
            [found] = yield [Get(name)]
            if found is None:
                return 0.0
            self._server = self.clock(), found.modified
        asked, said = self._server
        return said + self.clock() - asked

    def _states(
        self, page: Sequence[tuple[Listed, RunId]]
    ) -> S3Operation[list[tuple[Record, Status]]]:
        """Return the records of listed objects with their states; those that changed are read."""
        unknown = [(each, run) for each, run in page if not self._is_seen(each)]
        answers = (yield [Get(each.name) for each, _ in unknown]) if unknown else []
        read = {
            each.name: _looked_at(answer, run)
            for (each, run), answer in zip(unknown, answers, strict=True)
        }
        found: list[tuple[Record, Status]] = []
        for each, _ in page:
            seen = read[each.name] if each.name in read else self._seen.get(each.name)
            if seen is None:
                continue  # it was forgotten just now
            _remember(self._seen, each.name, seen)
            silent = yield from self._silence_of(each.name, seen.record, seen.etag, seen.modified)
            found.append((seen.record, state_of(seen.record, gone_by(seen.record, silent))))
        return found

    def _is_seen(self, listed: Listed) -> bool:
        """True if an object is as it was when it was read for a list."""
        seen = self._seen.get(listed.name)
        return seen is not None and seen.etag == listed.etag != ""


def _new_nonce() -> str:
    return os.urandom(8).hex()


def _version(found: Found | None, run: RunId, *, mended: bool = False) -> Version | None:
    """Return what was found; a damaged object is a failure, unless the run is to be removed."""
    if found is None:
        return None
    try:
        stored, nonce = from_object(found.data, run)
    except S3Failure as failure:
        if not mended or failure.code != "CORRUPT":
            raise
        stored, nonce = Stored(damaged_record(run, failure.problem, found.modified)), ""
    return Version(stored, found.etag, nonce, found.modified)


def _looked_at(found: Found | None, run: RunId) -> _Seen | None:
    """Return what a list shows of a run; of a damaged one, that it is damaged."""
    if found is None:
        return None
    try:
        stored, _ = from_object(found.data, run)
    except S3Failure as failure:
        record = damaged_record(run, failure.problem, found.modified)
        return _Seen(found.etag, found.modified, record)
    if isinstance(stored, Forgotten):
        return None
    return _Seen(found.etag, found.modified, stored.record)


def _remember(known: dict[str, V], name: str, value: V) -> None:
    """Keep what is known of an object; if there is too much, forget a tenth, the oldest first."""
    known.pop(name, None)
    known[name] = value
    if len(known) > _MOST_KNOWN:
        for oldest in [*known][: _MOST_KNOWN // 10 + 1]:
            known.pop(oldest, None)
