"""What each operation of the store asks of the server, step by step, for threads and tasks.

An operation is a generator: it yields the commands of one exchange and is sent their answers.
Nothing is locked between two exchanges: what was read is written back only if it is still as it was
read.
"""

import re
import struct
from collections import Counter
from collections.abc import Generator, Sequence
from typing import Any, TypeAlias, TypeVar, cast, get_args

import attrs

from mainstay.errors import LeaseLostError
from mainstay.stores._damaged import damaged_record
from mainstay.stores._record_fields import from_fields, to_fields
from mainstay.stores._redis.failures import RedisFailure
from mainstay.stores._redis.scripts import (
    COMMIT,
    FIELDS,
    FORGET,
    LOAD,
    LOST,
    READ,
    RELEASE,
    RENEW,
    SURPLUS,
    TAKE,
    TAKEN,
    WAS,
)
from mainstay.stores._transitions import check_forgettable, gone_by_server
from mainstay.stores.base import (
    Acquired,
    Acquisition,
    Change,
    Contents,
    Exit,
    Finished,
    Poisoned,
    Record,
    Request,
    Result,
    RunId,
    RunLease,
    Status,
    acquisition,
    state_of,
)

T = TypeVar("T")

Command: TypeAlias = tuple[object, ...]
"""A command of Redis and its arguments."""
RedisOperation: TypeAlias = Generator[Sequence[Command], list[Any], T]

_Read: TypeAlias = tuple[Record | None, Sequence[bytes]]
"""A record, and what it must still be, so that what is decided of it holds."""

_TAG = b"{mainstay}:"
_RUN, _RUNS = _TAG + b"run:", _TAG + b"runs"
_FORGOTTEN, _VERSION = _TAG + b"forgotten", _TAG + b"version"
_FORMAT = b"1"
_PAGE = 500
_NOT_OVER = (None, b"running")
"""What the state of a run is that was forgotten just now, and of one whose owner may have gone."""
_LENGTH = struct.Struct(">I")
_END_OF_NAME = re.compile(b"\0(?!\xff)")
_INTEGERS = frozenset({"token", "sequence", "pid", "started", "attempt", "crashes"})
_TIMES = frozenset({"expires", "seen", "saved", "created", "updated"})


def opening() -> RedisOperation[None]:
    """Find out if the server's runs are those of this version; note the version if it has none."""
    _, version = yield [("SET", _VERSION, _FORMAT, "NX"), ("GET", _VERSION)]
    if version != _FORMAT:
        told = version.decode(errors="replace") if isinstance(version, bytes) else version
        raise RedisFailure.newer("it", told, _FORMAT.decode())


def acquiring(run: RunId, request: Request, now: float | None) -> RedisOperation[Acquisition]:
    """Decide who may work on *run*."""
    member = _member(run)
    while True:
        clock, wall, forgotten, [(before, was)] = yield from _reading([run], now)
        gone: Exit = gone_by_server(before, clock) if before else ""
        answer = acquisition(
            before, run, request, now=clock, wall=wall, gone=gone, forgotten=forgotten
        )
        if not isinstance(answer, Acquired | Finished | Poisoned):
            return answer
        written = [] if answer.record is before else _values(answer.record)
        began = isinstance(answer, Acquired) and answer.began
        [taken] = yield [
            TAKE.called(
                [*_keys(member), _RUNS, _FORGOTTEN, _finished(run.name)],
                *was,
                forgotten,
                "1" if began else "",
                member,
                *written,
            )
        ]
        if taken is None:
            continue  # somebody was faster
        if isinstance(answer, Poisoned):
            return answer
        return attrs.evolve(answer, contents=_contents(taken))


def loading(run: RunId) -> RedisOperation[Contents]:
    """Return what is kept for *run*."""
    [found] = yield [LOAD.called([*_keys(_member(run))])]
    return _contents(found)


def committing(lease: RunLease, change: Change, now: float | None) -> RedisOperation[None]:
    """Write *change*."""
    puts = [part for number, put in change.put.items() for part in (number, _packed(put))]
    [answer] = yield [
        COMMIT.called(
            [*_keys(_member(lease.run)), _finished(lease.run.name)],
            _time(now),
            lease.token,
            lease.grant,
            repr(float(lease.seconds)),
            change.sequence,
            "1" if change.finished else "",
            "" if change.document is None else "1",
            b"" if change.document is None else change.document,
            change.after,
            change.after_result,
            len(change.put),
            *puts,
            *change.drop,
        )
    ]
    if answer == LOST:
        raise LeaseLostError(lease.run.name, lease.run.key, lease.token)
    if answer == TAKEN:
        raise RedisFailure.taken()


