"""One or many processes added up: what they did, how often, and how they are."""

from collections.abc import Iterable

import attrs

from mainstay._metrics.text_format import Labels, Samples
from mainstay._top.target import GAUGES, Interval, Target

Values = dict[Labels, float]


@attrs.frozen(kw_only=True)
class Figures:
    """The sum over some targets.

    Attributes:
        grown: By how much counters grew in the window.
        rates: The same per second.
        now: Present values of gauges, and of counters since the start of the processes.
        processes: How many targets there are.
        has_rates: True unless all of them were scraped once only.
    """

    grown: Samples
    rates: Samples
    now: Samples
    processes: int
    has_rates: bool


def figures_of(targets: Iterable[Target]) -> Figures:
    """Return what targets come to, each over its own window."""
    grown: Samples = {}
    rates: Samples = {}
    now: Samples = {}
    processes, has_rates = 0, False
    for target in targets:
        processes += 1
        intervals = [*target.window()]
        has_rates = has_rates or bool(intervals)
        seconds = sum(interval.seconds for interval in intervals)
        for interval in intervals:
            _add(grown, interval.grown, 1.0)
            _add(rates, interval.grown, 1 / seconds)
        _add_now(now, target.samples)
    return Figures(grown=grown, rates=rates, now=now, processes=processes, has_rates=has_rates)


def total_of(intervals: Iterable[Interval], *, per_second: bool = False) -> Samples:
    """Return what happened in some intervals, in all or per second of each."""
    total: Samples = {}
    for interval in intervals:
        _add(total, interval.grown, 1 / interval.seconds if per_second else 1.0)
    return total


def _add(total: Samples, more: Samples, factor: float) -> None:
    for name, values in more.items():
        sums = total.setdefault(name, {})
        for labels, value in values.items():
            sums[labels] = sums.get(labels, 0.0) + value * factor


def _add_now(total: Samples, more: Samples) -> None:
    """Add up as the schema says for worker processes: states are counted, of times the latest."""
    for name, values in more.items():
        if name.endswith("_bucket"):
            continue  # nobody asks for those since the start
        family = GAUGES.get(name)
        is_sum = family is None or family.mode == "livesum"
        sums = total.setdefault(name, {})
        for labels, value in values.items():
            before = sums.get(labels)
            if before is None:
                sums[labels] = value
            else:
                sums[labels] = before + value if is_sum else max(before, value)
