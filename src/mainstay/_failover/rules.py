"""What a pool was told: its parameters, checked."""

from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import attrs

from mainstay._core.budget import RetryBudget
from mainstay._core.callables import is_async_hook
from mainstay._core.notes import described, leave_note
from mainstay._core.outcomes import Judge, Predicate, judge_of
from mainstay._failover.health import Limits
from mainstay._failover.options import Failback, Probe, Verdict
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
        limits: When a member has failed too much.
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
    limits: Limits
    failback: Failback
    when_all_down: WhenAllDown
    fence: Callable[[str, str], Any] | None
    budget: RetryBudget | None
    is_async: bool


def verdict_of(answer: object) -> Verdict:
    """Read what `on` said about an exception.

    Raises:
        TypeError: If it is none of the answers it may give.
    """
    if isinstance(answer, bool | Verdict):
        return Verdict(answer)
    raise TypeError(f"`on` must answer True, False or a Verdict, not {answer!r}")


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


def sync_judge_of(on: object) -> Callable[[Exception], Any]:
    """Check `on=`, which cannot be awaited here."""
    if is_async_hook(on):
        raise TypeError(f"`on` must be a plain predicate, and {on!r} is async")
    judge = judge_of(on)
    if not isinstance(judge, Predicate):
        return judge
    answer = judge.predicate
    return Predicate(lambda error: _as_bool(answer(error)))


def _as_bool(answer: object) -> object:
    """Put a verdict as True or False where it equals that: so verdicts about groups are made."""
    if isinstance(answer, Verdict) and answer is not Verdict.TRY_ANOTHER:
        return answer.value
    return answer
