"""Forks while threads wait for turns; the child says what it has of them.

Prints: whether the child has a burst of its own; how many of the parent's threads stand in its
line; whether it is served in its turn; whether the parent's waiters were served.
"""

import os
import threading
import warnings

from mainstay import RateLimit, RateLimitedError


def main() -> None:
    warnings.simplefilter("ignore", DeprecationWarning)  # of forks while there are threads
    limit = RateLimit("mail", 2, burst=1, max_wait=30.0)
    limit.acquire()
    threads = [threading.Thread(target=limit.acquire) for _ in range(2)]
    turns = limit._bound.engine.turns
    for thread in threads:
        thread.start()
    while turns.waiting < len(threads):
        threading.Event().wait(0.001)
    child = os.fork()
    if child == 0:
        try:
            turns_left = turns.take(turns._clock.now())
            print("refused" if turns_left is not None else "let through")
            print(turns.waiting)
            limit.acquire()
            print("served", flush=True)
        except RateLimitedError as error:
            print(error, flush=True)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    for thread in threads:
        thread.join()
    print("kept" if status == 0 and turns.waiting == 0 else "lost")


main()
