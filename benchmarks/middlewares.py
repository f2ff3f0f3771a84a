"""What do the middlewares of servers cost per request?

An application that sends a small response is called as a server calls it, with and without the
middleware. What the middleware adds is told in LIMITs: times of a call with a retry, a histogram
and a counter by hand. A request has fourteen headers, as one of a browser.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from statistics import median

import mainstay
import peers
from harness import (
    QUICK_ROUNDS,
    ROUNDS,
    Measure,
    Report,
    Times,
    async_loop_over,
    loop_over,
    main,
    times_of,
)
from mainstay.integrations import asgi, wsgi
from peers import BARE, LIMIT, OURS

_NAMES = [
    "host",
    "connection",
    "sec-ch-ua",
    "sec-ch-ua-mobile",
    "sec-ch-ua-platform",
    "user-agent",
    "accept",
    "origin",
    "sec-fetch-site",
    "sec-fetch-mode",
    "sec-fetch-dest",
    "referer",
    "accept-encoding",
    "accept-language",
]
_HEADERS = [(name.encode(), b"a value of some length") for name in _NAMES]
_TIMED = [*_HEADERS, (b"x-request-timeout-ms", b"20000")]

_START = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]}
_BODY = {"type": "http.response.body", "body": b"done"}
_REQUEST = {"type": "http.request", "body": b"", "more_body": False}

BULKHEAD = "with a bulkhead"
DEADLINE = "with a deadline"
BOTH = "with both"


async def _app(_scope: dict, receive: Callable, send: Callable) -> None:
    await receive()
    await send(_START)
    await send(_BODY)


async def _receive() -> dict:
    return _REQUEST


async def _send(message: dict) -> None:
    pass


def _wsgi_app(_environ: dict, start_response: Callable) -> list[bytes]:
    start_response("200 OK", [("content-length", "4")])
    return [b"done"]


def _start_response(status: str, headers: list) -> None:
    pass


def _asgi_request(app: Callable, headers: list = _HEADERS) -> Callable:
    scope = {"type": "http", "method": "GET", "path": "/orders", "headers": headers}

    async def request(_: int) -> None:
        await app(scope, _receive, _send)

    return request


def _wsgi_request(app: Callable, *, timed: bool = False) -> Callable:
    environ = {f"HTTP_{name.upper().replace('-', '_')}": "a value" for name in _NAMES}
    environ |= {"REQUEST_METHOD": "GET", "PATH_INFO": "/orders"}
    if timed:
        environ["HTTP_X_REQUEST_TIMEOUT_MS"] = "20000"

    def request(_: int) -> None:
        body = app(environ, _start_response)
        for _chunk in body:
            pass
        if body.__class__ is not list:
            body.close()

    return request


def _bulkhead() -> mainstay.Bulkhead:
    return mainstay.Bulkhead("places", 100, metrics=peers.METRICS)


def in_async() -> dict[str, Callable]:
    """List requests to applications of ASGI."""
    options = {"name": "shop", "metrics": peers.METRICS}
    plain = asgi.Middleware(_app, **options)
    limited = asgi.Middleware(_app, bulkhead=_bulkhead(), **options)
    return {
        LIMIT: peers.by_hand_async(peers.ajob),
        BARE: _asgi_request(_app),
        OURS: _asgi_request(plain),
        BULKHEAD: _asgi_request(limited),
        DEADLINE: _asgi_request(plain, _TIMED),
        BOTH: _asgi_request(limited, _TIMED),
    }


def in_sync() -> dict[str, Callable]:
    """List requests to applications of WSGI."""
    options = {"name": "shop", "metrics": peers.METRICS}
    plain = wsgi.Middleware(_wsgi_app, **options)
    limited = wsgi.Middleware(_wsgi_app, bulkhead=_bulkhead(), **options)
    return {
        LIMIT: peers.by_hand(peers.job),
        BARE: _wsgi_request(_wsgi_app),
        OURS: _wsgi_request(plain),
        BULKHEAD: _wsgi_request(limited),
        DEADLINE: _wsgi_request(plain, timed=True),
        BOTH: _wsgi_request(limited, timed=True),
    }


def added(times: Times, case: str) -> float:
    """Give what a case adds to the bare application, in LIMITs."""
    rounds = zip(times[case], times[BARE], times[LIMIT], strict=True)
    return median((mine - bare) / limit for mine, bare, limit in rounds)


def report(*, quick: bool = False) -> Report:
    """Measure requests through both middlewares."""
    result = Report()
    rounds = QUICK_ROUNDS if quick else ROUNDS
    runner = asyncio.new_event_loop()
    for title, loop_of, cases, at_least, aim in (
        ("ASGI", partial(async_loop_over, runner=runner), in_async(), 6, 4),
        ("WSGI", loop_over, in_sync(), None, None),
    ):
        loops = {name: loop_of(request) for name, request in cases.items()}
        times = times_of(loops, rounds=rounds)
        result.times(f"{title}, per request", times, BARE, LIMIT)
        for case in (OURS, BULKHEAD, DEADLINE, BOTH):
            what = title if case == OURS else f"{title}, {case}"
            text = f"middleware of {what}, added per request, in LIMITs"
            result.measures.append(Measure(text, at_least, aim, added(times, case), unit=""))
    return result


if __name__ == "__main__":
    main(report, __doc__)
