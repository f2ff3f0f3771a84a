"""What is on the screen, in values: what a row says, and not how it looks."""

import enum

import attrs


class Level(enum.IntEnum):
    """How bad a thing is: callers feel what is FAILING, and mainstay covers what is DEGRADED."""

    WELL = 0
    DEGRADED = 1
    FAILING = 2


@attrs.frozen(kw_only=True)
class Finding:
    """Something that is not well, in the lines at the top."""

    level: Level
    name: str
    text: str


@attrs.frozen(kw_only=True)
class Since:
    """For how long something has been so.

    Attributes:
        seconds: How long.
        is_exact: False if it was so already when `top` began to look, and nobody says since when.
        has_changed: True if it was different before, when `top` looked.
    """

    seconds: float
    is_exact: bool
    has_changed: bool


@attrs.frozen(kw_only=True)
class AnyRow:
    """What every row has.

    Attributes:
        component: Its name.
        level: How bad it is.
        why: In a few words, unless it is well.
        age: Seconds since the figures were true, if their target is down.
    """

    component: str
    level: Level = Level.WELL
    why: str = ""
    age: float | None = None


@attrs.frozen
class Cell:
    """One interval of a sparkline: calls per second, and the worst thing in it."""

    rate: float
    level: Level


@attrs.frozen(kw_only=True)
class CallsRow(AnyRow):
    """The calls of one policy of one component; None is what is not known, or says nothing.

    Attributes:
        policy: The policy.
        rate: Calls per second.
        failed: The share that failed.
        recovered: The share that succeeded only because the policy acted.
        quantiles: Seconds that half, 95 % and 99 % of the calls took at most.
        attempts: Attempts per call.
        cells: Calls per second of each interval, the latest at the end.
        errors: How many attempts failed with which class, most frequent first.
        reasons: How many calls gave up for which reason, most frequent first.
    """

    policy: str
    rate: float | None
    failed: float
    recovered: float
    quantiles: tuple[float, float, float] | None
    attempts: float | None
    cells: tuple[Cell, ...]
    errors: tuple[tuple[str, float], ...]
    reasons: tuple[tuple[str, float], ...]


@attrs.frozen(kw_only=True)
class MemberCell:
    """One member of a pool.

    Attributes:
        name: The member.
        state: The worst of its states.
        level: How bad that is.
        processes: In how many processes it is so, and of how many, if they differ.
        since: For how long, where that is worth telling.
        rate: Attempts per second.
        failed: The share of them that failed.
    """

    name: str
    state: str
    level: Level
    processes: tuple[int, int] | None
    since: Since | None
    rate: float | None
    failed: float


@attrs.frozen(kw_only=True)
class PoolRow(AnyRow):
    """A pool with its members, in the order of their names."""

    members: tuple[MemberCell, ...]


@attrs.frozen(kw_only=True)
class BreakerRow(AnyRow):
    """A breaker.

    Attributes:
        state: The worst of its states.
        processes: In how many processes it is so, and of how many, if they differ.
        since: For how long, where that is worth telling.
        refused: Calls per second that were refused.
        outages: How many there were since the start.
    """

    state: str
    processes: tuple[int, int] | None
    since: Since | None
    refused: float | None
    outages: int


@attrs.frozen(kw_only=True)
class LimitRow(AnyRow):
    """A bulkhead: its limit, how many calls run and wait, and how many per second are refused."""

    limit: int
    running: int
    waiting: int
    refused: float | None


@attrs.frozen(kw_only=True)
class CopiesRow(AnyRow):
    """A redundant call.

    Attributes:
        hedged: The share of calls that got one more copy, if any ever did.
        delay: Seconds without an answer after which that starts.
        wins: The share of those copies whose answer was taken, where copies are numbered.
        votes: Votes per second, if there ever were any.
        outvoted: Answers per second that were outvoted, by the copy that gave them.
    """

    hedged: float | None
    delay: float | None
    wins: float | None
    votes: float | None
    outvoted: tuple[tuple[str, float], ...]


@attrs.frozen(kw_only=True)
class RunRow(AnyRow):
    """A checkpointed function.

    Attributes:
        items: How many items are done since the start of the process.
        rate: Items per second, over several saves.
        share: Of the items of the runs that go on, those that are done or were skipped.
        left: For how many seconds there are items, at this rate.
        saved: Seconds since the last save.
        every: Seconds between saves that are in force.
        saves: Saves per second.
    """

    items: int
    rate: float | None
    share: float | None
    left: float | None
    saved: float | None
    every: float | None
    saves: float | None


@attrs.frozen(kw_only=True)
class TargetRow(AnyRow):
    """An endpoint that is down, or that has begun again; its name is the component."""


@attrs.frozen(kw_only=True)
class View:
    """A picture.

    Attributes:
        findings: What is not well, worst first; one for each component at most.
        rate: Calls per second, each counted by the policies around it.
        components: How many components have been called.
        targets_up: How many endpoints answer.
        wall: Seconds since 1970.
        calls, pools, breakers, limits, copies, runs, targets: The rows of the sections.
        every: Seconds between scrapes.
        took: Seconds that the slowest scrape took, if that is why they are so few.
        span: Seconds that the cells of a sparkline are apart.
    """

    findings: tuple[Finding, ...] = ()
    rate: float | None = None
    components: int = 0
    targets_up: int = 0
    wall: float = 0.0
    calls: tuple[CallsRow, ...] = ()
    pools: tuple[PoolRow, ...] = ()
    breakers: tuple[BreakerRow, ...] = ()
    limits: tuple[LimitRow, ...] = ()
    copies: tuple[CopiesRow, ...] = ()
    runs: tuple[RunRow, ...] = ()
    targets: tuple[TargetRow, ...] = ()
    every: float = 2.0
    took: float | None = None
    span: float = 2.0
