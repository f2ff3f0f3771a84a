"""One of many processes that want the same runs: `python contender.py URL`.

For each line of standard input, the key of a run, it asks for the run and prints what it got.
"""

import sys

from mainstay._core.owner import this_process
from mainstay.stores import store_of
from mainstay.stores.base import Acquired, Request, RunId


def contend(store, key):
    """Ask for a run; give the class of the answer."""
    request = Request(owner=this_process(), life="life", lease=30.0)
    answer = store.acquire(RunId("contended", key), request)
    assert isinstance(answer, Acquired) or answer.record.owner != this_process()
    return type(answer).__name__


if __name__ == "__main__":
    store = store_of(sys.argv[1])
    for line in sys.stdin:
        print(contend(store, line.strip()), flush=True)
