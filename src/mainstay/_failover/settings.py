"""`PoolSettings`: the checked parameters of a pool."""

import math
from collections.abc import Callable, Iterable
from typing import Any, Literal, TypeAlias, get_args

import attrs

from mainstay._core.arguments import Duration, check_choice, to_count, to_limit
from mainstay._core.budget import RetryBudget, budget_of
from mainstay._core.detector import Detect
from mainstay._core.exceptions import is_refusal
from mainstay._core.failures import (
    Classes,
    Judge,
    Verdict,
    checked_on_result,
    verdict_judge_of,
    verdict_of,
)
from mainstay._core.functions import Kind, checked_name, kind_of
from mainstay._core.layers import Layer, classes_of
from mainstay._core.words import kind_in_words
from mainstay._failover.options import Failback, Member, Probe, check_hook
from mainstay._failover.prometheus import PrometheusQuestion
from mainstay._failover.selection import Selector, Strategy, strategy_of

POLICY = "failover"

ASYNC_BECAUSE = "a function given to it (`fence`, `open`, `close` or the probe) is async"

WhenAllDown: TypeAlias = Literal["least_bad", "raise", "wait"]
Raises: TypeAlias = Literal["last", "group"]


@attrs.frozen(eq=False, kw_only=True)
class PoolSettings:
    """The parameters of a pool, under the names that `FailoverPool` has for them.

    Attributes:
        judge: Returns the verdict of `on` about an exception.
        strategy: The strategy of `select`.
        is_async: True if a function of the user's is async.
    """

    name: str
    judge: Judge
    attempts: int | None
    timeout: float | None
    attempt_timeout: float | None
    on_result: Callable[[Any], Any] | None
    strategy: Strategy
    probe: Probe | None
    detect: Detect
    failback: Failback
    when_all_down: WhenAllDown
    fence: Callable[[str, str], Any] | None
    budget: RetryBudget | None
    raises: Raises
    is_async: bool

    def first_attempt_is_special(self) -> bool:
        """True if a call that its first attempt answers needs more than being called."""
        extras = (self.on_result, self.budget, self.attempt_timeout)
        return any(extra is not None for extra in extras)

    def warm_up(self, member: Member[Any]) -> Callable[[Any], Any] | None:
        """Return what a member is asked that was just opened, before its first call, or None.

        That is the probe of a cold standby, unless Prometheus is asked, which has not looked yet.
        """
        if (
            self.probe is None
            or member.standby != "cold"
            or isinstance(self.probe.fn, PrometheusQuestion)
        ):
            return None
        return self.probe.fn

    def layer(self, members: Iterable[Member[Any]]) -> Layer:
        """Return the worst case of a call of a pool with these members."""
        everyone = list(members)
        return Layer(
            kind="failover",
            component=self.name,
            calls=min(len(everyone), self.attempts or math.inf),
            waits=self._longest_waits(everyone),
            timeout=math.inf if self.timeout is None else self.timeout,
            attempt_timeout=math.inf if self.attempt_timeout is None else self.attempt_timeout,
            classes=classes_of(self.judge),
        )

    def _longest_waits(self, members: list[Member[Any]]) -> float:
        """Return the longest that a call waits for members that start, or are asked about."""
        if self.when_all_down == "wait":
            return math.inf
        waits = math.fsum(each.start_timeout for each in members if each.open is not None)
        if self.probe is not None:
            asking = self.probe.fall * (
                self.probe.every * (1 + self.probe.jitter) + self.probe.timeout
            )
            waits += len(members) * asking
        return waits

    def verdict(self, error: Exception) -> object:
        """Return what an exception says of its member: a `Verdict`, or `FAILING`.

        A `RejectedError` of a policy inside the function says nothing of the member.
        """
        verdict = verdict_of(self.judge(error))
        if verdict is Verdict.MEMBER_FAILED and is_refusal(error):
            return Verdict.TRY_ANOTHER
        return verdict


def checked_settings(  # noqa: PLR0913 - a pool's parameters are its vocabulary
    name: object,
    members: list[Member[Any]],
    *,
    on: Classes | Callable[[Exception], object],
    attempts: int | None,
    timeout: Duration | None,
    attempt_timeout: Duration | None,
    on_result: Callable[[Any], object] | None,
    select: str | Selector,
    probe: Probe | None,
    detect: Detect,
    failback: Failback,
    when_all_down: WhenAllDown,
    fence: Callable[[str, str], object] | None,
    budget: RetryBudget | float | None,
    raises: Raises,
) -> PoolSettings:
    """Return what users gave as the parameters of a pool of *members*.

    Raises:
        TypeError: If a parameter has the wrong type.
        ValueError: If it is out of its range.
    """
    check_type("probe", probe, Probe, none=True)
    check_type("detect", detect, Detect)
    check_type("failback", failback, Failback)
    check_choice(when_all_down, "when_all_down", get_args(WhenAllDown))
    check_choice(raises, "raises", get_args(Raises))
    check_hook("fence", fence)
    hooks: list[Callable[..., Any] | None] = [fence, probe.fn if probe else None]
    hooks += [hook for member in members for hook in (member.open, member.close)]
    return PoolSettings(
        name=checked_name(name),
        judge=verdict_judge_of(on),
        attempts=None if attempts is None else to_count(attempts, "attempts"),
        timeout=to_limit(timeout, "timeout"),
        attempt_timeout=to_limit(attempt_timeout, "attempt_timeout"),
        on_result=checked_on_result(on_result),
        strategy=strategy_of(select),
        probe=probe,
        detect=detect,
        failback=failback,
        when_all_down=when_all_down,
        fence=fence,
        budget=budget_of(budget),
        raises=raises,
        is_async=any(hook is not None and kind_of(hook) is Kind.ASYNC for hook in hooks),
    )


def checked_members(members: object) -> list[Member[Any]]:
    """Return what users gave as the members of a pool.

    Raises:
        TypeError: If it is no list of members.
        ValueError: If two have one name, or none is active.
    """
    if isinstance(members, Member) or not isinstance(members, Iterable):
        raise TypeError(f"`members` must be a list of `Member`s, not {kind_in_words(members)}")
    everyone = list(members)
    for member in everyone:
        if not isinstance(member, Member):
            raise TypeError(
                f"`members` must be a list of `Member`s, and {kind_in_words(member)} is not one"
            )
    if not everyone:
        raise ValueError("`members` must not be empty")
    names = [member.name for member in everyone]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"`members` must have different names, and {twice[0]!r} occurs twice")
    if all(member.standby is not None for member in everyone):
        raise ValueError("`members` must have at least one that is active, without `standby`")
    return everyone


def check_interruptible(settings: PoolSettings, what: str) -> None:
    """Raise if a pool has a limit for attempts that sync code cannot keep.

    Raises:
        TypeError: If it has.
    """
    if settings.attempt_timeout is not None:
        raise TypeError(
            f"`attempt_timeout` of pool {settings.name!r} cannot interrupt {what}, since no thread "
            f"can be stopped from outside; wrap what is called in `timeout(..., in_thread=True)`"
        )


def check_type(parameter: str, value: object, expected: type, *, none: bool = False) -> None:
    """Raise TypeError unless a parameter is an *expected*."""
    if not isinstance(value, expected) and not (none and value is None):
        raise TypeError(f"`{parameter}` must be a {expected.__name__}, not {value!r}")
