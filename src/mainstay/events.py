"""Everything that policies tell: the events that `on_event` hands on and log lines are made from.

    Event
    ├── RetryScheduled, RetryGaveUp           to the logger "mainstay.retry"
    ├── BreakerChanged                        "mainstay.breaker"
    ├── FallbackUsed                          "mainstay.fallback"
    ├── PoolEvent                             "mainstay.failover"
    │   ├── PoolGaveUp, PoolSwitched
    │   └── MemberEjected, MemberFailing, MemberReadmitted, MemberBroken, StandbyStarted
    ├── HedgeStarted, RedundantGaveUp         "mainstay.redundant"
    └── CheckpointEvent                       "mainstay.checkpoint"
        └── RunResumed, RunPoisoned, LeaseLost, CheckpointDamaged, CodeChanged

All of them are frozen. `str(event)` is the log line: it names the class of an exception and never
its message, which may hold arguments; and never an answer, an item, or the key of a run.
"""

import logging
from typing import ClassVar, Literal, TypeAlias

import attrs

from mainstay._core.events import Cause, Event
from mainstay._core.words import class_name, counted

__all__ = [
    "BreakerChanged",
    "CheckpointDamaged",
    "CheckpointEvent",
    "CodeChanged",
    "Event",
    "FallbackUsed",
    "HedgeStarted",
    "LeaseLost",
    "MemberBroken",
    "MemberEjected",
    "MemberFailing",
    "MemberReadmitted",
    "PoolEvent",
    "PoolGaveUp",
    "PoolSwitched",
    "RedundantGaveUp",
    "RetryGaveUp",
    "RetryScheduled",
    "RunPoisoned",
    "RunResumed",
    "StandbyStarted",
]

BreakerState: TypeAlias = Literal["closed", "open", "half_open"]
RetryReason: TypeAlias = Literal[
    "attempts", "timeout", "not_retryable", "predicate_error", "budget", "refused_result"
]
ResumeReason: TypeAlias = Literal["", "crash", "takeover", "error", "sigterm"]
RedundantReason: TypeAlias = Literal[
    "attempts",
    "timeout",
    "not_retryable",
    "predicate_error",
    "budget",
    "no_member",
    "no_decision",
]


@attrs.frozen
class RetryScheduled(Event):
    """An attempt failed, and another one follows.

    Attributes:
        attempt: The number of the attempt that failed, from 1.
        wait: Seconds until the next attempt.
        error: The exception of the attempt; a `ResultRefusedError` if its result was refused.

    Example:
        >>> from mainstay.events import RetryScheduled
        >>> print(RetryScheduled("db", 1, 0.5, OSError("refused")))
        db: attempt 1 failed with OSError; the next attempt starts in 0.500 s
    """

    policy: ClassVar[str] = "retry"
    kind: ClassVar[str] = "retry_scheduled"
    attempt: int
    wait: float
    error: Exception

    def __str__(self) -> str:
        return (
            f"{self.component}: attempt {self.attempt} failed with {class_name(self.error)}; "
            f"the next attempt starts in {self.wait:.3f} s"
        )


@attrs.frozen
class RetryGaveUp(Event):
    """A call ended without a result.

    Attributes:
        attempts: The number of attempts.
        elapsed: Seconds from the start of the first attempt.
        reason: As in `give_ups_total`.
        error: The exception of the last attempt; a `ResultRefusedError` if its result was refused.

    Example:
        >>> from mainstay.events import RetryGaveUp
        >>> print(RetryGaveUp("db", 5, 12.5, "attempts", OSError("refused")))
        db: gave up (attempts) after 5 attempts in 12.500 s with OSError
    """

    policy: ClassVar[str] = "retry"
    kind: ClassVar[str] = "retry_gave_up"
    attempts: int
    elapsed: float
    reason: RetryReason
    error: Exception

    @property
    def level(self) -> int:
        """WARNING; 0 if `on` does not match the exception."""
        return 0 if self.reason == "not_retryable" else logging.WARNING

    def __str__(self) -> str:
        return (
            f"{self.component}: gave up ({self.reason}) after {counted(self.attempts, 'attempt')} "
            f"in {self.elapsed:.3f} s with {class_name(self.error)}"
        )


