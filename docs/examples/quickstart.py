"""mainstay in ten seconds: real servers fail, the calls go on, Prometheus sees it all.

    python docs/examples/quickstart.py                   prints what happened, and ends
    python docs/examples/quickstart.py --keep-running    goes on until Ctrl-C, for you to watch

A shop needs three things of two servers. Eight threads ask for them all the time, some with plain
functions, some with asyncio, while one server is overloaded again and again, and the other one is
killed and started again. Then four of them read a catalogue that two servers have, one of which is
killed. They read reviews from a server that is slow now and then, and weigh things on three scales
of which one is wrong. The shop does not notice. Sixteen threads bring down a small server; a
bulkhead keeps it up. A job that sends invoices fails in the middle, and goes on from there. What it
cost is in the metrics, which nobody had to write a line for. At the end a checkpointed job is
killed three times, and still gives the exact total (`killed_job.py`).

Everything runs on this machine; the servers are in `servers.py` beside this file, `pages.py` reads
from them with httpx if it is installed, and with urllib if it is not, and `report.py` has what is
printed at the end.
"""

import argparse
import asyncio
import contextlib
import itertools
import logging
import math
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.util import find_spec

import killed_job
from pages import ERRORS, get
from prometheus_client import start_http_server
from report import explain, scrape, show
from servers import (
    HOST,
    MOST_AT_ONCE,
    BusyServer,
    SlowServer,
    SmallServer,
    SteadyServer,
    WrongServer,
)
from tenacity import wait_random

from mainstay import (
    Bulkhead,
    Checkpoint,
    FailoverPool,
    Member,
    checkpointed,
    deadline,
    failover,
    hedge,
    redundant,
    retry,
    transient,
    vote,
)

VISITORS = 16
LOOKS = 20
"""How many photos each visitor wants to see."""

INVOICES = 240

# Retry: what passes, after a wait, which is the one that the server asks for where it does.


@retry(on=transient, timeout=10.0, name="prices")
def price(url: str) -> bytes:
    """Ask a server that is overloaded now and then, and wait for it."""
    return get(url)


@retry(on=transient, name="recommendations")
def recommendation(url: str) -> bytes:
    """Ask the same server for something that is not worth waiting for."""
    return get(url)


