"""Calls a decorated function in a loop while a signal handler comes in every few microseconds.

Arguments: what the handler does, "calls" (the same function) or "raises"; how often.
Prints: calls begun, calls recorded, calls that returned.
"""

import signal
import sys
from types import FrameType

from mainstay import retry
from mainstay.testing import recorded

EVERY = 50e-6  # seconds
CALLS_PER_SCRAPE = 1_000


class Interrupt(BaseException):
    """What the handler raises: as KeyboardInterrupt, no failure of the function."""


class Interrupted:
    """The function, its handler, and what they count."""

    def __init__(self, what: str) -> None:
        self.raises = what == "raises"
        self.armed = False  # a handler may raise once for each call, and nowhere else
        self.begun = self.returned = self.handled = 0
        with recorded() as self.metrics:
            self.work = retry(on=OSError, name="work")(lambda: None)

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


def main(what: str, times: int) -> None:
    it = Interrupted(what)
    it.call()
    signal.signal(signal.SIGALRM, it.handle)
    signal.setitimer(signal.ITIMER_REAL, EVERY, EVERY)
    while it.handled < times:
        for _ in range(CALLS_PER_SCRAPE):
            it.call()
        it.recorded()
    signal.setitimer(signal.ITIMER_REAL, 0)
    print(it.begun, it.recorded(), it.returned)


main(sys.argv[1], int(sys.argv[2]))
