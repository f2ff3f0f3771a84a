"""Probes: checks of the members of a pool, from a thread (`ThreadProber`) or a task (`TaskProber`).

`ProbeRounds` knows when each member is due, and how answers count. Each probe has a thread or a
task of its own, so that a probe that hangs delays no other. Such a probe counts as failed when its
time is over, and again for each interval in which it hangs; the member is not probed again before
the probe has returned. A suspected member is probed at once, and again, until it is ejected or a
probe succeeds. The probers hold the pool by a weak reference, and end with it.
"""

import asyncio
import random
import weakref
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any, Protocol

import attrs

from mainstay._core.context import current_context
from mainstay._core.exits import end_with_subinterpreter
from mainstay._core.functions import is_async
from mainstay._core.threads import values_now
from mainstay._failover.hooks import HookThreads, awaited, called, check_answer, not_awaitable
from mainstay._failover.members import OpenedResource, Slot
from mainstay._failover.options import Probe
from mainstay._failover.prometheus import PrometheusQuestion, question_about

_MOST_HUNG = 3
"""Questions about one member that may hang, each about a resource that it had once."""

_chance = random.random


class ProbedPool(Protocol):
    """The pool, as probers read its members and report to it."""

    @property
    def slots(self) -> Mapping[str, Slot]:
        """Its members."""
        ...

    def settle(self, now: float, /) -> float:
        """Do what was due by *now*; return when there is something to do next."""
        ...

    def not_probed(self, prober: "ThreadProber", /) -> None:
        """Have the next call begin to probe, since no thread could be started just now."""
        ...

    def probed(
        self, slot: Slot, opened: OpenedResource, now: float, error: Exception | None, /
    ) -> None:
        """Record an answer about a resource: None if it is good."""
        ...


@attrs.define(eq=False)
class ProbeQuestion:
    """One probe of one member.

    Attributes:
        until: When the probe has taken too long, in seconds of the clock; once it has, when it
            counts as failed again.
        late: True if the probe has taken too long, and was counted as failed.
        in_thread: True if the probe of an async pool runs in a thread, which cannot be ended.
        cancel: Cancels the task of the probe, if there is one.
    """

    slot: Slot
    opened: OpenedResource
    until: float
    late: bool = False
    in_thread: bool = False
    cancel: Any = None


class ProbeRounds:
    """Who is to be asked when. Used by one thread or task, but for `answered`."""

    def __init__(self, probe: Probe) -> None:
        self._probe = probe
        self._due: dict[Slot, float] = {}
        self._open: dict[OpenedResource, ProbeQuestion] = {}

    def due(self, slots: Iterable[Slot], now: float) -> list[ProbeQuestion]:
        """Return the questions to ask now."""
        questions = []
        for slot in slots:
            opened = slot.opened
            if opened is None or slot.draining or opened in self._open or self._hangs(slot):
                continue
            # The first ones are spread out, so that not all members are asked at once.
            due = self._due.setdefault(slot, now + self._probe.every * _chance() * 0.5)
            if now >= due or slot.suspected_at is not None:
                question = ProbeQuestion(slot, opened, now + self._probe.timeout)
                self._open[opened] = question
                questions.append(question)
        return questions

    def _hangs(self, slot: Slot) -> bool:
        return sum(each.slot is slot for each in values_now(self._open)) >= _MOST_HUNG

    def overdue(self, now: float) -> list[ProbeQuestion]:
        """Return the questions that have just taken too long, or for one more interval."""
        probe = self._probe
        for question in values_now(self._open):
            if question.late and question.slot.suspected_at is not None:
                question.until = min(question.until, now + probe.timeout)
        late = [each for each in values_now(self._open) if now >= each.until]
        for question in late:
            question.late = True
            suspected = question.slot.suspected_at is not None
            question.until = now + (probe.timeout if suspected else probe.every)
        return late

    def too_long(self) -> Exception:
        """Return the error of a question that has taken too long."""
        fn = self._probe.fn
        if isinstance(fn, PrometheusQuestion):
            return fn.too_long()
        return TimeoutError(f"the probe took longer than {self._probe.timeout:.3f} s")

    def answered(self, question: ProbeQuestion, now: float) -> bool:
        """Record that a question has returned; return True if it did so in time."""
        variation = self._probe.jitter * (2 * _chance() - 1)
        self._due[question.slot] = now + self._probe.every * (1 + variation)
        self._open.pop(question.opened, None)
        return not question.late

    def next(self, slots: Iterable[Slot], now: float, wake: float) -> float:
        """Return the seconds until there is something to do, here or by *wake*."""
        members = set(slots)
        self._due = {slot: due for slot, due in self._due.items() if slot in members}
        times = [
            due for slot, due in self._due.items() if slot.opened and slot.opened not in self._open
        ]
        times += [question.until for question in values_now(self._open)]
        times += [wake, now + self._probe.every]
        return max(0.0, min(each for each in times if each > now) - now)


