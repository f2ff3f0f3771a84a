"""What a pool tells: to the logger "mainstay.failover", to `on_event`, to `pool.on_event`."""

import logging
from typing import ClassVar

import attrs

from mainstay._core.events import Event
from mainstay._failover.health import Cause


@attrs.frozen
class _PoolEvent(Event):
    policy: ClassVar[str] = "failover"
    _level: ClassVar[int] = logging.WARNING


@attrs.frozen
class PoolGaveUp(_PoolEvent):
    """A call ended without an answer of any member.

    Attributes:
        attempts: How many members were tried.
        elapsed: Seconds from the start of the call.
        reason: As in `give_ups_total`.
        error: What the call raises.
    """

    kind: ClassVar[str] = "pool_gave_up"
    attempts: int
    elapsed: float
    reason: str
    error: Exception

    def __str__(self) -> str:
        return (
            f"{self.component}: gave up ({self.reason}) after {self.attempts} attempt(s) "
            f"in {self.elapsed:.3f} s with {type(self.error).__name__}"
        )


@attrs.frozen
class MemberEjected(_PoolEvent):
    """A member failed too much and gets no calls for a while.

    Attributes:
        member: Its name.
        cause: As in `ejections_total`.
        seconds: For how long, until it is tried again.
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
class MemberFailing(_PoolEvent):
    """A member fails too much, and serves on because there is no other.

    Attributes:
        member: Its name.
        cause: As in `ejections_total`.
    """

    kind: ClassVar[str] = "member_failing"
    member: str
    cause: Cause

    def __str__(self) -> str:
        return (
            f"{self.component}: member {self.member} is failing ({self.cause}) and serves on, "
            f"since no other one is well"
        )


@attrs.frozen
class MemberReadmitted(_PoolEvent):
    """A member that was ejected or failing is well again.

    Attributes:
        member: Its name.
        seconds: How long it was ejected; 0.0 if it only was failing.
    """

    kind: ClassVar[str] = "member_readmitted"
    _level: ClassVar[int] = logging.INFO
    member: str
    seconds: float

    def __str__(self) -> str:
        return f"{self.component}: member {self.member} is well again after {self.seconds:.3f} s"


@attrs.frozen
class PoolSwitched(_PoolEvent):
    """New calls go to another member.

    Attributes:
        from_member: Where they went before.
        to_member: Where they go now.
        reason: As in `failovers_total`.
        epoch: The number of the pool from now on, as in `current_lease().epoch`.
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
class StandbyStarted(_PoolEvent):
    """A standby is ready to take over.

    Attributes:
        member: Its name.
        seconds: How long that took.
    """

    kind: ClassVar[str] = "standby_started"
    _level: ClassVar[int] = logging.INFO
    member: str
    seconds: float

    def __str__(self) -> str:
        return f"{self.component}: standby {self.member} ready after {self.seconds:.3f} s"


@attrs.frozen
class MemberBroken(_PoolEvent):
    """A function that the user gave for a member raised, or took too long.

    Attributes:
        member: The member's name.
        what: Which one: "open", "close", "fence" or "probe".
        error: What it raised; a `TimeoutError` of ours if it took too long.
    """

    kind: ClassVar[str] = "member_broken"
    member: str
    what: str
    error: BaseException

    def __str__(self) -> str:
        return (
            f"{self.component}: {self.what} of member {self.member} failed with "
            f"{type(self.error).__name__}"
        )
