"""Requests that end in every way at once: each is counted once, and no place is left over."""

import asyncio
import contextlib
import random

import pytest

from mainstay import Bulkhead, CircuitBreaker, DeadlineExpiredError
from mainstay.integrations import asgi, wsgi
from mainstay.testing import FakeClock
from support.pools import Lost

REQUESTS = 150
ENDS = ("answer", "stream", "late", "status", "raise", "refuse", "leave", "cancel", "silent")


def rejected():
    breaker = CircuitBreaker("db", on=Lost)
    breaker.open()
    return breaker


async def request(middleware, end, seconds, chance, clock):
    """Send one request, whose application and client do what *end* says."""
    left = asyncio.Event()
    sent = []

    async def receive():
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message):
        sent.append(message["type"])
        if end == "leave" and left.is_set():
            raise BrokenPipeError

    timed = end in ("late", "stream") or chance < 0.5
    headers = [(b"x-request-timeout-ms", b"%d" % int(seconds * 1000))] if timed else []
    scope = {"type": "http", "method": "GET", "path": f"/{end}", "headers": headers}
    scope["left"] = left
    task = asyncio.create_task(middleware(scope, receive, send))
    if end == "cancel":
        await clock.asleep(seconds * chance)
        task.cancel()
    await asyncio.wait((task,))
    assert sent.count("http.response.start") <= 1
    if not task.cancelled() and isinstance(task.exception(), DeadlineExpiredError):
        assert sent, "nothing is left to the server that can be answered"
    elif not task.cancelled() and end not in ("raise", "leave"):
        assert task.exception() is None


@pytest.mark.parametrize("seed", range(4))
def test_requests_of_asgi_that_end_in_every_way(metrics, seed):
    dice = random.Random(seed)
    places, breaker = Bulkhead("places", limit=5, max_wait=0.5), rejected()

    async def app(scope, receive, send):
        end = scope["path"][1:]
        await clock.asleep(dice.random())
        if end == "raise":
            raise Lost
        if end == "refuse":
            breaker.call(str)
        if end == "silent":
            return
        if end == "leave":
            scope["left"].set()
        status = 500 if end == "status" else 200
        await send({"type": "http.response.start", "status": status, "headers": []})
        for _ in range(dice.randrange(4) if end == "stream" else 0):
            await send({"type": "http.response.body", "body": b"part", "more_body": True})
            await clock.asleep(dice.random() / 4)
        await send({"type": "http.response.body", "body": b"end"})
        await clock.asleep(dice.random() / 4)

    async def main():
        middleware = asgi.Middleware(app, name="shop", bulkhead=places)
        tasks = []
        for _ in range(REQUESTS):
            end, seconds, chance = dice.choice(ENDS), dice.uniform(0.01, 1.5), dice.random()
            tasks.append(asyncio.create_task(request(middleware, end, seconds, chance, clock)))
            await clock.asleep(dice.expovariate(8.0))
        await asyncio.gather(*tasks)

    with FakeClock() as clock:
        asyncio.run(main())
    assert metrics("calls_total", component="shop", policy="pipeline") == REQUESTS
    assert (places.in_flight, places.waiting) == (0, 0)
    refused = metrics("calls_total", component="shop", outcome="rejected")
    assert refused == metrics("calls_total", component="places", outcome="rejected") > 0
    durations = metrics("call_duration_seconds_count", component="shop")
    assert durations == REQUESTS - refused


class WsgiServer:
    """Serves requests whose application and client do what the path says."""

    def __init__(self, dice, clock, places):
        self.dice = dice
        self.clock = clock
        self.breaker = rejected()
        self.middleware = wsgi.Middleware(self.app, name="shop", bulkhead=places)
        self.open_ones = []

    def app(self, environ, start_response):
        end = environ["PATH_INFO"][1:]
        self.clock.advance(self.dice.random())
        if end == "raise":
            raise Lost
        if end == "refuse":
            self.breaker.call(str)
        if end != "silent":
            start_response("500 No" if end == "status" else "200 OK", [])
        return self.body(self.dice.randrange(4) if end == "stream" else 1)

    def body(self, parts):
        for _ in range(parts):
            self.clock.advance(self.dice.random() / 4)
            yield b"part"

    def begin(self, end):
        environ = {"REQUEST_METHOD": "GET", "PATH_INFO": f"/{end}"}
        if self.dice.random() < 0.5:
            environ["HTTP_X_REQUEST_TIMEOUT_MS"] = str(self.dice.randrange(1000))
        with contextlib.suppress(Lost):
            body = self.middleware(environ, lambda status, headers, exc_info=None: str)
            self.open_ones.append((end, body))

    def finish(self):
        """Take the bodies of all responses; some clients leave, and one server does not close."""
        while self.open_ones:
            end, body = self.open_ones.pop()
            with contextlib.suppress(DeadlineExpiredError):  # cut off
                for _ in body:
                    if end in ("leave", "cancel"):
                        break
            if end != "cancel" and hasattr(body, "close"):
                body.close()


@pytest.mark.parametrize("seed", range(4))
def test_requests_of_wsgi_that_end_in_every_way(metrics, seed):
    dice, places = random.Random(seed), Bulkhead("places", limit=2)
    with FakeClock() as clock:
        server = WsgiServer(dice, clock, places)
        for _ in range(REQUESTS):
            server.begin(dice.choice(ENDS))
            if len(server.open_ones) > 2 or dice.random() < 0.5:
                server.finish()
        server.finish()
    assert metrics("calls_total", component="shop", policy="pipeline") == REQUESTS
    assert (places.in_flight, places.waiting) == (0, 0)
    refused = metrics("calls_total", component="shop", outcome="rejected")
    assert refused == metrics("calls_total", component="places", outcome="rejected") > 0
