"""What does a request of httpx cost through our transport, over the bare one and beside others?

The server is `httpx.MockTransport`, which answers at once, so what is left is the work of the
client and of what is around it. A request costs many times what a policy does; so what is told are
differences: what is added to the bare request of the same round, in units of LIMIT, the success
path of a retry by hand with two metrics, from the same round.
"""

import statistics
from collections.abc import Callable

import httpx
import stamina
import tenacity
from httpx_retries import RetryTransport

import peers
from harness import Measure, Report, Times, async_loop_over, loop_over, main, times_of
from mainstay import Detect
from mainstay.integrations.httpx import AsyncTransport, Transport
from peers import ATTEMPTS, BARE, LIMIT, METRICS, OURS, TENACITY

URL = "http://shop.example/orders"
RETRIES = "httpx-retries"
STAMINA = "stamina"
WITH_ALL = "mainstay, breaker and limit"
IN_DEADLINE = "mainstay, in a deadline"
PEERS = (TENACITY, STAMINA, RETRIES)

ON = httpx.HTTPError


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
    return result


if __name__ == "__main__":
    main(report, __doc__)
