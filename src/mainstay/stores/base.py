"""The `Store` protocol: its operations over runs, and the rules that all stores share.

A store keeps, for each run, one `Record` and the saved results of its steps, and moves them as
bytes: it knows nothing of what is in them. Who may work on a run is decided by `acquisition`, a
pure function that every store calls inside one transaction of its own; so a store only keeps
things, and PostgreSQL, Redis or an object store differ from SQLite in nothing that a caller could
see.

The rules:

1. Each acquisition gets the next fencing token of the run, and the attempt number goes up with it,
   both durably and before the caller does anything. A run that was forgotten and begins again gets
   a token above all that were forgotten, so that nobody who held it before can write to it. A token
   is given once in one history of the store; after a failover to a copy that had not heard of it,
   the same token may be given again. So each acquisition also has a *grant* of 128 random bits,
   which its caller chooses, and which nobody is given twice.
2. `commit` checks token and grant, and writes everything it was given, or nothing, in one durable
   transaction. It also renews the lease; one that holds results alone may leave that to the next
   while more than two thirds of the lease are left. A commit whose token or grant is not the newest
   raises `LeaseLostError`, and changes nothing. The check and the write are one: nobody takes the
   run over between them.
3. Every request may be sent twice, because an answer may be lost on its way. The owner counts its
   commits from 1 (`Change.sequence`), and the store keeps the number of the last one that wrote the
   record: a commit with that number, or a lower one, is acknowledged and does nothing, also if it
   was the last one of the run. A commit of results alone need not keep its number: their own
   numbers tell that they are there. An acquisition with the grant that the run has is answered as
   it was the first time. A renewal has no number, and a release that finds nothing does nothing.
   A commit also says what it builds on (`Change.after` and `Change.after_result`): where a failover
   lost that, the commit is refused, since what the owner takes for saved, and does not send again,
   is not there. A failover loses what came last, so that nothing else need be looked for.
4. A result has a number from 0 up, below `MOST_RESULTS`. The owner of the run chooses it above
   those of all results that are kept, so that nothing is ever overwritten. A store may count on
   both: to keep results in the order of their numbers makes each save an append.
5. Of the document, the last two generations are kept; the last one of all is kept twice.
6. A lease is measured on a clock that the store's users share and that nobody can step: for the
   embedded stores the monotonic clock of the machine, for a server the server's own.
7. Whatever goes wrong is a `StoreUnavailableError`, and what was there before still is. It is
   `retryable` if the same request may succeed a moment later: a lost connection, a server that
   restarts, a file that another process has locked. The caller sends it again while the lease
   lasts.
8. An operation ends within a limit of time: that of the store, if it was given one, otherwise a
   third of the lease that it is about, and `LONGEST_CALL` seconds where it is about none. What was
   sent before that may have been done or not; rule 3 makes it right to ask again.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Literal, Protocol, TypeAlias, runtime_checkable

import attrs

from mainstay._core.owner import Owner, is_dead, shares_clock

RENEWALS_PER_LEASE = 3
"""How many times a lease is renewed in the time that it lasts."""

LONGEST_CALL = 10.0
"""Seconds that an operation of a store may take at most where no lease says how long."""

MOST_RESULTS = 2**32
"""The numbers of the results of a run are below this."""

Status: TypeAlias = Literal["running", "interrupted", "poisoned", "done"]
Exit: TypeAlias = Literal["", "crash", "takeover", "error", "sigterm"]
"""How an attempt ended, as `checkpoint_resumes_total` calls it; empty if there was none."""


@attrs.frozen(order=True)
class RunId:
    """The identity of a run.

    Attributes:
        name: The name of the function or block.
        key: Which of the runs of that name.
    """

    name: str
    key: str


@attrs.frozen(kw_only=True)
class Record:
    """What a store knows about a run, besides what it keeps for it.

    Attributes:
        run: Which run it is.
        life: A value of its own for each time that the run begins from nothing.
        token: The fencing token of the last acquisition.
        grant: Its grant, by which it is told from all others; empty in records of older versions.
        sequence: The number of the last commit that wrote the record, in this acquisition.
        status: "running" from an acquisition to its release, even if the owner has died.
        owner: Who acquired it last.
        expires: When the lease ends, in seconds of the store's clock.
        seen: When the owner last renewed or acquired it, by the same clock.
        saved: When the owner last saved or acquired it, by the same clock.
        attempt: The number of the last attempt, from 1.
        crashes: Process deaths in a row without progress.
        exit: How the attempt before the last acquisition ended; after a release, how the last did.
        error: What ended it, for people.
        arguments: What it was called with, if it can be recovered.
        created: When it began, in seconds since 1970.
        updated: When it last changed, in seconds since 1970.
    """

    run: RunId
    life: str
    token: int = 1
    grant: str = ""
    sequence: int = 0
    status: Status = "running"
    owner: Owner
    expires: float
    seen: float
    saved: float
    attempt: int = 1
    crashes: int = 0
    exit: Exit = ""
    error: str = ""
    arguments: bytes | None = None
    created: float
    updated: float


def new_grant() -> str:
    """Return 128 random bits, as hexadecimal digits."""
    return os.urandom(16).hex()


@attrs.frozen(kw_only=True)
class Request:
    """What a caller asks of `Store.acquire`.

    Attributes:
        owner: The process that asks.
        grant: A random value by which this acquisition is told from all others, and by which it
            is known again if it is sent a second time.
        life: The new value of `Record.life` if the run begins.
        lease: Seconds that the lease lasts without renewal.
        max_crashes: At how many deaths in a row the run is poisoned, or None.
        rerun: True if a finished run is to begin again.
        arguments: What the function is called with, if it can be recovered.
        above: A token that the new one exceeds, for a run that comes from another store.
    """

    owner: Owner
    grant: str = attrs.field(factory=new_grant)
    life: str
    lease: float
    max_crashes: int | None = None
    rerun: bool = False
    arguments: bytes | None = None
    above: int = 0


@attrs.frozen
class Result:
    """The saved result of a step.

    Attributes:
        slot: Which step of the run it is of.
        value: The result.
    """

    slot: str
    value: bytes


@attrs.frozen
class Contents:
    """What is kept for a run.

    Attributes:
        latest: The last document; None before the first one.
        previous: The one before it.
        results: The saved results by number.
    """

    latest: bytes | None = None
    previous: bytes | None = None
    results: Mapping[int, Result] = attrs.field(factory=dict)


@attrs.frozen
class Acquired:
    """The run is the caller's.

    Attributes:
        record: What the store knows of it.
        began: True if it begins from nothing: whatever was kept for it is to be removed.
        idle: Seconds from the last save to the last sign of life of the attempt before.
        contents: What is kept for it.
    """

    record: Record
    began: bool
    idle: float = 0.0
    contents: Contents = Contents()


@attrs.frozen
class Held:
    """Another owner has the run, for `left` seconds unless it renews the lease."""

    record: Record
    left: float


@attrs.frozen
class Finished:
    """The run has ended with a result, which is in its contents."""

    record: Record
    contents: Contents = Contents()


@attrs.frozen
class Poisoned:
    """The run died too often."""

    record: Record


Acquisition: TypeAlias = Acquired | Held | Finished | Poisoned


@attrs.frozen
class RunLease:
    """The right to save a run.

    Attributes:
        run: Which run.
        token: The fencing token.
        grant: The grant.
        seconds: How long the lease lasts without renewal.
    """

    run: RunId
    token: int
    grant: str
    seconds: float


@attrs.frozen(kw_only=True)
class Change:
    """What a commit writes, all of it or nothing. An empty one renews the lease.

    Attributes:
        document: The next generation of the document, or None to leave it.
        put: Results to save, by number; never one that is kept already.
        drop: The numbers of results to remove. Those that are not there do not matter.
        finished: True if the run ends here, with the result in the document.
        sequence: The number of the commit, from 1 up; 0 for a renewal, and for what nobody sends a
            second time.
        after: The number of the last commit with a document that was acknowledged to the owner; 0
            if there was none.
        after_result: The number of the last result that was acknowledged since then; -1 if there
            was none.
    """

    document: bytes | None = None
    put: Mapping[int, Result] = attrs.field(factory=dict)
    drop: tuple[int, ...] = ()
    finished: bool = False
    sequence: int = 0
    after: int = 0
    after_result: int = -1

    @property
    def progress(self) -> bool:
        """True if the run has got further since its last save."""
        return self.document is not None or bool(self.put)


@attrs.frozen(kw_only=True)
class Promises:
    """What a store can promise with its present settings, as `Store.probe` found out.

    Attributes:
        fenced: True if the store refuses a save of an owner that has lost the run. A store that
            cannot promise this is not used.
        durable: True if a save that was acknowledged survives a crash of the store's machine.
        failover: For people: what a failover of the store to another machine may lose; empty if
            nothing is lost, or there is no failover.
        proves_death: True if the death of an owner on another machine is known at once, without
            waiting for the end of its lease.
        problems: For people: what breaks or weakens a promise, and what to do about it.

    Example:
        >>> from mainstay.stores import MemoryStore
        >>> MemoryStore().probe().fenced
        True
    """

    fenced: bool
    durable: bool
    failover: str = ""
    proves_death: bool = False
    problems: tuple[str, ...] = ()


@runtime_checkable
class Store(Protocol):
    """The place where runs are kept. Safe to use from several threads and after a fork.

    Every method may raise `StoreUnavailableError`, and `StoreSchemaError` at first use.

    Attributes:
        url: The name of the store in messages: a URL without a password.

    Example:
        >>> from mainstay.stores import MemoryStore
        >>> from mainstay.stores.base import Store
        >>> isinstance(MemoryStore(), Store)
        True
    """

    url: str

    def acquire(self, run: RunId, request: Request) -> Acquisition:
        """Decide by `acquisition` who may work on *run*, and write the decision, atomically.

        The answer has the saved data of the run if the caller got the run, or the run has ended.
        """
        ...

    def load(self, run: RunId) -> Contents:
        """Return the saved data of *run*; empty for a run that the store does not have."""
        ...

    def commit(self, lease: RunLease, change: Change) -> None:
        """Write *change* durably, and renew the lease.

        Raises:
            LeaseLostError: If the token or grant is not the newest, the run has been released, or
                a failover lost the save that this one builds on.
        """
        ...

    def renew(self, leases: Sequence[RunLease]) -> Sequence[RunLease]:
        """Renew many leases at once; return those that are lost."""
        ...

    def release(
        self, lease: RunLease, how: Exit, error: str = "", drop: tuple[int, ...] = ()
    ) -> None:
        """Release the run before its end; do nothing if another owner has the run.

        Args:
            lease: The lease from `acquire`.
            how: How the attempt ended.
            error: For people: the error that ended the attempt.
            drop: The numbers of the results to remove.
        """
        ...

    def list(
        self,
        name: str | None = None,
        *,
        status: Status | None = None,
        after: RunId | None = None,
        limit: int | None = None,
    ) -> Sequence[tuple[Record, Status]]:
        """Return runs, sorted by name and key, each with its state.

        The state of a run whose owner is gone is "interrupted", whatever its record says.

        Args:
            name: The name of the runs, or None for all names.
            status: The state of the runs, or None for all states.
            after: The last run of the previous page, or None to begin.
            limit: The largest number of runs to return, or None for all.
        """
        ...

    def forget(self, run: RunId) -> bool:
        """Remove *run* and its saved data, but for its token; False if there was no such run.

        Raises:
            RunBusyError: If an owner works on the run.
        """
        ...

    def probe(self) -> Promises:
        """Return what the store can promise with its present settings; called once per process."""
        ...

    def close(self) -> None:
        """Close files and connections; the next operation opens them again."""
        ...


@runtime_checkable
class AsyncStore(Store, Protocol):
    """A store that async code uses without threads: the same operations, to be awaited.

    Of a store that is only a `Store`, the operations are called in a thread.
    """

    async def aacquire(self, run: RunId, request: Request) -> Acquisition:
        """As `acquire`."""
        ...

    async def acommit(self, lease: RunLease, change: Change) -> None:
        """As `commit`."""
        ...

    async def arelease(
        self, lease: RunLease, how: Exit, error: str = "", drop: tuple[int, ...] = ()
    ) -> None:
        """As `release`."""
        ...


def acquisition(
    before: Record | None,
    run: RunId,
    request: Request,
    *,
    now: float,
    wall: float,
    gone: Exit,
    forgotten: int,
) -> Acquisition:
    """Decide who may work on a run: the rules that all stores share.

        before                     gone     then
        none                       -        begin: the token after all forgotten ones, attempt 1
        running, with this grant   -        as the first time that this was asked
        done                       -        finished; with `rerun` begin, with the next token
        poisoned                   -        poisoned
        interrupted                -        next token, next attempt, no crash
        running                    no       held
        running, crashes too many  yes      poisoned
        running                    yes      next token, next attempt, one crash more

    Args:
        before: The record of the run, or None.
        run: Which run.
        request: What is asked for.
        now: Seconds of the store's clock.
        wall: Seconds since 1970.
        gone: What `how_gone` returns for a running one.
        forgotten: The highest token of all runs that the store has forgotten; 0 if none.

    Returns:
        The answer; `Acquired` and `Poisoned` have the record to write.
    """
    if before is None or (before.status == "done" and request.rerun):
        token = 1 + max(request.above, forgotten if before is None else before.token)
        return Acquired(_begun(run, request, token, now, wall), began=True)
    if before.status == "running" and before.grant == request.grant:
        return Acquired(before, began=False)
    if before.status == "done":
        return Finished(before)
    if before.status == "poisoned":
        return Poisoned(before)
    crashed = before.status == "running"
    if crashed and not gone:
        return Held(before, max(0.0, before.expires - now))
    crashes = before.crashes + 1 if crashed else 0
    if request.max_crashes is not None and crashes >= request.max_crashes:
        return Poisoned(attrs.evolve(before, status="poisoned", crashes=crashes, updated=wall))
    record = attrs.evolve(
        before,
        token=before.token + 1,
        grant=request.grant,
        sequence=0,
        status="running",
        owner=request.owner,
        expires=now + request.lease,
        seen=now,
        saved=now,
        attempt=before.attempt + 1,
        crashes=crashes,
        exit=gone if crashed else before.exit,
        arguments=request.arguments if request.arguments is not None else before.arguments,
        updated=wall,
    )
    return Acquired(record, began=False, idle=max(0.0, before.seen - before.saved))


def _begun(run: RunId, request: Request, token: int, now: float, wall: float) -> Record:
    return Record(
        run=run,
        life=request.life,
        token=token,
        grant=request.grant,
        owner=request.owner,
        expires=now + request.lease,
        seen=now,
        saved=now,
        arguments=request.arguments,
        created=wall,
        updated=wall,
    )


def how_gone(record: Record, *, now: float, wall: float, local: bool = True) -> Exit:
    """Return how the owner of a running run has gone: "crash", "takeover", or "" if it has not.

    Args:
        record: The record of the run.
        now: Seconds of the store's clock.
        wall: Seconds since 1970, for an owner on another machine, or in another namespace of time,
            whose clock is another one.
        local: True if only this machine can reach the store.
    """
    if record.status != "running":
        return ""
    if is_dead(record.owner, local=local):
        return "crash"
    over = record.expires <= now, record.updated + (record.expires - record.seen) <= wall
    shares = shares_clock(record.owner)
    is_over = all(over) if shares is None else over[0 if shares else 1]
    return "takeover" if is_over else ""


def state_of(record: Record, gone: Exit) -> Status:
    """Return the state of a run as people see it: running only while its owner is there."""
    return "interrupted" if record.status == "running" and gone else record.status


def is_granted(record: Record, lease: RunLease) -> bool:
    """True if *lease* is of the last acquisition of the run: rule 2."""
    return (record.token, record.grant) == (lease.token, lease.grant)


def is_owned(record: Record, lease: RunLease) -> bool:
    """True if the run is still of who has *lease*."""
    return is_granted(record, lease) and record.status == "running"


def has_applied(record: Record, lease: RunLease, change: Change) -> bool:
    """True if *change* was written, and is sent again because the answer was lost: rule 3."""
    return is_granted(record, lease) and 0 < change.sequence <= record.sequence


def call_seconds(limit: float | None, lease: float | None = None) -> float:
    """Return the seconds that an operation may take: rule 8.

    Args:
        limit: The store's own limit, or None.
        lease: The seconds of the lease that the operation is about, or None.
    """
    if limit is not None:
        return limit
    return LONGEST_CALL if lease is None else min(LONGEST_CALL, lease / RENEWALS_PER_LEASE)
