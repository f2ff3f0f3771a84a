"""`RedundantSettings`: the checked parameters of a redundant call, and what binds it."""

import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

import attrs

from mainstay._core.budget import RetryBudget, budget_of
from mainstay._core.failures import Classes, Judge, judge_of
from mainstay._core.functions import Kind, is_async, is_async_hook, kind_of, name_of
from mainstay._core.layers import Layer
from mainstay._core.one_shot import check_shareable, has_one_shot
from mainstay._core.workers import WorkerPool
from mainstay._metrics.abandoned import AbandonedCalls
from mainstay._metrics.collector import Metrics, recorders_of
from mainstay._metrics.copies import CopiesRecorder
from mainstay._metrics.recorder import Recorder
from mainstay._metrics.schema import ABANDONED_THREADS, HEDGE_DELAY
from mainstay._redundant.latency import LatencyTracker
from mainstay.hedge import Delay
from mainstay.vote import Rule

if TYPE_CHECKING:  # loads all of failover, which most redundant calls do without
    from mainstay._redundant.members import PoolMembers

POLICY = "redundant"

On: TypeAlias = Classes | Callable[[Exception], object]
"""What users give as `on=`."""


@attrs.frozen(eq=False, kw_only=True)
class RedundantSettings:
    """The parameters of a redundant call, as the loops need them.

    Attributes:
        takes_first: True if the first answer wins, so that nothing is voted on.
        on_result: Returns True if an answer counts as a failure; None if no answer does.
        timeout: Seconds for a call, or None.
        pool: The pool whose members the copies run at, or None.
    """

    start: Delay
    rule: Rule
    takes_first: bool
    judge: Judge
    on_result: Callable[[Any], object] | None
    timeout: float | None
    budget: RetryBudget | None
    dispose: Callable[[Any], Any] | None
    primary: Literal["inline", "task"]
    raises: Literal["last", "group"]
    workers: WorkerPool
    pool: "PoolMembers | None"


