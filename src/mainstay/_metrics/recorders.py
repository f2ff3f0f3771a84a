"""The one finder of recorders and gauges: each is made at first use, and found from then on."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from mainstay._core.forks import reset_after_fork
from mainstay._core.threads import get_or_create, values_now
from mainstay._metrics.bulkhead import BulkheadRecorder
from mainstay._metrics.checkpoint import CheckpointRecorder
from mainstay._metrics.copies import CopiesRecorder
from mainstay._metrics.fallbacks import FallbackRecorder
from mainstay._metrics.gauges import (
    Beginnings,
    Gauge,
    NumberGauge,
    Sample,
    SinceGauge,
    Stateful,
    StateGauge,
)
from mainstay._metrics.pipeline import PipelineRecorder, SharedRecorder
from mainstay._metrics.pools import MemberRecorder, SwitchRecorder
from mainstay._metrics.rate import RateStoreRecorder
from mainstay._metrics.recorder import Recorder
from mainstay._metrics.schema import SINCE, Family
from mainstay._metrics.series import SeriesTable
from mainstay._metrics.wire import WireRecorder

if TYPE_CHECKING:
    from mainstay._metrics.uptime import UptimeSeries

P = ParamSpec("P")
T = TypeVar("T")
PR = TypeVar("PR", bound=PipelineRecorder)


class Recorders:
    """Everything that policies record with in one `Metrics`.

    Its methods take the names of components and members, and turn them into labels.

    Attributes:
        table: Where all of it is recorded.
    """

    def __init__(self, table: SeriesTable) -> None:
        self.table = table
        self._known: dict[tuple[object, ...], Any] = {}
        if table.writer is not None:
            reset_after_fork(self, Recorders._write_states)

    def calls(self, component: str, policy: str) -> Recorder:
        """Return the recorder of a component's calls under a policy."""
        return self._find(Recorder, self.table.component(component), policy)

    def pipeline(self, kind: "type[PR]", component: str, reasons: tuple[str, ...]) -> "PR":
        """Return what a pipeline, or one of its layers, records with."""
        label = self.table.component(component)
        return self._find(kind, label, component, reasons)

    def shared(self, component: str, policy: str) -> SharedRecorder:
        """Return what a shared object records with whose calls are layers of pipelines."""
        return self._find(SharedRecorder, self.table.component(component), policy)

    def checkpoint(self, component: str) -> CheckpointRecorder:
        """Return the recorder of a checkpointed function."""
        label = self.table.component(component)
        return self._find(CheckpointRecorder, label, number=partial(self._number, label))

    def member(self, component: str, member: str) -> MemberRecorder:
        """Return the recorder of one member of a pool."""
        label = self.table.component(component)
        return self._find(MemberRecorder, label, self.table.member(label, member))

    def switches(self, component: str) -> SwitchRecorder:
        """Return the recorder of the changes in a pool or breaker."""
        return self._find(SwitchRecorder, self.table.component(component))

    def copies(self, component: str) -> CopiesRecorder:
        """Return the recorder of the copies of redundant calls."""
        return self._find(CopiesRecorder, self.table.component(component))

    def rate_store(self, component: str) -> RateStoreRecorder:
        """Return the recorder of the store of a rate limit."""
        return self._find(RateStoreRecorder, self.table.component(component))

    def fallbacks(self, component: str) -> FallbackRecorder:
        """Return the recorder of what a fallback answers."""
        return self._find(FallbackRecorder, self.table.component(component))

    def wire(self) -> WireRecorder:
        """Return the recorder of headers that cannot be read."""
        return self._find(WireRecorder)

    def bulkhead(self, component: str) -> BulkheadRecorder:
        """Return the recorder of a component's bulkheads."""
        label = self.table.component(component)
        return self._find(BulkheadRecorder, label, number=partial(self._number, label))

    def uptime(self, component: str) -> "UptimeSeries":
        """Return the dependability series of a component."""
        from mainstay._metrics.uptime import UptimeSeries  # noqa: PLC0415 - few policies have one

        label = self.table.component(component)
        series = self._find(UptimeSeries, label, number=partial(self._number, label))
        self.table.refreshers["uptime", label] = series.refresh
        return series

    def number(self, family: Family, component: str) -> NumberGauge:
        """Return the gauge *family* of a component, which shows one number."""
        return self._number(self.table.component(component), family)

    def follow(self, family: Family, component: str, source: Stateful) -> StateGauge:
        """Return the gauge *family* of a component, which shows the states of *source*.

        It does as long as *source* lives.
        """
        component = self.table.component(component)
        since = self._find(SinceGauge, component, SINCE[family])
        since.follow(source, Beginnings(type(source).states))
        gauge = self._find(StateGauge, component, family, since=since)
        gauge.follow(source, type(source).states)
        return gauge

    def gauge_samples(self) -> Iterator[Sample]:
        """Yield the present values of all gauges."""
        for each in values_now(self._known):
            if isinstance(each, Gauge):
                yield from each.samples()

    def _write_states(self) -> None:
        """Write the states that a forked child begins in, which no change will report."""
        for each in values_now(self._known):
            if isinstance(each, StateGauge):
                each.changed()

    def _number(self, component: str, family: Family) -> NumberGauge:
        return self._find(NumberGauge, component, family)

    def _find(
        self, kind: Callable[Concatenate[SeriesTable, P], T], *key: P.args, **others: P.kwargs
    ) -> T:
        """Return the one of *kind* with this key; *others* are what it is made with besides."""
        found: T = get_or_create(
            self._known, (kind, *key), lambda: kind(self.table, *key, **others)
        )
        return found
