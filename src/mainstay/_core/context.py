"""The context of a call: the clock, deadline and metrics that the blocks around it have set.

One context variable holds the *entry* of the innermost block around the code; each entry knows the
one around it. The rules:

1. An entry is in force while its block is open, and no longer. It knows its block by a weak
   reference only, which leaving takes away: an entry without a block is over, and everybody who
   inherited it passes over it. So a block that an exception of a signal handler left half open, or
   that a generator never left, ends when the collector comes to it.
2. Leaving a block ends its own entry and no other, in whatever order, task, thread or context.
3. Each entry keeps what it set itself; what a call sees (`CallContext`) is computed from those
   that are in force, outermost first. A deadline goes on by the clock that a block inside sets,
   and by its own again after it.
4. An ending makes things only plainer, and a deadline only later. So a policy's fast path may ask
   the innermost entry without asking what is over:

    started = monotonic()
    here = block_context()
    if process_contexts or (here is not None and not (here.plain and started < here.deadline)):
        ...  # the slow path, which calls `current_context`

   An entry is plain where the clock is the system's and the metrics are the policy's own: then a
   healthy call needs nothing of it but that the deadline is not over.
5. Helpers of a pool or a run have a context of their own (`helper_context`): they serve the pool,
   not the call that came first.
"""

import math
from collections.abc import Callable
from contextvars import Context, ContextVar
from typing import Any, Literal, TypeAlias
from weakref import ref

import attrs

from mainstay._core.clock import SYSTEM, Clock

Priority: TypeAlias = Literal["high", "normal", "low"]
"""How early a call is served where it has to wait, and how late it is refused."""


@attrs.frozen(eq=False, repr=False)
class CallContext:
    """The context of a call, as it is at one moment.

    Attributes:
        clock: Tells the time and sleeps.
        deadline: When the time left ends, in seconds of `clock`; infinity without a deadline.
        metrics: The `Metrics` that policies record into in place of their own, or None. This
            layer only carries it.
        priority: How early a call is served where it has to wait.
    """

    clock: Clock = SYSTEM
    deadline: float = math.inf
    metrics: Any = None
    priority: Priority = "normal"

    def left(self) -> float:
        """Return the seconds until the deadline: negative once it is over, infinity without one."""
        return self.deadline - self.clock.now()


DEFAULT_CONTEXT = CallContext()
"""The context of a call outside every block."""


def no_block() -> None:
    """Stand in for the block of an entry that is over."""


class Entry:
    """What one block has set, from its entry to its end.

    Attributes:
        block: Returns the block; None when the entry is over.
        outer: The entry around it.
        plain: False if a call may need more of the context than the deadline.
        deadline: When no time is left, in seconds of the system's clock, as far as it is plain.
    """

    __slots__ = ("block", "deadline", "outer", "plain")

    def __init__(
        self, block: Callable[[], object], outer: "Entry | None", deadline: float, *, plain: bool
    ) -> None:
        self.block = block
        self.outer = outer
        self.deadline = deadline
        self.plain = plain

    def applied_to(self, context: CallContext) -> CallContext:
        """Return *context* as it is inside the block."""
        raise NotImplementedError


_ENTRY: ContextVar[Entry | None] = ContextVar("mainstay", default=None)

set_block_context = _ENTRY.set
block_context = _ENTRY.get
"""Return the entry of the innermost block around this thread or task, or None outside every one."""

process_contexts: list[Entry] = []
"""Entries for all code of the process; the last one that is in force counts."""


def current_context() -> CallContext:
    """Return what is around the caller, and forget the entries that are over."""
    innermost = block_context()
    if innermost is None and not process_contexts:
        return DEFAULT_CONTEXT
    context = DEFAULT_CONTEXT
    for entry in reversed(process_contexts):
        if entry.block() is not None:
            context = entry.applied_to(context)
            break
    if innermost is None:
        return context
    in_force = _in_force(innermost)
    if not in_force or in_force[0] is not innermost:
        _ENTRY.set(in_force[0] if in_force else None)
    for entry in reversed(in_force):
        context = entry.applied_to(context)
    return context


def times_now() -> tuple[float, float]:
    """Return the time of the clock around the caller, and its wall time."""
    clock = current_context().clock
    return clock.now(), clock.wall()


def context_of(entry: Entry) -> CallContext:
    """Return the context that *entry* and the entries around it make, for code outside of it."""
    context = DEFAULT_CONTEXT
    for each in reversed(_in_force(entry)):
        context = each.applied_to(context)
    return context


def _in_force(entry: Entry | None) -> list[Entry]:
    """Return those of *entry* and the entries around it that are in force, linked together."""
    found: list[Entry] = []
    while entry is not None:
        if entry.block() is not None:
            if found:
                found[-1].outer = entry
            found.append(entry)
        entry = entry.outer
    if found:
        found[-1].outer = None
    return found


def enter(entries: list[Entry], entry: Entry) -> None:
    """Put *entry* in force in this thread or task; *entries* are those of the same block."""
    entries.append(entry)
    _ENTRY.set(entry)


def leave(block: object, entries: list[Entry]) -> Entry | None:
    """End the innermost entry of *block* here; the one entered last if there is none here.

    Returns:
        The entry, or None if the block was not open.
    """
    entry = block_context()
    while entry is not None and entry.block() is not block:
        entry = entry.outer
    if entry is None:
        if not entries:
            return None
        entry = entries.pop()
    else:
        entries.remove(entry)
    end(entry)
    return entry


