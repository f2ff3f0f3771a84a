"""What the embedded store reads and writes, statement by statement; transactions are its caller's.

A result's row has the id of its run and its number as one integer: so the results of a run lie side
by side, a new one is appended to them, and no second index is needed to find or to remove them. The
ids of runs are used again, but no run leaves a result behind. There is room for 2^31 ids of runs,
which the table of runs checks, each with 2^32 results, which the caller of a store checks.
"""

import math
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, get_args

from mainstay._core.owner import part, this_process
from mainstay.errors import CorruptCheckpointError, LeaseLostError
from mainstay.stores._record_fields import FIELDS, from_fields, to_fields
from mainstay.stores.base import (
    MOST_RESULTS,
    RENEWALS_PER_LEASE,
    Change,
    Contents,
    Exit,
    Record,
    Result,
    RunId,
    RunLease,
    Status,
)

_NAMES = ", ".join(f'"{column}"' for column in FIELDS)
_RUN = " WHERE name = ? AND key = ?"
_COUNTS = (
    "SELECT name, 'done', count(*), NULL FROM run WHERE status = 'done' GROUP BY name UNION ALL "
    "SELECT name, status, count(*), group_concat(CASE status WHEN 'running' THEN id END) "
    "FROM run NOT INDEXED WHERE status <> 'done' GROUP BY name, status"
)
_DONE = " FROM run WHERE name = ? AND status = 'done' AND id <> ?"
_SURPLUS = (
    "SELECT id FROM (SELECT id FROM run WHERE name = ? AND status = 'done' "
    "ORDER BY updated DESC LIMIT -1 OFFSET ?) WHERE id <> ?"
)
_OLD = (
    f"SELECT id{_DONE} AND updated < ? "
    "AND NOT (boot = ? AND (instr(namespace, ?) OR NOT instr(namespace, 'time:')) AND seen >= ?)"
)
_ROW = f"id * {MOST_RESULTS} + ?"
_GRANTED = _RUN + ' AND token = ? AND "grant" = ?'
_OWNED = _GRANTED + " AND status = 'running'"
_BUILDS = (
    f" AND sequence >= ? AND (? < 0 OR EXISTS (SELECT 1 FROM result WHERE result.id = run.{_ROW}))"
)
_NEXT = f"{_OWNED}{_BUILDS} AND sequence < ?"
_RECORDS = f"SELECT {_NAMES} FROM run"
_ROWS = f"SELECT id, latest, previous, {_NAMES} FROM run"
_LISTED = (
    f"{_RECORDS} WHERE (? IS NULL OR name = ?) AND (? IS NULL OR (name, key) > (?, ?)) "
    "AND (? IS NULL OR status IN (?, 'running')) ORDER BY name, key LIMIT ?"
)
_WRITE = (
    f"INSERT INTO run ({_NAMES}) VALUES ({', '.join('?' * len(FIELDS))}) "
    f"ON CONFLICT (name, key) DO UPDATE SET "
    + ", ".join(f'"{column}" = excluded."{column}"' for column in FIELDS[2:])
)
_CHANGE = "UPDATE run SET expires = ?, seen = ?, updated = ?, sequence = max(sequence, ?)"
_RENEW = _CHANGE + _NEXT
_PROGRESS = f"{_CHANGE}, saved = ?, crashes = 0{_NEXT}"
_SAVE = f"{_CHANGE}, saved = ?, crashes = 0, previous = latest, latest = ?{_NEXT}"
_FINISH = f"{_CHANGE}, saved = ?, crashes = 0, status = 'done', previous = ?, latest = ?{_NEXT}"
_APPLIED = f"SELECT 1 FROM run{_GRANTED} AND sequence >= ?"
_RELEASE = (
    "UPDATE run SET status = 'interrupted', exit = ?, error = ?, crashes = 0, seen = ?, "
    "updated = ?" + _OWNED
)
_INSERT = f"INSERT INTO result SELECT {_ROW}, ?, ? FROM run"
_PUT = _INSERT + _RUN
_STEP = (  # whose text for a number is a mismatch; INSERT ... SELECT would write a table between
    f"INSERT INTO result VALUES (coalesce((SELECT {_ROW} FROM run{_OWNED} AND crashes = 0 "
    f"AND expires > ?{_BUILDS}), 'refused'), ?, ?)"
)
_KEPT = f"SELECT slot, value FROM result WHERE id = (SELECT {_ROW} FROM run{_RUN})"
_DROP = f"DELETE FROM result WHERE id = (SELECT {_ROW} FROM run{_RUN})"
_UNNUMBERED = 2**62
_RESULTS = "FROM result WHERE id BETWEEN ? AND ?"


