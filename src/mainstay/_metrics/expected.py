"""How many items a component will have counted at the end of its present iterations."""

from collections.abc import Callable
from weakref import ref

from mainstay._core.threads import values_now
from mainstay._metrics.gauges import NumberGauge


class ExpectedItems:
    """A source of a gauge: the items that were counted, and those that runs have left.

    It is unknown before the first iteration, and while nobody knows what some run has left.

    Args:
        gauge: The gauge.
        counted: Returns how many items were counted so far.
    """

    def __init__(self, gauge: NumberGauge, counted: Callable[[], float]) -> None:
        self._gauge = gauge
        self._counted = counted
        self._began = False
        self._left: dict[ref[object], int | None] = {}  # a handler may leave a run without an end
        gauge.follow(self, ExpectedItems.value)

    def value(self) -> float | None:
        """Return it, or None where it is unknown."""
        total = self._counted()
        for left in values_now(self._left):
            if left is None:
                return None
            total += left
        return total if self._began else None

    def begin(self, run: object, left: int | None) -> None:
        """Record that an iteration of *run* begins, with what the run has left from then on."""
        self._began = True
        self._left[ref(run, self._forgotten)] = left
        self._gauge.changed()

    def go_on(self, run: object, left: int | None) -> None:
        """Record what *run* has left, if it has begun an iteration."""
        known = ref(run)
        if known in self._left:
            self._left[known] = left
            self._gauge.changed()

    def forget(self, run: object) -> None:
        """Record that *run* counts nothing more."""
        self._forgotten(ref(run))

    def _forgotten(self, run: "ref[object]") -> None:
        if self._left.pop(run, 0) != 0:
            self._gauge.changed()
