"""A pool at work: what calls, probes and operators ask of it, each step under the lock."""

import asyncio
import math
import os
import threading
import weakref
from collections.abc import Collection, Iterable
from typing import TypeAlias

import attrs

from mainstay._core.clock import Bell, Clock
from mainstay._core.context import current_context
from mainstay._core.detector import Phase
from mainstay._core.threads import Pause, Signal
from mainstay._failover.hooks import RefusedError
from mainstay._failover.members import Opened, Session, Slot
from mainstay._failover.options import Member
from mainstay._failover.probes import probe_in_task, probe_in_thread
from mainstay._failover.results import Results
from mainstay._failover.rules import Rules
from mainstay._failover.selection import Pick
from mainstay._failover.starts import Tasks, Threads
from mainstay._failover.state import NOBODY, Order, chance
from mainstay._metrics.collector import Metrics


@attrs.frozen
class Wait:
    """There is nobody to call just now.

    Attributes:
        seconds: When to ask again.
        signal: What to wait for so long; None to sleep.
    """

    seconds: float
    signal: Signal | None = None


@attrs.frozen(eq=False)
class _Candidates:
    """Whom a call may be given to, to be picked without the lock: a selector is the user's.

    Attributes:
        sessions: Those left to a call that goes on to another member.
        pick: Picks from all who serve, for a call that begins; else None.
    """

    sessions: list[Session]
    pick: Pick | None = None


Choice: TypeAlias = Session | Wait | None
"""A session to use, a wait, or None if there is nobody."""


