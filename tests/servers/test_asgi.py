"""What the middleware of ASGI does with requests, on a test's clock and without a server."""

import asyncio
import contextlib
import json
import math

import pytest

from mainstay import (
    Bulkhead,
    CircuitBreaker,
    DeadlineExpiredError,
    Metrics,
    deadline,
    drain,
    remaining,
    retry,
)
from mainstay._core.sharing import reset_all
from mainstay.integrations.asgi import Middleware
from support.asgi import Client, answering, get, raising, shop
from support.pools import Lost


@pytest.fixture(autouse=True)
def not_draining():
    yield
    reset_all()


@pytest.fixture(autouse=True)
def in_time(clock):
    """Every test runs on its clock."""
    return clock


# What goes through.


def test_a_response_goes_through_and_is_one_call(metrics, clock):
    async def work():
        clock.advance(0.2)

    client = get(shop(answering(201, b"a", b"b", before=work)))
    assert (client.status, client.body) == (201, b"ab")
    assert metrics.outcomes() == {"success": 1}
    assert metrics("calls_total", component="shop", policy="pipeline", outcome="success") == 1
    assert metrics("call_duration_seconds_sum", policy="pipeline") == pytest.approx(0.2)


def test_no_path_is_a_label(metrics):
    app = shop(answering())
    for number in range(20):
        get(app, path=f"/orders/{number}")
    labels = {
        value
        for family in metrics.metrics.collect()
        for sample in family.samples
        for value in sample.labels.values()
    }
    assert not [label for label in labels if label.startswith("/")]


def test_without_a_name_it_is_that_of_the_application(metrics):
    async def pages(scope, receive, send):
        await answering()(scope, receive, send)

    get(Middleware(pages))
    assert metrics("calls_total", outcome="success", component=f"{__name__}.{pages.__qualname__}")


def test_other_metrics_than_the_default_ones(metrics):
    own = Metrics(None)
    get(shop(answering(), metrics=own))
    assert metrics.outcomes() == {}
    metrics.metrics = own
    assert metrics.outcomes() == {"success": 1}


@pytest.mark.parametrize("status", [200, 304, 404, 429, 499])
def test_what_is_the_clients_mistake_is_no_error(metrics, status):
    get(shop(answering(status)))
    assert metrics.outcomes() == {"success": 1}


@pytest.mark.parametrize("status", [500, 503, 599])
def test_a_status_from_500_on_is_an_error(metrics, status):
    assert get(shop(answering(status))).status == status
    assert metrics.outcomes() == {"error": 1}
    assert metrics.errors() == {f"HTTP {status}": 1}


def test_an_exception_goes_on_to_the_server(metrics):
    error = KeyError("x")
    with pytest.raises(KeyError) as caught:
        get(shop(raising(error)))
    assert caught.value is error
    assert metrics.outcomes() == {"error": 1}
    assert metrics.errors() == {"KeyError": 1}


def test_an_exception_after_the_response_that_it_led_to_is_counted_once(metrics):
    async def broken():
        raise KeyError("x")

    with pytest.raises(KeyError):
        get(shop(answering(500, after=broken)))
    assert metrics.outcomes() == {"error": 1}
    assert metrics.errors() == {"KeyError": 1}


def test_an_application_that_answers_nothing_has_failed(metrics):
    async def silent(scope, receive, send):
        pass

    get(shop(silent))
    assert metrics.outcomes() == {"error": 1}
    assert metrics.errors() == {"no whole response": 1}


@pytest.mark.parametrize("kind", ["pathsend", "zerocopysend"])
def test_a_file_that_the_server_sends_is_a_whole_response(metrics, kind):
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": f"http.response.{kind}"})

    get(shop(app))
    assert metrics.outcomes() == {"success": 1}


def test_what_follows_the_body_goes_through(metrics):
    async def app(scope, receive, send):
        await answering()(scope, receive, send)
        await send({"type": "http.response.trailers", "headers": []})

    assert get(shop(app)).sent[-1]["type"] == "http.response.trailers"
    assert metrics.outcomes() == {"success": 1}


# The bulkhead.


def test_a_request_has_a_place_until_its_body_is_out(metrics):
    places, seen = Bulkhead("places", limit=1), []

    async def look():
        seen.append(places.in_flight)

    app = shop(answering(200, b"a", b"b", before=look, between=look, after=look), bulkhead=places)
    get(app)
    assert seen == [1, 1, 0]
    assert places.in_flight == 0


