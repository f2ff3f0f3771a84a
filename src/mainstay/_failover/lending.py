"""Lends the members of a pool to another policy, as `mainstay._core.members` says."""

from collections.abc import Collection
from typing import Any

from mainstay._core.ambient import Ambient, surroundings
from mainstay._failover.core import Core, Wait
from mainstay._failover.loops import require_loop
from mainstay._failover.members import Session, Slot
from mainstay._metrics.collector import member_recorder_of


class PoolLender:
    """Lends the members of one pool."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def lend(self, without: Collection[str]) -> "PoolLoan | None":
        """Lend a member whose name is not in *without*; None if there is none left."""
        ambient, asked = surroundings(), set[Slot]()
        while isinstance(choice := self._choose(ambient, without, asked), Wait):
            if choice.signal is None:
                ambient.clock.sleep(choice.seconds)
            else:
                choice.signal.wait(ambient.clock, choice.seconds)
        return None if choice is None else PoolLoan(self._core, choice, ambient)

    async def alend(self, without: Collection[str]) -> "PoolLoan | None":
        """Lend a member in async code."""
        require_loop(self._core)
        ambient, asked = surroundings(), set[Slot]()
        while isinstance(choice := self._choose(ambient, without, asked), Wait):
            if choice.signal is None:
                await ambient.clock.asleep(choice.seconds)
            else:
                await choice.signal.await_(ambient.clock, choice.seconds)
        return None if choice is None else PoolLoan(self._core, choice, ambient)

    def _choose(
        self, ambient: Ambient, without: Collection[str], asked: set[Slot]
    ) -> Session | Wait | None:
        slots = [slot for name, slot in tuple(self._core.slots.items()) if name in without]
        choice = self._core.choose(ambient.clock, slots, asked)
        if not isinstance(choice, Wait):
            return choice
        seconds = min(choice.seconds, ambient.left())
        return Wait(seconds, choice.signal) if seconds > 0 else None


class PoolLoan:
    """One member, lent for one attempt."""

    def __init__(self, core: Core, session: Session, ambient: Ambient) -> None:
        self.member = session.lease.member
        self.resource: Any = session.resource
        self._core = core
        self._session = session
        self._clock = ambient.clock
        self._began = ambient.clock.now()
        self._recorder = (
            session.slot.recorder
            if ambient.metrics is None
            else member_recorder_of(ambient.metrics, core.rules.name, self.member)
        )

    def succeeded(self) -> None:
        """Tell that the member has answered."""
        now = self._clock.now()
        self._recorder.attempt("success")
        if self._session.slot.watched:
            self._core.succeeded(self._session, now, now - self._began)
        self._core.done(self._session)

    def failed(self, _error: Exception) -> None:
        """Tell that the attempt has raised what counts against the member."""
        self._recorder.attempt("error")
        self._core.failed(self._session, self._clock.now())
        self._core.done(self._session)

    def dissented(self) -> None:
        """Tell that the member has answered, and was outvoted."""
        self._recorder.attempt("success")
        self._core.dissented(self._session, self._clock.now())
        self._core.done(self._session)

    def released(self) -> None:
        """Tell that nothing is known of the attempt."""
        self._recorder.attempt("cancelled")
        self._core.released(self._session, self._clock.now())
        self._core.done(self._session)
