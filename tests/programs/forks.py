"""Forks again and again while threads call a decorated function, and compares the counts.

Argument: the number of forks. Prints: forks whose child had exact counts, and the same of the
parent in the end: calls made, calls recorded.
"""

import os
import sys
import threading
import warnings

from mainstay import retry
from mainstay.testing import recorded

THREADS = 3
CALLS_IN_CHILD = 5


def main(forks: int) -> None:
    stop = threading.Event()
    made = [0] * THREADS
    with recorded() as metrics:
        work = retry(on=OSError, name="work")(lambda: None)

    def calls() -> float:
        return metrics.value("calls_total", component="work", outcome="success")

    def call_for_ever(number: int) -> None:
        while not stop.is_set():
            work()
            made[number] += 1

    threads = [threading.Thread(target=call_for_ever, args=(n,)) for n in range(THREADS)]
    for thread in threads:
        thread.start()
    warnings.simplefilter("ignore", DeprecationWarning)  # of forks while there are threads
    exact = 0
    for _ in range(forks):
        child = os.fork()
        if child == 0:
            before = calls()  # what the parent had recorded comes along
            for _ in range(CALLS_IN_CHILD):
                work()
            in_thread = threading.Thread(target=work)
            in_thread.start()
            in_thread.join()
            os._exit(0 if calls() - before == CALLS_IN_CHILD + 1 else 1)
        exact += os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    stop.set()
    for thread in threads:
        thread.join()
    print(exact, sum(made), int(calls()))


main(int(sys.argv[1]))
