"""What was seen of a checkpointed function over time: how fast it is, how far, if a run goes on."""

from collections import deque

import attrs

_MOST_ITEMS = 1_000


@attrs.frozen(kw_only=True)
class RunFigures:
    """What several scrapes say of the runs of a component; None is what they do not.

    Attributes:
        running: True if a run was seen to save and not seen to end.
        rate: Items per second, over several saves.
        share: Of the items of the runs that go on, those that are done or were skipped.
        left: For how many seconds there are items, at this rate.
    """

    running: bool = False
    rate: float | None = None
    share: float | None = None
    left: float | None = None


class RunSeen:
    """Keeps what later pictures need of the runs of one component."""

    def __init__(self) -> None:
        self._running = False
        self._saved: float | None = None
        self._ended = 0.0
        self._items: deque[tuple[float, float]] = deque(maxlen=_MOST_ITEMS)
        self._reached = 0.0
        self._left = 0.0
        self._base: float | None = None

    def see(self, now: float, saved: float, ended: float, items: float, horizon: float) -> None:
        """Record the time of the last save, how many runs have ended, and how many items are done.

        A run that ends saves just before. So one goes on where a save came, and no end with it.
        """
        if self._saved is not None and ended != self._ended:
            self._running = False
        elif self._saved is not None and saved != self._saved:
            self._running = True
        self._saved, self._ended = saved, ended
        if self._items and items < self._items[-1][1]:
            self._items.clear()  # the process has begun again
        self._items.append((now, items))
        while len(self._items) > 2 and self._items[1][0] <= now - horizon:  # noqa: PLR2004 - a pair
            self._items.popleft()

    def see_left(self, reached: float, left: float) -> None:
        """Record how many items are done or skipped, since the start, and how many are to come.

        The runs that go on began with the first item of all where no run has ended; else when there
        was nothing left. Before that is seen, nobody knows how long they are.
        """
        if reached < self._reached:
            self._base = None  # the process has begun again
        self._reached, self._left = reached, max(0.0, left)
        if not self._left:
            self._base = reached
        elif not self._ended:
            self._base = 0.0

    def figures(self) -> RunFigures:
        """Return what that comes to."""
        rate, going = self._rate(), self._left > 0
        share = None
        if going and self._base is not None:
            done = self._reached - self._base
            share = done / (done + self._left)
        return RunFigures(
            running=self._running,
            rate=rate,
            share=share,
            left=self._left / rate if going and rate else None,
        )

    def _rate(self) -> float | None:
        """Return items per second; None before there are two times to compare."""
        if not self._items:
            return None
        (since, first), (now, last) = self._items[0], self._items[-1]
        return (last - first) / (now - since) if now > since else None