@attrs.frozen
class BreakerChanged(Event):
    """A circuit breaker has changed its state.

    Attributes:
        from_state: The state before, as in `breaker_transitions_total`.
        to_state: The state now, as in `breaker_transitions_total`.
        cause: Why the breaker is open, as in `ejections_total`; None if it is not open, or was
            opened by `open`.

    Example:
        >>> from mainstay.events import BreakerChanged
        >>> print(BreakerChanged("db", "closed", "open", "consecutive"))
        db: closed -> open (consecutive)
    """

    policy: ClassVar[str] = "breaker"
    kind: ClassVar[str] = "breaker_changed"
    from_state: BreakerState
    to_state: BreakerState
    cause: Cause | None

    @property
    def level(self) -> int:
        """WARNING if the breaker opens, INFO otherwise."""
        return logging.WARNING if self.to_state == "open" else logging.INFO

    def __str__(self) -> str:
        why = f" ({self.cause})" if self.cause else ""
        return f"{self.component}: {self.from_state} -> {self.to_state}{why}"


@attrs.frozen
class FallbackUsed(Event):
    """A fallback has answered in place of a call that failed.

    Attributes:
        source: Which fallback answered, as in `fallbacks_total`.
        age: The age of a last good answer, in seconds; None for other fallbacks.
        error: The exception of the call.

    Example:
        >>> from mainstay.events import FallbackUsed
        >>> print(FallbackUsed("prices", "last_good", 60.0, OSError("refused")))
        prices: answered by last_good, 60.000 s old after OSError
    """

    policy: ClassVar[str] = "fallback"
    kind: ClassVar[str] = "fallback_used"
    source: str
    age: float | None
    error: Exception

    @property
    def level(self) -> int:
        """INFO: the caller has an answer, and the failure is reported by the policy that saw it."""
        return logging.INFO

    def __str__(self) -> str:
        old = "" if self.age is None else f", {self.age:.3f} s old"
        return f"{self.component}: answered by {self.source}{old} after {class_name(self.error)}"


@attrs.frozen
class PoolEvent(Event):
    """An event of a failover pool.

    Example:
        >>> from mainstay.events import PoolEvent, StandbyStarted
        >>> isinstance(StandbyStarted("db", "standby", 4.5), PoolEvent)
        True
    """

    policy: ClassVar[str] = "failover"
    _level: ClassVar[int] = logging.WARNING


@attrs.frozen
class PoolGaveUp(PoolEvent):
    """A call ended without an answer of any member.

    Attributes:
        attempts: The number of members that were tried.
        elapsed: Seconds from the start of the call.
        reason: As in `give_ups_total`.
        error: The exception that the call raises.

    Example:
        >>> from mainstay.events import PoolGaveUp
        >>> print(PoolGaveUp("db", 3, 0.25, "attempts", OSError("refused")))
        db: gave up (attempts) after 3 attempts in 0.250 s with OSError
    """

    kind: ClassVar[str] = "pool_gave_up"
    attempts: int
    elapsed: float
    reason: str
    error: Exception

    def __str__(self) -> str:
        return (
            f"{self.component}: gave up ({self.reason}) after {counted(self.attempts, 'attempt')} "
            f"in {self.elapsed:.3f} s with {class_name(self.error)}"
        )


@attrs.frozen
class MemberEjected(PoolEvent):
    """A member failed too much and gets no calls for a while.

    Attributes:
        member: The name of the member.
        cause: As in `ejections_total`.
        seconds: The length of the ejection, until the first trial.

    Example:
        >>> from mainstay.events import MemberEjected
        >>> print(MemberEjected("db", "primary", "consecutive", 5.0))
        db: member primary ejected (consecutive) for 5.000 s
    """

    kind: ClassVar[str] = "member_ejected"
    member: str
    cause: Cause
    seconds: float

    def __str__(self) -> str:
        return (
            f"{self.component}: member {self.member} ejected ({self.cause}) "
            f"for {self.seconds:.3f} s"
        )


@attrs.frozen
class MemberFailing(PoolEvent):
    """A member fails too much, and continues to serve because there is no other.

    Attributes:
        member: The name of the member.
        cause: As in `ejections_total`.

    Example:
        >>> from mainstay.events import MemberFailing
        >>> print(MemberFailing("db", "b", "consecutive"))
        db: member b is failing (consecutive) and continues to serve, since no other member is well
    """

    kind: ClassVar[str] = "member_failing"
    member: str
    cause: Cause

    def __str__(self) -> str:
        return (
            f"{self.component}: member {self.member} is failing ({self.cause}) and continues to "
            f"serve, since no other member is well"
        )


