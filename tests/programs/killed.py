"""Calls a decorated function in threads for ever, and tells in a file how many calls returned.

Argument: the file, which gets one 64-bit number for each thread. To be ended with SIGKILL.
"""

import mmap
import sys
import threading
from pathlib import Path

from mainstay import retry

THREADS = 4
BYTES = 8


@retry(on=OSError, name="work")
def work() -> None:
    pass


def main(path: str) -> None:
    with Path(path).open("w+b") as file:
        file.truncate(THREADS * BYTES)
        returned = memoryview(mmap.mmap(file.fileno(), THREADS * BYTES)).cast("Q")

    def call_for_ever(number: int) -> None:
        while True:
            # Short threads, so that cells change hands all the time.
            thread = threading.Thread(target=call_often, args=(number,))
            thread.start()
            thread.join()

    def call_often(number: int) -> None:
        for _ in range(100):
            work()
            returned[number] += 1

    threads = [threading.Thread(target=call_for_ever, args=(n,)) for n in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


main(sys.argv[1])
