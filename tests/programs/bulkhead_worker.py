"""A worker process of multiprocess mode with a bulkhead, which does what its input says.

Argument: the limit; "adaptive" for an `Adaptive` that begins with 20 places.
Each line is a command: "hold N", calls that stay inside; "wait N", calls that wait; "let go", of
all of them; "resize N"; "overload", calls that an adaptive limit takes for too many; "forget", the
bulkhead; "fork", a child that does what the next lines say. Prints "done" after each.
"""

import gc
import os
import sys
import threading
import time
import warnings

from mainstay import Adaptive, Bulkhead
from mainstay._metrics.writer import finish_all

WAIT = 60.0


class Worker:
    """A bulkhead, and calls that stay inside."""

    def __init__(self, limit: str) -> None:
        how = Adaptive(overload=OSError) if limit == "adaptive" else int(limit)
        self.bulkhead: Bulkhead = Bulkhead("orders", how, max_wait=WAIT)
        self.go = threading.Event()
        self.threads: list[threading.Thread] = []

    def do(self, command: str, number: int) -> None:
        getattr(self, command)(number)
        finish_all()
        print("done", flush=True)

    def hold(self, number: int) -> None:
        self._begin(number)
        while self.bulkhead.in_flight < number:
            time.sleep(0.001)

    def wait(self, number: int) -> None:
        self._begin(number)
        while self.bulkhead.waiting < number:
            time.sleep(0.001)

    def _begin(self, number: int) -> None:
        for _ in range(number):
            thread = threading.Thread(target=self.bulkhead.call, args=(self.go.wait,), daemon=True)
            thread.start()
            self.threads.append(thread)

    def let(self, _number: int) -> None:
        self.go.set()
        for each in self.threads:
            each.join()

    def resize(self, number: int) -> None:
        self.bulkhead.resize(number)

    def overload(self, _number: int) -> None:
        def too_many() -> None:
            raise OSError

        while self.bulkhead.limit == 20:
            try:
                self.bulkhead.call(too_many)
            except OSError:
                time.sleep(0.001)

    def forget(self, _number: int) -> None:
        del self.bulkhead
        gc.collect()

    def fork(self, _number: int) -> None:
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks while there are threads
        child = os.fork()
        if child:
            os.waitpid(child, 0)
            os._exit(0)


def main(limit: str) -> None:
    worker = Worker(limit)
    finish_all()
    print("done", flush=True)
    for line in sys.stdin:
        command, *number = line.split()
        worker.do(command, int(number[0]) if number and number[0].isdigit() else 0)
    os._exit(0)


main(sys.argv[1])
