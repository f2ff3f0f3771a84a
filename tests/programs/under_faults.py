"""A program whose every policy meets faults, over and over, and that exports its metrics.

It prints the port of its /metrics and goes on until its standard input ends. A line there does
something: "kill" ends the primary database of its pool, "revive" brings it back, "shut" ends a
service whose client raises errors of its own.
"""

import itertools
import random
import sys
import threading
import time
from datetime import timedelta

from limits import storage, strategies
from prometheus_client import CollectorRegistry, start_http_server

from mainstay import (
    Adaptive,
    Availability,
    Bulkhead,
    CircuitBreaker,
    Detect,
    FailoverPool,
    HostCollector,
    Member,
    Metrics,
    RateLimit,
    RejectedError,
    StoreCollector,
    StoreUnavailableError,
    checkpointed,
    fallback,
    hedge,
    redundant,
    retry,
    set_default_metrics,
    timeout,
    vote,
)
from mainstay.stores import MemoryStore

STORE = "memory://under-faults"
TURN = 0.05  # seconds

registry = CollectorRegistry()
set_default_metrics(Metrics(registry))
registry.register(StoreCollector(STORE))
registry.register(HostCollector())

turns = itertools.count()
dead = set()
shut = threading.Event()


@retry(on=OSError, attempts=3, wait=0.001, name="fetch")
def fetch():
    chance = random.random()
    if chance < 0.05:
        raise KeyError("not retryable")
    if chance < 0.4:
        raise ConnectionResetError("fault")
    return "page"


class ClientError(Exception):
    """As HTTP clients raise, which is no OSError."""


def look_in_catalogue():
    raise ClientError("connection refused")


catalogue = retry(on=(ConnectionError, TimeoutError), name="catalogue")


def database(name):
    def use():
        if name in dead:
            raise ConnectionError(f"{name} is dead")
        return name

    return use


# One whose members go away and come back all the time, and one that the test kills.
flaky = FailoverPool(
    "flaky",
    [
        Member("a", resource="a"),
        Member("b", resource="b", standby="hot"),
        Member("c", open=lambda: "c", standby="cold"),
    ],
    on=OSError,
    detect=Detect(consecutive=2, eject_for=0.1, max_eject=0.2),
)
orders = FailoverPool(
    "orders",
    [Member("primary", resource=database("primary")), Member("spare", resource=database("spare"))],
    on=OSError,
    detect=Detect(consecutive=2, eject_for=60.0),
)


def flaky_query(member):
    phase = next(turns) // 10 % 4
    if member in ((), ("a",), ("b",), ("a", "b"))[phase]:
        raise ConnectionError(f"{member} is away")
    return member


breaker = CircuitBreaker("mail", on=OSError, detect=Detect(consecutive=2, eject_for=0.1))


def send(turn):
    if turn % 30 < 10:
        raise ConnectionRefusedError("no mail")


@redundant(
    copies=2, start=hedge.after(0.002), decide=vote.first(), on=OSError, budget=0.3, name="look-up"
)
def look_up():
    time.sleep(0.02 if random.random() < 0.6 else 0.0)
    return "found"


def read(copy=itertools.count()):  # noqa: B008 - one counter for all calls
    return 7 if next(copy) % 5 else 8


sensor = redundant(copies=3, decide=vote.majority(), name="sensor")(read)


@checkpointed(store=STORE, key="run-{number}", name="import", every=1)
def import_rows(cp, number, broken):
    for row in cp.iterate(range(6), key=lambda row: row):
        if broken and row == 3:
            raise ConnectionError("the source went away")
        cp.step("write", int, row)
    return number


@checkpointed(store=STORE, key="copy", name="copy", every=timedelta(milliseconds=10),
              on_complete="rerun")  # fmt: skip
def copy_rows(cp):
    for _ in cp.iterate(range(20), key=lambda row: row):
        time.sleep(0.001)


places = Bulkhead("places", limit=2, max_wait=0.01)
learning = Bulkhead("learning", limit=Adaptive(initial=2))
turns_left = RateLimit("turns", 20, per=1.0)


class NoStore(storage.MemoryStorage):
    """A store that is gone."""

    def get_expiry(self, key):
        raise ConnectionError(key)

    def get_moving_window(self, key, limit, expiry):
        raise ConnectionError(key)

    def acquire_entry(self, key, limit, expiry, amount=1):
        raise ConnectionError(key)

    def acquire_sliding_window_entry(self, *args, **kwargs):
        raise ConnectionError("gone")

    def incr(self, key, expiry, amount=1):
        raise ConnectionError(key)