def renewing(leases: Sequence[RunLease], now: float | None) -> RedisOperation[list[RunLease]]:
    """Renew many leases; return those that are lost."""
    values = [
        part for each in leases for part in (each.token, each.grant, repr(float(each.seconds)))
    ]
    keys = [_keys(_member(each.run))[0] for each in leases]
    [renewed] = yield [RENEW.called(keys, _time(now), *values)]
    return [each for each, kept in zip(leases, renewed, strict=True) if not kept]


def releasing(
    lease: RunLease, how: Exit, error: str, drop: tuple[int, ...], now: float | None
) -> RedisOperation[None]:
    """Release a run."""
    yield [
        RELEASE.called(
            [*_keys(_member(lease.run))],
            _time(now),
            lease.token,
            lease.grant,
            how,
            _encoded(error),
            *drop,
        )
    ]


def listing(
    name: str | None,
    status: Status | None,
    after: RunId | None,
    limit: int | None,
    now: float | None,
) -> RedisOperation[list[tuple[Record, Status]]]:
    """Return runs, sorted by name and key, each with its state."""
    found: list[tuple[Record, Status]] = []
    least, most = b"-", b"+"
    if name is not None:
        begin = _escaped(name)
        least, most = b"[" + begin + b"\0", b"(" + begin + b"\0\xff"
    if after is not None:
        least = max(b"(" + _member(after), least, key=_bytes_of)
    while limit is None or len(found) < limit:
        size = _PAGE if limit is None or status is not None else min(_PAGE, limit - len(found))
        [members] = yield [("ZRANGEBYLEX", _RUNS, least, most, "LIMIT", 0, size)]
        if members:
            runs = [_run(each) for each in members]
            clock, _wall, _forgotten, records = yield from _reading(runs, now, mended=True)
            states = [_with_state(each, clock) for each, _was in records if each is not None]
            found += [each for each in states if status in (None, each[1])]
            least = b"(" + members[-1]
        if len(members) < size:
            break
    return found[:limit]


def counting(now: float | None) -> RedisOperation[Counter[tuple[str, Status]]]:
    """Count runs by name and state; of those that nobody works on, only the state is read."""
    counts: Counter[tuple[str, Status]] = Counter()
    least, members = b"-", [b""] * _PAGE
    while len(members) == _PAGE:
        [members] = yield [("ZRANGEBYLEX", _RUNS, least, b"+", "LIMIT", 0, _PAGE)]
        if not members:
            break
        least = b"(" + members[-1]
        states = yield [("HGET", _keys(each)[0], "status") for each in members]
        runs = [(_run(member), state) for member, state in zip(members, states, strict=True)]
        running = [run for run, state in runs if state == b"running"]
        counts.update((run.name, _status(state)) for run, state in runs if state not in _NOT_OVER)
        if running:
            clock, _wall, _forgotten, records = yield from _reading(running, now, mended=True)
            found = [_with_state(each, clock) for each, _was in records if each is not None]
            counts.update((record.run.name, state) for record, state in found)
    return counts


def forgetting(run: RunId, now: float | None) -> RedisOperation[bool]:
    """Remove *run*."""
    member = _member(run)
    while True:
        clock, _wall, _forgotten, [(record, was)] = yield from _reading([run], now, mended=True)
        if record is None:
            return False
        check_forgettable(record, gone_by_server(record, clock), clock)
        keys = [*_keys(member), _RUNS, _FORGOTTEN, _finished(run.name)]
        [forgotten] = yield [FORGET.called(keys, *was, member)]
        if forgotten:
            return True


def choosing(
    ended: RunId, most: int | None, seconds: float | None, now: float | None
) -> RedisOperation[list[RunId]]:
    """Choose among finished runs, as `surplus_runs` does."""
    limits = ("" if each is None else repr(each) for each in (most, seconds))
    keys = [_keys(_member(ended))[0], _finished(ended.name)]
    [found] = yield [SURPLUS.called(keys, _time(now), *limits)]
    return [_run(each.removeprefix(_RUN)) for each in found]


def awaiting(run: RunId) -> RedisOperation[bool]:
    """Return whether somebody works on *run*."""
    [state] = yield [("HGET", channel_of(run), "status")]
    return bool(state == b"running")


