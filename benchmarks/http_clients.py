"""What does a request of httpx cost through our transport, over the bare one and beside others?

The server is `httpx.MockTransport`, which answers at once, so what is left is the work of the
client and of what is around it. A request costs many times what a policy does; so what is told are
differences: what is added to the bare request of the same round, in units of LIMIT, the success
path of a retry by hand with two metrics, from the same round.

And how late is a request that a deadline ends, when its server drips? That is asked of each client,
with a server on loopback.
"""

import asyncio
import contextlib
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import aiohttp
import httpx
import requests
import stamina
import tenacity
from httpx_retries import RetryTransport

import peers
from harness import Measure, Report, Times, async_loop_over, loop_over, main, times_of
from mainstay import DeadlineExpiredError, Detect, deadline
from mainstay.integrations.aiohttp import Middleware
from mainstay.integrations.httpx import AsyncTransport, Transport
from mainstay.integrations.requests import Adapter
from peers import ATTEMPTS, BARE, LIMIT, METRICS, OURS, TENACITY

URL = "http://shop.example/orders"
RETRIES = "httpx-retries"
STAMINA = "stamina"
WITH_ALL = "mainstay, breaker and limit"
PEERS = (TENACITY, STAMINA, RETRIES)

ON = httpx.HTTPError

DRIP_SECONDS = 2.0
DRIP_EVERY = 0.02
DEADLINE = 0.3


def answer(_request: httpx.Request) -> httpx.Response:
    """Answer a request at once."""
    return httpx.Response(200)


def sending(transport: httpx.BaseTransport) -> Callable[[int], httpx.Response]:
    """Make a function that hands a request to *transport*."""
    request = httpx.Request("GET", URL)

    def send(_x: int) -> httpx.Response:
        return transport.handle_request(request)

    return send


def asending(transport: httpx.AsyncBaseTransport) -> Callable:
    """Make a coroutine function that does."""
    request = httpx.Request("GET", URL)

    async def send(_x: int) -> httpx.Response:
        return await transport.handle_async_request(request)

    return send


def getting(transport: httpx.BaseTransport) -> Callable[[int], httpx.Response]:
    """Make a function that sends a request by a client through *transport*."""
    client = httpx.Client(transport=transport)

    def get(_x: int) -> httpx.Response:
        return client.get(URL)

    return get


def agetting(transport: httpx.AsyncBaseTransport) -> Callable:
    """Make a coroutine function that does."""
    client = httpx.AsyncClient(transport=transport)

    async def get(_x: int) -> httpx.Response:
        return await client.get(URL)

    return get


def sync_cases(through: Callable) -> dict[str, Callable]:
    """List the ways to send a request; *through* makes a function of a transport."""
    bare = httpx.MockTransport(answer)
    full = Transport(bare, breaker=Detect(), limit=10, name="limited", metrics=METRICS)
    return {
        BARE: through(bare),
        OURS: through(Transport(bare, metrics=METRICS)),
        WITH_ALL: through(full),
        TENACITY: tenacity.retry(
            retry=tenacity.retry_if_exception_type(ON), stop=tenacity.stop_after_attempt(ATTEMPTS)
        )(through(bare)),
        STAMINA: stamina.retry(on=ON, attempts=ATTEMPTS)(through(bare)),
        RETRIES: through(RetryTransport(bare)),
    }


def async_cases(through: Callable) -> dict[str, Callable]:
    """List them in async code."""
    bare = httpx.MockTransport(answer)
    full = AsyncTransport(bare, breaker=Detect(), limit=10, name="limited", metrics=METRICS)
    return {
        BARE: through(bare),
        OURS: through(AsyncTransport(bare, metrics=METRICS)),
        WITH_ALL: through(full),
        TENACITY: tenacity.retry(
            retry=tenacity.retry_if_exception_type(ON), stop=tenacity.stop_after_attempt(ATTEMPTS)
        )(through(bare)),
        STAMINA: stamina.retry(on=ON, attempts=ATTEMPTS)(through(bare)),
        RETRIES: through(RetryTransport(bare)),
    }


def added(times: Times, case: str) -> float:
    """Return what *case* adds to the bare request, in LIMITs: the median over the rounds."""
    rounds = zip(times[case], times[BARE], times[LIMIT], strict=True)
    return statistics.median((mine - bare) / limit for mine, bare, limit in rounds)


