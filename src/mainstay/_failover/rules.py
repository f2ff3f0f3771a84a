"""What a pool was told: its parameters, checked."""

from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import attrs

from mainstay._core.budget import RetryBudget
from mainstay._core.detector import Detect
from mainstay._core.failures import Judge, Verdict, described, leave_note, verdict_of
from mainstay._failover.options import Failback, Probe
from mainstay._failover.selection import Strategy

POLICY = "failover"

WhenAllDown: TypeAlias = Literal["least_bad", "raise", "wait"]


@attrs.frozen(eq=False, kw_only=True)
class Rules:
    """The parameters of a pool, as everything in it needs them.

    Attributes:
        name: The name of the pool.
        judge: The verdict of `on` about an exception.
        attempts: Most members that a call tries, or None.
        timeout: Seconds from a call's start after which it tries no other member, or None.
        strategy: Who gets the next call.
        probe: What members are asked, or None.
        detect: When a member has failed too much.
        failback: How a readmitted member gets its calls back.
        when_all_down: What calls do while no member is well.
        fence: What has to return before a standby takes over, or None.
        budget: What attempts after the first are charged to, or None.
        is_async: Whether anything that the user gave has to be awaited.
    """

    name: str
    judge: Judge
    attempts: int | None
    timeout: float | None
    strategy: Strategy
    probe: Probe | None
    detect: Detect
    failback: Failback
    when_all_down: WhenAllDown
    fence: Callable[[str, str], Any] | None
    budget: RetryBudget | None
    is_async: bool


def judged(rules: Rules, error: Exception) -> Verdict:
    """Ask `on` what an exception says of the member. A predicate that fails hides nothing."""
    try:
        return verdict_of(rules.judge(error))
    except Exception as broken:  # noqa: BLE001 - must not hide the user's own exception
        leave_note(error, owner_of(rules), f"`on` failed with {described(broken)}, so it passed")
        return Verdict.STOP


def owner_of(rules: Rules) -> str:
    """Give what notes of a pool begin with."""
    return f"mainstay.{POLICY} {rules.name}"
