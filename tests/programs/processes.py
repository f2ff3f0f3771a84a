"""Calls a decorated function here and in two children of multiprocessing.

Argument: the start method. Prints: calls recorded here, and in each child, which makes five and
has what its parent recorded only if it is a fork.
"""

import multiprocessing
import sys
from typing import TYPE_CHECKING

from prometheus_client import REGISTRY

from mainstay import retry

if TYPE_CHECKING:
    from multiprocessing.queues import SimpleQueue

CALLS_HERE = 2
CALLS_IN_CHILD = 5


@retry(on=OSError, name="work")
def work() -> None:
    pass


def recorded() -> int:
    labels = {"component": "work", "policy": "retry", "outcome": "success"}
    return int(REGISTRY.get_sample_value("mainstay_calls_total", labels) or 0)


def child(answers: "SimpleQueue[int]", inherited: int) -> None:
    before = recorded()
    for _ in range(CALLS_IN_CHILD):
        work()
    answers.put(recorded() - before + inherited)


def main(method: str) -> None:
    context = multiprocessing.get_context(method)
    answers = context.SimpleQueue()
    for _ in range(CALLS_HERE):
        work()
    children = [context.Process(target=child, args=(answers, CALLS_HERE)) for _ in range(2)]
    for each in children:
        each.start()
    for each in children:
        each.join()
    print(recorded(), answers.get(), answers.get())


if __name__ == "__main__":
    main(sys.argv[1])
