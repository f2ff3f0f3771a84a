"""`CopyMembers`: the pool members at which the copies of one call run, and how the copies count.

The member of a copy is reserved when the copy is decided on, so that a hedge without a member is
not started; if the member is still being started, the copy waits for it. What the pool records:

    the copy                          its member
    answers                           has succeeded
    answers, and there is a vote      has succeeded or dissented, if the vote was decided with the
                                      answer; otherwise nobody says if it was right
    answers what `on_result` refuses  has failed
    fails                             has failed, if the `on` of the pool says so; a refusal, such
                                      as that of a breaker, is never counted
    takes longer than the pool's      is cancelled, and has failed
    `attempt_timeout`, in async code
    is cancelled since its caller     is released; it was silent for too long if the rule of late
    left, or the time was up          cancellations says so
    is cancelled, or interrupted      is released: neither better nor worse
    was never started                 is given back unused

What an answer is worth is known only when the call has ended, so that answers wait for it. Of the
pool's parameters those about its own calls do not apply: `attempts`, `timeout`, `budget`.
"""

import functools
import threading
from asyncio import CancelledError
from collections.abc import Callable, Collection
from typing import Any, TypeAlias

import attrs

from mainstay._core.call import hook_failed, predicate_failed, recorder_in
from mainstay._core.clock import Clock
from mainstay._core.context import CallContext, current_context
from mainstay._core.exceptions import is_refusal
from mainstay._core.failures import FAILING, Verdict
from mainstay._core.interrupts import limited
from mainstay._core.threads import Pause
from mainstay._core.words import described
from mainstay._failover.call import no_member
from mainstay._failover.engine import PoolEngine
from mainstay._failover.loops import require_loop
from mainstay._failover.members import Lease, LeaseEntry, MemberHandle, Slot, lease_here, set_lease
from mainstay._failover.pool import FailoverPool
from mainstay._failover.settings import POLICY, check_interruptible
from mainstay._metrics.pools import MemberRecorder
from mainstay._metrics.recorder import Recorder
from mainstay.errors import NoMemberError


class PoolMembers:
    """A pool whose members copies run at."""

    __slots__ = ("_engine",)

    def __init__(self, pool: object) -> None:
        if not isinstance(pool, FailoverPool):
            raise TypeError(f"`pool` must be a FailoverPool, not {pool!r}")
        self._engine = pool._engine  # noqa: SLF001 - hidden from users only

    @property
    def name(self) -> str:
        """The name of the pool."""
        return self._engine.settings.name

    @property
    def is_async(self) -> bool:
        """True if it can be used in async code only."""
        return self._engine.settings.is_async

    def names(self) -> tuple[str, ...]:
        """Return the names of the members that it has now, whatever their health."""
        return tuple(self._engine.slots)

    def check_interruptible(self, what: str) -> None:
        """Raise if the pool has an `attempt_timeout`, which *what*, being sync, cannot keep.

        Raises:
            TypeError: If the pool has one.
        """
        check_interruptible(self._engine.settings, what)

    def begin(self, *, votes: bool) -> "CopyMembers":
        """Return the members for one call, in its context.

        Raises:
            RuntimeError: If the pool belongs to another event loop.
        """
        if self.is_async:
            require_loop(self._engine)
        return CopyMembers(self._engine, current_context(), votes)


