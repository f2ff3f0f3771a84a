"""How much of what a real server can do reaches callers who ask for twice as much?

The server is a process of its own on the loopback: HTTP/1.1 with kept connections, ten workers that
take 20 ms for a request, and one queue without bound before them, in which the requests of callers
who left are worked on like the others. What it can do is measured before each load, by 20 callers
who wait for their answers: somewhat less than 500 calls a second. Then callers, coroutines on one
event loop, make 1,000 calls a second, at times that are fixed before, and leave after 1 s. What
counts is the answers within that second over those that are possible, from the first call on, and
how long the calls that were admitted took, against those of a server without a queue.

A call that is due while the loop is busy is made as soon as it can be, so the load is what it is
said to be; the share of the calls that were made within 10 ms of their time is in the table.
"""

import asyncio
import contextlib
import math
import statistics
import subprocess
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from time import perf_counter
from typing import Self

from harness import Measure, Report, main
from mainstay import Adaptive, Bulkhead, DeadlineExpiredError, Metrics, RejectedError, deadline

WORKERS, SECONDS = 10, 0.02
PATIENCE = 1.0
PUNCTUAL = 0.01
NO_LIMIT = 10**6
OFFERED = 2 * WORKERS / SECONDS
REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

Send = Callable[[], Awaitable[None]]


# The server.


async def serve() -> None:
    """Serve until the standard input ends, and print the port first."""
    workers = asyncio.Semaphore(WORKERS)  # first come, first served

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                async with workers:
                    await asyncio.sleep(SECONDS)
                writer.write(ANSWER)

    server = await asyncio.start_server(answer, "127.0.0.1", backlog=2048)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)


@contextlib.contextmanager
def server() -> Iterator[int]:
    """Start the server; give its port."""
    with subprocess.Popen(
        [sys.executable, __file__, "--serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()


# The callers.


class Client:
    """Sends requests over connections that are kept; one that a caller has left is closed."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.idle: deque[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = deque()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        while self.idle:
            writer = self.idle.pop()[1]
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def send(self) -> None:
        """Send one request and wait for its answer."""
        if self.idle:
            reader, writer = self.idle.pop()
        else:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(REQUEST)
            await reader.readexactly(len(ANSWER))
        except BaseException:
            writer.close()
            raise
        self.idle.append((reader, writer))


@dataclass
class Load:
    """Calls at fixed times, and what came of them."""

    rate: float
    seconds: float
    answered: list[tuple[float, float]] = field(default_factory=list)
    """When each call that was answered in time began, and how long it took."""
    refused: int = 0
    late: int = 0
    punctual: int = 0

    async def run(self, send: Send) -> None:
        """Make all calls, and wait for them."""
        began = perf_counter()
        count = int(self.rate * self.seconds)
        async with asyncio.TaskGroup() as group:
            for number in range(count):
                due = began + number / self.rate
                if (left := due - perf_counter()) > 0:
                    await asyncio.sleep(left)
                self.punctual += perf_counter() - due < PUNCTUAL
                group.create_task(self._call(send, began))

    async def _call(self, send: Send, since: float) -> None:
        began = perf_counter()
        try:
            async with deadline(PATIENCE):  # it interrupts
                await send()
        except RejectedError:
            self.refused += 1
        except (TimeoutError, DeadlineExpiredError):
            self.late += 1
        else:
            self.answered.append((began - since, perf_counter() - began))

    def p99(self, since: float = 0.0) -> float:
        """Give the 99th percentile of the calls that began from *since* on, late ones included."""
        took = sorted(took for began, took in self.answered if began >= since)
        took += [PATIENCE] * self.late
        return took[int(0.99 * len(took))] if took else math.inf

    def goodput(self) -> float:
        """Give how many calls a second were answered in time."""
        return sum(began + took <= self.seconds for began, took in self.answered) / self.seconds


LIMITS: Mapping[str, Callable[[], int | Adaptive]] = {
    "no limit": lambda: NO_LIMIT,
    "limit of 15": lambda: 15,
    "limit of 300": lambda: 300,
    "Adaptive()": Adaptive,
}


async def capacity(seconds: float) -> float:
    """Give how many calls a second the server answers when there are always 20."""
    answers = 0
    with server() as port:
        async with Client(port) as client:
            end = perf_counter() + seconds

            async def caller() -> None:
                nonlocal answers
                while perf_counter() < end:
                    await client.send()
                    answers += 1

            await asyncio.gather(*(caller() for _ in range(2 * WORKERS)))
    return answers / seconds


async def measured(limit: int | Adaptive, rate: float, seconds: float) -> Load:
    """Run a load against a fresh server, with a bulkhead before it."""
    load = Load(rate, seconds)
    bulkhead = Bulkhead("overloaded", limit, metrics=Metrics(None))
    with server() as port:
        async with Client(port) as client:
            await load.run(bulkhead(client.send))
    return load


@dataclass
class Found:
    """What came out for one limit, a value for each round."""

    shares: list[float] = field(default_factory=list)
    later: list[float] = field(default_factory=list)
    late: list[int] = field(default_factory=list)
    punctual: list[float] = field(default_factory=list)

    def row(self) -> list[str]:
        """Give its cells of the table."""
        return [
            *(f"{each:.3f}" for each in (statistics.median(self.shares), min(self.shares))),
            *(f"{each:.2f}x" for each in (statistics.median(self.later), max(self.later))),
            f"{statistics.median(self.late):.0f}",
            f"{min(self.punctual):.1%}",
        ]


def report(*, quick: bool = False) -> Report:
    """Measure everything, in rounds that have each limit once."""
    seconds, rounds = (2.0, 1) if quick else (15.0, 3)
    found = {name: Found() for name in LIMITS}
    capacities = []
    for _ in range(rounds):
        calm = asyncio.run(measured(NO_LIMIT, OFFERED / 10, seconds / 3)).p99()
        for name, limit in LIMITS.items():
            possible = asyncio.run(capacity(seconds / 5))
            load = asyncio.run(measured(limit(), OFFERED, seconds))
            capacities.append(possible)
            found[name].shares.append(load.goodput() / possible)
            found[name].later.append(load.p99() / calm)
            found[name].late.append(load.late)
            found[name].punctual.append(load.punctual / (OFFERED * seconds))
    header = ["limit", "answered in time", "least", "p99 / no load", "most", "late", "made in time"]
    possible = f"{min(capacities):.0f} to {max(capacities):.0f}"
    result = Report()
    result.table(
        f"{OFFERED:.0f} calls/s where {possible} are possible, {rounds} x {seconds:.0f} s",
        header,
        [[name, *each.row()] for name, each in found.items()],
    )
    ours = found["Adaptive()"]
    text = "adaptive limit, real server at 2x load:"
    share, later = statistics.median(ours.shares), statistics.median(ours.later)
    result.measures += [
        Measure(f"{text} share answered in time", 0.85, 0.95, share, "", more_is_better=True),
        Measure(f"{text} p99 / no load", None, None, later),
    ]
    return result


if __name__ == "__main__":
    if "--serve" in sys.argv:
        asyncio.run(serve())
    else:
        main(report, __doc__)
