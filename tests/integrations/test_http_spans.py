"""Attempts of the clients of HTTP are shown to those who make spans of them."""

import asyncio
import contextlib

import pytest

from mainstay import retry, transient
from mainstay._core.watching import watch_attempts

SOON = retry(on=transient, wait=0, attempts=3)


@pytest.fixture
def watched():
    """The component and number of each attempt that was shown."""
    found = []

    def watch(attempt):
        found.append((attempt.component, attempt.number))
        return contextlib.nullcontext()

    stop = watch_attempts(watch)
    yield found
    stop()


@pytest.fixture
def httpx(library):
    return library("httpx")


def server(httpx, *statuses):
    given = iter(statuses)
    return httpx.MockTransport(lambda request: httpx.Response(next(given)))


def test_a_request_that_is_answered_at_once_is_not_shown(httpx, watched, metrics):
    from mainstay.integrations.httpx import Transport  # noqa: PLC0415 - needs httpx

    with httpx.Client(transport=Transport(server(httpx, 200))) as client:
        client.get("http://shop.example")
    assert watched == []


def test_each_attempt_of_a_request_after_the_first_is_shown(httpx, watched, metrics):
    from mainstay.integrations.httpx import Transport  # noqa: PLC0415 - needs httpx

    transport = Transport(server(httpx, 503, 503, 200), retry=SOON)
    with httpx.Client(transport=transport) as client:
        assert client.get("http://shop.example").status_code == 200
    assert watched == [("shop.example", 2), ("shop.example", 3)]


def test_it_is_in_async_code_too(httpx, watched, metrics):
    from mainstay.integrations.httpx import AsyncTransport  # noqa: PLC0415 - needs httpx

    async def ask():
        transport = AsyncTransport(server(httpx, 503, 503, 200), retry=SOON)
        async with httpx.AsyncClient(transport=transport) as client:
            return await client.get("http://shop.example")

    assert asyncio.run(ask()).status_code == 200
    assert watched == [("shop.example", 2), ("shop.example", 3)]
