"""What a store may have besides the operations of `Store`, where it can do better than its callers.

A caller looks whether a store is of one of these kinds, and does itself what any other store leaves
to it: it reads all runs by `Store.list`, or asks for the run again after a while. So nobody who
writes a store need know of them; their names begin with an underscore, and may change.

    protocol          its caller                     SQLite  PostgreSQL  Redis  S3
    CountingStore     `selection.count_runs`         yes     yes         yes    no
    ChoosingStore     `selection.surplus_runs`       yes     yes         yes    no
    WakingStore       `Sender.wait`, `Sender.await_` no      yes         yes    no
    PricedStore       `Run.iterating`                no      no          no     yes

`MemoryStore` is of none.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from mainstay.stores.base import RunId, Status


@runtime_checkable
class CountingStore(Protocol):
    """Counts its runs without reading each of them."""

    def _count_runs(self) -> Counter[tuple[str, Status]]:
        """Return how many runs there are by name and state."""
        ...


@runtime_checkable
class ChoosingStore(Protocol):
    """Finds the runs that need not be kept without reading all that have finished."""

    def _surplus_runs(
        self, ended: RunId, most: int | None, seconds: float | None, wall: float
    ) -> Sequence[RunId]:
        """Return the finished runs that need not be kept, as `selection.surplus_runs` does."""
        ...


@runtime_checkable
class WakingStore(Protocol):
    """Wakes those who wait for a run as soon as its owner leaves it."""

    def _wait_for_release(self, run: RunId, seconds: float) -> None:
        """Return when *run* is released or ends, or nobody works on it, or after *seconds*.

        To return sooner is no mistake: the caller asks for the run next, and waits again.

        Raises:
            StoreUnavailableError: If the store cannot be asked.
        """
        ...

    async def _await_release(self, run: RunId, seconds: float) -> None:
        """As `_wait_for_release`, in a task."""
        ...


@runtime_checkable
class PricedStore(Protocol):
    """Saves at a price, which a run that saves after each item tells."""

    def _price_of_saves(self) -> str:
        """Return what each save is, in words that follow "each save in the store is"."""
        ...
