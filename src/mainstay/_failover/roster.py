"""Who serves: which members get calls, who stands in for whom, who is to be started and stopped.

    member                                            then
    active, well and rested                           serves
    active, not well, resting or drained              is lost
    active, its share still growing                   serves, and is still stood in for
    standby, well                                     stands in for a lost one, while there is any:
                                                      who does so already, then hot before cold,
                                                      each in the order listed
    forced by the user                                serves alone, whatever else holds
    well, resting, and nobody else ready              serves nevertheless
    standby, well, and nobody else ready              serves too, if an active one is lost

Each active member has a post: the work that standbys take over from it. A pool that has no active
member left still has one, which is `VACANT`. Where a fence is asked, a standby `holds` the posts
that the fence has let it take over, and keeps them for as long as they are lost.

Who is to serve is `wanted`; of those, the ones that are ready do. A cold standby that is open and
not wanted is `surplus`. While nobody is ready and no active member is lost, as at the start, nobody
serves: calls wait for the active members, not for whoever is opened first.
"""

from collections.abc import Sequence
from typing import Literal

import attrs

VACANT = -1
"""The post of the last active member, when it has been taken out."""


@attrs.frozen
class Seat:
    """What the roster needs to know of a member.

    Attributes:
        standby: None, "hot" or "cold".
        well: Whether calls may be given to it.
        rested: Whether it need not be spared any more.
        whole: Whether it needs no standby beside it: its share has stopped growing.
        ready: Whether it is open.
        forced: Whether the user wants it and no other.
        holds: The posts that the fence has let a standby take over; None if no fence is asked.
    """

    standby: Literal["hot", "cold"] | None
    well: bool
    rested: bool = True
    whole: bool = True
    ready: bool = True
    forced: bool = False
    holds: frozenset[int] | None = None

    def may_do(self, posts: Sequence[int]) -> bool:
        """Whether it is open, and the fence lets it do *posts*, or any work if that is none."""
        cleared = self.holds is None or (bool(self.holds) and self.holds.issuperset(posts))
        return self.ready and cleared


@attrs.frozen
class Roster:
    """Who serves, as places in the list of seats.

    Attributes:
        serving: Who gets calls, the most preferred first.
        wanted: Who is to be started, if it is not ready.
        promoted: Which standbys stand in, each with the posts that it is to do.
        surplus: Which cold standbys are not needed.
    """

    serving: tuple[int, ...]
    wanted: tuple[int, ...]
    promoted: dict[int, tuple[int, ...]]
    surplus: tuple[int, ...]


def staff(seats: Sequence[Seat]) -> Roster:
    """Decide who serves."""
    places = range(len(seats))
    actives = [i for i in places if seats[i].standby is None]
    hot = [i for i in places if seats[i].standby == "hot"]
    cold = [i for i in places if seats[i].standby == "cold"]
    posts = actives or [VACANT]
    forced = [i for i in places if seats[i].forced]
    if forced:
        return _only(seats, forced, cold, posts)
    fit = [i for i in actives if seats[i].well and seats[i].rested]
    lost = [post for post in posts if post not in fit or not seats[post].whole]
    promoted = _stand_ins(seats, hot + cold, lost)
    stand_ins = [i for i in hot + cold if i in promoted]
    wanted = fit + stand_ins
    serving = [i for i in wanted if seats[i].may_do(promoted.get(i, ()))]
    if not serving:
        others = actives + (hot + cold if lost or not fit else [])
        others = [i for i in others if seats[i].well]
        serving = [i for i in others if seats[i].may_do(promoted.get(i, ()))]
    return Roster(
        serving=tuple(serving),
        wanted=tuple(dict.fromkeys([*wanted, *(i for i in actives + hot if seats[i].well)])),
        promoted=promoted,
        surplus=tuple(i for i in cold if i not in stand_ins and i not in serving),
    )


def _stand_ins(
    seats: Sequence[Seat], standbys: list[int], lost: list[int]
) -> dict[int, tuple[int, ...]]:
    """Give which standbys stand in, and for whom."""
    promoted = {}
    for i in standbys:
        kept = tuple(post for post in lost if post in (seats[i].holds or ()))
        if kept and seats[i].well:
            promoted[i] = kept
            lost = [post for post in lost if post not in kept]
    free = [i for i in standbys if seats[i].well and i not in promoted]
    return promoted | {i: (post,) for i, post in zip(free, lost, strict=False)}


def _only(seats: Sequence[Seat], forced: list[int], cold: list[int], posts: list[int]) -> Roster:
    promoted = {i: tuple(posts) for i in forced if seats[i].standby is not None}
    return Roster(
        serving=tuple(i for i in forced if seats[i].may_do(promoted.get(i, ()))),
        wanted=tuple(forced),
        promoted=promoted,
        surplus=tuple(i for i in cold if i not in forced),
    )