def channel_of(run: RunId) -> bytes:
    """Return where scripts tell that a run was released or has ended: its key."""
    return _keys(_member(run))[0]


def _reading(
    runs: Sequence[RunId], now: float | None, *, mended: bool = False
) -> RedisOperation[tuple[float, float, int, list[_Read]]]:
    """Return the time, the time since 1970, the token of what was forgotten, and the records.

    A damaged record is a failure, unless it is to be *mended*: for lists, which have others to
    show, and where the run is removed.
    """
    keys = [_FORGOTTEN, *(_keys(_member(each))[0] for each in runs)]
    [[clock, wall, forgotten, *rows]] = yield [READ.called(keys, _time(now))]
    records = [_record(run, row, mended=mended) for run, row in zip(runs, rows, strict=True)]
    return float(clock), float(wall), int(forgotten), records


def _with_state(record: Record, now: float) -> tuple[Record, Status]:
    return record, state_of(record, gone_by_server(record, now))


def _status(state: bytes) -> Status:
    return cast("Status", _decoded(state))


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _decoded(text: bytes) -> str:
    return text.decode("utf-8", "surrogatepass")


def _escaped(name: str) -> bytes:
    return _encoded(name).replace(b"\0", b"\0\xff")


def _member(run: RunId) -> bytes:
    """Return how the list of runs names a run: sorted by bytes, as runs are by name and key."""
    return _escaped(run.name) + b"\0" + _encoded(run.key)


def _run(member: bytes) -> RunId:
    end = _END_OF_NAME.search(member)
    if end is None:
        raise RedisFailure.corrupt(f"{_RUNS.decode()} holds what no mainstay wrote: {member!r}")
    name = member[: end.start()].replace(b"\0\xff", b"\0")
    return RunId(_decoded(name), _decoded(member[end.end() :]))


def _keys(member: bytes) -> tuple[bytes, bytes]:
    """Return the keys of a run and of its results."""
    return _RUN + member, _TAG + b"results:" + member


def _finished(name: str) -> bytes:
    """Return the key of the finished runs of a name, sorted by when they ended."""
    return _TAG + b"finished:" + _escaped(name)


def _bytes_of(limit: bytes) -> bytes:
    """Return the bytes of a lower limit: "-", "[" and bytes, or "(" and bytes."""
    return limit[1:]


def _time(now: float | None) -> str:
    return "" if now is None else repr(now)


def _packed(result: Result) -> bytes:
    slot = _encoded(result.slot)
    return _LENGTH.pack(len(slot)) + slot + result.value


def _unpacked(value: bytes) -> Result:
    (length,) = _LENGTH.unpack_from(value)
    end = _LENGTH.size + length
    return Result(_decoded(value[_LENGTH.size : end]), value[end:])


def _contents(found: Sequence[Any]) -> Contents:
    (generation, *documents), results = found
    number = int(generation or 0)
    numbered = zip(results[::2], results[1::2], strict=True)
    return Contents(
        documents[number % 2],
        documents[1 - number % 2],
        dict(sorted((int(number), _unpacked(value)) for number, value in numbered)),
    )


def _record(run: RunId, row: Sequence[bytes | None], *, mended: bool) -> _Read:
    found = dict(zip(FIELDS, row, strict=True))
    was = [found[name] or b"" for name in WAS]
    if found["token"] is None:
        return None, was
    try:
        values = {name: _value(name, value) for name, value in found.items()}
        return from_fields({"name": run.name, "key": run.key, **values}), was
    except (TypeError, ValueError):
        problem = f"the record of {run} is none that mainstay wrote"
        if not mended:
            raise RedisFailure.corrupt(problem) from None
        return damaged_record(run, problem), was


def _value(name: str, value: bytes | None) -> Any:
    if name == "arguments":
        return value
    if value is None:
        raise ValueError(name)
    if name in _INTEGERS:
        return int(value)
    text = _decoded(value)
    if name == "status" and text not in get_args(Status):
        raise ValueError(name)
    return float(value) if name in _TIMES else text


def _values(record: Record) -> list[bytes | str]:
    """Return the names and values of the fields of a record."""
    return [
        part
        for name, value in to_fields(record).items()
        if name in FIELDS and value is not None
        for part in (name, _field(value))
    ]


def _field(value: float | str | bytes) -> bytes:
    if isinstance(value, bytes):
        return value
    return _encoded(value if isinstance(value, str) else repr(value))
