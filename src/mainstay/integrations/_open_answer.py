"""An answer whose body is not out yet: reads end with the time left, and the place is held."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any

from mainstay._limits.bulkhead_calls import BulkheadCall
from mainstay.integrations._calls import end_of
from mainstay.integrations._time import can_be_watched
from mainstay.integrations._watchdog import Watch


class OpenAnswer:
    """What the body of an answer needs until nobody reads it any more.

    Args:
        component: The component of the request.

    Attributes:
        error: What a read has raised, if anything.
    """

    def __init__(self, component: str) -> None:
        self._component = component
        self._watch: Watch | None = None
        self._place: BulkheadCall | None = None
        self.error: BaseException | None = None

    def hold(self, place: BulkheadCall) -> None:
        """Keep *place* until the end, and release it then."""
        self._place = place

    def reading(self, left: float, connection: Callable[[], Any]) -> AbstractContextManager[None]:
        """Limit a read that blocks to *left* seconds, where its connection can be watched.

        Args:
            left: The time left.
            connection: Returns what has the descriptor of the connection, or raises.
        """
        if not can_be_watched(left):
            return nullcontext()
        if self._watch is None:
            with suppress(AttributeError, KeyError, OSError, ValueError):  # no connection any more
                self._watch = Watch(connection().fileno())
        return nullcontext() if self._watch is None else self._watch.reading(left, self._component)

    def end(self) -> None:
        """Release the place: the body is read, or nobody will read it."""
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.close()
        place, self._place = self._place, None
        if place is not None:
            end_of(place, self.error)