def find(db: sqlite3.Connection, run: RunId, *, mended: bool = False) -> Record | None:
    """Return the record of a run, or None if there is none.

    Args:
        db: The connection.
        run: Which run.
        mended: True for one that is only to be removed.

    Raises:
        CorruptCheckpointError: If it cannot be what was written, unless it is *mended*.
    """
    rows = db.execute(_RECORDS + _RUN, (run.name, run.key)).fetchall()
    return _record_of(rows[0], mended=mended) if rows else None


def page(
    db: sqlite3.Connection,
    name: str | None,
    status: Status | None,
    after: RunId | None,
    limit: int | None,
) -> list[Record]:
    """Return records, sorted by name and key: all that `Store.list` may be asked for.

    Of a *status*, the running ones are there as well: their owners may be gone.
    """
    last = (None, None) if after is None else (after.name, after.key)
    most = -1 if limit is None else limit
    values = name, name, last[0], *last, status, status, most
    return [_record_of(row, mended=True) for row in db.execute(_LISTED, values).fetchall()]


def count(db: sqlite3.Connection) -> tuple[Counter[tuple[str, Status]], list[Record]]:
    """Return how many runs there are by name and status, and the records of the running ones."""
    counts: Counter[tuple[str, Status]] = Counter()
    running: list[int] = []
    for name, status, number, ids in db.execute(_COUNTS):
        counts[name, status] = number
        running += map(int, ids.split(",") if ids else ())
    found = (db.execute(f"{_RECORDS} WHERE id = ?", (each,)).fetchone() for each in running)
    return counts, [_record_of(row, mended=True) for row in found]


def surplus(db: sqlite3.Connection, ended: RunId, most: int) -> set[int]:
    """Return the ids of finished runs of a name beyond the newest, but for *ended*."""
    return _ids(db, _SURPLUS, ended.name, most, _id_of(db, ended))


def too_old(
    db: sqlite3.Connection, ended: RunId, seconds: float, now: float, wall: float
) -> set[int]:
    """Return the ids of finished runs of a name that ended longer ago than that.

    One that ended since the boot, by a clock that may be ours, is too old only if it is by that
    clock as well: it cannot be set, and so no leap of the other one makes a run old.
    """
    here = this_process()
    ours = here.boot, part(here.namespace, "time"), now - seconds
    return _ids(db, _OLD, ended.name, _id_of(db, ended), wall - seconds, *ours)


def runs(db: sqlite3.Connection, ids: Iterable[int]) -> list[RunId]:
    """Return the runs with those ids."""
    found = (db.execute("SELECT name, key FROM run WHERE id = ?", (each,)) for each in ids)
    return [RunId(*row) for each in found for row in each]


def _ids(db: sqlite3.Connection, statement: str, *values: object) -> set[int]:
    return {number for (number,) in db.execute(statement, values)}


def _id_of(db: sqlite3.Connection, run: RunId) -> int:
    """Return the id of a run; 0, which no run has, if there is none."""
    numbers = db.execute("SELECT id FROM run" + _RUN, (run.name, run.key)).fetchall()
    return numbers[0][0] if numbers else 0