class Core(Results):
    """A pool at work.

    Attributes:
        wake: Wakes the thread that probes, while there is one.
        awake: Wakes the task that probes, while there is one.
    """

    def __init__(self, rules: Rules, members: Iterable[Member], metrics: Metrics) -> None:
        super().__init__(rules, members, metrics, Tasks(self) if rules.is_async else Threads(self))
        self.wake: Bell | None = None
        self.awake: asyncio.Event | None = None
        _all.add(self)

    def choose(self, clock: Clock, tried: Collection[Slot], asked: set[Slot]) -> Choice:
        """Say what a call is to do next.

        Args:
            clock: That of the call.
            tried: The members that it has tried.
            asked: Those that it has had started because everything is down.
        """
        self.clock = clock
        while True:
            self.open()
            now = clock.now()
            with self.lock:
                if not self.is_open:  # closed by another thread just now
                    continue
                self.settle(now)
                choice = self._choose(now, tried, asked)
            self.flush()
            if isinstance(choice, _Candidates):
                choice = choice.pick() if choice.pick else self._among(choice.sessions)
            if not isinstance(choice, Session):
                return choice
            choice.flights.append(None)
            if not choice.opened.gone:
                return choice
            self.done(choice)

    def _among(self, sessions: list[Session]) -> Session:
        return self.rules.strategy.among(sessions, self.clock.now, chance)

    def _choose(
        self, now: float, tried: Collection[Slot], asked: set[Slot]
    ) -> Session | _Candidates | Wait | None:
        for slot in self.slots.values():
            opened = slot.opened if slot.health.trial_due(now) else None
            if opened is not None and slot not in tried and self.trials_allowed(slot):
                return self._trial(slot, opened, now)
        order = self.order
        if order.sessions and not tried:
            return _Candidates([], order.pick)
        rest = [session for session in order.sessions if session.slot not in tried]
        if tried and not rest:
            rest = self._idle_standbys(tried)
        if rest:
            return _Candidates(rest)
        starting = [s.start.until for s in self.slots.values() if s.start and s not in tried]
        if starting:
            return Wait(max(0.0, min(starting) - now), self.progress)
        return self._last_resort(now, tried, asked) if self.down() and not self.forced else None

    def _idle_standbys(self, tried: Collection[Slot]) -> list[Session]:
        """Give the hot standbys that a call may go on to which has tried everyone who serves.

        Not with a fence: it has to return before a standby may be used at all.
        """
        if self.rules.fence is not None or self.forced is not None:
            return []
        return [
            Session.of(slot, slot.opened, self.epoch)
            for slot in self.slots.values()
            if slot.opened is not None and slot.well() and slot not in tried
        ]

    def _last_resort(
        self, now: float, tried: Collection[Slot], asked: set[Slot]
    ) -> Session | Wait | None:
        """Say what to do while no member is well."""
        left = [slot for slot in self.slots.values() if slot not in tried and not slot.draining]
        left = [slot for slot in left if slot.health.phase in (Phase.EJECTED, Phase.TRIAL)]
        left.sort(key=lambda slot: slot.health.until)
        if self.rules.when_all_down == "least_bad":
            for slot in left:
                if slot.health.phase is Phase.TRIAL or not self.may_use(slot):
                    continue
                if slot.opened is not None:
                    return self._trial(slot, slot.opened, now)
                if slot not in asked:
                    asked.add(slot)
                    self.begin_start(slot, (), now)
                    self.plan(now)
                    return Wait(slot.member.start_timeout, self.progress)
        if self.rules.when_all_down == "wait" and left:
            return self._wait(left, now)
        return None

    def _wait(self, left: list[Slot], now: float) -> Wait:
        """Wait until one of those that are left may be tried; else until somebody says so."""
        times = [slot.health.until for slot in left if slot.health.until > now]
        if not times:
            return Wait(math.inf, self.progress)
        trial = any(slot.health.phase is Phase.TRIAL for slot in left)
        return Wait(min(times) - now, self.progress if trial else None)

    def _trial(self, slot: Slot, opened: Opened, now: float) -> Session:
        slot.health.begin_trial(now)
        self.plan(now)
        return Session.of(slot, opened, self.epoch)

    def retry_after(self, now: float) -> float | None:
        """Give the seconds until an ejected member is tried again; None if none is ejected."""
        with self.lock:
            ends = [
                slot.health.until - now
                for slot in self.slots.values()
                if slot.health.phase in (Phase.EJECTED, Phase.TRIAL)
            ]
        return max(0.0, min(ends)) if ends else None

    # Results.

    def succeeded(self, session: Session, now: float, seconds: float) -> None:
        """Take in that an attempt was answered after *seconds*."""
        slot = session.slot
        slot.latency.add(seconds, now)
        slow = seconds > slot.health.too_slow
        if not (slow or slot.spotted):  # no lock for what changes nothing
            return
        with self.lock:
            change = slot.health.succeeded(session.generation, now, chance(), slow=slow)
            self.take_in(slot, change, now)
        self.flush()

    def failed(self, session: Session, now: float) -> None:
        """Take in that an attempt failed."""
        slot = session.slot
        with self.lock:
            if session.generation == slot.health.generation:
                slot.strikes += 1
            self.take_in(slot, slot.health.failed(session.generation, now, chance()), now)
        self.flush()

    def dissented(self, session: Session, now: float) -> None:
        """Take in that an answer was outvoted."""
        slot = session.slot
        with self.lock:
            self.take_in(slot, slot.health.dissented(session.generation, now, chance()), now)
        self.flush()

    def released(self, session: Session, now: float) -> None:
        """Take in that an attempt ended in a way that says nothing about the member."""
        with self.lock:
            if session.slot.health.release(session.generation, now):
                self.plan(now)
                self.moved_on()
        self.flush()

    def done(self, session: Session) -> None:
        """Take note that an attempt does not use the member any more."""
        session.flights.pop()
        if session.opened.gone:
            self.left(session)

    def left(self, session: Session) -> None:
        """Close what a call has used if it was the last one."""
        with self.lock:
            self.unused(session.slot, session.opened)
        self.flush()

    # Probes.

    def probed(self, slot: Slot, opened: Opened, now: float, error: BaseException | None) -> None:
        """Take in the answer of a probe: None if it is good."""
        probe = self.rules.probe
        with self.lock:
            if probe is None or slot.opened is not opened:
                return
            health = slot.health
            if error is None:
                slot.fell = 0
                slot.rose += 1
                if slot.rose >= probe.rise:
                    self.found_well(slot, now)
            else:
                if not slot.fell and not isinstance(error, RefusedError):
                    self.broken(slot, "probe", error)
                slot.rose = 0
                slot.fell += 1
                if slot.fell == probe.fall and health.phase is Phase.WELL:
                    if health.failing_since is None:
                        health.failing_since = now
                    self.overstepped(slot, "probe", now)
                elif health.trial_due(now):
                    health.postpone(now, chance())
                    self.retire(slot)
                    self.plan(now)
            self.watch(slot)
        self.flush()

    # The pool as a whole.

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The event loop that an async pool belongs to."""
        return self.hands.loop

    def bind(self, loop: asyncio.AbstractEventLoop) -> None:
        """Bind an async pool to *loop*; refuse one that is bound to another loop, still open."""
        if not self.rules.is_async:
            return
        if self.hands.loop is not None and not self.hands.loop.is_closed():
            raise RuntimeError(
                f"pool {self.rules.name!r} belongs to another event loop, the one that it was "
                f"opened in; give each loop a pool of its own"
            )
        self.forget()
        self.hands.loop = loop

    def open(self) -> None:
        """Begin to start members and to probe them, unless that has been done."""
        if self.is_open:
            return
        with self.lock:
            if self.is_open:
                return
            self.is_open = True
            self.plan(self.clock.now())
            probe = self.rules.probe
            hands = self.hands
            if probe is not None and isinstance(hands, Tasks):
                awake = self.awake = asyncio.Event()
                ours: weakref.ref[Core] = weakref.ref(self)
                self.later(lambda: hands.begin(lambda: probe_in_task(ours, probe, awake)))
            elif probe is not None and isinstance(hands, Threads):
                wake = self.wake = current_context().clock.bell(still=True)
                probe_in_thread(self, probe, wake, hands.helpers)
        self.flush()

    def starting(self, clock: Clock) -> Pause | None:
        """Open the pool; give how long to wait for its members, None if all starts have ended."""
        self.clock: Clock = clock
        self.open()
        now = clock.now()
        self.settle_now(now)
        with self.lock:
            ends = [slot.start.until - now for slot in self.slots.values() if slot.start]
            return Pause(clock, max(0.0, *ends), self.progress) if ends else None

    def settle_now(self, now: float) -> None:
        """Do what was due by *now*, where no call does it."""
        with self.lock:
            self.settle(now)
        self.flush()

    def forget(self) -> None:
        """Leave everything that was opened to whoever owns it now: a parent, or an ended loop."""
        # A thread that is not here any more may hold the old one.
        self.lock: threading.RLock = threading.RLock()
        self._outbox.clear()
        self.is_open = False
        self.posts = {post: post for post in self.posts}
        self.wake = self.awake = None
        with self.lock:
            for slot in self.slots.values():
                slot.start = slot.session = None
                if slot.member.open is not None:
                    slot.opened = None
                elif slot.opened is not None:
                    slot.opened = Opened(slot.member.resource)
            self.order = NOBODY
            self.progress: Signal = Signal()

    def shut(self) -> None:
        """Stop using and probing everything; what is in use is closed when it is not any more."""
        to_close = []
        with self.lock:
            self.is_open: bool = False
            self.posts: dict[str, str] = {post: post for post in self.posts}
            for slot in self.slots.values():
                if slot.start is not None and slot.start.cancel is not None:
                    self.later(slot.start.cancel)
                slot.start = None
                opened = self.take_away(slot)
                if opened is not None:
                    to_close.append((slot.member, opened.resource))
            self.order: Order = NOBODY
            wake, self.wake = self.wake, None
            awake, self.awake = self.awake, None
            self.moved_on()
            self.shown()
        self.flush()
        for member, resource in to_close:  # by this thread, which is to wait for it
            self.hands.close(member, resource)
        if wake is not None:
            wake.ring()
        if awake is not None:
            awake.set()

    def close(self) -> None:
        """Shut a sync pool, and wait until its threads have ended, but for those that hang."""
        self.shut()
        if isinstance(self.hands, Threads):
            self.hands.helpers.join()

    def _patience(self) -> float:
        """Give for how many seconds closing waits for a `close` that hangs."""
        return max((slot.member.start_timeout for slot in self.slots.values()), default=0.0)

    async def aclose(self) -> None:
        """Shut an async pool, and wait until what could be closed is closed."""
        self.shut()
        # What the outbox has just begun is in the list only after a turn of the loop.
        await asyncio.sleep(0)
        if isinstance(self.hands, Tasks) and self.hands.running:
            await asyncio.wait(self.hands.running, timeout=self._patience())
        self.hands.loop = None


_all: "weakref.WeakSet[Core]" = weakref.WeakSet()


def _forget_after_fork() -> None:
    """Let the child begin with closed pools: connections and threads are the parent's."""
    for core in tuple(_all):
        core.forget()
        core.hands.loop = None
        if isinstance(core.hands, Threads):
            core.hands.helpers.forget()
        core.anew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_after_fork)