def end(entry: Entry) -> None:
    """End *entry*, for everybody who has inherited it."""
    entry.block = no_block
    entry.plain = False  # code that inherited the entry then asks `current_context`, which drops it
    outer = entry.outer
    if outer is not None and outer.block() is None:
        around = _in_force(outer)
        entry.outer = outer = around[0] if around else None
    if block_context() is entry:
        _ENTRY.set(outer)


# Deadlines.


def system_clock() -> Clock:
    """Return the clock of nearly all deadlines."""
    return SYSTEM


class DeadlineEntry(Entry):
    """A deadline: when its time ends, on the clock that it was set on."""

    __slots__ = ("clock", "until")

    def __init__(self, block: Callable[[], object], outer: Entry | None, until: float) -> None:
        # Written out, without a call of the base, since each block with a deadline pays for this.
        self.block = block
        self.outer = outer
        self.deadline = until
        self.plain = True
        self.until = until
        self.clock: Callable[[], Clock | None] = system_clock

    def applied_to(self, context: CallContext) -> CallContext:
        """Return *context* with no more time left than this one leaves."""
        clock = self.clock()
        if clock is None:  # the block is gone, and its time with it
            return context
        until = self.until
        if clock is not context.clock:
            until += context.clock.now() - clock.now()
        if until >= context.deadline:
            return context
        # As `attrs.evolve` does, in a fifth of the time: calls inside a deadline pay for this.
        return CallContext(context.clock, until, context.metrics, context.priority)


class CallDeadline:
    """The deadline of one call, without a block: in force as long as the call keeps it.

    For the fast path, in plain *outer*.

    Args:
        outer: The entry around the call.
        until: When the time ends, in seconds of the system's clock.
    """

    __slots__ = ("__weakref__", "_entry")

    def __init__(self, outer: Entry | None, until: float) -> None:
        self._entry = entry = DeadlineEntry(ref(self), outer, until)
        if outer is not None and outer.deadline < until:
            entry.deadline = outer.deadline
        _ENTRY.set(entry)

    def end(self) -> None:
        """End it, with the call."""
        end(self._entry)


class PriorityEntry(Entry):
    """A priority, which policies ask for only where a call has to wait: it is plain."""

    __slots__ = ("priority",)

    def __init__(self, block: object, priority: Priority) -> None:
        current_context()  # forgets the entries that are over
        outer = block_context()
        deadline, plain = (math.inf, True) if outer is None else (outer.deadline, outer.plain)
        super().__init__(ref(block), outer, deadline, plain=plain)
        self.priority = priority

    def applied_to(self, context: CallContext) -> CallContext:
        """Return *context* with this priority."""
        return attrs.evolve(context, priority=self.priority)


# Clocks and metrics, for `mainstay.testing` and for helpers.


ClockOver: TypeAlias = Callable[[Any, Clock], Clock]
"""From a block and the clock around it to the clock inside."""


class ClockEntry(Entry):
    """Another clock; a deadline from outside has as much time left on it as it had at entry."""

    __slots__ = ("clock_over", "outer_clock", "outer_now", "own_now")

    def __init__(self, block: object, clock_over: ClockOver) -> None:
        context = current_context()
        super().__init__(ref(block), block_context(), math.inf, plain=False)
        self.clock_over = clock_over
        self.outer_clock = ref(context.clock)
        self.outer_now = context.clock.now()
        self.own_now = clock_over(block, context.clock).now()

    def applied_to(self, context: CallContext) -> CallContext:
        """Return *context* on the block's clock."""
        block = self.block()
        if block is None:  # it ended a moment ago
            return context
        clock = self.clock_over(block, context.clock)
        until = context.deadline
        if until < math.inf:
            if context.clock is self.outer_clock():
                until += self.own_now - self.outer_now
            else:
                until += clock.now() - context.clock.now()
        return attrs.evolve(context, clock=clock, deadline=until)


class MetricsEntry(Entry):
    """Other metrics."""

    __slots__ = ("metrics",)

    def __init__(self, block: Callable[[], object], metrics: Any) -> None:
        super().__init__(block, block_context(), math.inf, plain=False)
        self.metrics = metrics

    def applied_to(self, context: CallContext) -> CallContext:
        """Return *context*, recording into these."""
        return attrs.evolve(context, metrics=self.metrics)


@attrs.frozen(eq=False, repr=False)
class _HelperClock:
    """The clock of a helper, for as long as it runs."""

    clock: Clock


def helper_context() -> Context:
    """Return the context of a helper that is started here: a context of its own.

    Of the caller's it keeps the clock, for as long as the helper runs, and the metrics, while the
    block that set them is open; nothing else.
    """
    here = current_context()
    entry = block_context()
    while entry is not None and not isinstance(entry, MetricsEntry):
        entry = entry.outer
    context = Context()
    context.run(_enter_helper, here.clock, entry)
    return context


def _enter_helper(clock: Clock, metrics: MetricsEntry | None) -> None:
    block = _HelperClock(clock)
    entry = ClockEntry(block, lambda block, _outer: block.clock)
    entry.block = lambda: block  # for good: the entry keeps what no block does
    _ENTRY.set(entry)
    if metrics is not None:
        _ENTRY.set(MetricsEntry(lambda: metrics.block(), metrics.metrics))  # noqa: PLW0108 - asked each time: leaving the block replaces it
