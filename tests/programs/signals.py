"""Calls a decorated function in a loop while a signal handler comes in every few microseconds.

Arguments: what the handler does, "calls" (the same function) or "raises"; how often; what the
function is decorated with, "retry" or "pipeline".
Prints: calls begun, calls recorded, calls that returned, places of its bulkhead that are taken.
"""

import signal
import sys
from types import FrameType

from mainstay import Bulkhead, CircuitBreaker, pipeline, retry, timeout
from mainstay.testing import recorded

EVERY = {"retry": 50e-6, "pipeline": 200e-6}  # seconds; longer than a call of the handler takes
CALLS_PER_SCRAPE = 1_000


class Interrupt(BaseException):
    """What the handler raises: as KeyboardInterrupt, no failure of the function."""


class Interrupted:
    """The function, its handler, and what they count."""

    def __init__(self, what: str, policy: str) -> None:
        self.raises = what == "raises"
        self.armed = False  # a handler may raise once for each call, and nowhere else
        self.begun = self.returned = self.handled = 0
        with recorded() as self.metrics:
            self.places = Bulkhead("places", 1_000)
            again = retry(on=OSError, name="work")
            layers = CircuitBreaker("breaker", on=OSError), self.places, timeout(9.0)
            policies = {"retry": again, "pipeline": pipeline("work", again, *layers)}
            self.work = policies[policy](lambda: None)

    def handle(self, _signal: int, _frame: FrameType | None) -> None:
        self.handled += 1
        if not self.raises:
            self.begun += 1
            self.work()
            self.returned += 1
        elif self.armed:
            self.armed = False
            raise Interrupt

    def call(self) -> None:
        self.begun += 1
        try:
            self.armed = True
            self.work()
            self.armed = False
        except Interrupt:
            return
        self.returned += 1

    def recorded(self) -> int:
        return int(self.metrics.value("calls_total", component="work"))


def main(what: str, times: int, policy: str) -> None:
    it = Interrupted(what, policy)
    it.call()
    signal.signal(signal.SIGALRM, it.handle)
    signal.setitimer(signal.ITIMER_REAL, EVERY[policy], EVERY[policy])
    while it.handled < times:
        for _ in range(CALLS_PER_SCRAPE):
            it.call()
        it.recorded()
    signal.setitimer(signal.ITIMER_REAL, 0)
    print(it.begun, it.recorded(), it.returned, it.places.in_flight)


main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