def write(db: sqlite3.Connection, record: Record) -> None:
    """Write the record of a run."""
    values = to_fields(record)
    db.execute(_WRITE, [values[column] for column in FIELDS])


def remove(db: sqlite3.Connection, run: RunId) -> None:
    """Remove a run and all that is kept for it, if there is one."""
    for (number,) in db.execute("SELECT id FROM run" + _RUN, (run.name, run.key)).fetchall():
        db.execute("DELETE " + _RESULTS, _ids_of_results(number))
        db.execute("DELETE FROM run WHERE id = ?", (number,))


def forget(db: sqlite3.Connection, record: Record) -> None:
    """Remove a run, but for its token."""
    db.execute("UPDATE forgotten SET token = max(token, ?)", (record.token,))
    remove(db, record.run)


def forgotten(db: sqlite3.Connection) -> int:
    """Return the highest token of all runs that were forgotten; 0 if none."""
    token: int = db.execute("SELECT token FROM forgotten").fetchone()[0]
    return token


def contents(db: sqlite3.Connection, run: RunId) -> Contents:
    """Return what is kept for a run.

    Raises:
        CorruptCheckpointError: If its record cannot be what was written.
    """
    rows = db.execute(_ROWS + _RUN, (run.name, run.key)).fetchall()
    if not rows:
        return Contents()
    [(number, latest, previous, *row)] = rows
    _values_of(row)
    first, last = _ids_of_results(number)
    results = db.execute(f"SELECT id, slot, value {_RESULTS} ORDER BY id", (first, last))
    return Contents(latest, previous, {id_ - first: Result(*row) for id_, *row in results})


def change_run(
    db: sqlite3.Connection, lease: RunLease, change: Change, now: float, wall: float
) -> bool:
    """Write a change to the row of a run, and renew its lease.

    Returns:
        False if it was written before, and is sent again because the answer was lost.

    Raises:
        LeaseLostError: If it is no longer the caller's.
    """
    run, sequence = lease.run, change.sequence
    renewed = now + lease.seconds, now, wall
    owned = run.name, run.key, lease.token, lease.grant
    bounds = *_builds_on(change), sequence or _UNNUMBERED
    values: tuple[object, ...]
    if change.finished:
        document = change.document
        statement, values = _FINISH, (*renewed, sequence, now, document, document, *owned, *bounds)
    elif change.document is not None:
        statement, values = _SAVE, (*renewed, sequence, now, change.document, *owned, *bounds)
    elif change.progress:
        statement, values = _PROGRESS, (*renewed, sequence, now, *owned, *bounds)
    else:
        statement, values = _RENEW, (*renewed, sequence, *owned, *bounds)
    if db.execute(statement, values).rowcount:
        return True
    if sequence and db.execute(_APPLIED, (*owned, sequence)).fetchall():
        return False
    raise LeaseLostError(run.name, run.key, lease.token)


def renew(db: sqlite3.Connection, lease: RunLease, now: float, wall: float) -> bool:
    """Renew a lease; return False if it is lost."""
    try:
        return change_run(db, lease, Change(), now, wall)
    except LeaseLostError:
        return False


def _builds_on(change: Change) -> tuple[int, int, int]:
    """Return the values of `_BUILDS`."""
    return change.after, change.after_result, change.after_result


def change_results(db: sqlite3.Connection, run: RunId, change: Change) -> None:
    """Write the new results of a run, and remove those that it drops."""
    for number, result in change.put.items():
        kept = number, result.slot, result.value, run.name, run.key
        try:
            db.execute(_PUT, kept)
        except sqlite3.IntegrityError:  # it was sent before, if it is the same
            if db.execute(_KEPT, (number, run.name, run.key)).fetchone() != kept[1:3]:
                raise
    drop(db, run, change.drop)


def drop(db: sqlite3.Connection, run: RunId, numbers: Iterable[int]) -> None:
    """Remove results of a run."""
    db.executemany(_DROP, [(number, run.name, run.key) for number in numbers])


