"""Who serves: which members get calls, who stands in for whom, who is to be started and stopped.

    member                                            then
    active, well and rested                           serves
    active, not well, resting or drained              is lost
    active, its share still growing                   serves, and is still stood in for
    standby, well                                     stands in for a lost one, while there is any:
                                                      hot before cold, each in the order listed
    forced by the user                                serves alone, whatever else holds
    well, resting, and nobody else ready              serves nevertheless
    standby, well, and nobody else ready              serves too, if an active one is lost

Who is to serve is `wanted`; of those, the ones that are ready do. A cold standby that is open and
not wanted is `surplus`. While nobody is ready and no active member is lost, as at the start, nobody
serves: calls wait for the active members, not for whoever is opened first.
"""

from collections.abc import Sequence
from typing import Literal

import attrs


@attrs.frozen
class Seat:
    """What the roster needs to know of a member.

    Attributes:
        standby: None, "hot" or "cold".
        well: Whether calls may be given to it.
        rested: Whether it need not be spared any more.
        whole: Whether it needs no standby beside it: its share has stopped growing.
        ready: Whether it is open, and cleared by the fence if that is asked.
        forced: Whether the user wants it and no other.
    """

    standby: Literal["hot", "cold"] | None
    well: bool
    rested: bool = True
    whole: bool = True
    ready: bool = True
    forced: bool = False


@attrs.frozen
class Roster:
    """Who serves, as places in the list of seats.

    Attributes:
        serving: Who gets calls, the most preferred first.
        wanted: Who is to be started, if it is not ready.
        promoted: Which standbys stand in, each with the active member that it replaces.
        surplus: Which cold standbys are not needed.
    """

    serving: tuple[int, ...]
    wanted: tuple[int, ...]
    promoted: dict[int, int]
    surplus: tuple[int, ...]


def staff(seats: Sequence[Seat]) -> Roster:
    """Decide who serves."""
    places = range(len(seats))
    forced = [i for i in places if seats[i].forced]
    if forced:
        return _only(seats, forced)
    actives = [i for i in places if seats[i].standby is None]
    fit = [i for i in actives if seats[i].well and seats[i].rested]
    lost = [i for i in actives if i not in fit or not seats[i].whole]
    hot = [i for i in places if seats[i].standby == "hot"]
    cold = [i for i in places if seats[i].standby == "cold"]
    stand_ins = [i for i in hot + cold if seats[i].well][: len(lost)]
    wanted = fit + stand_ins
    serving = [i for i in wanted if seats[i].ready]
    if not serving:
        others = hot + cold if lost or not fit else []
        serving = [i for i in actives + others if seats[i].well and seats[i].ready]
    return Roster(
        serving=tuple(serving),
        wanted=tuple(dict.fromkeys([*wanted, *(i for i in actives + hot if seats[i].well)])),
        promoted=dict(zip(stand_ins, lost, strict=False)),
        surplus=tuple(i for i in cold if i not in stand_ins and i not in serving),
    )


def _only(seats: Sequence[Seat], forced: list[int]) -> Roster:
    cold = [i for i in range(len(seats)) if seats[i].standby == "cold"]
    return Roster(
        serving=tuple(i for i in forced if seats[i].ready),
        wanted=tuple(forced),
        promoted={i: i for i in forced if seats[i].standby is not None},
        surplus=tuple(i for i in cold if i not in forced),
    )
