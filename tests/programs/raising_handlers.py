"""Makes calls through limits while a signal handler raises at random, in every form.

Argument: how often it is to raise for each form. Prints for each form the places of the bulkhead
that are taken in the end, and the calls that wait.
"""

import asyncio
import gc
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable
from types import FrameType

from mainstay import Bulkhead, RateLimit, RejectedError, pipeline, retry, timeout

EVERY = 60e-6  # seconds
PLACES = 500


class Interrupt(BaseException):
    """What the handler raises."""


class Handler:
    """Raises once for each call, and nowhere else."""

    def __init__(self) -> None:
        self.armed = False
        self.raised = 0

    def __call__(self, _signal: int, _frame: FrameType | None) -> None:
        if self.armed:
            self.armed = False
            self.raised += 1
            raise Interrupt


def calls_of(bulkhead: Bulkhead) -> dict[str, Callable[[], object]]:
    """Give what makes a call, by the name of the form."""

    @bulkhead
    async def work() -> None:
        pass

    def long() -> None:
        with other:
            wrapped()

    other = Bulkhead("other", limit=PLACES)
    wrapped = bulkhead(lambda: None)
    piped = pipeline("piped", retry(on=OSError), bulkhead, timeout(1.0))(lambda: None)
    return {
        "decorated": wrapped,
        "async": lambda: work().send(None),
        "inside": long,
        "piped": piped,
    }


def interrupted(call: Callable[[], object], handler: Handler, times: int) -> None:
    end = handler.raised + times
    while handler.raised < end:
        try:
            handler.armed = True
            call()
            handler.armed = False
        except (Interrupt, StopIteration, RejectedError):
            handler.armed = False


def among_others(call: Callable[[], object], handler: Handler, times: int) -> None:
    """Make calls that may have to wait for those of other threads, which nobody interrupts."""
    stop = threading.Event()

    def others() -> None:
        while not stop.is_set():
            try:
                call()
            except RejectedError:
                continue

    threads = [threading.Thread(target=others) for _ in range(2)]
    for each in threads:
        each.start()
    interrupted(call, handler, times)
    stop.set()
    for each in threads:
        each.join()


def main(times: int) -> None:
    warnings.simplefilter("ignore", RuntimeWarning)  # of coroutines that were interrupted first
    gc.disable()  # before Python 3.12 a handler that comes in while it collects may crash it
    handler = Handler()
    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, EVERY, EVERY)

    async def forms() -> None:
        for form in ("decorated", "async", "inside", "piped"):
            bulkhead = Bulkhead(form, limit=PLACES)
            interrupted(calls_of(bulkhead)[form], handler, times)
            print(form, bulkhead.in_flight, bulkhead.waiting)

    asyncio.run(forms())
    waited = Bulkhead("waited", limit=1, max_wait=0.01)
    among_others(lambda: waited.call(time.sleep, 0.0002), handler, times)
    print("waited", waited.in_flight, waited.waiting)
    turns = RateLimit("turns", 5000, max_wait=0.01)
    among_others(turns.acquire, handler, times)
    signal.setitimer(signal.ITIMER_REAL, 0)
    print("turns", 0, turns._bound.engine.turns.waiting)


main(int(sys.argv[1]))
