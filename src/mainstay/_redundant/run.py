"""One redundant call while it is open: what both loops do in the same way.

Each copy ends once: before the call is settled that is an event (`answered`, `failed`), afterwards
it is late (`late`, `waste`). What it leads to is done at once by `_launch` and `_settled`, which
the two kinds have each in its own way. How the call ends is in `ending`.
"""

import logging
from typing import Any

from mainstay._core.budget import spend
from mainstay._core.events import is_observed, publish
from mainstay._core.failures import described
from mainstay._redundant.decision import Denial, reason_of
from mainstay._redundant.ending import Ending
from mainstay._redundant.rules import POLICY
from mainstay.events import HedgeStarted, RedundantReason


class Call(Ending):
    """One call, and what happens to its copies."""

    __slots__ = ()

    # What the kinds do in their own way.

    def _place(self, *, extra: bool) -> Any:
        """Find where a copy can run, a hedge if *extra*; None if nowhere."""
        raise NotImplementedError

    def _leave(self, place: Any) -> None:
        """Give such a place back unused."""

    def _launch(self, copy: int, place: Any) -> None:
        """Start a copy there."""
        raise NotImplementedError

    def _settled(self) -> None:
        """Stop what runs, and wake the caller."""
        raise NotImplementedError

    # Copies start.

    def start(self, place: Any) -> None:
        """Start the next copy."""
        copy = self.round.start()
        self._began[copy] = self.context.clock.now()
        self._launch(copy, place)

    def start_owed(self, copies: int) -> None:
        """Start copies that the vote cannot do without, as many as there is room for."""
        round_ = self.round
        # A copy in the caller's thread has ended when `start` returns, and may have started more.
        end = min(round_.made + copies, round_.most)
        while round_.made < end and not self.settled:
            place = self._place(extra=False)
            if place is None:
                self._short = end - round_.made
                return
            self.start(place)

    def _start_missing(self, owed: int) -> bool:
        """Start so many copies, and those for which there was no room; say if there were any."""
        copies = max(owed, self._short) if self.round.spare() else 0
        self._short = 0
        self.start_owed(copies)
        return copies > 0

    def hedge(self, reason: str) -> bool:
        """Start one more copy, unless something forbids it; say whether it was started."""
        if not self.round.spare():
            return False
        denial, place = self._denied()
        self._denial = denial
        if denial is not None:
            if denial != "no_member":  # then there is no such copy that could be denied
                self.copies.denied(denial)
            return False
        self.copies.hedged(reason)
        if is_observed(POLICY, logging.INFO):
            component = self.recorder.component
            event = HedgeStarted(component, self.round.made, self.elapsed(), reason)
            publish(event, self.recorder.listener_failed)
        self.start(place)
        return True

    def _denied(self) -> tuple[Denial | None, Any]:
        if self.left() <= 0:
            return "deadline", None
        place = self._place(extra=True)
        if place is None:
            return "threads", None
        members, copy = self.members, self.round.made
        if members is not None and not members.reserve(copy):
            self._leave(place)
            return "no_member", None
        budget = self.bound.rules.budget
        if budget is not None:
            self.bound.shared.catch_up()
            self._observe()
            if not spend(budget):
                self._leave(place)
                if members is not None:
                    members.unreserve(copy)
                return "budget", None
        return None, place

    # Copies end.

    def answered(self, copy: int, answer: Any) -> None:
        """Take the answer of a copy to the vote, and do what follows."""
        round_ = self.round
        self._ended[copy] = self.context.clock.now()
        if self.members is not None:
            self.members.answered(copy)
        try:
            round_.answered(copy, answer)
            owed = round_.owed()
        except Exception as error:  # noqa: BLE001 - of a `key` or rule of the user's
            self._broken(error, f"the answer of copy {copy}")
            return
        self._start_missing(owed)
        self._go_on()

    def failed(self, copy: int, error: BaseException) -> None:
        """Take the failure of a copy to the vote, and do what follows."""
        round_ = self.round
        self._ended[copy] = self.context.clock.now()
        if not isinstance(error, Exception):
            round_.running.discard(copy)
            self._member_released(copy)
            self.end(error, None)
            return
        lacking = self.members is not None and self.members.lacks(copy)
        if lacking:
            self._denial = "no_member"
        else:
            self.recorder.error(error)
            self._member_failed(copy, error)
            if not self._counts(error):
                round_.running.discard(copy)
                self.end(error, "not_retryable")
                return
        try:
            round_.failed(copy, error)
            owed = round_.owed() if self.bound.rules.votes and not lacking else 0
        except Exception as broken:  # noqa: BLE001 - of a rule of the user's
            broken.__context__ = broken.__context__ or error
            self._broken(broken, f"the failure of copy {copy}")
            return
        if not self._start_missing(owed) and not lacking:
            self.hedge("failed")
        self._go_on()

    def _broken(self, error: Exception, what: str) -> None:
        """End the call with what a rule raised."""
        self._note(error, f"raised while {what} was counted")
        self.end(error, "not_retryable")

    def _go_on(self) -> None:
        """Settle the call if its end is certain by now."""
        round_ = self.round
        if self.settled:
            return
        if round_.state == "decided":
            self.settled = True
            self._settled()
        elif round_.state == "impossible" or round_.stuck():
            lacking = self._denial == "no_member"
            reason = reason_of(round_, self._denial if lacking or round_.stuck() else None)
            self.end(self._sum_up(), reason)

    def expire(self) -> None:
        """End the call because its time is up: what still runs has failed."""
        if self.settled:
            return
        seconds = self.elapsed()
        for copy in sorted(self.round.running):
            name = self.recorder.component
            error = TimeoutError(f"{name}: copy {copy} was still running after {seconds:.3f} s")
            self.recorder.error(error)
            self.round.errors[copy] = error
            self._ended[copy] = self.started + seconds
        self.end(self._sum_up(), "timeout")

    def end(self, error: BaseException, reason: RedundantReason | None) -> None:
        """Settle the call: it raises *error*. No reason means that it was cancelled."""
        self._failure = error
        self._reason = reason
        self.settled: bool = True
        self._settled()

    def late(self, copy: int, answer: Any) -> None:
        """Take an answer that came when the call was settled."""
        if self.members is not None:
            self.members.late(copy)
        self._wasted(copy)
        self.dispose([answer])

    def failed_late(self, copy: int, error: BaseException) -> None:
        """Take a failure that came by itself when the call was settled."""
        if isinstance(error, Exception):
            self._member_failed(copy, error)
        else:
            self._member_released(copy)
        self._wasted(copy)

    def given_up(self, copy: int) -> None:
        """Take note that a copy was stopped because the call was settled."""
        self._member_released(copy)
        self._wasted(copy)

    def _wasted(self, copy: int) -> None:
        """Record how long a copy ran in vain."""
        self.copies.wasted(self.context.clock.now() - self._began.get(copy, self.started))

    def _member_failed(self, copy: int, error: Exception) -> None:
        """Tell the pool, if there is one, that a copy has failed by itself."""
        if self.members is not None and not self._is_misuse(error):
            self.members.failed(copy, error)
        else:
            self._member_released(copy)

    def _member_released(self, copy: int) -> None:
        """Tell the pool, if there is one, that a copy has ended and nothing follows from that."""
        if self.members is not None:
            self.members.released(copy)

    def _is_misuse(self, error: Exception) -> bool:
        """Whether *error* is ours, about a function that turned out to be no plain one."""
        return any(error is misuse for misuse in self._misuses)

    def _counts(self, error: Exception) -> bool:
        """Ask `on` whether *error* is a failure of the copy."""
        if self._is_misuse(error):
            return False
        try:
            verdict = self.bound.rules.judge(error)
        except Exception as broken:  # noqa: BLE001 - must not hide the user's own exception
            self._note(error, f"`on` raised {described(broken)}, so it counts as no failure")
            return False
        if verdict is True or verdict is False:
            return verdict
        self._note(error, f"`on` must answer True or False, not {verdict!r}")
        return False
