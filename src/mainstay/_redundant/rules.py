"""What a redundant call was told, and what it is bound to."""

from collections.abc import Callable, Iterable
from typing import Any, Literal

import attrs

from mainstay._core.budget import RetryBudget
from mainstay._core.context import CallContext
from mainstay._core.failures import Judge
from mainstay._core.members import Lender
from mainstay._metrics.collector import Metrics, recorders_of
from mainstay._metrics.copies import CopiesRecorder
from mainstay._metrics.recorder import Recorder
from mainstay._metrics.schema import ABANDONED_THREADS, HEDGE_DELAY
from mainstay._redundant.state import Shared
from mainstay._redundant.threads import Crew
from mainstay.hedge import Delay
from mainstay.vote import Rule

POLICY = "redundant"


@attrs.frozen(eq=False, kw_only=True)
class Rules:
    """The parameters of a redundant call, as the loops need them.

    Attributes:
        start: When copies start.
        rule: Which answer to believe.
        votes: Whether that is more than taking the first one.
        judge: The verdict of `on` about an exception.
        timeout: Seconds for a call, or None.
        budget: What hedges are charged to, or None.
        dispose: What takes results that are not returned, or None.
        primary: Where an async primary runs: in the caller's task or in one of its own.
        crew: The threads of sync copies.
        lender: The pool whose members the copies run on, or None.
    """

    start: Delay
    rule: Rule
    votes: bool
    judge: Judge
    timeout: float | None
    budget: RetryBudget | None
    dispose: Callable[[Any], Any] | None
    primary: Literal["inline", "task"]
    crew: Crew
    lender: Lender | None

    def labels(self, copies: int) -> Iterable[int | str]:
        """Give what stands for so many copies in metrics: numbers, or the members of the pool."""
        return range(copies) if self.lender is None else self.lender.members()


@attrs.frozen(eq=False)
class Bound:
    """A policy bound to what it calls.

    Attributes:
        rules: The parameters.
        fns: What each copy calls.
        planned: How many copies a call begins with.
        shared: What its calls share.
        recorder: Where calls are recorded.
        copies: Where their copies are.
    """

    rules: Rules
    fns: tuple[Callable[..., Any], ...]
    planned: int
    shared: Shared
    recorder: Recorder
    copies: CopiesRecorder

    def recorders(self, context: CallContext) -> tuple[Recorder, CopiesRecorder]:
        """Find where a call in these context is recorded."""
        if context.metrics is None:
            return self.recorder, self.copies
        component = self.recorder.component
        labels = self.rules.labels(len(self.fns))
        return recorders_in(context.metrics, component, self.shared, labels)


def recorders_in(
    metrics: Metrics, component: str, shared: Shared, labels: Iterable[int | str]
) -> tuple[Recorder, CopiesRecorder]:
    """Find the recorders of a component in *metrics*, and let its gauges be shown there.

    Args:
        metrics: Where to record.
        component: The name of the policy.
        shared: What its calls share.
        labels: The copies that are to be seen before any of them has done anything.
    """
    recorders = recorders_of(metrics)
    recorder = recorders.calls(component, POLICY)
    copies_recorder = recorders.copies(component)
    copies_recorder.show(labels)
    delay = recorders.number(HEDGE_DELAY, component)
    shared.show(delay, recorders.number(ABANDONED_THREADS, component))
    return recorder, copies_recorder
