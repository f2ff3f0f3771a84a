"""What each operation of the store asks of the server, step by step, for threads and for tasks.

An operation is a generator: it yields the statements of one exchange and is sent their answers, or
yields a `Rest`. The store drives it with a thread that blocks or a task that is suspended. No
transaction is open between two exchanges: what was read is written back only if it is still as it
was read.
"""

import hashlib
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

import attrs

from mainstay._core.owner import is_dead
from mainstay.errors import LeaseLostError
from mainstay.stores._postgres.failures import UNIQUE_VIOLATION, Failure
from mainstay.stores._postgres.statements import COLUMNS, PAGE, Statements
from mainstay.stores._postgres.wire import Bound, Reply, Row
from mainstay.stores._record_fields import from_fields, to_fields
from mainstay.stores._transitions import check_forgettable, gone_by_server
from mainstay.stores.base import (
    RENEWALS_PER_LEASE,
    Acquired,
    Acquisition,
    Change,
    Contents,
    Exit,
    Finished,
    Poisoned,
    Promises,
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

_SOONEST_LOOK, _LATEST_LOOK = 0.05, 0.4
_TIMES_OURS = 5

_UNNUMBERED = 2**62


@attrs.frozen
class Rest:
    """A wait between two exchanges."""

    seconds: float


Operation: TypeAlias = Generator[Sequence[Bound] | Rest, list[Reply], T]


@attrs.frozen
class SessionLock:
    """The lock that proves that a process lives.

    Attributes:
        number: Its number; 0 if there is none.
        since: When the server started that has it.
        seconds: What it took to connect and to take it.
    """

    number: int = 0
    since: float = 0.0
    seconds: float = _LATEST_LOOK / _TIMES_OURS


def second_look(ours: SessionLock) -> float:
    """Return the seconds after which a session that was found gone is looked for again.

    One that was only cut off is back by then, since that takes about as long as *ours* took. If it
    takes several times as long, a run is taken over too early, which costs the item in progress and
    no more.
    """
    return min(_LATEST_LOOK, max(_SOONEST_LOOK, _TIMES_OURS * ours.seconds))


@attrs.frozen(eq=False)
class Operations:
    """The operations, for the tables of one schema.

    Attributes:
        sql: The statements.
    """

    sql: Statements

    def acquiring(
        self, run: RunId, request: Request, session: SessionLock, now: float | None
    ) -> Operation[Acquisition]:
        """Decide who may work on *run*."""
        asked = {
            "name": run.name, "key": run.key, "granted": request.grant, "life": request.life,
            "arguments": request.arguments, "lease": request.lease, "above": request.above,
            "now": now, "after": -1, "session": session.number, "since": session.since,
            **attrs.asdict(request.owner),
        }  # fmt: skip
        suspect = None
        while True:
            entered, results = yield [self.sql.enter.bound(asked), self.sql.results.bound(asked)]
            if not entered.rows:
                continue  # somebody has just made it, or just removed it
            how, clock, wall, cut_off, idle, latest, previous, *row = entered.rows[0]
            before = _record(row)
            if how != "found":
                found = yield from self._all_results(results, {**asked, "granted": ""})
                contents = Contents(latest, previous, found)
                return Acquired(before, began=how == "begun", idle=idle, contents=contents)
            lock, since = row[COLUMNS.index("session")], row[COLUMNS.index("since")]
            gone = gone_by_server(before, clock, cut_off=cut_off)
            if gone and cut_off and suspect != before.grant and before.expires > clock:
                suspect = before.grant
                if not is_dead(before.owner, local=False):
                    yield Rest(second_look(session))
                    continue
            answer = acquisition(before, run, request, now=clock, wall=wall, gone=gone, forgotten=0)
            fresh = isinstance(answer, Acquired) and answer.record is not before
            if fresh or (isinstance(answer, Poisoned) and answer.record is not before):
                if fresh:
                    lock, since = session.number, session.since
                again = {
                    **asked, **_values(answer.record), "session": lock, "since": since,
                    "began": isinstance(answer, Acquired) and answer.began, **_was(before),
                }  # fmt: skip
                taken, results = yield [self.sql.take.bound(again), self.sql.results.bound(again)]
                if not taken.rows:
                    continue
                latest, previous = taken.rows[0]
            if not isinstance(answer, Acquired | Finished):
                return answer
            found = yield from self._all_results(results, {**asked, "granted": ""})
            return attrs.evolve(answer, contents=Contents(latest, previous, found))

    def loading(self, run: RunId) -> Operation[Contents]:
        """Return what is kept for *run*."""
        asked = {"name": run.name, "key": run.key, "granted": "", "after": -1}
        documents, results = yield [
            self.sql.documents.bound(asked), self.sql.results.bound(asked)
        ]  # fmt: skip
        if not documents.rows:
            return Contents()
        latest, previous = documents.rows[0]
        return Contents(latest, previous, (yield from self._all_results(results, asked)))

    def _all_results(self, page: Reply, asked: Mapping[str, Any]) -> Operation[dict[int, Result]]:
        found: dict[int, Result] = {}
        while True:
            for number, slot, value in page.rows:
                found[number] = Result(slot.decode("utf-8", "surrogatepass"), value)
            if page.count < PAGE:
                return found
            rest = self.sql.results.bound({**asked, "after": page.rows[-1][0]})
            _, page = yield [self.sql.in_order.bound({}), rest]

    def committing(self, lease: RunLease, change: Change, now: float | None) -> Operation[None]:
        """Write *change*."""
        values = {
            **_lease(lease), "now": now, "lease": lease.seconds, "sequence": change.sequence,
            "below": change.sequence or _UNNUMBERED, "document": change.document,
            "after": change.after, "after_result": change.after_result, "channel": self.sql.channel,
        }  # fmt: skip
        put, many = _put(change.put)
        values |= put
        on_result = change.after_result >= 0
        try:
            if many == "one" and change.document is None and not change.drop:
                values["fresh"] = lease.seconds * (1 - 1 / RENEWALS_PER_LEASE)
                [answer] = yield [self.sql.step[on_result].bound(values)]
                if answer.count:
                    return
            if change.drop:
                values["drops"] = change.drop
            if change.finished:
                values["payload"] = payload(lease.run)
            statement = self.sql.changes[_kind(change), many, bool(change.drop), on_result]
            [answer] = yield [statement.bound(values)]
        except Failure as failure:
            if failure.code != UNIQUE_VIOLATION:
                raise
            yield from self._commit_again(lease, change, now, failure)
        else:
            if not answer.count:
                yield from self._find_out(lease, change)

    def _commit_again(
        self, lease: RunLease, change: Change, now: float | None, failure: Failure
    ) -> Operation[None]:
        """Write a change of which some results are there already; fail if they are others."""
        numbers = [*change.put]
        [kept] = yield [self.sql.kept.bound({**_lease(lease), "numbers": numbers})]
        there = {
            number: Result(slot.decode("utf-8", "surrogatepass"), value)
            for number, slot, value in kept.rows
        }
        if not there or any(change.put[number] != there[number] for number in there):
            raise failure
        rest = {number: put for number, put in change.put.items() if number not in there}
        yield from self.committing(lease, attrs.evolve(change, put=rest), now)

    def _find_out(self, lease: RunLease, change: Change) -> Operation[None]:
        """Find out why nothing was written: it was before, or the run is another's."""
        [standing] = yield [self.sql.standing.bound(_lease(lease))]
        for _status, sequence in standing.rows:
            if 0 < change.sequence <= sequence:
                return
        raise LeaseLostError(lease.run.name, lease.run.key, lease.token)

    def renewing(self, leases: Sequence[RunLease], now: float | None) -> Operation[list[RunLease]]:
        """Renew many leases; return those that are lost."""
        values = {
            "names": [each.run.name.encode() for each in leases],
            "keys": [each.run.key.encode() for each in leases],
            "tokens": [each.token for each in leases],
            "grants": [each.grant.encode() for each in leases],
            "leases": [repr(float(each.seconds)).encode() for each in leases],
            "now": now,
        }
        [renewed] = yield [self.sql.renew.bound(values)]
        kept = {RunId(*row) for row in renewed.rows}
        return [each for each in leases if each.run not in kept]

    def releasing(
        self, lease: RunLease, how: Exit, error: str, drop: tuple[int, ...], now: float | None
    ) -> Operation[None]:
        """Release a run."""
        values = {
            **_lease(lease), "exit": how, "error": _text(error), "drops": drop, "now": now,
            "channel": self.sql.channel, "payload": payload(lease.run),
        }  # fmt: skip
        yield [self.sql.release.bound(values)]

    def listing(
        self,
        name: str | None,
        status: Status | None,
        after: RunId | None,
        limit: int | None,
        now: float | None,
    ) -> Operation[list[tuple[Record, Status]]]:
        """Return runs, sorted by name and key, each with its state."""
        found: list[tuple[Record, Status]] = []
        while limit is None or len(found) < limit:
            size = PAGE if limit is None else min(PAGE, limit)
            values = {"name": name, "status": status, "limit": size, "now": now}
            if after is not None:
                values |= {"after_name": after.name, "after_key": after.key}
            which = name is not None, after is not None, status is not None
            [page] = yield [self.sql.pages[which].bound(values)]
            states = [_with_state(row) for row in page.rows]
            found += [each for each in states if status in (None, each[1])]
            if len(states) < size:
                break
            after = states[-1][0].run
        return found[:limit]

    def counting(self, now: float | None) -> Operation[Counter[tuple[str, Status]]]:
        """Count runs by name and state."""
        [counted] = yield [self.sql.count.bound({})]
        counts: Counter[tuple[str, Status]] = Counter(
            {(name, status): number for name, status, number in counted.rows}
        )
        running = yield from self.listing(None, "running", None, None, now)
        counts.update((record.run.name, state) for record, state in running)
        return counts

    def choosing(
        self, ended: RunId, most: int | None, seconds: float | None
    ) -> Operation[list[RunId]]:
        """Choose among finished runs, as `surplus_runs` does."""
        values = {"name": ended.name, "key": ended.key, "seconds": seconds}
        found: dict[RunId, None] = {}
        if most is not None:
            [rows] = yield [self.sql.surplus.bound({**values, "offset": most})]
            found |= dict.fromkeys(RunId(*row) for row in rows.rows)
        if seconds is not None:
            [rows] = yield [self.sql.old.bound(values)]
            found |= dict.fromkeys(RunId(*row) for row in rows.rows)
        return [*found]

    def forgetting(self, run: RunId, now: float | None) -> Operation[bool]:
        """Remove *run*."""
        suspect = None
        while True:
            [found] = yield [self.sql.find.bound({"name": run.name, "key": run.key, "now": now})]
            if not found.rows:
                return False
            clock, cut_off, *row = found.rows[0]
            record = _record(row)
            gone = gone_by_server(record, clock, cut_off=cut_off)
            check_forgettable(record, gone, clock)
            if gone == "crash" and cut_off and suspect != record.grant:
                suspect = record.grant
                yield Rest(second_look(SessionLock()))
                continue
            values = {"name": run.name, "key": run.key, **_was(record)}
            [forgotten] = yield [self.sql.forget.bound(values)]
            if forgotten.count:
                return True

    def awaiting(self, run: RunId) -> Operation[bool]:
        """Have the end of *run* told; False if nobody works on it."""
        [found] = yield [self.sql.await_.bound({"name": run.name, "key": run.key})]
        return found.count > 0

    def probing(self, *, pooled: bool, locks: bool) -> Operation[Promises]:
        """Find out what the server promises.

        Args:
            pooled: True if a pooler is in between.
            locks: True if the locks of sessions are wanted.
        """
        [answer] = yield [self.sql.facts.bound({})]
        fsync, full_pages, commit, synchronous, standby, standbys, read_only = answer.rows[0]
        problems = {
            "fsync is off, so that a crash of the server can lose or damage all that was saved; "
            "set fsync = on": fsync != "on",
            "full_page_writes is off, so that a crash of the server can damage what was saved; set "
            "full_page_writes = on": full_pages != "on",
            "synchronous_commit is off, so that a crash of the server can lose the last saves; set "
            "synchronous_commit = on": commit == "off",
            "the server is read-only here; name all servers in the URL, with "
            "target_session_attrs=read-write": standby or read_only == "on",
            "a pooler is in between, so that the death of an owner elsewhere is known when its "
            "lease ends, and not before; give the store a direct connection": pooled and locks,
        }
        loses = standbys > 0 and (not synchronous or commit in ("local", "off"))
        return Promises(
            fenced=True,
            durable=(fsync, full_pages) == ("on", "on") and commit != "off",
            failover="may lose the last saves: a standby is asynchronous" if loses else "",
            proves_death=locks and not pooled,
            problems=tuple(problem for problem, is_there in problems.items() if is_there),
        )


def payload(run: RunId) -> str:
    """Return what a notification about *run* says."""
    both = f"{len(run.name)} {run.name} {run.key}"
    return hashlib.blake2b(both.encode(), digest_size=16).hexdigest()


def _with_state(row: Row) -> tuple[Record, Status]:
    now, cut_off, *rest = row
    record = _record(rest)
    return record, state_of(record, gone_by_server(record, now, cut_off=cut_off))


def _record(row: Sequence[Any]) -> Record:
    values: dict[str, Any] = dict(zip(COLUMNS, row, strict=True))
    del values["session"], values["since"]
    values["grant"] = values.pop("granted")
    return from_fields(values)


def _values(record: Record) -> dict[str, Any]:
    values = to_fields(record)
    values["granted"] = values.pop("grant")
    values["error"] = _text(record.error)
    return values


def _was(record: Record) -> dict[str, Any]:
    """Return what a record must still be, so that what was decided of it holds."""
    return {
        "was_token": record.token, "was_granted": record.grant, "was_status": record.status,
        "was_sequence": record.sequence, "was_expires": record.expires, "was_seen": record.seen,
    }  # fmt: skip


def _lease(lease: RunLease) -> dict[str, Any]:
    run = lease.run
    return {"name": run.name, "key": run.key, "token": lease.token, "granted": lease.grant}


def _kind(change: Change) -> str:
    if change.finished:
        return "finish"
    if change.document is not None:
        return "save"
    return "progress" if change.progress else "renew"


def _put(put: Mapping[int, Result]) -> tuple[dict[str, Any], str]:
    """Return the values that stand for new results, and how many there are."""
    if not put:
        return {}, "none"
    if len(put) == 1:
        [(number, result)] = put.items()
        return {"number": number, "slot": _slot(result), "value": result.value}, "one"
    values = {
        "numbers": [*put],
        "slots": [_slot(result) for result in put.values()],
        "values": [result.value for result in put.values()],
    }
    return values, "many"


def _slot(result: Result) -> bytes:
    """Return a slot as bytes: it may have NUL, which a text of PostgreSQL cannot."""
    return result.slot.encode("utf-8", "surrogatepass")


def _text(text: str) -> str:
    """Return a text for people as PostgreSQL can hold it."""
    return text.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode()