def test_without_a_place_the_answer_is_503(metrics):
    places = Bulkhead("places", limit=1)
    app = shop(raising(AssertionError("not called")), bulkhead=places)
    with places:
        client = get(app)
    assert client.status == 503
    assert client.headers["retry-after"] == "1"
    assert client.body == b"503 Service Unavailable: try again in 1 s\n"
    assert metrics("calls_total", component="shop", outcome="rejected") == 1
    assert metrics("give_ups_total", component="shop", reason="full") == 1
    assert metrics("calls_total", component="places", outcome="rejected") == 1
    assert metrics("call_duration_seconds_count", component="shop") == 0


def test_a_request_waits_for_a_place(metrics, clock):
    places = Bulkhead("places", limit=1, max_wait=2.0)
    app = shop(answering(before=lambda: clock.asleep(1.0)), bulkhead=places)

    async def main():
        return await asyncio.gather(*(Client(app).run() for _ in range(4)))

    statuses = sorted(client.status for client in asyncio.run(main()))
    assert statuses == [200, 200, 503, 503]
    assert metrics.reasons() == {"wait": 4}, "of the bulkhead, and of the middleware"


def test_the_bulkhead_counts_no_second_duration(metrics):
    places = Bulkhead("places")
    get(shop(answering(), bulkhead=places))
    assert metrics("calls_total", component="places", outcome="success") == 1
    assert metrics("call_duration_seconds_count") == 1


def test_what_fails_frees_its_place(metrics):
    places = Bulkhead("places", limit=1)
    app = shop(raising(KeyError("x")), bulkhead=places)
    for _ in range(3):
        with pytest.raises(KeyError):
            get(app)
    assert places.in_flight == 0
    assert metrics("calls_total", component="places", outcome="error") == 3


# Refusals of policies in the application.


def test_a_refusal_of_a_policy_inside_is_503(metrics):
    breaker = CircuitBreaker("db", on=Lost)
    breaker.open()

    async def query():
        await breaker.call(answering())

    client = get(shop(answering(before=query)))
    assert (client.status, client.headers["retry-after"]) == (503, "1")
    assert metrics("calls_total", component="shop", outcome="error") == 1
    assert metrics("errors_total", component="shop", error_type="CircuitOpenError") == 1


def test_refusals_in_tasks_of_the_application_are_503(metrics):
    breaker = CircuitBreaker("db", on=Lost)
    breaker.open()

    async def query():
        async with asyncio.TaskGroup() as tasks:
            for _ in range(2):
                tasks.create_task(breaker.call(answering()))

    client = get(shop(answering(before=query)))
    assert (client.status, client.headers["retry-after"]) == (503, "1")
    assert metrics("calls_total", component="shop", outcome="error") == 1


def test_a_time_that_is_over_in_tasks_of_the_application_is_504(metrics):
    async def query():
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(late())

    async def late():
        raise DeadlineExpiredError("db")

    assert get(shop(answering(before=query))).status == 504
    assert metrics("calls_total", component="shop", outcome="timeout") == 1


def test_a_full_bulkhead_inside_is_no_refusal_of_the_request(metrics):
    inner = Bulkhead("inner", limit=1)

    async def query():
        with inner:
            await inner.call(answering())

    assert get(shop(answering(before=query))).status == 503
    assert metrics("calls_total", component="shop", outcome="error") == 1
    assert metrics("give_ups_total", component="shop") == 0


def test_nothing_is_answered_once_a_response_has_begun(metrics):
    breaker = CircuitBreaker("db", on=Lost)
    breaker.open()
    with pytest.raises(Exception, match="db is open") as caught:
        breaker.call(str)
    client = Client(shop(raising(caught.value, begun=True)))
    with pytest.raises(type(caught.value)):
        asyncio.run(client.run())
    assert client.status == 200
    assert client.body == b"some"
    assert metrics("calls_total", component="shop", outcome="error") == 1


def test_the_body_of_an_answer_to_head_is_left_out(metrics):
    places = Bulkhead("places", limit=1)
    with places:
        client = get(shop(answering(), bulkhead=places), method="HEAD")
    assert (client.status, client.body) == (503, b"")
    assert client.headers["content-length"] == "42"


# Deadlines.


