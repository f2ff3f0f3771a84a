"""Requests on the clock of the system, where a place is taken at once: what most requests are."""

import asyncio

import pytest

from mainstay import Bulkhead
from mainstay.testing import recorded
from support import asgi, wsgi
from support.pools import Lost

SERVERS = pytest.mark.parametrize("server", [asgi, wsgi], ids=["asgi", "wsgi"])


def looking_at(server, places, seen):
    """An application that looks how many are in flight."""

    def look():
        seen.append(places.in_flight)

    async def look_in_async():
        look()

    before = look if server is wsgi else look_in_async
    return server.answering(200, b"a", b"b", before=before, between=before)


@SERVERS
def test_a_request_has_a_place_until_its_body_is_out(server, metrics):
    places, seen = Bulkhead("places", limit=1), []
    app = server.shop(looking_at(server, places, seen), bulkhead=places)
    for _ in range(3):
        assert server.get(app).body == b"ab"
    assert {*seen} == {1}
    assert places.in_flight == 0
    assert metrics("calls_total", component="shop", outcome="success") == 3
    assert metrics("calls_total", component="places", outcome="success") == 3
    assert 0 < metrics("call_duration_seconds_sum", component="shop") < 30
    assert 0 < metrics("in_flight_seconds_total", component="places") < 30


@SERVERS
def test_what_fails_frees_its_place(server, metrics):
    places = Bulkhead("places", limit=1)
    app = server.shop(server.raising(Lost("x")), bulkhead=places)
    for _ in range(3):
        with pytest.raises(Lost):
            server.get(app)
    assert places.in_flight == 0
    assert metrics("calls_total", component="shop", outcome="error") == 3
    assert metrics("calls_total", component="places", outcome="error") == 3


@SERVERS
def test_without_a_place_the_answer_is_503(server, metrics):
    places = Bulkhead("places", limit=1)
    app = server.shop(server.raising(AssertionError("not called")), bulkhead=places)
    with places:
        assert server.get(app).status == 503
    assert metrics("calls_total", component="shop", outcome="rejected") == 1
    assert metrics("calls_total", component="places", outcome="rejected") == 1


@SERVERS
def test_what_is_around_a_request_says_where_it_is_counted(server, metrics):
    app = server.shop(server.answering(), bulkhead=Bulkhead("places"))
    with recorded() as around:
        server.get(app)
    assert around.value("calls_total", component="shop", outcome="success") == 1
    assert around.value("calls_total", component="places", outcome="success") == 1
    assert metrics.outcomes() == {}


def test_a_cancelled_request_frees_its_place(metrics):
    places, begun = Bulkhead("places", limit=1), asyncio.Event()

    async def wait():
        begun.set()
        await asyncio.Event().wait()

    async def main():
        app = asgi.shop(asgi.answering(before=wait), bulkhead=places)
        task = asyncio.create_task(asgi.Client(app).run())
        await begun.wait()
        assert places.in_flight == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert places.in_flight == 0
    assert metrics("calls_total", component="shop", outcome="cancelled") == 1
    assert metrics("calls_total", component="places", outcome="cancelled") == 1