@attrs.frozen(eq=False)
class BoundRedundant:
    """A policy bound to what it calls.

    Attributes:
        fns: What each copy calls.
        planned: How many copies a call begins with.
        latency: How long calls of the component take.
        abandoned: The copies that they have left behind.
        metrics: Where they are shown.
        recorder: Where they are recorded.
    """

    settings: RedundantSettings
    component: str
    fns: tuple[Callable[..., Any], ...]
    planned: int
    latency: LatencyTracker
    abandoned: AbandonedCalls
    metrics: Metrics
    recorder: Recorder
    copies: CopiesRecorder = attrs.field(
        default=attrs.Factory(
            lambda bound: recorders_of(bound.metrics).copies(bound.component), takes_self=True
        ),
        init=False,
    )

    def layers(self) -> tuple[Layer, ...]:
        """Return the worst case of a call, for `explain`: each copy starts when one has failed."""
        settings, copies = self.settings, len(self.fns)
        return (
            Layer(
                kind="redundant",
                component=self.component,
                calls=copies,
                at_once=copies,
                timeout=math.inf if settings.timeout is None else settings.timeout,
                interrupts=is_async(self.fns[0]),
            ),
        )

    def __attrs_post_init__(self) -> None:
        pool, recorders = self.settings.pool, recorders_of(self.metrics)
        self.copies.show(range(len(self.fns)) if pool is None else pool.names())
        self.latency.show(recorders.number(HEDGE_DELAY, self.component))
        self.abandoned.show(recorders.number(ABANDONED_THREADS, self.component))

    def check_arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Raise if only one copy could read one of the arguments of a call.

        Raises:
            ValueError: If there is such an argument; the message names it.
        """
        if self.fns and has_one_shot(args, kwargs):
            check_shareable(self.fns[0], args, kwargs, before=int(self.settings.pool is not None))

    def within(self, metrics: Metrics) -> "BoundRedundant":
        """Return it recording in other metrics."""
        return attrs.evolve(
            self, metrics=metrics, recorder=self.recorder.within(metrics, self.component)
        )


# The checks of what users give.


def checked_alternatives(alternatives: object) -> tuple[Callable[..., Any], ...]:
    """Return several functions; refuse what is not that."""
    if callable(alternatives) or not isinstance(alternatives, Iterable):
        raise TypeError(f"`alternatives` must be a list of functions, not {alternatives!r}")
    functions = tuple(alternatives)
    for each in functions:
        if not callable(each):
            raise TypeError(f"`alternatives` must be functions, and {each!r} cannot be called")
    return functions


def checked_copies(copies: object, alternatives: int, pool: "PoolMembers | None") -> int:
    """Return the number of copies; refuse what there can never be."""
    most = _checked_number(copies, alternatives)
    if pool is not None:
        check_members(pool, most)
    return most


def _checked_number(copies: object, alternatives: int) -> int:
    if copies is None:
        return 1 + alternatives if alternatives else 2
    if not isinstance(copies, int) or isinstance(copies, bool):
        raise TypeError(f"`copies` must be a whole number or None, not {copies!r}")
    if copies < 2:  # noqa: PLR2004 - the primary and one more
        raise ValueError(f"`copies` must be at least 2, the primary and one more, not {copies}")
    if alternatives and copies > 1 + alternatives:
        raise ValueError(
            f"`copies` must be at most {1 + alternatives}, the function and its "
            f"`alternatives`, not {copies}"
        )
    return copies


def check_members(pool: "PoolMembers", copies: int) -> None:
    """Raise, unless a pool has as many members as there are copies, whatever their health."""
    members = len(pool.names())
    if copies > members:
        raise ValueError(
            f"`copies` must be at most {members}, the number of members of pool "
            f"{pool.name!r}, since each copy gets another one, not {copies}"
        )


def check_blocking(settings: RedundantSettings, what: str) -> None:
    """Raise, unless the policy works where nothing can be awaited."""
    if is_async_hook(settings.dispose):
        raise TypeError(
            f"`dispose` is async and {what} is not, so it could never be awaited; make it a "
            f"plain function"
        )
    if settings.pool is not None and settings.pool.is_async:
        raise TypeError(
            f"pool {settings.pool.name!r} is async, since a function given to "
            f"it (`fence`, `open`, `close` or the probe) is async, and "
            f"{what} is not async"
        )
    if settings.pool is not None:
        settings.pool.check_interruptible(what)


def checked_rule(decide: object, copies: int | None = None) -> Rule:
    """Return a rule; refuse what is none, or does not fit the number of copies if it is known."""
    tally = getattr(decide, "tally", None)
    if not callable(tally) or isinstance(decide, type):
        raise TypeError(f"`decide` must be a rule such as `vote.majority()`, not {decide!r}")
    try:
        if copies is not None:
            tally(copies)
    except ValueError as error:
        raise ValueError(f"`decide` does not fit `copies`: {error}") from error
    return cast("Rule", decide)


def checked_on(on: On) -> Judge:
    """Return the judge of `on=`; refuse what would have to be awaited."""
    if is_async_hook(on):
        raise TypeError(
            f"`on` must be a plain function: it is asked between copies, not {name_of(on)}"
        )
    return judge_of(on)


def checked_budget(budget: RetryBudget | float | None, *, together: bool) -> RetryBudget | None:
    """Return the budget that hedges are charged to."""
    checked = budget_of(budget)
    # Nothing is charged where all start together: there only a shared budget has to see the calls.
    return None if together and not isinstance(budget, RetryBudget) else checked


def checked_dispose(dispose: object) -> Callable[[Any], Any] | None:
    """Return what takes results that are not returned; refuse what would do nothing with them."""
    if dispose is None:
        return None
    if not callable(dispose):
        raise TypeError(f"`dispose` must take a result, not {dispose!r}")
    if kind_of(dispose) in (Kind.GENERATOR, Kind.ASYNC_GENERATOR):
        raise TypeError(
            f"`dispose` must do its work when called, and {name_of(dispose)} is a generator"
        )
    return dispose
