"""Probes: asking the members of a pool whether they are well, from a thread or a task.

`Rounds` knows when each member is to be asked and what to make of the answers. `probe_in_thread`
and `probe_in_task` act, side by side. Each question has a thread or a task of its own, so that
one that hangs holds up nobody. It is a bad answer when its time is over, and again after each
interval that it goes on to hang; the resource is not asked again before it has returned. The
loops hold the pool weakly and end with it.
"""

import asyncio
import weakref
from typing import TYPE_CHECKING, Any

import attrs

from mainstay._core.clock import Bell
from mainstay._core.context import current_context
from mainstay._core.functions import is_async
from mainstay._core.threads import values_now
from mainstay._failover.hooks import Helpers, called, check, plain, settled
from mainstay._failover.members import Opened, Slot
from mainstay._failover.options import Probe
from mainstay._failover.state import chance

if TYPE_CHECKING:
    from mainstay._failover.core import Core


@attrs.define(eq=False)
class Question:
    """One probe of one member.

    Attributes:
        slot: The member.
        opened: The resource that is asked.
        until: When it has taken too long, in seconds of the clock; if it has, when it counts
            once more.
        late: Whether it has, which was counted already.
        in_thread: Whether a thread of an async pool is at it, which cannot be ended.
        cancel: Ends the task that is at it, if one is.
    """

    slot: Slot
    opened: Opened
    until: float
    late: bool = False
    in_thread: bool = False
    cancel: Any = None


_MOST_HUNG = 3
"""Questions about one member that may hang, each about a resource that it had once."""


class Rounds:
    """Who is to be asked when. Used by one thread or task, but for `answered`."""

    def __init__(self, probe: Probe) -> None:
        self._probe = probe
        self._due: dict[Slot, float] = {}
        self._open: dict[Opened, Question] = {}

    def due(self, core: "Core", now: float) -> list[Question]:
        """Give the questions to ask now."""
        questions = []
        for slot in values_now(core.slots):
            opened = slot.opened
            if opened is None or slot.draining or opened in self._open or self._hangs(slot):
                continue
            # The first ones are spread out, so that not all members are asked at once.
            due = self._due.setdefault(slot, now + self._probe.every * chance() * 0.5)
            if now >= due:
                question = Question(slot, opened, now + self._probe.timeout)
                self._open[opened] = question
                questions.append(question)
        return questions

    def _hangs(self, slot: Slot) -> bool:
        return sum(each.slot is slot for each in values_now(self._open)) >= _MOST_HUNG

    def overdue(self, now: float) -> list[Question]:
        """Give the questions that have just taken too long, or for one more interval."""
        late = [each for each in values_now(self._open) if now >= each.until]
        for question in late:
            question.late = True
            question.until = now + self._probe.every
        return late

    def answered(self, question: Question, now: float) -> bool:
        """Note that a question has returned; say whether it did so in time."""
        variation = self._probe.jitter * (2 * chance() - 1)
        self._due[question.slot] = now + self._probe.every * (1 + variation)
        self._open.pop(question.opened, None)
        return not question.late

    def next(self, core: "Core", now: float) -> float:
        """Give the seconds until something is to be done."""
        members = set(core.slots.values())
        self._due = {slot: due for slot, due in self._due.items() if slot in members}
        times = [
            due for slot, due in self._due.items() if slot.opened and slot.opened not in self._open
        ]
        times += [question.until for question in values_now(self._open)]
        times += [core.order.wake, now + self._probe.every]
        return max(0.0, min(each for each in times if each > now) - now)

    def late(self, core: "Core", question: Question, now: float) -> None:
        """Count a question that has taken too long as a failure."""
        seconds = self._probe.timeout
        error = TimeoutError(f"the probe took longer than {seconds:.3f} s")
        core.probed(question.slot, question.opened, now, error)


def probe_in_thread(core: "Core", probe: Probe, wake: Bell, helpers: Helpers) -> None:
    """Probe from a thread until *wake* is rung and the pool is not open any more."""
    name, pool = f"mainstay-probe-{core.rules.name}", weakref.ref(core)
    helpers.begin(name, probe.timeout, _loop, pool, probe, wake, helpers)


def _loop(pool: "weakref.ref[Core]", probe: Probe, wake: Bell, helpers: Helpers) -> None:
    rounds = Rounds(probe)
    clock = current_context().clock
    while True:
        core = pool()
        if core is None or core.wake is not wake:
            return
        now = clock.now()
        core.settle_now(now)
        for question in rounds.overdue(now):
            rounds.late(core, question, now)
        for question in rounds.due(core, now):
            name = f"mainstay-ask-{question.slot.name}"
            helpers.begin(name, probe.timeout, _ask, core, rounds, probe, question)
        seconds = rounds.next(core, clock.now())
        del core
        wake.wait(seconds)


def _ask(core: "Core", rounds: Rounds, probe: Probe, question: Question) -> None:
    try:
        check(plain(probe.fn(question.opened.resource), "fn"))
        error = None
    except Exception as raised:  # noqa: BLE001 - a failure of the member, and told
        error = raised
    now = current_context().clock.now()
    if rounds.answered(question, now):
        core.probed(question.slot, question.opened, now, error)
    if core.wake is not None:
        core.wake.ring()


async def probe_in_task(pool: "weakref.ref[Core]", probe: Probe, wake: asyncio.Event) -> None:
    """Probe in the calling task until *wake* is set and the pool is not open any more."""
    rounds = Rounds(probe)
    clock = current_context().clock
    asking: set[asyncio.Task[None]] = set()
    try:
        while True:
            core = pool()
            if core is None or core.awake is not wake:
                return
            now = clock.now()
            core.settle_now(now)
            for question in rounds.overdue(now):
                if not question.in_thread:  # whose end would look like an answer
                    question.cancel()
                rounds.late(core, question, now)
            for question in rounds.due(core, now):
                task = asyncio.create_task(_aask(core, rounds, probe, question))
                question.cancel = task.cancel
                asking.add(task)
                task.add_done_callback(asking.discard)
            timer = clock.call_later(rounds.next(core, clock.now()), wake.set)
            del core
            try:
                await wake.wait()
            finally:
                timer.cancel()
            wake.clear()
    finally:
        for task in asking:
            task.cancel()
        if asking:
            await asyncio.wait(asking)


async def _aask(core: "Core", rounds: Rounds, probe: Probe, question: Question) -> None:
    try:
        question.in_thread = not is_async(probe.fn)
        answer = await called(probe.fn, question.opened.resource)
        question.in_thread = False
        check(await settled(answer))
        error = None
    except Exception as raised:  # noqa: BLE001 - a failure of the member, and told
        error = raised
    finally:
        now = current_context().clock.now()
        in_time = rounds.answered(question, now)
    if in_time:
        core.probed(question.slot, question.opened, now, error)
    if core.awake is not None:
        core.awake.set()