def test_a_request_has_the_time_that_its_headers_leave(metrics):
    seen = []

    async def look():
        seen.append(remaining())

    app = shop(answering(before=look), at_most=10)
    for headers in (
        [],
        [("x-request-timeout-ms", "250")],
        [("grpc-timeout", "2S")],
        [("x-request-timeout-ms", "999999")],
        [("x-request-timeout-ms", "soon")],
        [("x-request-timeout-ms", "250"), ("x-request-timeout-ms", "250")],
        [("x-request-timeout-ms", "250"), ("grpc-timeout", "125m")],
    ):
        get(app, headers=headers)
    some = [pytest.approx(seconds) for seconds in (0.25, 2, 10, 0.125)]
    assert seen == [None, *some[:3], None, None, some[3]]
    assert metrics("wire_errors_total", header="timeout_ms") == 2


def test_the_header_may_have_another_name(metrics):
    seen = []

    async def look():
        seen.append(remaining())

    app = shop(answering(before=look), header="X-Time-Left")
    get(app, headers=[("x-time-left", "250"), ("x-request-timeout-ms", "5")])
    assert seen == [pytest.approx(0.25)]


def test_a_request_is_interrupted_when_its_time_is_over(metrics, clock):
    places = Bulkhead("places")
    app = shop(answering(before=lambda: clock.asleep(60)), bulkhead=places)
    before = clock.now()
    client = get(app, headers=[("x-request-timeout-ms", "250")])
    assert clock.now() - before == pytest.approx(0.25)
    assert client.status == 504
    assert client.body == b"504 Gateway Timeout: the time of the request is over\n"
    assert metrics("calls_total", component="shop", outcome="timeout") == 1
    assert metrics("give_ups_total", component="shop", reason="timeout") == 1
    assert metrics("call_attempts_count") == 0
    assert metrics("calls_total", component="places", outcome="timeout") == 1
    assert places.in_flight == 0


def test_an_application_may_take_its_end_in_hand(metrics, clock):
    async def stubborn():
        with contextlib.suppress(asyncio.CancelledError):
            await clock.asleep(60)

    async def main():
        app = shop(answering(before=stubborn))
        client = await Client(app, headers=[("x-request-timeout-ms", "250")]).run()
        return client.status, asyncio.current_task().cancelling()

    assert asyncio.run(main()) == (200, 0)
    assert metrics.outcomes() == {"success": 1}


def test_a_request_that_comes_too_late_is_not_begun(metrics):
    app = shop(raising(AssertionError("not called")))
    assert get(app, headers=[("x-request-timeout-ms", "0")]).status == 504
    assert metrics.outcomes() == {"timeout": 1}


def test_a_request_waits_for_a_place_no_longer_than_its_time(metrics, clock):
    places = Bulkhead("places", limit=1, max_wait=60)
    app = shop(raising(AssertionError("not called")), bulkhead=places)

    async def main():
        async with places:
            return await asyncio.create_task(
                Client(app, headers=[("x-request-timeout-ms", "250")]).run()
            )

    assert asyncio.run(main()).status == 504
    assert metrics("calls_total", component="shop", outcome="timeout") == 1


def test_time_that_is_over_inside_is_504(metrics):
    async def query():
        with deadline(0):
            await retry(on=Lost).call(answering())

    assert get(shop(answering(before=query))).status == 504
    assert metrics("calls_total", component="shop", outcome="timeout") == 1


def test_a_body_that_drips_is_cut_off(metrics, clock):
    app = shop(answering(200, *[b"drip"] * 10, between=lambda: clock.asleep(0.1)))
    client = Client(app, headers=[("x-request-timeout-ms", "250")])
    with pytest.raises(DeadlineExpiredError) as caught:
        asyncio.run(client.run())
    assert (caught.value.component, caught.value.seconds) == ("shop", 0.25)
    assert isinstance(caught.value.__cause__, asyncio.CancelledError)
    assert client.status == 200
    assert client.body == b"dripdripdrip"
    assert metrics.outcomes() == {"timeout": 1}


def test_what_runs_after_the_response_is_not_interrupted(metrics, clock):
    done = []

    async def after():
        await clock.asleep(60)
        done.append(remaining())

    places = Bulkhead("places")
    client = get(
        shop(answering(after=after), bulkhead=places), headers=[("x-request-timeout-ms", "250")]
    )
    assert (client.status, done) == (200, [None])
    assert metrics("call_duration_seconds_sum", component="shop") == 0
    assert metrics("calls_total", component="shop", outcome="success") == 1