@attrs.define(eq=False)
class CopyMembers:
    """The members of one call, by copy; each is given to one copy at most.

    Attributes:
        over: True if the call has ended.
        cut_short: True if its copies are cancelled because its caller left, or its time was up.
    """

    _engine: PoolEngine
    _context: CallContext
    _votes: bool
    over: bool = attrs.field(default=False, init=False)
    cut_short: bool = attrs.field(default=False, init=False)
    _offers: "dict[int, Offer | Exception]" = attrs.field(factory=dict, init=False)
    _names: dict[int, str] = attrs.field(factory=dict, init=False)
    _lacking: set[int] = attrs.field(factory=set, init=False)
    _answered: set[int] = attrs.field(factory=set, init=False)
    _tried: list[Slot] = attrs.field(factory=list, init=False)
    _asked: set[str] = attrs.field(factory=set, init=False)
    _lock: threading.Lock = attrs.field(factory=threading.Lock, init=False)

    @property
    def on_result(self) -> Callable[[Any], object] | None:
        """What the pool asks about answers."""
        return self._engine.settings.on_result

    # Who runs where.

    def reserve(self, copy: int) -> bool:
        """Choose a member for a copy, once; True if there is or may soon be one."""
        if copy not in self._offers:
            self._ask(copy)
        return self._offers[copy] is not None

    def unreserve(self, copy: int) -> None:
        """Return the member of a copy that is not started to the pool."""
        self._names.pop(copy, None)
        loan = self._take_loan(copy)
        if loan is not None:
            loan.unused()

    def label(self, copy: int) -> int | str:
        """Return what stands for a copy in metrics and answers: its member, or else its number."""
        return self._names.get(copy, copy)

    def lacks(self, copy: int) -> bool:
        """True if there was no member for a copy."""
        return copy in self._lacking

    def lacking(self) -> int:
        """Return the number of copies for which there was no member."""
        return len(self._lacking)

    def _ask(self, copy: int) -> None:
        try:
            self._offers[copy] = offer = self.choose()
        except Exception as error:  # noqa: BLE001 - of a selector of the user's: fails the copy
            self._offers[copy] = error
            hook_failed(self._calls(), POLICY, self._engine.settings.name, "`select`", error)
            return
        if isinstance(offer, MemberLoan):
            self._names[copy] = offer.member

    def choose(self) -> "Offer":
        """Return a member that the call has not had, a pause before there may be one, or None."""
        engine, clock = self._engine, self._context.clock
        while True:
            choice = engine.choose(clock, tuple(self._tried), self._asked)
            if choice is None:
                return None
            if isinstance(choice, Pause):
                seconds = min(choice.seconds, self._context.left())
                return Pause(clock, seconds, choice.signal) if seconds > 0 else None
            with self._lock:
                if choice.slot not in self._tried:
                    self._tried.append(choice.slot)
                    return self._loan(choice)
            _give_back(engine, choice, clock.now())  # another copy of the call was faster

    def _loan(self, handle: MemberHandle) -> "MemberLoan":
        context, name = self._context, self._engine.settings.name
        recorder = handle.slot.recorder_in(context.metrics, name)
        return MemberLoan(self._engine, handle, context.clock, recorder, self._calls())

    def _calls(self) -> Recorder:
        engine = self._engine
        return recorder_in(self._context, engine.monitor.recorder, engine.settings.name)

    # The attempts, each in the thread or task of its copy.

    def call(self, copy: int, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Call *fn* with the resource of the member of a copy, once there is one.

        Raises:
            CancelledError: If the call ended meanwhile, which a waiting thread cannot know.
        """
        while isinstance(offer := self._offers[copy], Pause):
            offer.wait()
            if self.over:
                raise CancelledError
            self._ask(copy)
        loan = self._entered(copy, offer)
        try:
            return fn(loan.resource, *args, **kwargs)
        finally:
            loan.leave()

    async def acall(self, copy: int, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Call and await *fn* with the resource of the member of a copy, once there is one."""
        while isinstance(offer := self._offers[copy], Pause):
            await offer.await_()
            self._ask(copy)
        loan = self._entered(copy, offer)
        try:
            limit = self._engine.settings.attempt_timeout
            overdue = functools.partial(self._timed_out, copy, loan)
            value = await limited(
                self._context.clock, limit, fn(loan.resource, *args, **kwargs), overdue
            )
        finally:
            loan.leave()
        loan.answered()
        return value

    def _timed_out(self, copy: int, loan: "MemberLoan", limit: float) -> TimeoutError:
        """Return the exception of a copy that was cancelled after *limit* seconds."""
        loan.overdue = True
        where = f"copy {copy} at member {loan.member}"
        return TimeoutError(f"{self._engine.settings.name}: {where} took longer than {limit:.3f} s")

    def _entered(self, copy: int, offer: "MemberLoan | Exception | None") -> "MemberLoan":
        if isinstance(offer, Exception):
            raise offer
        if offer is None:
            self._lacking.add(copy)
            raise self.refusal()
        offer.enter()
        return offer

    def refusal(self) -> NoMemberError:
        """Return why there is no other member, with the reason of each."""
        return no_member(self._engine, self._context.clock.now(), called=self._tried)

    # What came of them.

    def answered(self, copy: int) -> None:
        """Record an answer, on which the vote is still to come."""
        self._answered.add(copy)

    def settle(self, dissenters: Collection[int] | None) -> None:
        """Report to the pool, at the end of the call, what came of the copies that have answered.

        Args:
            dissenters: Those that were outvoted; None if no vote was decided.
        """
        self.over = True
        answered, self._answered = self._answered, set()
        for copy in answered:
            self._judge(copy, dissenters)

    def late(self, copy: int) -> None:
        """Report to the pool an answer that came after the call was settled."""
        self._judge(copy, None)

    def _judge(self, copy: int, dissenters: Collection[int] | None) -> None:
        loan = self._take_loan(copy)
        if loan is None:
            return
        if dissenters is None and self._votes:
            loan.unjudged()
        elif dissenters is not None and copy in dissenters:
            loan.dissented()
        else:
            loan.succeeded()

    def failed(self, copy: int, error: Exception) -> None:
        """Report to the pool that a copy has failed by itself."""
        loan = self._take_loan(copy)
        if loan is not None:
            loan.failed(error)

    def is_overdue(self, copy: int) -> bool:
        """True if a copy that has failed took longer than the pool allows."""
        offer = self._offers.get(copy)
        return isinstance(offer, MemberLoan) and offer.overdue

    def refused(self, copy: int) -> None:
        """Report to the pool that the answer of a copy counts as a failure."""
        loan = self._take_loan(copy)
        if loan is not None:
            loan.refused()

    def released(self, copy: int) -> None:
        """Report to the pool that a copy has ended and nothing follows from that."""
        loan = self._take_loan(copy)
        if loan is not None:
            loan.released(cut_short=self.cut_short)

    def _take_loan(self, copy: int) -> "MemberLoan | None":
        """Remove and return the loan of a copy; the caller has to end the loan."""
        offer = self._offers.pop(copy, None)
        return offer if isinstance(offer, MemberLoan) else None


@attrs.define(eq=False)
class MemberLoan:
    """One member, lent to one copy.

    The attempt lies between `enter` and `leave`, in one thread or task. Afterwards, or instead,
    one of the other methods ends the loan, in any thread or task.

    Attributes:
        overdue: True if the attempt was ended because it took longer than the pool allows.
    """

    _engine: PoolEngine
    _handle: MemberHandle
    _clock: Clock
    _recorder: MemberRecorder
    _calls: Recorder  # of the pool
    overdue: bool = attrs.field(default=False, init=False)
    _began: float = attrs.field(init=False)
    _seconds: float | None = attrs.field(default=None, init=False)
    _outer: Lease[Any] | LeaseEntry | None = attrs.field(default=None, init=False)

    @property
    def member(self) -> str:
        """The member's name."""
        return self._handle.lease.member

    @property
    def resource(self) -> Any:
        """Its resource."""
        return self._handle.resource

    def enter(self) -> None:
        """Begin the attempt, and be the lease of the code that makes it."""
        self._outer = lease_here()
        set_lease(self._handle.lease)
        self._began = self._clock.now()

    def leave(self) -> None:
        """End the attempt: the member is not used any more, what came of it is still open."""
        set_lease(self._outer)
        self._seconds = self._clock.now() - self._began
        self._engine.done(self._handle)

    def answered(self) -> None:
        """Report how long an answer in async code took, whatever it is worth."""
        self._engine.answers.append(self._seconds or 0.0)

    def succeeded(self) -> None:
        """Report that the member has answered."""
        self._recorder.attempt("success")
        if self._handle.slot.inspected:
            now = self._clock.now()
            self._engine.succeeded(self._handle, now, self._seconds or 0.0)

    def dissented(self) -> None:
        """Report that the member has answered, and was outvoted."""
        self._recorder.attempt("success")
        self._engine.dissented(self._handle, self._clock.now())

    def unjudged(self) -> None:
        """Report that the member has answered, and that no vote says if it was right."""
        self._recorder.attempt("success")
        self._engine.released(self._handle, self._clock.now(), answered=True)

    def failed(self, error: Exception) -> None:
        """Report what the attempt has raised; the `on` of the pool says if that counts."""
        verdict: object = Verdict.MEMBER_FAILED
        outcome = "timeout"
        if not self.overdue:
            rejected = is_refusal(error)
            verdict = Verdict.TRY_ANOTHER if rejected else self._verdict(error)
            outcome = "rejected" if verdict is Verdict.TRY_ANOTHER else "error"
        self._recorder.attempt(outcome)
        if verdict in (Verdict.MEMBER_FAILED, FAILING):
            self._engine.failed(self._handle, self._clock.now())
        else:
            self._engine.released(self._handle, self._clock.now())

    def refused(self) -> None:
        """Report that the member has answered what counts as a failure."""
        self._recorder.attempt("error")
        self._engine.failed(self._handle, self._clock.now())

    def _verdict(self, error: Exception) -> object:
        settings = self._engine.settings
        try:
            return settings.verdict(error)
        except Exception as broken:  # noqa: BLE001 - must not hide the user's own exception
            what = f"`on` raised {described(broken)}"
            predicate_failed(self._calls, POLICY, settings.name, error, what)
            return Verdict.STOP

    def released(self, *, cut_short: bool) -> None:
        """Report that nothing is known of the attempt, but perhaps that the member is silent.

        Args:
            cut_short: True if the attempt was cancelled because its caller left, or its time was
                up: no other copy had won.
        """
        outcome = "cancelled"
        if self._seconds is None:  # cancelled before it could begin
            self.unused()
        elif cut_short:
            ended = self._began + self._seconds
            if self._engine.cancelled(self._handle, self._began, ended):
                outcome = "timeout"
        else:
            self._engine.released(self._handle, self._clock.now())
        self._recorder.attempt(outcome)

    def unused(self) -> None:
        """Report that there was no attempt."""
        _give_back(self._engine, self._handle, self._clock.now())


Offer: TypeAlias = MemberLoan | Pause | None
"""A member, a pause before there may be one, or None if there is none left."""


def _give_back(engine: PoolEngine, handle: MemberHandle, now: float) -> None:
    engine.released(handle, now)
    engine.done(handle)
