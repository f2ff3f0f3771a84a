"""What only the middleware of aiohttp does; the rest is in `test_http_clients`."""

import asyncio
import io

import pytest
from integrations.scripted import Scripted, drips, hangs, resets, says

from mainstay import BulkheadFullError, TimedOutError, deadline, retry, transient
from mainstay.testing import no_waits, recorded

pytestmark = [
    pytest.mark.process,  # these start servers
    pytest.mark.filterwarnings("ignore"),  # aiohttp warns of its own
]


@pytest.fixture
def aiohttp(library):
    return library("aiohttp")


@pytest.fixture
def metrics():
    with no_waits(), recorded() as metrics:
        yield metrics


@pytest.fixture
def open_session(aiohttp, library):
    """Makes a session, in the loop that runs."""
    ours = library("mainstay.integrations.aiohttp")

    def make(**policies):
        return aiohttp.ClientSession(middlewares=[ours.Middleware(**policies)])

    return make


def form(aiohttp):
    data = aiohttp.FormData()
    data.add_field("order", b"tea", filename="order.txt")
    data.add_field("to", "me")
    return data


BODIES = {
    "bytes": lambda _aiohttp: {"data": b"order"},
    "json": lambda _aiohttp: {"json": {"order": 1}},
    "form": lambda _aiohttp: {"data": {"order": "tea"}},
    "files": lambda aiohttp: {"data": form(aiohttp)},
    "file": lambda _aiohttp: {"data": io.BytesIO(b"order")},
}


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("failure", [says(503), resets], ids=["503", "reset"])
def test_a_body_that_can_be_read_again_is(aiohttp, open_session, metrics, body, failure):
    async def main(url):
        options = BODIES[body](aiohttp)
        async with open_session() as session, session.put(url, **options) as response:
            return response.status

    with Scripted(failure, 200) as server:
        assert asyncio.run(main(server.url)) == 200
    first, second = server.seen
    assert first.body == second.body != b""


def test_a_redirect_is_a_request_of_its_own(open_session, metrics):
    async def main(url):
        async with open_session() as session, session.get(url) as response:
            return await response.text()

    with Scripted(200) as there, Scripted(says(302, Location=there.url)) as here:
        assert asyncio.run(main(here.url)) == "said"
    for server in (here, there):
        labels = {"component": server.host, "policy": "retry", "outcome": "success"}
        assert metrics.value("calls_total", **labels) == 1.0


def test_a_websocket_has_its_place_until_it_is_closed_and_outlives_a_deadline(
    library, open_session, metrics
):
    web = library("aiohttp.web")

    async def echo(request):
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(message.data)
        return socket

    async def main():
        app = web.Application()
        app.router.add_get("/", echo)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
        async with open_session(limit=1, name="echo") as session:
            with deadline(0.1):
                socket = await session.ws_connect(url)
                with pytest.raises(BulkheadFullError):
                    await session.get(url)
                await asyncio.sleep(0.15)
                await socket.send_str("said")
                assert await socket.receive_str() == "said"
            await socket.close()
            assert metrics.value("in_flight", component="echo") == 0.0
        await runner.cleanup()

    asyncio.run(main())


def test_a_cancelled_request_gives_its_place_back(open_session, metrics):
    async def main(url):
        async with open_session(limit=1, name="shop") as session:
            task = asyncio.ensure_future(session.get(url))
            await asyncio.sleep(0.1)
            assert metrics.value("in_flight", component="shop") == 1.0
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    with Scripted(hangs) as server:
        asyncio.run(main(server.url))
    assert metrics.value("in_flight", component="shop") == 0.0
    labels = {"component": "shop", "policy": "retry", "outcome": "cancelled"}
    assert metrics.value("calls_total", **labels) == 1.0


def test_an_attempt_may_have_a_limit_of_its_own(aiohttp, open_session, metrics):
    policy = retry(on=transient, attempts=2, attempt_timeout=0.05)

    async def main(url):
        async with open_session(retry=policy) as session:
            await session.get(url)

    with Scripted(hangs) as server:
        with pytest.raises(TimedOutError) as caught:
            asyncio.run(main(server.url))
        assert isinstance(caught.value, aiohttp.ClientError)
    assert len(server.seen) == 2


def test_what_is_left_of_a_body_after_the_deadline_was_left_is_whole(open_session):
    async def main(url):
        async with open_session() as session:
            with deadline(0.2):
                response = await session.get(url)
                first = await response.content.readexactly(1)
            return first + await response.read()

    with Scripted(drips(0.05, 0.5)) as server:
        assert asyncio.run(main(server.url)) == b"x" * 10
