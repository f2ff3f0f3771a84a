"""Goes on calling after the disk is full: here, when no file may have a single byte.

Argument: "before" or "after" the first policy is made. Prints what it logged, and in the last
line the calls that returned.
"""

import logging
import resource
import sys
import threading

from mainstay import retry


def fill_the_disk() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


def main(when: str) -> None:
    logging.basicConfig(stream=sys.stdout, format="%(name)s %(levelname)s %(message)s")
    returned: list[int] = []
    if when == "before":
        fill_the_disk()
    first = retry(on=OSError, name="first")(lambda: returned.append(1))
    first()
    fill_the_disk()
    first()
    long = "too long for the first file" * 100_000
    second = retry(on=OSError, name=long)(lambda: returned.append(1))
    second()
    thread = threading.Thread(target=first)
    thread.start()
    thread.join()
    print(len(returned))


main(sys.argv[1])