class ThreadProber:
    """Asks from a thread of its own, each question in another one."""

    def __init__(self, pool: ProbedPool, probe: Probe, threads: HookThreads) -> None:
        self._probe = probe
        self._threads = threads
        self._rounds = ProbeRounds(probe)
        self._clock = current_context().clock
        self._bell = bell = self._clock.bell(still=True)
        self._pool = weakref.ref(pool, lambda _: bell.ring())  # the thread would wait for `every`
        self._stopped = False
        end_with_subinterpreter(self, ThreadProber.stop)

    def start(self, name: str) -> None:
        """Begin to ask, in a thread called after *name*."""
        try:
            self._threads.begin(f"mainstay-probe-{name}", self._probe.timeout, self._run)
        except RuntimeError:  # no thread can be started just now
            pool = self._pool()
            if pool is not None:
                pool.not_probed(self)

    def wake(self) -> None:
        """Look at once if there is something to ask."""
        self._bell.ring()

    def stop(self) -> None:
        """Ask nothing more; what is being asked goes on."""
        self._stopped = True
        self._bell.ring()

    def _run(self) -> None:
        rounds, clock = self._rounds, self._clock
        while (pool := self._pool()) is not None and not self._stopped:
            now = clock.now()
            for question in rounds.overdue(now):
                pool.probed(question.slot, question.opened, now, rounds.too_long())
            wake = pool.settle(now)
            for question in rounds.due(values_now(pool.slots), now):
                name = f"mainstay-ask-{question.slot.name}"
                try:
                    self._threads.begin(name, self._probe.timeout, self._ask, pool, question)
                except RuntimeError:  # no thread can be started just now: that says nothing
                    rounds.answered(question, now)
            seconds = rounds.next(values_now(pool.slots), clock.now(), wake)
            del pool
            self._bell.wait(seconds)

    def _ask(self, pool: ProbedPool, question: ProbeQuestion) -> None:
        try:
            ask = question_about(self._probe.fn, question.slot.name)
            check_answer(not_awaitable(ask(question.opened.resource), "fn"))
            error = None
        except Exception as raised:  # noqa: BLE001 - a failure of the member, which is reported
            error = raised
        now = self._clock.now()
        if self._rounds.answered(question, now):
            pool.probed(question.slot, question.opened, now, error)
        self._bell.ring()


class TaskProber:
    """Asks from a task of its own, each question in another one."""

    def __init__(
        self,
        pool: ProbedPool,
        probe: Probe,
        begin: Callable[[Callable[[], Coroutine[Any, Any, None]]], object],
    ) -> None:
        self._pool = weakref.ref(pool)
        self._probe = probe
        self._begin = begin
        self._rounds = ProbeRounds(probe)
        self._clock = current_context().clock
        self._woken = asyncio.Event()
        self._stopped = False

    def start(self, _name: str) -> None:
        """Begin to ask."""
        self._begin(self._run)

    def wake(self) -> None:
        """Look at once if there is something to ask."""
        self._woken.set()

    def stop(self) -> None:
        """Ask nothing more, and end what is being asked."""
        self._stopped = True
        self._woken.set()

    async def _run(self) -> None:
        rounds, clock, woken = self._rounds, self._clock, self._woken
        asking: set[asyncio.Task[None]] = set()
        try:
            while (pool := self._pool()) is not None and not self._stopped:
                now = clock.now()
                for question in rounds.overdue(now):
                    if not question.in_thread:  # whose end would look like an answer
                        question.cancel()
                    pool.probed(question.slot, question.opened, now, rounds.too_long())
                wake = pool.settle(now)
                for question in rounds.due(values_now(pool.slots), now):
                    task = asyncio.create_task(self._ask(pool, question))
                    question.cancel = task.cancel
                    asking.add(task)
                    task.add_done_callback(asking.discard)
                seconds = rounds.next(values_now(pool.slots), clock.now(), wake)
                timer = clock.call_later(seconds, woken.set)
                del pool
                try:
                    await woken.wait()
                finally:
                    timer.cancel()
                woken.clear()
        finally:
            for task in asking:
                task.cancel()
            if asking:
                await asyncio.wait(asking)

    async def _ask(self, pool: ProbedPool, question: ProbeQuestion) -> None:
        try:
            ask = question_about(self._probe.fn, question.slot.name)
            question.in_thread = not is_async(ask)
            answer = await called(ask, question.opened.resource)
            question.in_thread = False
            check_answer(await awaited(answer))
            error = None
        except Exception as raised:  # noqa: BLE001 - a failure of the member, which is reported
            error = raised
        finally:
            now = self._clock.now()
            in_time = self._rounds.answered(question, now)
            self._woken.set()  # also when it was cancelled: it may be asked again
        if in_time:
            pool.probed(question.slot, question.opened, now, error)
