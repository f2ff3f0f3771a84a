"""Counts in a process and its children, some of which are killed, while a thread makes policies.

Arguments: the start method; the number of children. Prints the calls of "work" in all of them.
"""

import multiprocessing
import os
import signal
import sys
import threading
import warnings

from mainstay import retry

HERE = 100
IN_CHILD = 50
MOST_POLICIES = 200


@retry(on=OSError, name="work")
def work() -> None:
    pass


def child(number: int) -> None:
    for _ in range(IN_CHILD - 1):
        work()
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if number % 2:
        os.kill(os.getpid(), signal.SIGKILL)


def main(method: str, count: int) -> None:
    context = multiprocessing.get_context(method)
    warnings.simplefilter("ignore", DeprecationWarning)  # of forks while there are threads
    stop = threading.Event()

    def make_policies() -> None:
        for number in range(MOST_POLICIES):
            retry(on=OSError, name=f"other {number}").call(int)
            if stop.is_set():
                break

    maker = threading.Thread(target=make_policies)
    for _ in range(HERE // 2):
        work()
    maker.start()
    children = [context.Process(target=child, args=(n,)) for n in range(count)]
    for each in children:
        each.start()
    for each in children:
        each.join()
    stop.set()
    maker.join()
    for _ in range(HERE // 2):
        work()
    print(HERE + count * IN_CHILD)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
