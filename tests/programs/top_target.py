"""A program of which much is wrong: its metrics are what `mainstay top` is pointed at.

    top_target.py PORT    serves them, and prints "ready" once there is something of everything

It ends when its standard input does.
"""

import itertools
import random
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

from prometheus_client import start_http_server

from mainstay import (
    Bulkhead,
    CircuitBreaker,
    FailoverPool,
    Member,
    checkpoint_run,
    hedge,
    redundant,
    retry,
    vote,
)


class TroubleError(Exception):
    """What goes wrong here."""


def fails(share: float) -> Callable[[], str]:
    """Return a function that fails at random, the same at each start of the program."""
    dice = random.Random(1)

    def work() -> str:
        if dice.random() < share:
            raise TroubleError("as planned")
        return "well"

    return work


def use(address: str) -> str:
    """Ask a member of a pool."""
    if address == "bad":
        raise TroubleError("as planned")
    return address


def weigh(scale: str) -> int:
    """Read a scale, of which one is wrong."""
    return 2 if scale == "wrong" else 1


def slow_now_and_then(turn: "itertools.count[int]") -> str:
    """Answer at once, but for one answer in ten."""
    if next(turn) % 10 == 0:
        time.sleep(0.1)
    return "well"


def items(count: int) -> None:
    """Go through many items, and save ten times a second."""
    every = timedelta(seconds=0.1)
    with checkpoint_run("1", name="nightly-import", store="memory://top", every=every) as cp:
        for _ in cp.iterate(range(count)):
            time.sleep(0.02)


def calls() -> list[Callable[[], Any]]:
    """Return what is called, over and over, each in a thread of its own."""
    breaker = CircuitBreaker("payments", on=TroubleError)
    search = FailoverPool(
        "search", [Member("eu-1", "bad"), Member("eu-2", "a"), Member("us-1", "b")], on=TroubleError
    )
    orders = FailoverPool(
        "orders-db",
        [Member("primary", "a"), Member("replica", open=str, standby="cold")],
        on=OSError,
    )
    scales = [Member("a", "right"), Member("b", "right"), Member("c", "wrong")]
    weights = redundant(
        pool=FailoverPool("scales", scales, on=OSError),
        copies=3,
        decide=vote.majority(),
        name="weights",
    )
    flaky = retry(on=TroubleError, attempts=2, wait=0.01, name="recommendations")(fails(0.5))
    photos = Bulkhead("photos", limit=2, max_wait=0.5)
    reviews = redundant(start=hedge.after(0.03), name="reviews")(
        partial(slow_now_and_then, itertools.count())
    )
    return [
        breaker(fails(1.0)),
        flaky,
        retry(on=OSError, name="prices")(str),
        retry(on=OSError, name="checkout")(str),
        partial(search.call, use),
        partial(orders.call, use),
        partial(weights(weigh)),
        photos(partial(time.sleep, 0.05)),
        photos(partial(time.sleep, 0.05)),
        reviews,
    ]


def repeat(call: Callable[[], Any]) -> None:
    """Call for ever, whatever comes of it."""
    while True:
        try:
            call()
        except Exception:  # noqa: BLE001 - which is in the metrics
            time.sleep(0.01)
        time.sleep(0.03)


def main() -> None:
    """Serve until nobody is interested any more."""
    start_http_server(int(sys.argv[1]), addr="127.0.0.1")
    for call in [*calls(), partial(items, 1_000_000)]:
        threading.Thread(target=repeat, args=(call,), daemon=True).start()
    time.sleep(0.5)
    print("ready", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
