"""Who serves, until the next change: a snapshot of the plan that calls read without the lock."""

import math
from collections.abc import Callable, Collection

import attrs

from mainstay._failover.members import MemberHandle
from mainstay._failover.planner import Plan, PlanRules, next_member
from mainstay._failover.selection import Chance, Now, Pick, Strategy, ramped


@attrs.frozen(eq=False, repr=False)
class Rotation:
    """Who serves.

    Attributes:
        plan: The plan behind the rotation.
        handles: A handle for each member that serves, the most preferred first.
        spares: A handle for each other member that a call may try after those.
        pick: Returns the handle for the next call.
        wake: Until when calls may use `pick` alone, in seconds of the clock.
        rejects: Until when new calls are rejected, since no member can be called or awaited.
    """

    plan: Plan
    handles: tuple[MemberHandle, ...]
    spares: tuple[MemberHandle, ...]
    pick: Pick
    wake: float
    rejects: float = -math.inf

    def handles_of(self, names: Collection[str]) -> list[MemberHandle]:
        """Return those of some of the members."""
        return [each for each in (*self.handles, *self.spares) if each.lease.member in names]


def _nobody() -> MemberHandle:
    raise LookupError("nobody serves")


CLOSED = Rotation(Plan(), (), (), _nobody, -math.inf)
"""The rotation of a pool that has to be opened first."""


def rotation_of(
    plan: Plan,
    rules: PlanRules,
    strategy: Strategy,
    handle_of: Callable[[str], MemberHandle],
    *,
    now: float,
    clock: Now,
    chance: Chance,
    stands: bool = True,
) -> Rotation:
    """Return what calls are to read of a plan.

    Args:
        plan: The plan.
        rules: The parameters of the pool.
        strategy: Says which of the members that serve gets a call.
        handle_of: Returns the present handle of a member that is open.
        now: The time.
        clock: Returns the time of a call.
        chance: Returns random numbers.
        stands: False if every call has to ask the engine, also while somebody serves.
    """
    handles = tuple(map(handle_of, plan.serving))
    spares = tuple(map(handle_of, plan.spares))
    if not handles:
        rejects = next_member(plan, rules, now=now) is None
        return Rotation(plan, (), spares, _nobody, -math.inf, plan.wake if rejects else -math.inf)
    pick = ramped(handles, lambda some: strategy.order(some, clock, chance), clock, chance)
    return Rotation(plan, handles, spares, pick, plan.wake if stands else -math.inf)
