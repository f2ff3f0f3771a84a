"""`select=`: which of the serving members gets the next call, at a cost that is always the same.

A strategy turns the handles of the serving members into a function without parameters that returns
the next handle. That function is made again whenever members, weights or health change, which is
when the work is done. A strategy also picks among the members that are left for a call that has
failed at others.

Source:
    M. Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", IEEE Transactions on
    Parallel and Distributed Systems 12, 2001; nginx's smooth weighted round robin.
"""

import bisect
import itertools
import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Protocol, TypeAlias, runtime_checkable

from mainstay._failover.members import MemberHandle

Pick: TypeAlias = Callable[[], MemberHandle]
"""Returns the handle of the next call."""
Now: TypeAlias = Callable[[], float]
"""Returns the time, in seconds of the pool's clock."""
Chance: TypeAlias = Callable[[], float]
"""Returns a random number, from 0 to below 1."""

_LONGEST_CYCLE = 10_000  # picks until a weighted order repeats itself
_UNKNOWN = 1e9  # seconds expected of a member whose first answer is still out


@runtime_checkable
class Selector(Protocol):
    """A selector of your own for members: any object with a method `pick`.

    The thread or task of the call runs `pick`, outside of all locks.

    Example:
        >>> from mainstay import FailoverPool, Member
        >>> class Last:
        ...     def pick(self, members):
        ...         return members[-1]
        >>> members = [Member("a", 1), Member("b", 2)]
        >>> FailoverPool("numbers", members, on=OSError, select=Last()).call(str)
        '2'
    """

    def pick(self, members: Sequence[str], /) -> str:
        """Return the name of the member that gets the next call.

        Args:
            members: The names of the members that may get the call, at least one, the most
                preferred first.
        """
        ...


class Strategy(Protocol):
    """A way to select."""

    def order(self, handles: Sequence[MemberHandle], now: Now, chance: Chance, /) -> Pick:
        """Prepare for all calls to come."""
        ...

    def among(self, handles: Sequence[MemberHandle], now: Now, chance: Chance, /) -> MemberHandle:
        """Pick one for a call that goes on to another member."""
        ...


class Priority:
    """The first one gets every call."""

    def order(self, handles: Sequence[MemberHandle], _now: Now, _chance: Chance, /) -> Pick:
        return itertools.repeat(handles[0]).__next__

    def among(self, handles: Sequence[MemberHandle], _now: Now, _chance: Chance, /) -> MemberHandle:
        return handles[0]


class RoundRobin:
    """One after the other."""

    def order(self, handles: Sequence[MemberHandle], _now: Now, chance: Chance, /) -> Pick:
        # Processes should not all begin with the same member, nor go on in the same order.
        turn = sorted(handles, key=lambda _handle: chance())
        return itertools.cycle(turn).__next__

    def among(self, handles: Sequence[MemberHandle], _now: Now, chance: Chance, /) -> MemberHandle:
        return handles[int(chance() * len(handles))]


class Weighted:
    """By weight, spread out evenly."""

    def order(self, handles: Sequence[MemberHandle], _now: Now, _chance: Chance, /) -> Pick:
        turn = weighted_turn([each.slot.member.weight for each in handles])
        return itertools.cycle([handles[place] for place in turn]).__next__

    def among(self, handles: Sequence[MemberHandle], _now: Now, chance: Chance, /) -> MemberHandle:
        sums = list(itertools.accumulate(each.slot.member.weight for each in handles))
        place = bisect.bisect_right(sums, chance() * sums[-1])
        return handles[min(place, len(handles) - 1)]


def weighted_turn(weights: Sequence[float]) -> list[int]:
    """Return an order of places in which each occurs in proportion to its weight, evenly spread."""
    exact = [Fraction(weight).limit_denominator(1000) for weight in weights]
    common = math.lcm(*(each.denominator for each in exact))
    counts = [int(each * common) for each in exact]
    counts = [count // (math.gcd(*counts) or 1) for count in counts]
    if sum(counts) > _LONGEST_CYCLE or 0 in counts:
        total = math.fsum(weights)
        counts = [max(1, round(weight / total * _LONGEST_CYCLE)) for weight in weights]
    turns = [
        ((turn + 0.5) / count, place) for place, count in enumerate(counts) for turn in range(count)
    ]
    return [place for _, place in sorted(turns)]


class LeastLatency:
    """The better one of two taken at random: peak latency times calls on their way."""

    def order(self, handles: Sequence[MemberHandle], now: Now, chance: Chance, /) -> Pick:
        count = len(handles)
        if count == 1:
            return itertools.repeat(handles[0]).__next__
        # Side by side, so that a pick among many touches little memory.
        latencies = [each.slot.latency for each in handles]
        flights = [each.flights for each in handles]

        def load(place: int, moment: float) -> float:
            flying = len(flights[place])
            latency = latencies[place]
            if flying and not latency.seconds:
                return _UNKNOWN
            return latency.read(moment) * (flying + 1)

        def pick() -> MemberHandle:
            one = int(chance() * count)
            other = int(chance() * (count - 1))
            other += other >= one
            moment = now()
            return handles[one if load(one, moment) <= load(other, moment) else other]

        return pick

    def among(self, handles: Sequence[MemberHandle], now: Now, chance: Chance, /) -> MemberHandle:
        return self.order(handles, now, chance)()


class UserSelection:
    """By a user's selector."""

    def __init__(self, selector: Selector) -> None:
        self._selector = selector

    def order(self, handles: Sequence[MemberHandle], _now: Now, _chance: Chance, /) -> Pick:
        names = [each.lease.member for each in handles]
        by_name = dict(zip(names, handles, strict=True))

        def pick() -> MemberHandle:
            name = self._selector.pick(names)
            if name not in by_name:
                raise ValueError(f"`select` must pick one of {names}, not {name!r}")
            return by_name[name]

        return pick

    def among(self, handles: Sequence[MemberHandle], now: Now, chance: Chance, /) -> MemberHandle:
        return self.order(handles, now, chance)()


def ramped(
    handles: Sequence[MemberHandle],
    order: Callable[[Sequence[MemberHandle]], Pick],
    now: Now,
    chance: Chance,
) -> Pick:
    """Return a pick that gives members in their ramp only a part of their share."""
    growing = frozenset(each.slot for each in handles if each.slot.share(now()) < 1)
    settled = [each for each in handles if each.slot not in growing]
    if not growing or not settled:
        return order(handles)
    everyone, others = order(handles), order(settled)

    def pick() -> MemberHandle:
        picked = everyone()
        slot = picked.slot
        if slot in growing and chance() >= slot.share(now()):
            return others()
        return picked

    return pick


STRATEGIES: dict[str, Strategy] = {
    "priority": Priority(),
    "round_robin": RoundRobin(),
    "weighted": Weighted(),
    "least_latency": LeastLatency(),
}


def strategy_of(select: object) -> Strategy:
    """Return the strategy for what users give as `select=`.

    Raises:
        TypeError: If it is neither a name nor has a method `pick`.
        ValueError: If there is no strategy of that name.
    """
    if isinstance(select, str):
        if select not in STRATEGIES:
            raise ValueError(
                f"`select` must be one of {', '.join(STRATEGIES)} or a Selector, not {select!r}"
            )
        return STRATEGIES[select]
    if isinstance(select, type) or not isinstance(select, Selector):
        raise TypeError(f"`select` must be a name or an object with `pick(names)`, not {select!r}")
    return UserSelection(select)