@attrs.frozen
class MemberReadmitted(PoolEvent):
    """A member that was ejected or failing works again.

    Attributes:
        member: The name of the member.
        seconds: The time for which the member was ejected; 0.0 if it was failing.

    Example:
        >>> from mainstay.events import MemberReadmitted
        >>> print(MemberReadmitted("db", "primary", 30.0))
        db: member primary is well again after 30.000 s
    """

    kind: ClassVar[str] = "member_readmitted"
    _level: ClassVar[int] = logging.INFO
    member: str
    seconds: float

    def __str__(self) -> str:
        return f"{self.component}: member {self.member} is well again after {self.seconds:.3f} s"


@attrs.frozen
class PoolSwitched(PoolEvent):
    """New calls go to another member.

    Attributes:
        from_member: The member that got the calls before.
        to_member: The member that gets new calls.
        reason: As in `failovers_total`.
        epoch: The new epoch of the pool, as in `current_lease().epoch`.

    Example:
        >>> from mainstay.events import PoolSwitched
        >>> print(PoolSwitched("db", "primary", "standby", "ejected", 2))
        db: switched from primary to standby (ejected), epoch 2
    """

    kind: ClassVar[str] = "pool_switched"
    from_member: str
    to_member: str
    reason: str
    epoch: int

    def __str__(self) -> str:
        return (
            f"{self.component}: switched from {self.from_member} to {self.to_member} "
            f"({self.reason}), epoch {self.epoch}"
        )


@attrs.frozen
class StandbyStarted(PoolEvent):
    """A standby is ready to take over.

    Attributes:
        member: The name of the member.
        seconds: The time that the start took.

    Example:
        >>> from mainstay.events import StandbyStarted
        >>> print(StandbyStarted("db", "standby", 4.5))
        db: standby standby ready after 4.500 s
    """

    kind: ClassVar[str] = "standby_started"
    _level: ClassVar[int] = logging.INFO
    member: str
    seconds: float

    def __str__(self) -> str:
        return f"{self.component}: standby {self.member} ready after {self.seconds:.3f} s"


@attrs.frozen
class MemberBroken(PoolEvent):
    """A function of yours for a member raised an exception, or took too long.

    Attributes:
        member: The name of the member.
        what: The function: "open", "close", "fence" or "probe".
        error: The exception of the function; a `TimeoutError` of the pool if it took too long.

    Example:
        >>> from mainstay.events import MemberBroken
        >>> print(MemberBroken("db", "standby", "open", OSError("refused")))
        db: open of member standby failed with OSError
    """

    kind: ClassVar[str] = "member_broken"
    member: str
    what: str
    error: BaseException

    def __str__(self) -> str:
        return (
            f"{self.component}: {self.what} of member {self.member} failed with "
            f"{class_name(self.error)}"
        )


@attrs.frozen
class HedgeStarted(Event):
    """A copy was started because the primary was slow, or because a copy failed.

    Attributes:
        copy: The number of the copy, from 1; 0 is the primary.
        elapsed: Seconds since the start of the primary.
        reason: "slow" or "failed", as in `hedges_total`.

    Example:
        >>> from mainstay.events import HedgeStarted
        >>> print(HedgeStarted("search", 1, 0.05, "slow"))
        search: copy 1 starts (slow) at 0.050 s
    """

    policy: ClassVar[str] = "redundant"
    kind: ClassVar[str] = "hedge_started"
    copy: int
    elapsed: float
    reason: str

    def __str__(self) -> str:
        return f"{self.component}: copy {self.copy} starts ({self.reason}) at {self.elapsed:.3f} s"


@attrs.frozen
class RedundantGaveUp(Event):
    """A call ended without an answer.

    Attributes:
        copies: The number of copies that were started; 0 if the call began with no time left.
        elapsed: Seconds from the start of the first copy.
        reason: As in `give_ups_total`.
        error: The exception that the call raises.

    Example:
        >>> from mainstay.events import RedundantGaveUp
        >>> print(RedundantGaveUp("search", 2, 1.5, "attempts", OSError("refused")))
        search: gave up (attempts) after 2 copies in 1.500 s with OSError
    """

    policy: ClassVar[str] = "redundant"
    kind: ClassVar[str] = "redundant_gave_up"
    copies: int
    elapsed: float
    reason: RedundantReason
    error: BaseException

    @property
    def level(self) -> int:
        """WARNING; 0 if `on` does not match the exception."""
        return 0 if self.reason == "not_retryable" else logging.WARNING

    def __str__(self) -> str:
        return (
            f"{self.component}: gave up ({self.reason}) after "
            f"{counted(self.copies, 'copy', 'copies')} in {self.elapsed:.3f} s "
            f"with {class_name(self.error)}"
        )


