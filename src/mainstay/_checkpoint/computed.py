"""Results of steps that are not saved yet, and what goes once they are.

A result stands for all that was done inside its step: with it go the results and cursors there, and
not before it is saved, since until then the step may have to go on from them. An exception stands
for nothing. If it ends the run it is forgotten, so that its step runs again.
"""

from collections.abc import Iterable

import attrs

from mainstay._checkpoint.codec import Json
from mainstay._checkpoint.names import Names, forget
from mainstay._checkpoint.steps import Step, Steps
from mainstay._core.threads import values_now
from mainstay.stores.base import Change, Result


@attrs.define(eq=False)
class Computed:
    """A result of a step that is not saved yet.

    Attributes:
        step: The step.
        number: What the result is kept under.
        result: What to save.
        stands: Whether it stands for all that was done inside the step.
        cursors: Where the cursors are of the iterations inside the step.
        items: What the names of these begin with, up to the innermost item around the step.
        steps: What they begin with after that, in the names of cursors, too.
    """

    step: Step
    number: int
    result: Result
    stands: bool
    cursors: dict[str, Json]
    items: str
    steps: str


class Unsaved:
    """The results that are not saved yet, and those that are but whose insides are still there.

    `saved` may be called in the thread that writes; all else belongs to the thread of the run.
    """

    __slots__ = ("_computed", "_names", "_over", "_steps")

    def __init__(self, steps: Steps, names: Names) -> None:
        self._steps = steps
        self._names = names
        self._computed: dict[int | None, Computed] = {}
        self._over: list[Computed] = []

    def add(self, computed: Computed) -> None:
        """Take in a result."""
        self._computed[computed.number] = computed

    def discard(self, numbers: Iterable[int]) -> None:
        """Forget results that nobody needs any more."""
        for number in numbers:
            self._computed.pop(number, None)

    def __contains__(self, step: Step) -> bool:
        return step.number in self._computed

    def change_of(self, step: Step) -> Change:
        """Put together what saves the result of one step alone."""
        put, drop = self._to_save([self._computed[step.number]])
        return Change(put=put, drop=drop)

    def to_save(self) -> tuple[dict[int, Result], tuple[int, ...]]:
        """Give all results that are to be saved, and the numbers of those that go with them."""
        return self._to_save(values_now(self._computed))

    def _to_save(self, results: Iterable[Computed]) -> tuple[dict[int, Result], tuple[int, ...]]:
        put, drop = {}, []
        for computed in results:
            put[computed.number] = computed.result
            if computed.stands:
                drop += self._steps.numbers_inside(computed.step)
        return put, tuple(drop)

    def saved(self, numbers: Iterable[int]) -> None:
        """Take in that results are saved."""
        for number in numbers:
            computed = self._computed.pop(number, None)
            if computed is not None and computed.stands:
                self._over.append(computed)

    def leave(self) -> None:
        """Forget what is inside the steps whose results are saved."""
        while self._over:
            computed = self._over.pop()
            step = computed.step
            self.discard(self._steps.leave(step.place, step.inside))
            if step.iterated:
                forget(computed.cursors, computed.steps)
                self._names.leave(computed.items + computed.steps)