def test_a_response_that_another_task_sends_ends_the_time_too(metrics, clock):
    async def app(scope, receive, send):
        await asyncio.create_task(answering()(scope, receive, send))
        await clock.asleep(60)

    assert get(shop(app), headers=[("x-request-timeout-ms", "250")]).status == 200
    assert metrics.outcomes() == {"success": 1}


def test_an_outer_deadline_holds_too(metrics):
    with deadline(0):
        assert get(shop(raising(AssertionError("not called")))).status == 504
    with deadline(0.1):
        assert get(shop(answering())).status == 200


# Clients that leave.


def test_a_client_that_has_left_is_seen_by_who_asks(metrics):
    async def app(scope, receive, send):
        await receive()
        assert (await receive())["type"] == "http.disconnect"

    async def main():
        client = Client(shop(app))
        client.left.set()
        await client.run()

    asyncio.run(main())
    assert metrics.outcomes() == {"cancelled": 1}


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_a_client_that_has_left_is_looked_for_where_nobody_asks(metrics, clock, method):
    places, read = Bulkhead("places"), []

    async def main():
        async def app(scope, receive, send):
            if method == "POST":
                read.append(await receive())
            client.left.set()
            clock.advance(1)
            await answering()(scope, receive, send)
            if method != "POST":
                read.append(await receive())

        client = Client(shop(app, bulkhead=places), method=method, body=[b"all of it"])
        await client.run()

    asyncio.run(main())
    assert [each["body"] for each in read] == [b"all of it"]
    assert metrics("calls_total", component="shop", outcome="cancelled") == 1
    assert places.in_flight == 0


def test_a_client_that_is_there_is_not_taken_for_one_that_has_left(metrics, clock):
    async def work():
        clock.advance(1)

    client = get(shop(answering(200, b"a", b"b", before=work, between=work)))
    assert (client.status, client.body) == (200, b"ab")
    assert metrics.outcomes() == {"success": 1}


def test_a_server_that_always_has_a_message_is_not_asked_for_ever(metrics, clock):
    async def main():
        client = Client(shop(app))
        client.incoming = []
        client.receive = always
        return await client.run()

    async def always():
        return {"type": "http.request", "body": b""}

    async def app(scope, receive, send):
        clock.advance(1)
        await answering()(scope, receive, send)

    assert asyncio.run(main()).status == 200
    assert metrics.outcomes() == {"success": 1}


def test_a_body_that_was_not_read_is_left_to_the_application(metrics, clock):
    read = []

    async def app(scope, receive, send):
        clock.advance(1)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while True:
            message = await receive()
            read.append(message["body"])
            if not message["more_body"]:
                break
        await send({"type": "http.response.body", "body": b"".join(read)})

    client = get(shop(app), method="POST", body=[b"a", b"b", b"c"])
    assert client.body == b"abc"
    assert metrics.outcomes() == {"success": 1}


def test_a_client_that_has_left_is_seen_where_the_server_says_so_by_an_exception(metrics):
    async def main():
        client = Client(shop(answering()))
        client.leaves_by = BrokenPipeError()
        client.left.set()
        with pytest.raises(BrokenPipeError):
            await client.run()

    asyncio.run(main())
    assert metrics.outcomes() == {"cancelled": 1}


def test_a_server_that_cancels_has_the_last_word(metrics, clock):
    places = Bulkhead("places")
    app = shop(answering(before=lambda: asyncio.sleep(3600)), bulkhead=places)

    async def main():
        task = asyncio.create_task(Client(app, headers=[("x-request-timeout-ms", "9999")]).run())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert metrics("calls_total", component="shop", outcome="cancelled") == 1
    assert places.in_flight == 0


def test_nothing_of_what_comes_after_the_response_is_a_client_that_leaves(metrics):
    async def app(scope, receive, send):
        await receive()
        await answering()(scope, receive, send)
        assert (await receive())["type"] == "http.disconnect"

    async def main():
        client = Client(shop(app))
        client.left.set()
        await client.run()

    asyncio.run(main())
    assert metrics.outcomes() == {"success": 1}


# Health, what is exempt, draining.