shared_turns = RateLimit(
    "shared-turns", 1000, shared=strategies.MovingWindowRateLimiter(NoStore()),
    on_store_error="allow",
)  # fmt: skip


def hold(bulkhead):
    with bulkhead:
        time.sleep(0.02)


def crowd():
    """More calls than places: some wait, some are refused."""
    visitors = [threading.Thread(target=attempt, args=(hold, places)) for _ in range(8)]
    for visitor in visitors:
        visitor.start()
    for visitor in visitors:
        visitor.join()


@fallback(on=OSError, last_good=60.0, name="last-good")
def last_good():
    if random.random() < 0.5:
        raise ConnectionResetError("fault")
    return 7


@retry(on=OSError, attempts=2, wait=0.0, name="outer")
@retry(on=OSError, attempts=2, wait=0.0, name="inner")
def nested():
    raise ConnectionResetError("fault")


# What is bad, and stays so: a breaker that is open, one on trial, a pool that nobody serves in, a
# bulkhead that is full, a run that does not get on, saves that fail.
refused = CircuitBreaker("refused", on=OSError, detect=Detect(consecutive=1, eject_for=300.0))
tried = CircuitBreaker("tried", on=OSError, detect=Detect(consecutive=1, eject_for=0.01))
deserted = FailoverPool(
    "deserted",
    [Member("a", resource="a"), Member("b", resource="b")],
    on=OSError,
    detect=Detect(consecutive=1, eject_for=300.0),
    when_all_down="raise",
)
full = Bulkhead("full", limit=1, max_wait=3600.0)


def fail(*_):
    raise ConnectionError("it is down")


def last_trial():
    time.sleep(3600.0)


@checkpointed(store=STORE, key="stuck", name="stuck", every=timedelta(milliseconds=10))
def get_stuck(cp):
    for row in cp.iterate(range(3), key=lambda row: row):
        time.sleep(3600.0 if row == 2 else 0.02)


class FullStore(MemoryStore):
    """A store that has no room left."""

    def commit(self, lease, change):
        raise StoreUnavailableError("full", "no space left")


@checkpointed(store=FullStore(), key="lost", name="unsaved", every=1)
def save_in_vain(cp):
    for _ in cp.iterate(range(2), key=lambda row: row):
        pass


def bring_down():
    attempt(refused.call, fail)
    attempt(deserted.call, fail)
    attempt(tried.call, fail)
    time.sleep(0.02)
    for hang, *args in ((tried.call, last_trial), (full.call, time.sleep, 3600.0), (get_stuck,)):
        threading.Thread(target=hang, args=args, daemon=True).start()
    threading.Thread(target=full.call, args=(int,), daemon=True).start()


@timeout(0.001, in_thread=True, name="patient")
def take_long():
    time.sleep(0.01)


watched = Availability("by-hand")


def attempt(fn, *args):
    try:
        return fn(*args)
    except (OSError, KeyError, ClientError, RejectedError, ExceptionGroup, StoreUnavailableError):
        return None


def work():
    bring_down()
    for turn in itertools.count():
        attempt(fetch)
        attempt(flaky.call, flaky_query)
        attempt(orders.call, lambda use: use())
        attempt(breaker.call, send, turn)
        attempt(look_up)
        attempt(sensor)
        attempt(import_rows, turn, True)
        attempt(import_rows, turn, False)
        attempt(copy_rows)
        attempt(save_in_vain)
        attempt(take_long)
        attempt(crowd)
        attempt(learning.call, time.sleep, 0.001)
        attempt(turns_left.call, int)
        attempt(turns_left.call, int)
        attempt(shared_turns.call, int)
        attempt(last_good)
        attempt(nested)
        places.resize(2 + turn % 2)
        if shut.is_set():
            attempt(catalogue.call, look_in_catalogue)
        if turn % 20 == 0:
            with watched.outage():
                time.sleep(TURN)
        time.sleep(TURN)


def main():
    server, thread = start_http_server(0, addr="127.0.0.1", registry=registry)
    threading.Thread(target=work, daemon=True).start()
    print(server.server_port, flush=True)
    commands = {"kill": lambda: dead.add("primary"), "revive": dead.clear, "shut": shut.set}
    for line in sys.stdin:
        commands[line.strip()]()
    server.shutdown()
    server.server_close()
    thread.join()


if __name__ == "__main__":
    main()
