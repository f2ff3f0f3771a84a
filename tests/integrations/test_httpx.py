"""What only the transports of httpx do; the rest is in `test_http_clients`."""

import asyncio
import contextlib
import contextvars
import gc
import io
import itertools
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
from integrations.scripted import Scripted
from prometheus_client import CollectorRegistry

from mainstay import Detect, Metrics, TimedOutError, deadline, on_event, remaining, retry, transient
from mainstay.errors import BulkheadFullError, CircuitOpenError, DeadlineExpiredError
from mainstay.events import RetryScheduled
from mainstay.testing import FakeClock, no_waits, recorded

URL = "http://shop.example/orders"
LIMITS = ("connect", "read", "write", "pool")


@pytest.fixture
def httpx(library):
    return library("httpx")


@pytest.fixture(params=["sync", "async"])
def open_client(request, httpx, library):
    """Makes a client that hands each request to a function, sync or async."""
    ours = library("mainstay.integrations.httpx")

    class Client:
        kind = request.param

        def __init__(self, handler, *, timeout=5.0, **policies):
            inside = httpx.MockTransport(handler)
            if request.param == "sync":
                transport = ours.Transport(inside, **policies)
                self._client = httpx.Client(transport=transport, timeout=timeout)
            else:
                transport = ours.AsyncTransport(inside, **policies)
                self._client = httpx.AsyncClient(transport=transport, timeout=timeout)

        def send(self, method="GET", **options):
            if request.param == "sync":
                return self._client.request(method, URL, **options)
            return asyncio.run(self._client.request(method, URL, **options))

    return Client


@pytest.fixture
def metrics():
    with no_waits(), recorded() as metrics:
        yield metrics


def scripted(httpx, *script):
    """A handler that answers with statuses, and raises exceptions, in turn."""
    steps = iter(script)

    def handle(request):
        handle.requests.append(request)
        step = next(steps)
        if isinstance(step, BaseException):
            raise step
        return httpx.Response(step)

    handle.requests = []
    return handle


# Attempts.


def calls(metrics, outcome, component="shop.example"):
    return metrics.value("calls_total", component=component, policy="retry", outcome=outcome)


def test_the_first_failure_is_an_attempt_like_any_other(httpx, open_client, metrics):
    handler = scripted(httpx, httpx.ConnectError("refused"), 503, 200)
    assert open_client(handler).send().status_code == 200
    assert len(handler.requests) == 3
    assert calls(metrics, "recovered") == 1.0
    errors = {
        kind: metrics.value(
            "errors_total", component="shop.example", policy="retry", error_type=kind
        )
        for kind in ("ConnectError", "HTTPStatusError")
    }
    assert errors == {"ConnectError": 1.0, "HTTPStatusError": 1.0}


def test_an_exception_has_no_context_of_other_attempts(httpx, open_client, metrics):
    problems = [httpx.ConnectError(str(number)) for number in range(3)]
    with pytest.raises(httpx.ConnectError) as caught:
        open_client(scripted(httpx, *problems)).send()
    assert caught.value is problems[-1]
    assert caught.value.__context__ is None