def test_the_page_about_health(metrics):
    breaker = CircuitBreaker("orders-db", on=Lost)
    app = shop(raising(AssertionError("not called")), ready=("orders-db",))
    client = get(app, path="/health")
    assert client.status == 200
    assert client.headers["content-type"] == "application/health+json"
    page = json.loads(client.body)
    assert page["status"] == "pass"
    assert page["checks"]["orders-db"][0]["observedValue"] == "ok"
    breaker.open()
    client = get(app, path="/health")
    assert client.status == 503
    page = json.loads(client.body)
    assert page["status"] == "fail"
    (check,) = page["checks"]["orders-db"]
    assert (check["componentType"], check["observedValue"], check["status"]) == (
        "breaker",
        "open",
        "fail",
    )
    assert get(app, path="/health", method="HEAD").body == b""
    assert metrics("calls_total", policy="pipeline") == 0


def test_the_page_about_health_says_what_keeps_the_process_from_being_ready(metrics):
    breaker = CircuitBreaker("orders-db", on=Lost)
    app = shop(raising(AssertionError("not called")), ready=("orders-db", "oders"))
    breaker.open()
    drain(15)
    assert json.loads(get(app, path="/health").body)["notes"] == [
        "the process drains",
        "orders-db is open",
        "no component is named oders",
    ]


def test_other_methods_and_other_paths_are_the_applications(metrics):
    assert get(shop(answering(405)), path="/health", method="POST").status == 405
    assert get(shop(answering(418), health="/ready"), path="/health").status == 418
    assert get(shop(answering(418), health=None), path="/health").status == 418
    assert get(shop(answering(418), health="/ready"), path="/ready").status == 200


def test_where_the_application_is_mounted_is_no_part_of_the_path(metrics):
    app = shop(answering(418), exempt=["/metrics"])
    assert get(app, path="/api/health", root_path="/api").status == 200
    assert get(app, path="/health", root_path="/api").status == 200
    get(app, path="/api/metrics", root_path="/api")
    assert metrics.outcomes() == {}


@pytest.mark.parametrize("path", ["/metrics", "/metrics/", "/metrics/all", "/static/a.css"])
def test_what_is_exempt_goes_straight_through(metrics, path):
    places, seen = Bulkhead("places", limit=1), []

    async def look():
        seen.append(remaining())

    app = shop(answering(before=look), bulkhead=places, exempt=("/metrics", "/static//"))
    with places:
        assert get(app, path=path, headers=[("x-request-timeout-ms", "0")]).status == 200
        assert get(app, path=f"/no{path}").status == 503
    assert seen == [None]


def test_only_slashes_at_the_end_of_what_is_exempt_are_left_out(metrics):
    app = shop(answering(), exempt=["/box"])
    for path in ("/bo", "/boxes", "/box"):
        get(app, path=path)
    assert metrics.outcomes() == {"success": 2}


def test_all_may_be_exempt(metrics):
    for path in ("/", "/a", ""):
        assert get(shop(answering(), exempt=["/"]), path=path).status == 200
    assert metrics.outcomes() == {}


def test_a_process_that_drains_refuses_after_its_time(metrics, clock):
    places = Bulkhead("places")
    app, bare = shop(answering(), bulkhead=places, exempt=["/metrics"]), shop(answering())
    drain(15)
    clock.advance(14)
    assert get(app).status == 200
    assert get(app, path="/health").status == 503
    clock.advance(1)
    for each in (app, bare):
        client = get(each)
        assert client.status == 503
    assert client.headers["retry-after"] == "2", "of the one without a bulkhead"
    assert get(app, path="/metrics").status == 200
    assert metrics("calls_total", component="shop", outcome="rejected") == 2
    assert metrics("calls_total", component="places", outcome="rejected") == 1


def test_to_drain_again_can_only_shorten(metrics, clock):
    app = shop(answering())
    drain(15)
    clock.advance(5)
    drain(60)
    clock.advance(10)
    assert get(app).status == 503


def test_a_request_that_is_under_way_goes_on_while_the_process_drains(metrics):
    async def begin():
        drain()

    assert get(shop(answering(before=begin))).status == 200


# Websockets and the rest.


class Socket(Client):
    def __init__(self, app, **options):
        super().__init__(app, kind="websocket", **options)
        self.incoming = [{"type": "websocket.connect"}]


async def chat(scope, receive, send):
    assert (await receive())["type"] == "websocket.connect"
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.send", "text": f"{remaining()}"})
    await send({"type": "websocket.close", "code": 1000})