async def aget(port: int) -> bytes:
    """Read a page of this machine in async code."""
    reader, writer = await asyncio.open_connection(HOST, port)
    with contextlib.closing(writer):
        writer.write(b"GET / HTTP/1.0\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        return await reader.read()


@retry(on=transient, attempts=None, timeout=10.0, wait=wait_random(0.05, 0.3), name="stock")
async def stock(port: int) -> bytes:
    """Ask a server that dies and is soon back: wait as one of tenacity's strategies says."""
    return await aget(port)


class Retries:
    """The retry section: customers that call, and an operator who breaks things."""

    def __init__(self) -> None:
        self._closed = threading.Event()

    def run(self) -> Counter[str]:
        """Call from eight threads while servers fail; give how many calls were made of what."""
        with BusyServer() as busy, SteadyServer() as steady, ThreadPoolExecutor(8) as threads:
            customers = [
                *(threads.submit(self.buy, busy.url) for _ in range(4)),
                *(threads.submit(self.browse, busy.url) for _ in range(2)),
                *(threads.submit(asyncio.run, self.count_stock(steady.port)) for _ in range(2)),
            ]
            try:
                for _ in range(2):
                    time.sleep(0.8)
                    print("The stock server is killed with SIGKILL ...")
                    steady.kill()
                    time.sleep(0.6)
                    steady.start()
                    print("... and runs again.")
                time.sleep(0.5)
            finally:
                self._closed.set()
            made = Counter[str]()
            for customer in customers:
                made += customer.result()
        return made

    def buy(self, url: str) -> Counter[str]:
        """Ask for prices, which have to come."""
        made = Counter[str]()
        while not self._closed.wait(0.02):
            price(url)
            made["prices"] += 1
        return made

    def browse(self, url: str) -> Counter[str]:
        """Ask for recommendations, if they come within 0.3 seconds."""
        made = Counter[str]()
        while not self._closed.wait(0.02):
            with deadline(0.3), contextlib.suppress(*ERRORS):
                recommendation(url)
            made["recommendations"] += 1
        return made

    async def count_stock(self, port: int) -> Counter[str]:
        """Ask for the stock in four tasks."""

        async def ask() -> int:
            made = 0
            while not self._closed.is_set():
                await stock(port)
                made += 1
                await asyncio.sleep(0.02)
            return made

        return Counter(stock=sum(await asyncio.gather(*(ask() for _ in range(4)))))


# Failover: two servers for the same thing, and the one that is killed costs no failed call.


class Pools:
    """The failover section: readers of a catalogue, and an operator who kills a server."""

    def __init__(self) -> None:
        self._closed = threading.Event()

    def run(self) -> Counter[str]:
        """Read from four threads while a server fails; give how many calls were made."""
        with SteadyServer() as first, SteadyServer() as second, ThreadPoolExecutor(4) as threads:
            members = [Member("first", first.url), Member("second", second.url)]
            pool = FailoverPool("catalogue", members, on=transient)
            look_up = failover(pool)(get)
            readers = [threads.submit(self.read, look_up) for _ in range(4)]
            try:
                time.sleep(0.5)
                print("The first of two catalogue servers is killed with SIGKILL ...")
                first.kill()
                time.sleep(0.7)
                first.start()
                print("... and runs again.")
                time.sleep(0.3)
            finally:
                self._closed.set()
            return sum((reader.result() for reader in readers), Counter[str]())

    def read(self, look_up: Callable[[], bytes]) -> Counter[str]:
        """Read the catalogue; a call that failed would end the quickstart."""
        made = Counter[str]()
        while not self._closed.wait(0.01):
            look_up()
            made["catalogue"] += 1
        return made


# Redundant calls: a second copy of what is late, and a vote on what may be wrong.


@redundant(start=hedge.after(0.1), name="reviews")
async def reviews(port: int) -> bytes:
    """Ask a server that is slow now and then: once more when it takes longer than 0.1 seconds."""
    return await aget(port)


class Copies:
    """The redundant section: readers of reviews, and a shop with three scales."""

    def __init__(self) -> None:
        self._closed = threading.Event()

    def run(self) -> Counter[str]:
        """Read and weigh for some time; give how many calls were made."""
        print("One answer in fifty takes half a second, and one of three scales is wrong ...")
        with (
            SlowServer() as slow,
            WrongServer() as wrong,
            SteadyServer() as second,
            SteadyServer() as third,
            ThreadPoolExecutor(2) as threads,
        ):
            servers = {"first": wrong, "second": second, "third": third}
            members = [Member(name, server.url) for name, server in servers.items()]
            pool = FailoverPool("scales", members, on=transient)
            weigh = redundant(pool=pool, copies=3, decide=vote.majority(), name="weights")(get)
            reading = threads.submit(asyncio.run, self.read(slow.port))
            weighing = threads.submit(self.weigh, weigh)
            time.sleep(1.0)
            self._closed.set()
            made = reading.result() + weighing.result()
            states = [f"{member.name} {member.state}" for member in pool.status().members]
            print(f"... and nobody waited or paid for it. The scales: {', '.join(states)}.")
        return made

    async def read(self, port: int) -> Counter[str]:
        """Read reviews in four tasks."""

        async def ask() -> int:
            made = 0
            while not self._closed.is_set():
                await reviews(port)
                made += 1
                await asyncio.sleep(0.01)
            return made

        return Counter(reviews=sum(await asyncio.gather(*(ask() for _ in range(4)))))

    def weigh(self, weigh: Callable[[], bytes]) -> Counter[str]:
        """Weigh; a wrong result would end the quickstart."""
        made = Counter[str]()
        while not self._closed.wait(0.01):
            if weigh() != b"here you are\n":
                raise ValueError("the wrong scale has won")
            made["weights"] += 1
        return made


# Limits: no more calls at once than what is called can take.


photo = Bulkhead("photos", limit=MOST_AT_ONCE, max_wait=1.0)(get)


class Limits:
    """The limits section: more visitors than a small server can take."""

    seen_without = 0
    """How many photos were seen without a bulkhead."""

    def run(self) -> Counter[str]:
        """Call from sixteen threads, with and without a bulkhead; give how many calls were made."""
        print("Sixteen threads ask a server that dies when more than eight do so at once ...")
        with SmallServer() as small, ThreadPoolExecutor(VISITORS) as threads:
            looks = threads.map(partial(self.look, get), [small.url] * VISITORS)
            Limits.seen_without = sum(looks)
            print(f"... without a bulkhead it is {'up' if small.is_up else 'dead'}.")
        with SmallServer() as small, ThreadPoolExecutor(VISITORS) as threads:
            seen = sum(threads.map(partial(self.look, photo), [small.url] * VISITORS))
            print(
                f"... with one it is {'up' if small.is_up else 'dead'}: it answered {seen} calls."
            )
        return Counter(photos=seen)

    def look(self, ask: Callable[[str], bytes], url: str) -> int:
        """Ask for photos until there is an error; give how many came."""
        seen = 0
        with contextlib.suppress(*ERRORS):
            while seen < LOOKS:
                ask(url)
                seen += 1
        return seen


# Checkpoints: what a job has done is not done again.


batches = itertools.count(1)


@checkpointed(store="memory://quickstart", key="{batch}", every=10, name="invoices")
def send_invoices(cp: Checkpoint, batch: int, url: str) -> str:
    """Send the invoices of a batch to a server that dies in the middle."""
    for _ in cp.iterate(range(INVOICES)):
        get(url)
        time.sleep(0.005)
    return f"batch {batch} is sent"


class Jobs:
    """The checkpoint section: a job, and an operator who kills the server that it needs."""

    def run(self) -> Counter[str]:
        """Start the job, and again after it has failed; give how often."""
        print("A job sends invoices, and its server is killed in the middle ...")
        batch = next(batches)
        with SteadyServer() as server, ThreadPoolExecutor(1) as threads:
            sending = threads.submit(send_invoices, batch, server.url)
            time.sleep(0.8)
            server.kill()
            print(f"... it fails with {type(sending.exception()).__name__} ...")
            server.start()
            print(f"... and goes on where it was: {send_invoices(batch, server.url)}.")
        return Counter(invoices=2)


def free_port() -> int:
    """Find a port that nobody listens on."""
    with socket.create_server((HOST, 0)) as probe:
        port: int = probe.getsockname()[1]
    return port


SECTIONS = (Retries, Pools, Copies, Limits, Jobs)


def run_all_at_once() -> None:
    """Run all sections beside each other, without a word: it has all been said."""
    with contextlib.redirect_stdout(None), ThreadPoolExecutor(len(SECTIONS)) as threads:
        for running in [threads.submit(section().run) for section in SECTIONS]:
            running.result()


def keep_running(seconds: float) -> None:
    """Run all sections again and again, for so long or until Ctrl-C."""
    end = time.monotonic() + seconds
    with contextlib.suppress(KeyboardInterrupt):
        while time.monotonic() < end:
            run_all_at_once()


def report(url: str, made: Counter[str]) -> bool:
    """Read the metrics, show what they say, and compare them with what the program has counted."""
    table = scrape(url)
    show(table)
    explain(table, photos=VISITORS * LOOKS, photos_without=Limits.seen_without)
    counted = {component: row["calls"] for component, row in table.items()}
    if counted != made:
        print(f"\nThe program made {dict(made)}, the metrics say {counted}.", file=sys.stderr)
        return False
    print(f"\nAll {made.total()} calls that the program counted itself are in the metrics.")
    print(f"Metrics: {url}", flush=True)
    print("In Prometheus, the share of calls that would have failed without mainstay:")
    print(
        '  sum by (component) (mainstay_calls_total{outcome="recovered"})'
        " / sum by (component) (mainstay_calls_total)"
    )
    return True


def main() -> int:
    """Run every section, then read the metrics over HTTP and show them."""
    parser = argparse.ArgumentParser(description="Real servers fail, the calls go on.")
    parser.add_argument(
        "--keep-running",
        type=float,
        nargs="?",
        const=math.inf,
        metavar="SECONDS",
        help="go on failing and calling for so long, or until Ctrl-C",
    )
    options = parser.parse_args()
    # Each call that gives up is a warning in the log. Here there are many, and they are expected.
    logging.getLogger("mainstay").setLevel(logging.ERROR)

    port = free_port()
    start_http_server(port, addr=HOST)
    url = f"http://{HOST}:{port}/metrics"
    watch = f"mainstay top {HOST}:{port}"
    if not find_spec("rich"):
        watch = f"python -m pip install rich && {watch}"
    print(f"Watch it in another terminal:  {watch}\n", flush=True)

    made = Counter[str]()
    for section in SECTIONS:
        made += section().run()
    if not report(url, made):
        return 1

    print("\nA job that is killed with SIGKILL three times, and goes on each time:")
    if killed_job.main() != 0:
        return 1
    if options.keep_running is not None:
        print(f"\nAll of it again and again, until Ctrl-C. Watch it:  {watch}", flush=True)
        keep_running(options.keep_running)
    else:
        print("\nTo watch it live: python docs/examples/quickstart.py --keep-running")
    return 0


if __name__ == "__main__":
    sys.exit(main())