def test_what_ends_the_program_is_counted_and_goes_through(httpx, open_client, metrics):
    handler = scripted(httpx, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        open_client(handler).send()
    assert calls(metrics, "cancelled") == 1.0


def test_an_answer_that_another_attempt_follows_is_closed_before_the_wait(httpx, open_client):
    class Body(httpx.SyncByteStream, httpx.AsyncByteStream):
        def __iter__(self):
            yield b"said"

        async def __aiter__(self):
            yield b"said"

        def close(self):
            happened.append("closed")

        async def aclose(self):
            happened.append("closed")

    happened, statuses = [], iter([503, 200])

    def handler(_request):
        return httpx.Response(next(statuses), stream=Body())

    def listen(event):
        if isinstance(event, RetryScheduled):
            happened.append("scheduled")

    stop = on_event(listen)
    try:
        with recorded(), FakeClock() as clock:
            policy = retry(on=transient, attempts=2, wait=5)
            response = open_client(handler, retry=policy).send()
            assert clock.now() == 5.0
    finally:
        stop()
    assert response.content == b"said"
    assert happened == ["scheduled", "closed", "closed"]


class Unclosable:
    """The body of an answer that raises when it is closed."""

    def __init__(self, error):
        self.error = error

    def __iter__(self):
        yield b"said"

    async def __aiter__(self):
        yield b"said"

    def close(self):
        raise self.error

    async def aclose(self):
        raise self.error


@pytest.fixture
def answering(httpx):
    """Answers with 503 and a body that cannot be closed, and then well."""

    def make(error):
        kind = type("Body", (Unclosable, httpx.SyncByteStream, httpx.AsyncByteStream), {})
        answers = iter([httpx.Response(503, stream=kind(error)), httpx.Response(200)])
        return lambda _request: next(answers)

    return make


def test_an_answer_that_cannot_be_closed_is_let_be(open_client, answering, metrics):
    assert open_client(answering(OSError("gone"))).send().status_code == 200


def test_what_ends_the_program_while_an_answer_is_closed_is_counted(
    open_client, answering, metrics
):
    with pytest.raises(KeyboardInterrupt):
        open_client(answering(KeyboardInterrupt())).send()
    assert calls(metrics, "cancelled") == 1.0


def test_no_answer_before_the_last_is_kept_alive(httpx, open_client, metrics):
    gc.collect()
    gc.disable()
    try:
        seen = []

        def handler(_request):
            response = httpx.Response(503)
            seen.append(weakref.ref(response))
            return response

        open_client(handler).send()
        *before, _last = seen  # which httpx's own client has tied to itself
        assert [each() for each in before] == [None] * 2
    finally:
        gc.enable()


def test_an_async_predicate_and_a_limit_of_time_for_an_attempt(httpx, library, metrics):
    ours = library("mainstay.integrations.httpx")

    async def on(error):
        return isinstance(error, httpx.HTTPStatusError)

    async def handler(request):
        if len(request.url.path) > 1:
            await asyncio.Event().wait()
        return httpx.Response(503)

    async def main(path):
        policy = retry(on=on, attempts=2, attempt_timeout=0.01)
        transport = ours.AsyncTransport(httpx.MockTransport(handler), retry=policy)
        async with httpx.AsyncClient(transport=transport) as client:
            return await client.get(f"http://shop.example{path}")

    assert asyncio.run(main("/")).status_code == 503
    with pytest.raises(TimedOutError) as caught:
        asyncio.run(main("/slow"))
    assert isinstance(caught.value, httpx.TransportError)


# The short way of a healthy request, which is that outside of every block.


@pytest.fixture
def plain():
    """Policies that record into a registry of their own, without a block."""
    registry = CollectorRegistry()
    policies = {"metrics": Metrics(registry), "retry": retry(on=transient, attempts=3, wait=0)}
    return policies, registry


def called(registry, outcome):
    labels = {"component": "shop.example", "policy": "retry", "outcome": outcome}
    return registry.get_sample_value("mainstay_calls_total", labels)


def sending(httpx, library, kind, handler, policies):
    """Sends requests through one transport, on one event loop."""
    ours = library("mainstay.integrations.httpx")
    inside, request = httpx.MockTransport(handler), httpx.Request("GET", URL)
    if kind == "sync":
        transport = ours.Transport(inside, **policies)
        return lambda: transport.handle_request(request)
    transport = ours.AsyncTransport(inside, **policies)
    return lambda: asyncio.run(transport.handle_async_request(request))


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("first", [503, 500, "broken"])
def test_a_request_leaves_the_short_way_with_its_first_failure(httpx, library, plain, kind, first):
    policies, registry = plain
    first = httpx.ReadError("broken") if first == "broken" else first
    handler = scripted(httpx, 200, 404, first, 200, 200)
    send = sending(httpx, library, kind, handler, policies)
    assert [send().status_code for _ in range(4)] == [200, 404, 200, 200]
    assert (called(registry, "success"), called(registry, "recovered")) == (3.0, 1.0)
    assert len(handler.requests) == 5


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_on_the_short_way_a_post_is_not_sent_twice(httpx, library, plain, kind):
    ours = library("mainstay.integrations.httpx")
    handler = scripted(httpx, 200, httpx.ReadError("broken"), 200)
    inside, request = httpx.MockTransport(handler), httpx.Request("POST", URL, content=b"order")
    if kind == "sync":
        transport = ours.Transport(inside, **plain[0])
        transport.handle_request(request)
        with pytest.raises(httpx.ReadError) as caught:
            transport.handle_request(request)
    else:
        transport = ours.AsyncTransport(inside, **plain[0])
        asyncio.run(transport.handle_async_request(request))
        with pytest.raises(httpx.ReadError) as caught:
            asyncio.run(transport.handle_async_request(request))
    assert len(handler.requests) == 2
    assert caught.value.__context__ is None
    assert "not safe to repeat" in caught.value.__notes__[0]


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_on_the_short_way_what_ends_the_program_is_counted(httpx, library, plain, kind):
    policies, registry = plain
    send = sending(httpx, library, kind, scripted(httpx, 200, KeyboardInterrupt()), policies)
    send()
    with pytest.raises(KeyboardInterrupt):
        send()
    assert called(registry, "cancelled") == 1.0


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_on_the_short_way_no_exception_is_kept_alive(httpx, library, plain, kind):
    seen = []

    def handler(_request):
        error = httpx.ReadError("broken")
        seen.append(weakref.ref(error))
        try:
            raise error
        finally:
            del error  # this frame is part of its traceback

    send = sending(httpx, library, kind, handler, plain[0])
    gc.collect()
    gc.disable()
    try:
        for _ in range(2):
            with contextlib.suppress(httpx.ReadError):
                send()
        if kind == "async":
            del seen[2::3]  # the last one of each call, which `asyncio.run` keeps by itself
        assert [each() for each in seen] == [None] * len(seen)
    finally:
        gc.enable()


# Bodies of requests.


def reading(httpx, *script):
    """A handler that reads the whole body first."""
    inner = scripted(httpx, *script)

    def handle(request):
        handle.bodies.append(request.read())
        return inner(request)

    handle.bodies = []
    return handle


def test_a_body_of_which_nothing_was_read_is_sent_after_all(
    httpx, open_client, metrics, monkeypatch
):
    def pieces():
        yield b"order"

    async def apieces():
        yield b"order"

    def handle_request(self, request):
        return self.handler(request)

    async def handle_async_request(self, request):
        return self.handler(request)

    # Unlike this, the stand-in of httpx reads each body before it calls the handler.
    monkeypatch.setattr(httpx.MockTransport, "handle_request", handle_request)
    monkeypatch.setattr(httpx.MockTransport, "handle_async_request", handle_async_request)
    handler = scripted(httpx, httpx.ConnectError("refused"), 200)
    body = pieces() if open_client.kind == "sync" else apieces()
    assert open_client(handler).send("PUT", content=body).status_code == 200
    assert len(handler.requests) == 2


@pytest.mark.parametrize(
    "options",
    [
        {"content": b"order"},
        {"json": {"order": 1}},
        {"data": {"order": "1"}},
        {"files": {"order": b"tea"}},
        {"files": {"order": io.BytesIO(b"tea")}, "data": {"to": "me"}},
    ],
    ids=["bytes", "json", "form", "file of bytes", "file"],
)
def test_a_body_that_can_be_read_again_is(httpx, open_client, metrics, options):
    handler = reading(httpx, 503, 200)
    assert open_client(handler).send("PUT", **options).status_code == 200
    assert handler.bodies[0] == handler.bodies[1] != b""


def test_a_body_that_is_slow_to_come_ends_with_the_time_left(httpx, library, metrics):
    """In async code the attempt is interrupted, whatever it does."""
    ours = library("mainstay.integrations.httpx")
    inside = httpx.MockTransport(lambda request: httpx.Response(200, content=request.read()))

    def pieces():
        for _ in range(100):
            yield b"order"
            clock.advance(1)

    client = httpx.Client(transport=ours.Transport(inside))
    with FakeClock() as clock, deadline(3), pytest.raises(DeadlineExpiredError) as caught:
        client.put(URL, content=pieces())
    assert caught.value.component == "shop.example"
    assert clock.now() == 3.0


# The time left.


def given_limits(httpx, seen):
    def handler(request):
        seen.append(({**request.extensions["timeout"]}, dict(request.headers)))
        return httpx.Response(200)

    return handler


@pytest.mark.parametrize(
    ("timeout", "expected"),
    [
        (5.0, dict.fromkeys(LIMITS, 2.0)),
        (None, dict.fromkeys(LIMITS, 2.0)),
        (1.0, dict.fromkeys(LIMITS, 1.0)),
    ],
)
def test_the_limits_of_a_request_are_no_longer_than_the_time_left(
    httpx, open_client, timeout, expected
):
    seen = []
    with FakeClock(), deadline(2.0):
        open_client(given_limits(httpx, seen), timeout=timeout).send()
    ((limits, headers),) = seen
    if open_client.kind == "async":  # an attempt is interrupted, once: two ends lose connections
        expected = dict.fromkeys(LIMITS, timeout)
    assert limits == expected
    assert headers["x-request-timeout-ms"] == "2000"


def test_the_request_is_as_it_was_afterwards(httpx, open_client):
    seen = []

    def handler(request):
        seen.append(request)
        return httpx.Response(200)

    with FakeClock(), deadline(2.0):
        open_client(handler).send()
    assert seen[0].extensions["timeout"] == dict.fromkeys(LIMITS, 5.0)
    assert "x-request-timeout-ms" not in seen[0].headers


def test_waits_and_time_left_are_those_of_a_test_s_clock(httpx, open_client):
    left = []

    def handler(_request):
        left.append(remaining())
        return httpx.Response(503)

    with recorded(), FakeClock(), deadline(10):
        open_client(handler, retry=retry(on=transient, attempts=5, wait=4)).send()
    assert left == [10.0, 6.0, 2.0]


def test_a_client_s_own_timeout_within_the_time_left_is_its_own(httpx, open_client, metrics):
    handler = scripted(httpx, *[httpx.ReadTimeout("read") for _ in range(3)])
    client = open_client(handler, breaker=Detect(consecutive=3))
    with deadline(60), pytest.raises(httpx.ReadTimeout) as caught:
        client.send()
    assert not isinstance(caught.value, DeadlineExpiredError)
    opened = metrics.value("breaker_state", component="shop.example", state="open")
    assert opened == 1.0


# Places.


def test_an_answer_of_bytes_has_no_place(httpx, open_client, metrics):
    client = open_client(lambda _request: httpx.Response(200, content=b"said"), limit=1)
    responses = [client.send() for _ in range(3)]
    assert [each.content for each in responses] == [b"said"] * 3


def test_an_answer_that_nobody_closes_loses_its_place_with_it(httpx, library, metrics):
    ours = library("mainstay.integrations.httpx")

    class Body(httpx.SyncByteStream):
        def __iter__(self):
            yield b"said"

    inside = httpx.MockTransport(lambda _request: httpx.Response(200, stream=Body()))
    transport = ours.Transport(inside, limit=1)
    request = httpx.Request("GET", URL)
    response = transport.handle_request(request)
    with pytest.raises(BulkheadFullError):
        transport.handle_request(request)
    del response
    gc.collect()
    assert transport.handle_request(request).status_code == 200


def test_a_cancelled_request_gives_its_place_back(httpx, library, metrics):
    ours = library("mainstay.integrations.httpx")

    async def hang(_request):
        await asyncio.Event().wait()

    async def main():
        transport = ours.AsyncTransport(httpx.MockTransport(hang), limit=1)
        async with httpx.AsyncClient(transport=transport) as client:
            task = asyncio.ensure_future(client.get(URL))
            await asyncio.sleep(0.01)
            assert metrics.value("in_flight", component="shop.example") == 1.0
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(main())
    assert metrics.value("in_flight", component="shop.example") == 0.0
    assert calls(metrics, "cancelled") == 1.0


def test_threads_that_share_a_transport_are_counted_exactly(httpx, library, metrics):
    ours = library("mainstay.integrations.httpx")
    statuses = itertools.cycle([*[200] * 20, 503])

    def handler(_request):
        return httpx.Response(next(statuses))

    policy = retry(on=transient, attempts=10, wait=0)
    transport = ours.Transport(
        httpx.MockTransport(handler),
        retry=policy,
        breaker=Detect(consecutive=100, bad=0.9),
        limit=8,
    )

    def work(number):
        for each in range(100):
            request = httpx.Request("GET", f"http://host-{(number + each) % 5}.example/")
            assert transport.handle_request(request).status_code == 200

    with ThreadPoolExecutor(8) as pool:
        for each in [pool.submit(contextvars.copy_context().run, work, n) for n in range(8)]:
            each.result()
    hosts = [f"host-{number}.example" for number in range(5)]
    ended = [
        metrics.value("calls_total", component=host, policy="retry", outcome=outcome)
        for host in hosts
        for outcome in ("success", "recovered")
    ]
    assert sum(ended) == 800.0
    assert [metrics.value("in_flight", component=host) for host in hosts] == [0.0] * 5


@pytest.mark.process
def test_an_answer_that_was_refused_takes_no_connection_along(httpx, library, metrics):
    """Known fault T47: of two connections none was left for the third attempt."""
    ours = library("mainstay.integrations.httpx")
    limits = httpx.Limits(max_connections=1)
    timeout = httpx.Timeout(5, pool=0.1)

    async def main(url):
        inside = httpx.AsyncHTTPTransport(limits=limits)
        transport = ours.AsyncTransport(inside, retry=retry(on=transient, attempts=4))
        async with httpx.AsyncClient(transport=transport, timeout=timeout) as client:
            return await client.get(url)

    with Scripted(503, 503, 503, 200) as server:
        inside = httpx.HTTPTransport(limits=limits)
        transport = ours.Transport(inside, retry=retry(on=transient, attempts=4))
        with httpx.Client(transport=transport, timeout=timeout) as client:
            assert client.get(server.url).status_code == 200
    with Scripted(503, 503, 503, 200) as server:
        assert asyncio.run(main(server.url)).status_code == 200


# Bad input.


@pytest.mark.parametrize("transport", [5, "http://a.example", object()])
def test_a_transport_has_to_be_one(library, httpx, transport):
    ours = library("mainstay.integrations.httpx")
    for kind in (ours.Transport, ours.AsyncTransport):
        with pytest.raises(TypeError, match="`transport` must be an httpx"):
            kind(transport)


def test_a_transport_of_the_other_kind_is_refused(library, httpx):
    ours = library("mainstay.integrations.httpx")
    with httpx.HTTPTransport() as sync, pytest.raises(TypeError, match="AsyncBaseTransport"):
        ours.AsyncTransport(sync)
    with pytest.raises(TypeError, match=r"httpx\.BaseTransport"):
        ours.Transport(httpx.AsyncHTTPTransport())


def test_transports_close_what_is_inside(library, httpx):
    ours = library("mainstay.integrations.httpx")
    closed = []

    class Inside(httpx.BaseTransport, httpx.AsyncBaseTransport):
        def close(self):
            closed.append("sync")

        async def aclose(self):
            closed.append("async")

    async def main():
        async with httpx.AsyncClient(transport=ours.AsyncTransport(Inside())):
            pass

    with httpx.Client(transport=ours.Transport(Inside())):
        pass
    asyncio.run(main())
    assert closed == ["sync", "async"]


class Stream:
    """What the connection of a transport is, as httpcore shows it."""

    def __init__(self, connection):
        self.connection = connection
        self.asked = 0

    def get_extra_info(self, name):
        self.asked += 1
        return self.connection if name == "socket" else None


def test_a_connection_that_other_requests_share_is_not_ended(httpx, library):
    ours = library("mainstay.integrations.httpx")
    stream = Stream(None)
    extensions = {"network_stream": stream, "http_version": b"HTTP/2"}

    class Body(httpx.SyncByteStream):
        def __iter__(self):
            yield b"said"

    def answer(_request):
        return httpx.Response(200, stream=Body(), extensions=extensions)

    transport = ours.Transport(httpx.MockTransport(answer))
    with httpx.Client(transport=transport) as client, deadline(60):
        assert client.get(URL).content == b"said"
        assert stream.asked == 0
        extensions["http_version"] = b"HTTP/1.1"
        assert client.get(URL).content == b"said"  # what has no socket is read all the same
        assert stream.asked > 0


@pytest.mark.parametrize("in_body", [False, True], ids=["headers", "body"])
def test_what_cleans_up_after_a_deadline_is_not_interrupted(httpx, library, metrics, in_body):
    """The block ends a request once: a second cancellation took connections out of the pool."""
    ours = library("mainstay.integrations.httpx")
    ends = []

    async def hang():
        try:
            await asyncio.sleep(5)
        finally:
            for _ in range(5):
                await asyncio.sleep(0.01)
            ends.append("cleaned up")

    class Body(httpx.AsyncByteStream):
        async def __aiter__(self):
            yield b"order"
            await hang()

    async def handle(_request):
        if not in_body:
            await hang()
        return httpx.Response(200, stream=Body())

    async def main():
        transport = ours.AsyncTransport(httpx.MockTransport(handle), limit=1)
        async with httpx.AsyncClient(transport=transport) as client, deadline(0.05):
            await client.get(URL)

    with pytest.raises(DeadlineExpiredError):
        asyncio.run(main())
    assert ends == ["cleaned up"]
    assert metrics.value("in_flight", component="shop.example") == 0.0
    assert calls(metrics, "success" if in_body else "timeout") == 1.0


def test_a_request_whose_earlier_answers_nobody_raised_ends_with_the_refusal(open_client, httpx):
    """Known fault: the stand-in for a 503 was raised, an exception that belongs to nobody."""
    policy = retry(on=transient, attempts=2, wait=0)
    breaker = Detect(consecutive=1)
    client = open_client(scripted(httpx, 503), retry=policy, breaker=breaker, name="gone")
    with no_waits(), pytest.raises(CircuitOpenError):
        client.send()