def put_alone(db: sqlite3.Connection, lease: RunLease, change: Change, now: float) -> bool:
    """Write a change that is one result and return True, if the lease is valid and fresh.

    False if it is sent again as well: whether it is there is found out together with the rest.
    """
    if change.document is not None or change.drop or len(change.put) != 1:
        return False
    run, ((number, result),) = lease.run, change.put.items()
    fresh = now + lease.seconds * (1 - 1 / RENEWALS_PER_LEASE)
    owned = run.name, run.key, lease.token, lease.grant
    values = number, *owned, fresh, *_builds_on(change), result.slot, result.value
    try:
        db.execute(_STEP, values)
    except sqlite3.IntegrityError:
        return False
    return True


def release(
    db: sqlite3.Connection, lease: RunLease, how: Exit, error: str, now: float, wall: float
) -> bool:
    """Record that a run was released; return False if it is no longer the caller's."""
    run = lease.run
    values = how, error, now, wall, run.name, run.key, lease.token, lease.grant
    return db.execute(_RELEASE, values).rowcount > 0


def _ids_of_results(run: int) -> tuple[int, int]:
    """Return the first and the last id that a result of the run with that id may have."""
    return run * MOST_RESULTS, (run + 1) * MOST_RESULTS - 1


# Rows that others have written: SQLite keeps a value of any type in any column.

_MOST = 2**62
_LONGEST = 1e11
"""Seconds that no time of ours is away from its beginning, 3,000 years."""


def _is_time(value: object) -> bool:
    return type(value) is float and -_LONGEST < value < _LONGEST


def _is_end(value: object) -> bool:
    return type(value) is float and -_LONGEST < value < math.inf


def _is_number(value: object) -> bool:
    return type(value) is int and 0 <= value < _MOST


def _is_text(value: object) -> bool:
    return type(value) is str


def _one_of(*values: str) -> Callable[[object], bool]:
    return lambda value: type(value) is str and value in values


_SOUND: dict[str, tuple[Callable[[object], bool], object]] = {
    "expires": (_is_end, 0.0),
    **dict.fromkeys(("seen", "saved", "created", "updated"), (_is_time, 0.0)),
    **dict.fromkeys(("token", "attempt"), (_is_number, 1)),
    **dict.fromkeys(("sequence", "pid", "started", "crashes"), (_is_number, 0)),
    "status": (_one_of(*get_args(Status)), "interrupted"),
    "exit": (_one_of(*get_args(Exit)), ""),
    **dict.fromkeys(
        ("name", "key", "life", "grant", "boot", "namespace", "host", "error"), (_is_text, "")
    ),
    "arguments": (lambda value: value is None or type(value) is bytes, None),
}
"""By column: whether a value is one of it, and what a list shows in place of one that is not."""


def _values_of(row: Sequence[Any], *, mended: bool = False) -> dict[str, Any]:
    """Return the values of a row by column.

    Args:
        row: As it was read.
        mended: True to say in `error` what is damaged, for lists, which have others to show, and
            where the run is removed.

    Raises:
        CorruptCheckpointError: If one of them cannot be what was written there.
    """
    values = dict(zip(FIELDS, row, strict=True))
    damaged = [column for column in FIELDS if not _SOUND[column][0](values[column])]
    if not damaged:
        return values
    problem = f"its {', '.join(f'`{column}`' for column in damaged)} cannot be read"
    if not mended or not _is_text(values["name"]) or not _is_text(values["key"]):
        raise CorruptCheckpointError(f"run {values['key']!r} of {values['name']}", problem)
    return values | {each: _SOUND[each][1] for each in damaged} | {"error": f"damaged: {problem}"}


def _record_of(row: tuple[Any, ...], *, mended: bool = False) -> Record:
    return from_fields(_values_of(row, mended=mended))
