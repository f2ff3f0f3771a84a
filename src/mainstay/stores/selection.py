"""Questions about all runs of a store: how many are in which state, and which are too many.

Any store can answer them by `list`. A `CountingStore` or a `ChoosingStore` does so where its runs
are, without reading a hundred thousand of them.
"""

from collections import Counter
from collections.abc import Iterator, Sequence

from mainstay.stores._optional import ChoosingStore, CountingStore
from mainstay.stores.base import Record, RunId, Status, Store

_PAGE = 500


def pages(
    store: Store, name: str | None = None, status: Status | None = None
) -> Iterator[tuple[Record, Status]]:
    """Yield runs as `Store.list` does, reading a page at a time; what changes meanwhile counts.

    Raises:
        StoreUnavailableError: If the store cannot be read.
    """
    after: RunId | None = None
    while page := store.list(name, status=status, after=after, limit=_PAGE):
        yield from page
        if len(page) < _PAGE:
            return
        after = page[-1][0].run


def count_runs(store: Store) -> Counter[tuple[str, Status]]:
    """Return how many runs there are by name and state.

    Raises:
        StoreUnavailableError: If the store cannot be read.
    """
    if isinstance(store, CountingStore):
        return store._count_runs()
    return Counter((record.run.name, state) for record, state in pages(store))


def surplus_runs(
    store: Store, ended: RunId, most: int | None, seconds: float | None, wall: float
) -> Sequence[RunId]:
    """Return the finished runs that need not be kept, now that another one of the name has ended.

    Args:
        store: Where they are.
        ended: The one that has just ended, which is kept whatever the clock said when. It takes
            nobody's place: where machines end runs at the same moment, each of them finds the same
            runs to be the newest.
        most: How many of the newest to keep, or None for all.
        seconds: Up to which age to keep them, or None for any.
        wall: The present time, in seconds since 1970.

    Raises:
        StoreUnavailableError: If the store cannot be read.
    """
    if isinstance(store, ChoosingStore):
        return store._surplus_runs(ended, most, seconds, wall)
    records = [record for record, _ in pages(store, ended.name, "done")]
    return too_many(records, ended, most, seconds, wall)


def too_many(
    finished: Sequence[Record],
    ended: RunId,
    most: int | None,
    seconds: float | None,
    wall: float,
) -> list[RunId]:
    """Return which of the *finished* runs of one name are too many or too old."""
    newest = sorted(finished, key=lambda each: each.updated, reverse=True)
    return [
        record.run
        for rank, record in enumerate(newest)
        if record.run != ended
        and (
            (most is not None and rank >= most)
            or (seconds is not None and wall - record.updated > seconds)
        )
    ]
