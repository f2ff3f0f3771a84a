"""What the middleware of WSGI does with requests, on a test's clock and without a server."""

import gc
import json
import threading
import wsgiref.validate

import pytest

from mainstay import (
    Bulkhead,
    CircuitBreaker,
    CircuitOpenError,
    DeadlineExpiredError,
    deadline,
    drain,
    remaining,
    retry,
)
from mainstay._core.sharing import reset_all
from mainstay.integrations.wsgi import Middleware
from support.pools import Lost
from support.wsgi import Server, answering, get, raising, shop


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
    server = get(shop(answering(201, b"a", b"b", before=lambda: clock.advance(0.2))))
    assert (server.status, server.body) == (201, b"ab")
    assert metrics("calls_total", component="shop", policy="pipeline", outcome="success") == 1
    assert metrics("call_duration_seconds_sum", policy="pipeline") == pytest.approx(0.2)


def test_it_keeps_to_the_rules_of_wsgi(metrics):
    def app(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"done"]

    outside = wsgiref.validate.validator(shop(wsgiref.validate.validator(app)))
    environ = {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/",
        "QUERY_STRING": "",
        "SERVER_NAME": "shop.example",
        "SERVER_PORT": "80",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": wsgiref.validate.InputWrapper(None),
        "wsgi.errors": wsgiref.validate.ErrorWrapper(None),
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    for path in ("/", "/health"):
        body = outside({**environ, "PATH_INFO": path}, lambda status, headers, exc_info=None: str)
        assert b"".join(body)
        body.close()
    assert metrics.outcomes() == {"success": 1}


def test_a_list_and_an_application_that_writes_go_through(metrics):
    def writes(environ, start_response):
        write = start_response("200 OK", [])
        write(b"a")
        return [b"b"]

    assert get(shop(writes)).body == b"ab"
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


def test_an_exception_in_the_body_goes_on_to_the_server(metrics):
    def broken():
        raise KeyError("x")

    with pytest.raises(KeyError):
        get(shop(answering(200, b"a", b"b", between=broken)))
    assert metrics.outcomes() == {"error": 1}


def test_a_program_that_ends_is_no_error(metrics):
    with pytest.raises(SystemExit):
        get(shop(raising(SystemExit(1))))
    assert metrics.outcomes() == {"cancelled": 1}


def test_an_application_that_begins_no_response_has_failed(metrics):
    with pytest.raises(AssertionError):
        get(shop(lambda environ, start_response: [b"done"]))
    assert metrics("calls_total", outcome="success") == 0
    assert metrics("calls_total", policy="pipeline") == 1


def test_the_body_of_the_application_is_closed(metrics):
    closed = []
    get(shop(answering(after=lambda: closed.append(remaining()))))
    assert closed == [None]


# The bulkhead.


def test_a_request_has_a_place_until_its_body_is_out(metrics):
    places, seen = Bulkhead("places", limit=1), []

    def look():
        seen.append(places.in_flight)

    server = get(shop(answering(200, b"a", b"b", before=look, between=look), bulkhead=places))
    assert (server.body, seen, places.in_flight) == (b"ab", [1, 1, 1], 0)
    assert metrics("calls_total", component="places", outcome="success") == 1
    assert metrics("call_duration_seconds_count") == 1


def test_without_a_place_the_answer_is_503(metrics):
    places = Bulkhead("places", limit=1)
    app = shop(raising(AssertionError("not called")), bulkhead=places)
    with places:
        server = get(app)
        head = get(app, method="HEAD")
    assert (server.status, server.headers["retry-after"]) == (503, "1")
    assert server.line == "503 Service Unavailable"
    assert server.body == b"503 Service Unavailable: try again in 1 s\n"
    assert (head.status, head.body) == (503, b"")
    assert metrics("calls_total", component="shop", outcome="rejected") == 2
    assert metrics("give_ups_total", component="shop", reason="full") == 2
    assert metrics("calls_total", component="places", outcome="rejected") == 2


def test_what_fails_frees_its_place(metrics):
    places = Bulkhead("places", limit=1)
    app = shop(raising(KeyError("x")), bulkhead=places)
    for _ in range(3):
        with pytest.raises(KeyError):
            get(app)
    assert places.in_flight == 0
    assert metrics("calls_total", component="places", outcome="error") == 3


def test_a_response_that_nobody_closes_frees_its_place(metrics):
    places = Bulkhead("places", limit=1)
    app = shop(answering(), bulkhead=places)
    app({"REQUEST_METHOD": "GET", "PATH_INFO": "/"}, lambda status, headers: str)
    gc.collect()
    assert places.in_flight == 0
    assert metrics("calls_total", component="shop", outcome="cancelled") == 1


def test_a_response_may_be_sent_by_another_thread(metrics):
    places = Bulkhead("places", limit=1)
    app, sent = shop(answering(), bulkhead=places), []
    body = app({"REQUEST_METHOD": "GET", "PATH_INFO": "/"}, lambda status, headers: str)

    def send():
        sent.extend(body)
        body.close()

    thread = threading.Thread(target=send)
    thread.start()
    thread.join()
    assert (sent, places.in_flight) == ([b"done"], 0)
    assert metrics("calls_total", component="shop", outcome="success") == 1


# Refusals of policies in the application.


def test_a_refusal_of_a_policy_inside_is_503(metrics):
    breaker = CircuitBreaker("db", on=Lost)
    breaker.open()
    server = get(shop(answering(before=lambda: breaker.call(str))))
    assert (server.status, server.headers["retry-after"]) == (503, "1")
    assert metrics("calls_total", component="shop", outcome="error") == 1
    assert metrics("errors_total", component="shop", error_type="CircuitOpenError") == 1


def test_refusals_in_a_group_are_503(metrics):
    breaker = CircuitBreaker("db", on=Lost)
    breaker.open()

    def query():
        with pytest.raises(CircuitOpenError) as caught:
            breaker.call(str)
        raise ExceptionGroup("queries", [caught.value])

    server = get(shop(answering(before=query)))
    assert (server.status, server.headers["retry-after"]) == (503, "1")
    assert metrics("calls_total", component="shop", outcome="error") == 1


def test_a_full_bulkhead_inside_is_no_refusal_of_the_request(metrics):
    inner = Bulkhead("inner", limit=1)

    def query():
        with inner:
            inner.call(str)

    assert get(shop(answering(before=query))).status == 503
    assert metrics("calls_total", component="shop", outcome="error") == 1
    assert metrics("give_ups_total", component="shop") == 0


def test_a_response_that_has_begun_and_is_not_out_is_replaced(metrics):
    breaker = CircuitBreaker("db", on=Lost)
    breaker.open()

    def app(environ, start_response):
        start_response("200 OK", [("content-type", "text/html")])
        yield breaker.call(str)

    server = get(shop(app))
    assert (server.status, server.headers["retry-after"]) == (503, "1")
    assert server.body.startswith(b"503")
    assert metrics("calls_total", component="shop", outcome="error") == 1


def test_nothing_is_answered_once_a_response_is_out(metrics):
    breaker = CircuitBreaker("db", on=Lost)
    breaker.open()
    app = shop(answering(200, b"a", b"b", between=lambda: breaker.call(str)))
    server = Server(app)
    with pytest.raises(Exception, match="db is open"):
        server.get()
    assert (server.status, server.body) == (200, b"a")
    assert metrics("calls_total", component="shop", outcome="error") == 1


def test_nothing_is_answered_once_the_application_has_written(metrics):
    def app(environ, start_response):
        start_response("200 OK", [])(b"a")
        raise DeadlineExpiredError("db")

    server = Server(shop(app))
    with pytest.raises(DeadlineExpiredError):
        server.get()
    assert (server.status, server.body) == (200, b"a")


# Deadlines.


def test_a_request_has_the_time_that_its_headers_leave(metrics, clock):
    seen = []

    def look():
        seen.append(remaining())

    app = shop(answering(before=look), at_most=10)
    for environ in (
        {},
        {"HTTP_X_REQUEST_TIMEOUT_MS": "250"},
        {"HTTP_GRPC_TIMEOUT": "2S"},
        {"HTTP_X_REQUEST_TIMEOUT_MS": "999999"},
        {"HTTP_X_REQUEST_TIMEOUT_MS": "250,250"},
    ):
        get(app, **environ)
    assert seen == [None, pytest.approx(0.25), pytest.approx(2), pytest.approx(10), None]
    assert metrics("wire_errors_total", header="timeout_ms") == 1


def test_the_header_may_have_another_name(metrics):
    seen = []
    app = shop(answering(before=lambda: seen.append(remaining())), header="X-Time-Left")
    get(app, HTTP_X_TIME_LEFT="250", HTTP_X_REQUEST_TIMEOUT_MS="5")
    assert seen == [pytest.approx(0.25)]


def test_the_body_has_what_is_left_of_the_time(metrics, clock):
    seen = []

    def look():
        seen.append(remaining())
        clock.advance(0.1)

    app = shop(answering(200, b"a", b"b", b"c", before=look, between=look, after=look))
    get(app, HTTP_X_REQUEST_TIMEOUT_MS="1000")
    assert seen == [pytest.approx(each) for each in (1.0, 0.9, 0.8, 0.7, 0.6)]
    assert remaining() is None


def test_a_request_that_comes_too_late_is_not_begun(metrics):
    app = shop(raising(AssertionError("not called")))
    assert get(app, HTTP_X_REQUEST_TIMEOUT_MS="0").status == 504
    assert metrics.outcomes() == {"timeout": 1}
    assert metrics.reasons() == {"timeout": 1}


def test_a_response_that_is_late_is_a_response(metrics, clock):
    app = shop(answering(200, b"a", b"b", before=lambda: clock.advance(1)))
    server = get(app, HTTP_X_REQUEST_TIMEOUT_MS="250")
    assert (server.status, server.body) == (200, b"ab")
    assert metrics.outcomes() == {"success": 1}


def test_policies_know_that_the_time_is_over(metrics, clock):
    def query():
        clock.advance(1)
        retry(on=Lost, name="db").call(str)

    server = get(shop(answering(before=query)), HTTP_X_REQUEST_TIMEOUT_MS="250")
    assert (server.status, server.body) == (
        504,
        b"504 Gateway Timeout: the time of the request is over\n",
    )
    assert metrics("calls_total", component="shop", outcome="timeout") == 1


def test_a_body_that_drips_is_cut_off(metrics, clock):
    places = Bulkhead("places")
    app = shop(answering(200, *[b"drip"] * 10, between=lambda: clock.advance(0.1)), bulkhead=places)
    server = Server(app)
    with pytest.raises(DeadlineExpiredError):
        server.get(HTTP_X_REQUEST_TIMEOUT_MS="250")
    assert server.body == b"dripdripdrip"
    assert metrics("calls_total", component="shop", outcome="timeout") == 1
    assert places.in_flight == 0


def test_an_outer_deadline_holds_too(metrics):
    with deadline(0):
        assert get(shop(raising(AssertionError("not called")))).status == 504


# Clients that leave.


def test_a_client_that_leaves_is_cancelled(metrics):
    places, closed = Bulkhead("places"), []
    app = shop(
        answering(200, b"a", b"b", b"c", after=lambda: closed.append(places.in_flight)),
        bulkhead=places,
    )
    server = Server(app, takes=1).get()
    assert (server.body, closed, places.in_flight) == (b"a", [1], 0)
    assert metrics("calls_total", component="shop", outcome="cancelled") == 1
    assert metrics("calls_total", component="places", outcome="cancelled") == 1


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
def test_a_response_without_a_body_need_not_be_iterated(metrics, method, status):
    app = shop(answering(status))
    body = app({"REQUEST_METHOD": method, "PATH_INFO": "/"}, lambda status, headers: str)
    body.close()
    assert metrics.outcomes() == {"success": 1}


# Health, what is exempt, draining.


def test_the_page_about_health(metrics):
    breaker = CircuitBreaker("orders-db", on=Lost)
    app = shop(raising(AssertionError("not called")), ready=("orders-db",))
    server = get(app, "/health")
    assert (server.status, server.headers["content-type"]) == (200, "application/health+json")
    assert json.loads(server.body)["status"] == "pass"
    breaker.open()
    server = get(app, "/health")
    assert (server.status, json.loads(server.body)["status"]) == (503, "fail")
    assert metrics("calls_total", policy="pipeline") == 0


def test_other_methods_and_other_paths_are_the_applications(metrics):
    assert get(shop(answering(405)), "/health", method="POST").status == 405
    assert get(shop(answering(418), health="/ready"), "/health").status == 418
    assert get(shop(answering(418), health=None), "/health").status == 418


def test_what_is_exempt_goes_straight_through(metrics):
    places = Bulkhead("places", limit=1)
    app = shop(answering(), bulkhead=places, exempt=("/metrics",))
    with places:
        assert get(app, "/metrics", HTTP_X_REQUEST_TIMEOUT_MS="0").status == 200
        assert get(app, "/metricsfoo").status == 503


def test_a_process_that_drains_refuses_after_its_time(metrics, clock):
    places = Bulkhead("places")
    app, bare = shop(answering(), bulkhead=places), shop(answering())
    drain(15)
    clock.advance(14)
    assert get(app).status == 200
    assert get(app, "/health").status == 503
    clock.advance(1)
    assert [get(app).status, get(bare).status] == [503, 503]
    assert metrics("calls_total", component="shop", outcome="rejected") == 2


# Bad input.


async def pages(environ, start_response):
    return []


def asgi(scope, receive, send):
    return None


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"app": "shop:app"}, TypeError, "`app` must be an application that can be called"),
        ({"app": asgi}, TypeError, "`app` must take environ, start_response"),
        ({"app": pages}, TypeError, "`app` must be an application of WSGI, and .* is async"),
        ({"bulkhead": 10}, TypeError, "`bulkhead` must be a Bulkhead or None, not 10"),
        ({"at_most": -1}, ValueError, "`at_most` must be finite and above 0"),
        ({"header": ""}, ValueError, "`header` must be the name of a header"),
        ({"health": ""}, ValueError, "`health` must begin with a slash"),
        ({"ready": 5}, TypeError, "`ready` must hold names of components"),
        ({"exempt": None}, TypeError, "`exempt` must hold paths"),
        ({"name": ""}, ValueError, "`name` must not be empty"),
        ({"metrics": "all"}, TypeError, "`metrics` must be a Metrics or None"),
    ],
)
def test_bad_input_is_refused_when_it_is_made(options, error, says):
    with pytest.raises(error, match=says):
        Middleware(**{"app": answering(), **options})