def timed(kind: str, place: str, *, quick: bool) -> Times:
    """Time the cases, sync or async, at the transport or through a client."""
    options = {"rounds": 5, "sample_seconds": 0.005} if quick else {"sample_seconds": 0.01}
    if kind == "sync":
        cases = sync_cases(sending if place == "the transport" else getting)
        loops = {LIMIT: loop_over(peers.by_hand(peers.job))}
        loops |= {name: loop_over(case) for name, case in cases.items()}
    else:
        cases = async_cases(asending if place == "the transport" else agetting)
        loops = {LIMIT: async_loop_over(peers.by_hand_async(peers.ajob))}
        loops |= {name: async_loop_over(case) for name, case in cases.items()}
    return times_of(loops, **options)


class Dripping(BaseHTTPRequestHandler):
    """Answers at once, with a body that comes byte by byte."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Drip."""
        pieces = round(DRIP_SECONDS / DRIP_EVERY)
        self.send_response(200)
        self.send_header("Content-Length", str(pieces))
        self.end_headers()
        with contextlib.suppress(OSError):
            for _ in range(pieces):
                self.wfile.write(b"x")
                time.sleep(DRIP_EVERY)

    def log_message(self, *_args: object) -> None:
        """Log nothing."""


@contextlib.contextmanager
def dripping() -> Iterator[str]:
    """Run such a server; give its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Dripping)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


@contextlib.contextmanager
def ended(found: list[float]) -> Iterator[None]:
    """Ask in a deadline; add the seconds until that ended it to *found*."""
    began = time.perf_counter()
    try:
        with deadline(DEADLINE):
            yield
    except DeadlineExpiredError:
        found.append(time.perf_counter() - began)


def with_httpx(url: str, found: list[float]) -> None:
    """Ask by httpx."""
    with httpx.Client(transport=Transport(metrics=METRICS)) as client, ended(found):
        client.get(url)


def with_async_httpx(url: str, found: list[float]) -> None:
    """Ask by httpx, async."""

    async def ask() -> None:
        async with httpx.AsyncClient(transport=AsyncTransport(metrics=METRICS)) as client:
            with ended(found):
                await client.get(url)

    asyncio.run(ask())


def with_requests(url: str, found: list[float]) -> None:
    """Ask by requests."""
    with requests.Session() as session, ended(found):
        session.mount("http://", Adapter(metrics=METRICS))
        session.get(url)


def with_aiohttp(url: str, found: list[float]) -> None:
    """Ask by aiohttp."""

    async def ask() -> None:
        async with aiohttp.ClientSession(middlewares=[Middleware(metrics=METRICS)]) as session:
            with ended(found):
                async with session.get(url) as response:
                    await response.read()

    asyncio.run(ask())


CLIENTS = {
    "httpx": with_httpx,
    "httpx, async": with_async_httpx,
    "requests": with_requests,
    "aiohttp": with_aiohttp,
}


def report(*, quick: bool) -> Report:
    """Time all of them."""
    result = Report()
    for kind in ("sync", "async"):
        for place in ("a client", "the transport"):
            times = timed(kind, place, quick=quick)
            rows = [
                [name, f"{statistics.median(times[name]) * 1e6:.1f}", f"{added(times, name):.2f}"]
                for name in times
                if name != LIMIT
            ]
            title = f"A request through {place}, {kind}"
            result.table(title, ["case", "median us", "added, in LIMITs"], rows)
        # Of the last one, the transport: what a client does is the same for all, and much more.
        ours = added(times, OURS)
        what = f"httpx, {kind}: what our transport adds"
        result.measures.append(Measure(f"{what}, in LIMITs", 8, 5, ours, ""))
        result.measures.extend(
            Measure(f"{what}, over what {peer} adds", 1, 0.5, ours / added(times, peer))
            for peer in PEERS
        )
    times_asked = 2 if quick else 20
    with dripping() as url:
        seconds: dict[str, list[float]] = {name: [] for name in CLIENTS}
        for name in [*CLIENTS] * times_asked:
            CLIENTS[name](url, seconds[name])
    result.table(
        f"A deadline of {DEADLINE} s, and a server that drips for {DRIP_SECONDS} s",
        ["client", "median s", "longest s"],
        [
            [name, f"{statistics.median(found):.3f}", f"{max(found):.3f}"]
            for name, found in seconds.items()
        ],
    )
    longest = max(max(found) for found in seconds.values())
    result.measures.append(
        Measure(
            "a request in a deadline of 0.3 s, of a server that drips", 0.4, 0.32, longest, " s"
        )
    )
    return result


if __name__ == "__main__":
    main(report, __doc__)
