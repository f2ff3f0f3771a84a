"""`recorded`: metrics of a test's own, and their values."""

from contextlib import ContextDecorator
from weakref import ref

from mainstay._core import context
from mainstay._metrics.collector import Metrics
from mainstay._metrics.recorders import Recorders
from mainstay._metrics.schema import FAMILIES, Family
from mainstay._metrics.series import SeriesTable

_NAMESPACE = "mainstay"


class RecordedMetrics(Metrics):
    """The metrics of a `recorded` block: a `Metrics` without a registry, for tests to read.

    Example:
        >>> from mainstay import retry
        >>> from mainstay.testing import recorded
        >>> with recorded() as metrics:
        ...     retry(on=OSError, name="answer").call(lambda: 42)
        42
        >>> metrics.value("calls_total", component="answer")
        1.0
    """

    def __init__(self) -> None:
        self._recorders = Recorders(SeriesTable(_NAMESPACE, {}))

    def value(self, name: str, **labels: str) -> float:
        """Return the sum of the samples of one name that have these labels, among others.

        Args:
            name: The name of the samples without the prefix, such as "calls_total" or
                "call_duration_seconds_count".
            **labels: Labels and their values.

        Returns:
            The sum; 0.0 if there are no such samples.

        Raises:
            ValueError: If mainstay has no sample of that name, or the metric no such label.
        """
        family = _family_of(name)
        unknown = labels.keys() - {*family.labels, *(["le"] if name.endswith("_bucket") else [])}
        if unknown:
            known = ", ".join(family.labels)
            raise ValueError(f"{name} has the labels {known}, not {', '.join(sorted(unknown))}")
        return sum(
            sample.value
            for metric in self.collect()
            for sample in metric.samples
            if sample.name == f"{_NAMESPACE}_{name}" and labels.items() <= sample.labels.items()
        )


def _family_of(sample: str) -> Family:
    for family in FAMILIES:
        suffixes = ("_bucket", "_count", "_sum") if family.kind == "histogram" else ("",)
        if sample in [family.name + suffix for suffix in suffixes]:
            return family
    raise ValueError(
        f"`name` must be the name of a sample of mainstay without prefix, such as "
        f"'calls_total' or 'call_duration_seconds_count', not {sample!r}"
    )


class recorded(ContextDecorator):  # noqa: N801 - used like a function; a block, which entries know
    """Record the policies inside the block into separate metrics.

    The value of the block is a `RecordedMetrics`, with the method `.value(name, **labels)`: the sum
    of the samples of that name with those labels. It can be read after the block, too. A pool or
    breaker that was made outside of the block keeps its gauges, such as `member_state`, and its
    availability in its own metrics, since these show its state, and not what happened in the block.

    Example:
        >>> from mainstay import retry
        >>> from mainstay.testing import Faults, no_waits, recorded
        >>> with recorded() as metrics, no_waits():
        ...     retry(on=OSError, name="fetch").call(Faults([OSError("refused"), "ok"]))
        'ok'
        >>> metrics.value("calls_total", component="fetch", outcome="recovered")
        1.0
    """

    def __init__(self) -> None:
        self._entries: list[context.Entry] = []

    def __enter__(self) -> RecordedMetrics:
        metrics = RecordedMetrics()
        context.enter(self._entries, context.MetricsEntry(ref(self), metrics))
        return metrics

    def __exit__(self, *exc_info: object) -> None:
        context.leave(self, self._entries)
