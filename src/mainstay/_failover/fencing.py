"""`Fencing`: which member may do which duty in a pool with a fence; other pools have none.

A standby may do a duty when the fence has returned for each member that did the duty before; until
then the standby gets no calls. A fenced member gets no calls until a probe, a trial or the user
readmits it. An active member that serves again does its own duty, even if another member did it.

    old did the duties of    after fence(old, new) has returned
    itself, b                new may do those of old and b; old is barred, new is not
    nobody                   nothing has changed hands; old is barred, new is not
"""

from collections.abc import Collection, Iterable, Mapping

import attrs

from mainstay._failover.members import Slot
from mainstay._failover.planner import MemberView


class Fencing:
    """Who may do each duty: the active member that it is named after, or a standby."""

    def __init__(self) -> None:
        self._holders: dict[str, str] = {}

    def join(self, name: str, others: Collection[str]) -> None:
        """Add the duty of a new active member beside *others*, the present members."""
        if not self._holders.keys() & others:
            self._holders.clear()  # it does the duty of the member that was removed last
        self._holders[name] = name

    def leave(self, name: str) -> None:
        """Forget the duty of a member that is removed, unless it is the only one."""
        if len(self._holders) > 1:
            self._holders.pop(name, None)

    def reset(self) -> None:
        """Assign each active member its own duty, as when the pool is opened."""
        self._holders = {duty: duty for duty in self._holders}

    def views(self, slots: Collection[Slot]) -> list[MemberView]:
        """Return what planning needs to know of the members, with what the fence allows."""
        return [self._view(slot, slots) for slot in slots]

    def _view(self, slot: Slot, slots: Collection[Slot]) -> MemberView:
        cleared = None
        if slot.member.standby is not None:
            cleared = frozenset(duty for duty, by in self._holders.items() if by == slot.name)
        taken_over = any(each.start and slot.name in each.start.replaces for each in slots)
        does_some = slot.name in self._holders.values()
        usable = does_some and not slot.barred and not taken_over
        return attrs.evolve(slot.view(), cleared=cleared, usable=usable)

    def asked_about(self, slot: Slot, duties: Iterable[str]) -> tuple[str, ...]:
        """Return whom the fence is to be asked about before a standby does *duties*."""
        if slot.member.standby is None:
            return ()
        holders = dict.fromkeys(self._holders[duty] for duty in duties)
        return tuple(holder for holder in holders if holder != slot.name)

    def take_over(self, new: Slot, old: str, slots: Mapping[str, Slot]) -> None:
        """Make a standby do all that *old* did, which is fenced off."""
        for duty, holder in self._holders.items():
            if holder == old:
                self._holders[duty] = new.name
        if old in slots:
            slots[old].barred = True
        new.barred = False

    def hand_back(self, serving: Iterable[Slot]) -> bool:
        """Hand their own duties back to active members that serve; True if another did one."""
        back = [slot for slot in serving if slot.member.standby is None and self.is_displaced(slot)]
        for slot in back:
            self._holders[slot.name] = slot.name
            slot.barred = False
        return bool(back)

    def is_displaced(self, slot: Slot) -> bool:
        """True if another member does its duty, or it is fenced off."""
        return slot.barred or self._holders.get(slot.name, slot.name) != slot.name