def test_websockets_pass_without_a_place_and_a_deadline(metrics):
    places = Bulkhead("places", limit=1)
    app = shop(chat, bulkhead=places)
    with places:
        socket = Socket(app, headers=[("x-request-timeout-ms", "0")])
        asyncio.run(socket.run())
    assert [each["type"] for each in socket.sent] == [
        "websocket.accept",
        "websocket.send",
        "websocket.close",
    ]
    assert socket.sent[1]["text"] == "None"
    assert metrics("calls_total", component="shop") == 0


def refuse_to_chat():
    breaker = CircuitBreaker("rooms", on=Lost)
    breaker.open()

    async def app(scope, receive, send):
        await receive()
        await breaker.call(chat, scope, receive, send)

    return app


def test_a_websocket_is_refused_before_it_is_accepted(metrics):
    socket = Socket(shop(refuse_to_chat()))
    asyncio.run(socket.run())
    assert socket.sent == [
        {"type": "websocket.close", "code": 1013, "reason": "Service Unavailable"}
    ]


def test_a_websocket_is_refused_by_a_group_of_refusals(metrics):
    async def app(scope, receive, send):
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(refuse_to_chat()(scope, receive, send))

    socket = Socket(shop(app))
    asyncio.run(socket.run())
    assert [each["type"] for each in socket.sent] == ["websocket.close"]


def test_where_the_server_can_a_websocket_is_refused_by_a_response(metrics):
    socket = Socket(shop(refuse_to_chat()), extensions={"websocket.http.response": {}})
    asyncio.run(socket.run())
    assert [each["type"] for each in socket.sent] == [
        "websocket.http.response.start",
        "websocket.http.response.body",
    ]
    assert (socket.status, socket.headers["retry-after"]) == (503, "1")


def test_a_websocket_that_is_open_keeps_its_exception(metrics):
    async def app(scope, receive, send):
        await send({"type": "websocket.accept"})
        raise DeadlineExpiredError("rooms")

    with pytest.raises(DeadlineExpiredError):
        asyncio.run(Socket(shop(app)).run())


def test_a_process_that_drains_takes_no_more_websockets(metrics):
    drain()
    socket = Socket(shop(chat))
    asyncio.run(socket.run())
    assert [each["type"] for each in socket.sent] == ["websocket.close"]
    assert socket.incoming == [], "servers want it to be asked for"
    exempt = Socket(shop(chat, exempt=["/chat"]), path="/chat")
    asyncio.run(exempt.run())
    assert exempt.sent[0]["type"] == "websocket.accept"


def test_lifespan_and_what_is_new_pass_untouched(metrics):
    async def app(scope, receive, send):
        given.append((scope, receive, send))

    given, drained = [], shop(app)
    drain()
    for kind in ("lifespan", "something.new"):
        arguments = ({"type": kind}, object(), object())
        asyncio.run(drained(*arguments))
        assert given.pop() == arguments


# Bad input.


def wsgi(environ, start_response):
    return []


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"app": "shop:app"}, TypeError, "`app` must be an application that can be called"),
        ({"app": wsgi}, TypeError, "`app` must take scope, receive, send"),
        ({"bulkhead": 10}, TypeError, "`bulkhead` must be a Bulkhead or None, not 10"),
        ({"at_most": 0}, ValueError, "`at_most` must be finite and above 0 seconds, not 0"),
        ({"at_most": math.nan}, ValueError, "`at_most` must be finite"),
        ({"at_most": "1"}, TypeError, "`at_most` must be"),
        ({"header": "a b"}, ValueError, "`header` must be the name of a header"),
        ({"header": None}, TypeError, "`header` must be a str"),
        ({"health": "health"}, ValueError, "`health` must begin with a slash"),
        ({"health": 1}, TypeError, "`health` must be a path"),
        ({"ready": "db"}, TypeError, "`ready` must hold names of components"),
        ({"ready": [""]}, ValueError, "`ready` must hold names that are not empty"),
        ({"exempt": "/metrics"}, TypeError, "`exempt` must hold paths"),
        ({"exempt": ["metrics"]}, ValueError, "`exempt` must begin with a slash"),
        ({"exempt": [5]}, TypeError, "`exempt` must be a path"),
        ({"name": ""}, ValueError, "`name` must not be empty"),
        ({"name": 5}, TypeError, "`name` must be a str or None"),
        ({"metrics": "all"}, TypeError, "`metrics` must be a Metrics or None"),
    ],
)
def test_bad_input_is_refused_when_it_is_made(options, error, says):
    with pytest.raises(error, match=says):
        Middleware(**{"app": answering(), **options})
