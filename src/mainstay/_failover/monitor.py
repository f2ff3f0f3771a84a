"""`PoolMonitor`: what users see of a pool: its events, its metrics, and its status.

The engine reports here everything that happens to a member: it is counted, logged, and passed to
listeners. Events wait in the outbox until the lock of the pool is free.
"""

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

import attrs

from mainstay._core.clock import SYSTEM, Clock
from mainstay._core.context import current_context
from mainstay._core.detector import Phase
from mainstay._core.events import (
    Event,
    Listener,
    ListenerFailed,
    is_first,
    is_observed,
    logger_of,
    notify,
    publish,
)
from mainstay._core.exceptions import is_a
from mainstay._core.health import HealthReport, HealthState
from mainstay._core.threads import values_now
from mainstay._failover.hooks import UnhealthyError, UnknownHealthError
from mainstay._failover.members import Slot
from mainstay._failover.outbox import Outbox
from mainstay._failover.planner import Switch
from mainstay._failover.settings import POLICY
from mainstay._metrics.collector import Metrics, recorders_of
from mainstay._metrics.pools import SwitchRecorder
from mainstay._metrics.schema import MEMBER_STATE
from mainstay.availability import Availability, follow
from mainstay.events import (
    MemberBroken,
    MemberEjected,
    MemberFailing,
    MemberReadmitted,
    PoolSwitched,
    StandbyStarted,
)

if TYPE_CHECKING:
    from mainstay._metrics.recorder import Recorder


@attrs.frozen
class MemberStatus:
    """The status of one member.

    Attributes:
        name: The name of the member.
        state: The state, as in the metric `member_state`.
        open: True if the member has a resource at the moment.
        in_flight: The number of calls that use the member.
        score: The score of the detector, from 0.0 (no failures) to 1.0 (ejected).
        cause: Why the member is ejected or failing; None if it is well.
        seconds: The time until the trial of an ejected member; None if it is not ejected.
        error: The exception of the last start of the member; None if that succeeded.

    Example:
        >>> from mainstay import FailoverPool, Member
        >>> pool = FailoverPool("db", [Member("a", "connection")], on=OSError)
        >>> [status] = pool.status().members
        >>> status.name, status.state, status.in_flight
        ('a', 'active', 0)
    """

    name: str
    state: str
    open: bool
    in_flight: int
    score: float
    cause: str | None
    seconds: float | None
    error: Exception | None


@attrs.frozen
class PoolStatus:
    """The status of a pool.

    Attributes:
        name: The name of the pool.
        members: The status of each member, in the order of the pool.
        serving: The names of the members that get calls, the most preferred first.
        epoch: The number of switches to another member so far.
        forced: The name of the member that `force` chose, or None.
        down: True if no member is well.

    Example:
        >>> from mainstay import FailoverPool, Member
        >>> pool = FailoverPool("db", [Member("a", 1), Member("b", 2)], on=OSError)
        >>> pool.call(lambda number: number + 1)
        2
        >>> pool.status().serving, pool.status().down
        (('a', 'b'), False)
    """

    name: str
    members: tuple[MemberStatus, ...]
    serving: tuple[str, ...]
    epoch: int
    forced: str | None
    down: bool


def member_status(slot: Slot, now: float) -> MemberStatus:
    """Return the status of a member."""
    detector = slot.detector
    ejected = detector.phase in (Phase.EJECTED, Phase.TRIAL)
    return MemberStatus(
        name=slot.name,
        state=slot.state(now),
        open=slot.opened is not None,
        in_flight=0 if slot.opened is None else len(slot.opened.flights),
        score=1.0 if ejected else detector.score / detector.detect.threshold,
        cause=None if detector.phase is Phase.WELL else detector.cause,
        seconds=max(0.0, detector.until - now) if ejected else None,
        error=slot.start_error,
    )


