"""Lends the members of a pool to another policy, as `mainstay._core.members` says.

Of the pool's parameters those about calls do not apply to loans: `attempts`, `timeout`, `budget`.
"""

import threading
from typing import Any

from mainstay._core.context import CallContext, current_context
from mainstay._core.failures import Verdict, described, leave_note
from mainstay._core.members import Offer
from mainstay._core.threads import Pause
from mainstay._failover.calls import no_member, require_loop
from mainstay._failover.engine import PoolEngine
from mainstay._failover.members import Lease, MemberHandle, Slot, lease_here, set_lease
from mainstay._failover.settings import POLICY
from mainstay._metrics.collector import member_recorder_of
from mainstay.errors import AllMembersFailedError


class PoolLender:
    """Lends the members of one pool."""

    def __init__(self, core: PoolEngine) -> None:
        self._core = core

    @property
    def name(self) -> str:
        """The name of the pool."""
        return self._core.settings.name

    @property
    def is_async(self) -> bool:
        """Whether it can be used in async code only."""
        return self._core.settings.is_async

    def members(self) -> tuple[str, ...]:
        """Give the names of the members that it has now, whatever their health."""
        return tuple(self._core.slots)

    def begin(self) -> "PoolLoans":
        """Begin to lend to a call, in its context."""
        if self.is_async:
            require_loop(self._core)
        return PoolLoans(self._core, current_context())


class PoolLoans:
    """The members for one call."""

    def __init__(self, core: PoolEngine, context: CallContext) -> None:
        self._core = core
        self._ambient = context
        self._lent: list[Slot] = []
        self._asked: set[str] = set()
        self._lock = threading.Lock()

    def lend(self) -> Offer:
        """Lend a member that the call has not had."""
        core, clock = self._core, self._ambient.clock
        while True:
            choice = core.choose(clock, tuple(self._lent), self._asked)
            if choice is None:
                return None
            if isinstance(choice, Pause):
                seconds = min(choice.seconds, self._ambient.left())
                return Pause(clock, seconds, choice.signal) if seconds > 0 else None
            with self._lock:
                if choice.slot not in self._lent:
                    self._lent.append(choice.slot)
                    return PoolLoan(core, choice, self._ambient)
            _give_back(core, choice, clock.now())  # another copy of the call was faster

    def nobody(self) -> AllMembersFailedError:
        """Say why there was none."""
        return no_member(self._core, self._ambient.clock.now(), called=self._lent)


class PoolLoan:
    """One member, lent for one attempt."""

    def __init__(self, core: PoolEngine, session: MemberHandle, context: CallContext) -> None:
        self.member: str = session.lease.member
        self.resource: Any = session.resource
        self._core = core
        self._session = session
        self._clock = context.clock
        self._began = context.clock.now()
        self._seconds: float | None = None
        self._outer: Lease[Any] | None = None
        self._recorder = (
            session.slot.recorder
            if context.metrics is None
            else member_recorder_of(context.metrics, core.settings.name, self.member)
        )

    def enter(self) -> None:
        """Begin the attempt, and be the lease of the code that makes it."""
        self._outer = lease_here()
        set_lease(self._session.lease)
        self._began = self._clock.now()

    def leave(self) -> None:
        """End the attempt: the member is not used any more, what came of it is still open."""
        set_lease(self._outer)
        self._seconds = self._clock.now() - self._began
        self._core.done(self._session)

    def succeeded(self) -> None:
        """Tell that the member has answered."""
        self._recorder.attempt("success")
        if self._session.slot.inspected:
            now = self._clock.now()
            self._core.succeeded(self._session, now, self._seconds or 0.0)

    def dissented(self) -> None:
        """Tell that the member has answered, and was outvoted."""
        self._recorder.attempt("success")
        self._core.dissented(self._session, self._clock.now())

    def unjudged(self) -> None:
        """Tell that the member has answered, and that no vote says if rightly."""
        self._recorder.attempt("success")
        self._core.released(self._session, self._clock.now())

    def failed(self, error: Exception) -> None:
        """Tell what the attempt has raised; whether that counts against the member says `on`."""
        verdict = self._verdict(error)
        self._recorder.attempt("rejected" if verdict is Verdict.TRY_ANOTHER else "error")
        if verdict is Verdict.MEMBER_FAILED:
            self._core.failed(self._session, self._clock.now())
        else:
            self._core.released(self._session, self._clock.now())

    def _verdict(self, error: Exception) -> Verdict:
        try:
            return self._core.settings.verdict(error)
        except Exception as broken:  # noqa: BLE001 - must not hide the user's own exception
            text = f"`on` raised {described(broken)}, so the exception counts as not matched"
            leave_note(error, f"mainstay.{POLICY} {self._core.settings.name}", text)
            return Verdict.STOP

    def released(self) -> None:
        """Tell that nothing is known of the attempt."""
        self._recorder.attempt("cancelled")
        if self._seconds is None:  # cancelled before it could begin
            self.unused()
        else:
            self._core.released(self._session, self._clock.now())

    def unused(self) -> None:
        """Tell that there was no attempt."""
        _give_back(self._core, self._session, self._clock.now())


def _give_back(core: PoolEngine, session: MemberHandle, now: float) -> None:
    core.released(session, now)
    core.done(session)
