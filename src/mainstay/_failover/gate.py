"""The state of a circuit breaker, behind one short lock: the health of what it protects.

Calls read `shut` and `generation` without the lock. Only what changes something takes it.
"""

import logging
import math
import random
import threading
from typing import ClassVar, Literal, TypeAlias

import attrs

from mainstay._core.ambient import surroundings
from mainstay._core.clock import SYSTEM, Clock
from mainstay._core.events import Event, publish
from mainstay._failover.health import Cause, Change, Health, Limits, Phase
from mainstay._metrics.collector import Metrics, follow, recorder_of, switch_recorder_of
from mainstay._metrics.schema import BREAKER_STATE
from mainstay.availability import Availability
from mainstay.errors import CircuitOpenError

POLICY = "breaker"

BreakerState: TypeAlias = Literal["closed", "open", "half_open"]

LOGGER = logging.getLogger("mainstay.breaker")

_chance = random.random


@attrs.frozen
class BreakerChanged(Event):
    """A circuit breaker has changed its state.

    Attributes:
        from_state: As in `breaker_transitions_total`.
        to_state: As in `breaker_transitions_total`.
        cause: Why it is open, as in `ejections_total`; None if it is not, or was opened by hand.
    """

    policy: ClassVar[str] = POLICY
    kind: ClassVar[str] = "breaker_changed"
    from_state: BreakerState
    to_state: BreakerState
    cause: Cause | None

    @property
    def level(self) -> int:
        """WARNING when it opens, INFO otherwise."""
        return logging.WARNING if self.to_state == "open" else logging.INFO

    def __str__(self) -> str:
        why = f" ({self.cause})" if self.cause else ""
        return f"{self.component}: {self.from_state} -> {self.to_state}{why}"


class Gate:
    """Lets calls through, or not.

    Attributes:
        name: The name of the breaker.
        limits: When it opens.
        health: How well what it protects is.
        metrics: Where it records.
        recorder: Where its calls are recorded.
        shut: Whether a call has to ask before it may go through.
        shut_until: Until when no call may, in seconds of the clock, whoever asks.
        watched: Whether a success has to be looked at, since it may change something.
        held: Whether it was opened by hand.
    """

    def __init__(self, name: str, limits: Limits, metrics: Metrics) -> None:
        self.name = name
        self.limits = limits
        self.metrics = metrics
        self.recorder = recorder_of(metrics, name, POLICY)
        self.health = Health(limits)
        self.shut = False
        self.shut_until = -math.inf
        self.held = False
        self._counts_slow = limits.slow < math.inf
        self.watched = self._counts_slow
        self._state: BreakerState = "closed"
        self._clock: Clock = SYSTEM
        self._lock = threading.RLock()  # a signal handler may come back in on the same thread
        self._availability = Availability(name, metrics=metrics)
        self._shown = follow(metrics, BREAKER_STATE, name, self)
        self._shown.changed()

    # Calls.

    def admit(self, now: float) -> int:
        """Let a call through; give the generation that its result belongs to.

        Raises:
            CircuitOpenError: If it may not go through.
        """
        health = self.health
        with self._lock:
            if health.phase is Phase.WELL:
                return health.generation
            health.expire(now, _chance())
            if self.held or not health.trial_due(now):
                raise CircuitOpenError(self.name, self.retry_after(now))
            health.begin_trial(now)
            generation = health.generation
            event = self._changed()
        self._tell(event)
        return generation

    def rejected(self, now: float) -> CircuitOpenError:
        """Record that a call may not go through; give what it raises."""
        self.recorder.rejected()
        # As `retry_after` says, but without the calls: a service that is down sees many of these.
        until = self.shut_until
        return CircuitOpenError(self.name, until - now if until < math.inf else None)

    def retry_after(self, now: float) -> float | None:
        """Give the seconds until a call may be let through; None if it was opened by hand."""
        return None if self.held else max(0.0, self.health.until - now)

    def succeeded(self, generation: int, now: float, seconds: float) -> None:
        """Take in an answer."""
        with self._lock:
            slow = seconds > self.limits.slow
            change = self.health.succeeded(generation, now, _chance(), slow=slow)
            event = self._take_in(change, now)
        self._tell(event)

    def failed(self, generation: int, now: float) -> None:
        """Take in a failure."""
        with self._lock:
            event = self._take_in(self.health.failed(generation, now, _chance()), now)
        self._tell(event)

    def released(self, generation: int, now: float) -> None:
        """Take in that a call ended in a way that says nothing about what it called."""
        with self._lock:
            self.health.release(generation, now)
            event = self._changed()
        self._tell(event)

    # By hand.

    def open(self) -> None:
        """Let no call through until `close`."""
        now = surroundings().clock.now()
        with self._lock:
            self.held = True
            # A new generation, so that a trial on its way cannot close it.
            self.health.eject("consecutive", now, _chance())
            event = self._changed()
        self._tell(event)

    def close(self) -> None:
        """Let all calls through, as if nothing had happened."""
        with self._lock:
            self.held = False
            # A generation of its own, so that calls of the one before change nothing.
            self.health = Health(self.limits, generation=self.health.generation + 1)
            event = self._changed()
        self._tell(event)

    # What is seen of it.

    def state(self, now: float) -> BreakerState:
        """Give the state; half open is also one that would let the next call through."""
        if self.health.phase is Phase.WELL:
            return "closed"
        if self.held:
            return "open"
        trial = self.health.phase is Phase.TRIAL or now >= self.health.until
        return "half_open" if trial else "open"

    def states(self) -> dict[str, str]:
        """Give the state as metrics name it."""
        return {"": self.state(self._clock.now())}

    def anew(self) -> None:
        """Go on in a forked process: with a lock and files of its own."""
        self._lock = threading.RLock()
        self._shown = follow(self.metrics, BREAKER_STATE, self.name, self)
        self._shown.changed()

    def _take_in(self, change: Change | None, now: float) -> BreakerChanged | None:
        if change is Change.OVERSTEPPED:
            self.health.eject(self.health.cause, now, _chance())
        event = self._changed()
        self.watched = self._counts_slow or not self.health.spotless
        return event

    def _changed(self) -> BreakerChanged | None:
        """Note a change of the state; give the event to tell once the lock is left."""
        self._clock = surroundings().clock
        phase = self.health.phase
        old = self._state
        new: BreakerState = (
            "closed" if phase is Phase.WELL else "half_open" if phase is Phase.TRIAL else "open"
        )
        self.shut = phase is not Phase.WELL
        # Set last, so that whoever reads it without the lock finds the rest settled.
        self.shut_until = math.inf if self.held else self.health.until if self.shut else -math.inf
        if new == old:
            return None
        self._state = new
        if old == "closed":
            self._availability.fail()
        elif new == "closed":
            self._availability.restore()
        cause = self.health.cause if new == "open" and not self.held else None
        return BreakerChanged(self.name, old, new, cause)

    def _tell(self, event: BreakerChanged | None) -> None:
        if event is None:
            return
        metrics = surroundings().metrics or self.metrics
        switch_recorder_of(metrics, self.name).transition(event.from_state, event.to_state)
        self._shown.changed()
        publish(event, LOGGER, recorder_of(metrics, self.name, POLICY).listener_failed)
