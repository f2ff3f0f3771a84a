"""Threads that ask: one for each endpoint, so that a slow one keeps no other waiting."""

import queue
import threading
from collections.abc import Callable, Sequence

import attrs

from mainstay._core.clock import monotonic
from mainstay._metrics.text_format import Samples, TextReader
from mainstay._top.endpoint import Endpoint, ScrapeError
from mainstay._top.model import period
from mainstay._top.target import SHOWN

FIRST_WAIT = 1.0
"""Seconds between the first two scrapes, so that there are rates soon."""


@attrs.frozen(kw_only=True)
class Scraped:
    """What came of one scrape.

    Attributes:
        place: Which of the endpoints was asked.
        samples: What it said; None if it did not.
        failure: Why not.
        at: When it was asked.
        took: How many seconds that took.
    """

    place: int
    samples: Samples | None
    failure: str
    at: float
    took: float


class Scraper:
    """Asks endpoints again and again.

    Args:
        endpoints: Whom to ask.
        namespace: The prefix of the metrics.
        every: Seconds between two scrapes; longer where a scrape takes more than half of that.
        arrived: Called in a thread after each answer.
    """

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        *,
        namespace: str,
        every: float,
        arrived: Callable[[], object],
    ) -> None:
        self._every = every
        self._arrived = arrived
        self._answers: queue.SimpleQueue[Scraped] = queue.SimpleQueue()
        self._closed = threading.Event()
        for place, endpoint in enumerate(endpoints):
            threading.Thread(
                target=self._run,
                args=(place, endpoint, TextReader(namespace, SHOWN)),
                name=f"scrape {endpoint.name}",
                daemon=True,
            ).start()

    def answers(self) -> list[Scraped]:
        """Return what has arrived since the last time."""
        found = []
        while True:
            try:
                found.append(self._answers.get_nowait())
            except queue.Empty:
                return found

    def close(self) -> None:
        """Ask no more; what is under way is not waited for."""
        self._closed.set()

    def _run(self, place: int, endpoint: Endpoint, reader: TextReader) -> None:
        wait = FIRST_WAIT
        while True:
            at = monotonic()
            samples, failure = _ask(endpoint, reader)
            took = monotonic() - at
            answer = Scraped(place=place, samples=samples, failure=failure, at=at, took=took)
            self._answers.put(answer)
            self._arrived()
            if self._closed.wait(max(0.0, at + max(wait, period(wait, took)) - monotonic())):
                return
            wait = self._every


def _ask(endpoint: Endpoint, reader: TextReader) -> tuple[Samples | None, str]:
    try:
        return reader.read(endpoint.fetch()), ""
    except (ScrapeError, ValueError) as error:
        return None, str(error)