@attrs.frozen
class CheckpointEvent(Event):
    """An event of a checkpointed run.

    Attributes:
        key: The key of the run.
        attempt: The number of the attempt.

    Example:
        >>> from mainstay.events import CheckpointEvent, LeaseLost
        >>> isinstance(LeaseLost("nightly", "2026-11-30", 1), CheckpointEvent)
        True
    """

    policy: ClassVar[str] = "checkpoint"
    _level: ClassVar[int] = logging.WARNING
    key: str
    attempt: int


@attrs.frozen
class RunResumed(CheckpointEvent):
    """A run goes on where an earlier attempt left it.

    Attributes:
        reason: How the previous attempt ended; empty if it released the run.
        items: The number of items that are done.

    Example:
        >>> from mainstay.events import RunResumed
        >>> print(RunResumed("nightly", "2026-11-30", 2, "crash", 400))
        nightly: attempt 2 goes on after crash; 400 items done
    """

    kind: ClassVar[str] = "run_resumed"
    reason: ResumeReason
    items: int

    @property
    def level(self) -> int:
        """WARNING after a takeover, INFO otherwise."""
        return logging.WARNING if self.reason == "takeover" else logging.INFO

    def __str__(self) -> str:
        return (
            f"{self.component}: attempt {self.attempt} goes on after {self.reason or 'a release'}; "
            f"{counted(self.items, 'item')} done"
        )


@attrs.frozen
class LeaseLost(CheckpointEvent):
    """Another owner took the run over.

    Example:
        >>> from mainstay.events import LeaseLost
        >>> print(LeaseLost("nightly", "2026-11-30", 1))
        nightly: attempt 1 was taken over and saves nothing more
    """

    kind: ClassVar[str] = "lease_lost"

    def __str__(self) -> str:
        return f"{self.component}: attempt {self.attempt} was taken over and saves nothing more"


@attrs.frozen
class CheckpointDamaged(CheckpointEvent):
    """The last save cannot be read; the one before it is used.

    Attributes:
        problem: What is wrong with the save.

    Example:
        >>> from mainstay.events import CheckpointDamaged
        >>> print(CheckpointDamaged("job", "2026-11-30", 2, "cut short"))
        job: attempt 2 found the last save damaged (cut short) and goes on from the one before it
    """

    kind: ClassVar[str] = "checkpoint_damaged"
    problem: str

    def __str__(self) -> str:
        return (
            f"{self.component}: attempt {self.attempt} found the last save damaged "
            f"({self.problem}) and goes on from the one before it"
        )


@attrs.frozen
class CodeChanged(CheckpointEvent):
    """The function is not what it was when the run was saved; the run goes on all the same.

    Attributes:
        problem: What differs.

    Example:
        >>> from mainstay.events import CodeChanged
        >>> print(CodeChanged("nightly", "2026-11-30", 2, "step 'load' is now 'read'"))
        nightly: attempt 2 goes on with other code: step 'load' is now 'read'
    """

    kind: ClassVar[str] = "code_changed"
    problem: str

    def __str__(self) -> str:
        return f"{self.component}: attempt {self.attempt} goes on with other code: {self.problem}"


@attrs.frozen
class RunPoisoned(CheckpointEvent):
    """The process of the run died too often in a row; the run is not run again.

    Attributes:
        crashes: The number of deaths in a row.

    Example:
        >>> from mainstay.events import RunPoisoned
        >>> print(RunPoisoned("job", "2026-11-30", 3, 3))
        job: a run died 3 times in a row without progress, last in attempt 3, and is not run again
    """

    kind: ClassVar[str] = "run_poisoned"
    crashes: int

    def __str__(self) -> str:
        return (
            f"{self.component}: a run died {counted(self.crashes, 'time')} in a row without "
            f"progress, last in attempt {self.attempt}, and is not run again"
        )