class PoolMonitor:
    """Counts what happens in a pool, and publishes it as events.

    Attributes:
        recorder: Where the pool's calls are recorded.
        clock: That of the last call.
    """

    def __init__(self, name: str, metrics: Metrics, slots: dict[str, Slot], outbox: Outbox) -> None:
        self.name = name
        self.metrics = metrics
        self.recorder: Recorder = recorders_of(metrics).calls(name, POLICY)
        self.clock: Clock = SYSTEM
        self._slots = slots
        self._outbox = outbox
        self._listeners: dict[object, Listener] = {}
        self._availability = Availability(name, metrics=metrics)
        self._state: HealthState = "ok"
        self._since = current_context().clock.now()
        self._switches().show_outages()
        self.follow()

    def follow(self) -> None:
        """Show the states of the members from now on; in a forked process, in files of its own."""
        self._gauge = recorders_of(self.metrics).follow(MEMBER_STATE, self.name, self)
        self._gauge.changed()

    def states(self) -> dict[str, str]:
        """Return the state of each member, as metrics name it."""
        now = self.clock.now()
        return {slot.name: slot.state(now) for slot in values_now(self._slots)}

    def is_down(self) -> bool:
        """True if no member is well."""
        return not any(
            slot.detector.phase is Phase.WELL and slot.well for slot in values_now(self._slots)
        )

    def health(self, *, probed: bool) -> HealthReport:
        """Return the health of the pool.

        Calls may be sent to one that is down where nothing but a call finds out if a member is
        well again; else it would stay down for want of calls.
        """
        now = self.clock.now()
        is_ready = self._state != "down" or (
            not probed
            and any(
                slot.detector.phase is not Phase.WELL
                and not (slot.draining or slot.barred)
                and slot.detector.may_be_tried(now)
                for slot in values_now(self._slots)
            )
        )
        return HealthReport(self.name, POLICY, self._state, now - self._since, is_ready=is_ready)

    def _present_state(self, *, down: bool) -> HealthState:
        if down:
            return "down"
        failing = any(slot.detector.phase is not Phase.WELL for slot in values_now(self._slots))
        return "failing" if failing else "ok"

    def refresh(self) -> None:
        """Show what the states of the members are now, and if the pool is down."""
        down = self.is_down()
        state = self._present_state(down=down)
        if state != self._state:
            self._state, self._since = state, self.clock.now()
        follow(self._availability, self.is_down)
        self._outbox.add(self._gauge.changed)

    # What happens to members.

    def ejected(self, slot: Slot, seconds: float, now: float) -> None:
        """Report that a member was ejected, *seconds* after its failures began."""
        cause = slot.detector.cause
        slot.recorder_in(current_context().metrics, self.name).ejected(cause)
        self._switches().detected(seconds)
        self._publish_later(MemberEjected(self.name, slot.name, cause, slot.detector.until - now))

    def failing(self, slot: Slot) -> None:
        """Report that a member fails and serves on."""
        self._publish_later(MemberFailing(self.name, slot.name, slot.detector.cause))

    def readmitted(self, slot: Slot) -> None:
        """Report that a member is well again."""
        outage = slot.detector.outage
        if outage:
            self._switches().recovered(outage)
        self._publish_later(MemberReadmitted(self.name, slot.name, outage))

    def opened(self, slot: Slot, seconds: float) -> None:
        """Report that a member is ready, if it is a standby."""
        if slot.member.standby is not None:
            self._switches().standby_started(seconds)
            self._publish_later(StandbyStarted(self.name, slot.name, seconds))

    def broken(self, member: str, what: str, error: BaseException) -> None:
        """Report that something that the user gave for a member has failed."""
        self._publish_later(MemberBroken(self.name, member, what, error))

    def probed(self, slot: Slot, error: Exception | None) -> None:
        """Report that a probe has failed for the first time in a row, or could not tell."""
        if is_a(error, UnknownHealthError):
            self._unknown(slot, error)
        elif error is not None and not slot.bad_probes and not is_a(error, UnhealthyError):
            self.broken(slot.name, "probe", error)

    def _unknown(self, slot: Slot, error: UnknownHealthError) -> None:
        """Log why nobody knows how a member is: aloud once for each kind of reason."""
        is_new = is_first(POLICY, self.name, "probe", error.kind)
        level, text = logging.WARNING if is_new else logging.DEBUG, str(error)
        line = "%s: probe of member %s does not know: %s"
        self._outbox.add(lambda: logger_of(POLICY).log(level, line, self.name, slot.name, text))

    def close_failed(self, member: str, what: str, error: BaseException) -> None:
        """Report that a `close` failed, at once, since it does not run under the lock."""
        self.publish(MemberBroken(self.name, member, what, error))

    def switched(self, switch: Switch, epoch: int) -> None:
        """Report that new calls go to another member."""
        self._switches().switched(switch.old, switch.new, switch.reason)
        self._publish_later(PoolSwitched(self.name, switch.old, switch.new, switch.reason, epoch))

    def _publish_later(self, event: Event) -> None:
        self._outbox.add(lambda: self.publish(event))

    def _switches(self) -> SwitchRecorder:
        return recorders_of(current_context().metrics or self.metrics).switches(self.name)

    # Log, listeners and gauges.

    def is_observed(self, level: int) -> bool:
        """True if an event of *level* would reach anybody."""
        return bool(self._listeners) or is_observed(POLICY, level)

    def publish(self, event: Event, failed: ListenerFailed | None = None) -> None:
        """Log an event and pass it to the listeners, those of this pool too.

        Args:
            event: What happened.
            failed: Called with each listener that raised, and its exception; None for the recorder
                of the context.
        """
        if failed is None:
            here = current_context().metrics
            recorder = recorders_of(here).calls(self.name, POLICY) if here else self.recorder
            failed = recorder.listener_failed
        publish(event, failed)
        for listener in values_now(self._listeners):
            notify(listener, event, failed)

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Pass every event to *listener*, until the function that is returned is called."""
        registration = object()  # one of its own, so that a function may listen twice
        self._listeners[registration] = listener

        def stop() -> None:
            self._listeners.pop(registration, None)

        return stop
