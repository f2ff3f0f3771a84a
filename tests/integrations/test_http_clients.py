"""What the integrations of HTTP clients have in common, against a server on loopback."""

import contextlib
import pickle
import time

import pytest
from integrations.http_clients import CLIENTS
from integrations.scripted import Scripted, Slow, cuts, drips, hangs, resets, says
from integrations.verdicts import self_signed

from mainstay import (
    Adaptive,
    BulkheadFullError,
    CircuitOpenError,
    DeadlineExpiredError,
    Detect,
    MainstayError,
    RetryBudget,
    deadline,
    retry,
    transient,
)
from mainstay.testing import FakeClock, no_waits, recorded

pytestmark = [
    pytest.mark.process,  # these start servers
    pytest.mark.filterwarnings("ignore"),  # aiohttp warns of its own
]


@pytest.fixture(params=CLIENTS)
def open_client(request, library):
    """Makes a client of each library with the given policies."""
    kind = CLIENTS[request.param]
    library(kind.library)
    opened = []

    def make(**policies):
        opened.append(kind(**policies))
        return opened[-1]

    yield make
    for each in opened:
        each.close()


@pytest.fixture
def metrics():
    with no_waits(), recorded() as metrics:
        yield metrics


def calls(metrics, component, outcome, policy="retry"):
    return metrics.value("calls_total", component=component, policy=policy, outcome=outcome)


def methods(server):
    return [each.method for each in server.seen]


# Attempts.


def test_what_failed_is_sent_again(open_client, metrics):
    with Scripted(503, resets, 200) as server:
        assert open_client().ask("GET", server.url) == (200, b"said")
    assert methods(server) == ["GET"] * 3
    assert calls(metrics, server.host, "recovered") == 1.0


def test_the_last_answer_is_returned_whole(open_client, metrics):
    with Scripted(says(503, b"busy")) as server:
        assert open_client().ask("GET", server.url) == (503, b"busy")
    assert methods(server) == ["GET"] * 3
    assert calls(metrics, server.host, "error") == 1.0


def test_the_last_exception_is_the_client_s_own_and_has_the_note(open_client, metrics):
    client = open_client()
    with Scripted(resets) as server, pytest.raises(client.base) as caught:
        client.ask("GET", server.url)
    assert not isinstance(caught.value, MainstayError)
    assert f"mainstay.retry {server.host}: gave up after 3 attempts" in caught.value.__notes__[0]


def test_another_retry_may_be_given(open_client, metrics):
    policy = retry(on=transient, attempts=2)
    with Scripted(503) as server:
        assert open_client(retry=policy).ask("GET", server.url)[0] == 503
    assert methods(server) == ["GET"] * 2


def test_a_status_that_is_not_ready_yet_may_be_named(open_client, metrics):
    policy = retry(on=transient.configured(statuses=(202,)))
    with Scripted(202, 202, says(200, b"ready")) as server:
        assert open_client(retry=policy).ask("GET", server.url) == (200, b"ready")
    with Scripted(503) as server:
        assert open_client(retry=policy).ask("GET", server.url)[0] == 503
        assert len(server.seen) == 1


def test_a_predicate_that_raises_is_told_and_hides_nothing(open_client, metrics):
    def on(error):
        raise ZeroDivisionError

    with Scripted(404) as server:
        assert open_client(retry=retry(on=on)).ask("GET", server.url) == (404, b"said")
    labels = {"component": server.host, "policy": "retry", "reason": "predicate_error"}
    assert metrics.value("give_ups_total", **labels) == 1.0


def test_classes_may_be_given_and_a_bad_status_counts_all_the_same(open_client, metrics):
    with Scripted(503) as server:
        assert open_client(retry=retry(on=LookupError)).ask("GET", server.url)[0] == 503
    assert len(server.seen) == 1
    assert calls(metrics, server.host, "error") == 1.0


def test_an_answer_that_on_result_refuses_last_is_returned(open_client, metrics):
    policy = retry(on=transient, attempts=2, on_result=lambda _response: True)
    with Scripted(says(200, b"one"), says(200, b"two")) as server:
        assert open_client(retry=policy).ask("GET", server.url) == (200, b"two")
    assert methods(server) == ["GET"] * 2


@pytest.mark.parametrize("status", [404, 302, 501, 409])
def test_an_answer_that_is_no_failure_is_a_success(open_client, metrics, status):
    with Scripted(status) as server:
        assert open_client().ask("PUT", server.url, body=b"a") == (status, b"said")
    assert len(server.seen) == 1
    assert calls(metrics, server.host, "success") == 1.0


@pytest.mark.parametrize(
    ("answer", "headers", "made"),
    [
        (says(503), {}, 1),
        (says(500), {}, 1),
        (says(503, Retry_After=0), {}, 3),
        (says(429), {}, 3),
        (says(503), {"Idempotency-Key": "5"}, 3),
    ],
)
def test_a_post_is_sent_again_where_that_is_safe(open_client, metrics, answer, headers, made):
    with Scripted(answer) as server:
        open_client().ask("POST", server.url, body=b"order", headers=headers)
    assert [each.body for each in server.seen] == [b"order"] * made
    assert calls(metrics, server.host, "error") == 1.0


@pytest.mark.parametrize(
    ("method", "headers", "made"),
    [("POST", {}, 1), ("PUT", {}, 3), ("POST", {"Idempotency-Key": "5"}, 3)],
)
def test_what_broke_off_is_sent_again_where_that_is_safe(
    open_client, metrics, method, headers, made
):
    client = open_client()
    with Scripted(resets) as server, pytest.raises(client.base):
        client.ask(method, server.url, body=b"order", headers=headers)
    by_itself = client.repeats if method == "PUT" else 1
    assert methods(server) == [method] * (made * by_itself)


def test_a_delay_that_the_server_asks_for_is_waited_for(open_client, metrics):
    with Scripted(says(503, Retry_After=7), 200) as server:
        assert open_client().ask("GET", server.url)[0] == 200
    assert 7.0 <= metrics.value("wait_seconds_total", component=server.host) <= 7.7


def test_a_delay_that_is_garbage_is_counted(open_client, metrics):
    with Scripted(says(503, Retry_After="soon"), 200) as server:
        assert open_client().ask("GET", server.url)[0] == 200
    assert metrics.value("wire_errors_total", header="retry_after") == 1.0


def test_retries_may_be_charged_to_a_budget(open_client, metrics):
    budget = RetryBudget(0.0, floor=0.0)
    with Scripted(503) as server:
        assert open_client(budget=budget).ask("GET", server.url)[0] == 503
    assert methods(server) == ["GET"]


# Bodies that can be sent once.


def pieces():
    yield b"one "
    yield b"order"


def test_a_body_that_is_used_up_is_not_sent_again(open_client, metrics, caplog):
    with Scripted(503) as server:
        assert open_client().ask("PUT", server.url, body=pieces()) == (503, b"said")
    assert [each.body for each in server.seen] == [b"one order"]
    assert calls(metrics, server.host, "error") == 1.0


def test_the_note_says_so(open_client, metrics):
    client = open_client()
    with Scripted(resets) as server, pytest.raises(client.base) as caught:
        client.ask("PUT", server.url, body=pieces())
    assert "the body of the request is used up" in caught.value.__notes__[0]


# Hosts.


def test_each_host_has_a_breaker(open_client, metrics):
    client = open_client(breaker=Detect(consecutive=3), retry=retry(on=transient, attempts=1))
    with Scripted(503) as bad, Scripted(200) as good:
        for _ in range(3):
            assert client.ask("GET", bad.url)[0] == 503
        with pytest.raises(CircuitOpenError) as caught:
            client.ask("GET", bad.url)
        assert isinstance(caught.value, client.base)
        assert caught.value.component == bad.host
        assert client.ask("GET", good.url)[0] == 200
    assert len(bad.seen) == 3
    assert calls(metrics, bad.host, "rejected", "breaker") == 1.0


def test_a_post_that_fails_counts_for_the_breaker(open_client, metrics):
    client = open_client(breaker=Detect(consecutive=2))
    with Scripted(503) as server:
        for _ in range(2):
            client.ask("POST", server.url, body=b"a")
        with pytest.raises(CircuitOpenError):
            client.ask("POST", server.url, body=b"a")
    assert len(server.seen) == 2


def test_throttling_does_not(open_client, metrics):
    client = open_client(breaker=Detect(consecutive=2))
    with Scripted(429) as server:
        for _ in range(3):
            assert client.ask("GET", server.url)[0] == 429


@pytest.mark.parametrize("limit", [1, Adaptive(initial=1)])
def test_each_host_has_a_limit_which_holds_until_the_body_is_out(open_client, metrics, limit):
    client = open_client(limit=limit)
    with Scripted(says(200, b"a" * 5_000_000)) as server, Scripted(200) as other:
        with client.streaming(server.url) as read:
            with pytest.raises(BulkheadFullError) as caught:
                client.ask("GET", server.url)
            assert isinstance(caught.value, client.base)
            assert client.ask("GET", other.url)[0] == 200
            assert metrics.value("in_flight", component=server.host) == 1.0
            assert len(read()) == 5_000_000
        assert metrics.value("in_flight", component=server.host) == 0.0
        assert client.ask("GET", server.url)[0] == 200
    assert calls(metrics, server.host, "success", "bulkhead") == 2.0


def test_a_place_comes_back_where_the_body_is_left_unread(open_client, metrics):
    client = open_client(limit=1)
    with Scripted(drips(0.01, 2)) as server:
        with client.streaming(server.url):
            pass
        assert metrics.value("in_flight", component=server.host) == 0.0
    assert calls(metrics, server.host, "success", "bulkhead") == 1.0


def test_a_body_that_the_deadline_ends_is_counted_so(open_client):
    with recorded() as metrics, Scripted(drips(0.02, 2)) as server:
        client = open_client(limit=1)
        with deadline(0.2):
            seconds_of(client.ask, "GET", server.url)
        assert metrics.value("in_flight", component=server.host) == 0.0
        assert calls(metrics, server.host, "timeout", "bulkhead") == 1.0


def test_a_place_comes_back_after_a_failure(open_client, metrics):
    client = open_client(limit=1)
    with Scripted(503, resets, 200) as server:
        assert client.ask("GET", server.url)[0] == 200
    assert metrics.value("in_flight", component=server.host) == 0.0


@pytest.mark.parametrize("seconds", [None, 60.0])
def test_a_body_that_breaks_off_is_the_client_s_own_matter(open_client, metrics, seconds):
    client = open_client(limit=1)
    with Scripted(cuts) as server:
        block = contextlib.nullcontext() if seconds is None else deadline(seconds)
        with block, pytest.raises(client.base) as caught:
            client.ask("GET", server.url)
    assert not isinstance(caught.value, MainstayError)
    assert len(server.seen) == 1
    assert calls(metrics, server.host, "success") == 1.0
    assert calls(metrics, server.host, "error", "bulkhead") == 1.0
    assert metrics.value("in_flight", component=server.host) == 0.0


def test_all_hosts_may_have_one_component(open_client, metrics):
    client = open_client(name="shop", breaker=Detect(), limit=5)
    with Scripted(200) as one, Scripted(200) as two:
        client.ask("GET", one.url)
        client.ask("GET", two.url)
    assert calls(metrics, "shop", "success") == 2.0
    assert calls(metrics, "shop", "success", "breaker") == 2.0


# The time left.


def seconds_of(fn, *args, **kwargs):
    began = time.monotonic()
    with pytest.raises(DeadlineExpiredError) as caught:
        fn(*args, **kwargs)
    return time.monotonic() - began, caught.value


@pytest.mark.parametrize(
    "answer",
    [hangs, drips(0.02, 2), drips(0.02, 2, chunked=True), drips(0.25, 2), drips(1.0, 2)],
    ids=["hangs", "drips", "drips chunks", "drips slowly", "drips once a second"],
)
def test_a_request_ends_with_the_time_left(open_client, answer):
    """Known fault T52: a limit of each piece does not end a body that drips."""
    client = open_client(breaker=Detect(consecutive=1))
    with Scripted(answer) as server, deadline(0.3):
        seconds, error = seconds_of(client.ask, "GET", server.url)
    assert 0.28 <= seconds < 1.0  # the benchmark says by how much
    assert isinstance(error, client.late)


def test_the_phases_of_a_request_share_the_time_left(open_client):
    """The body takes most of it to be sent, and the answer has what remains."""
    client = open_client()
    with Slow(0.4) as server, deadline(0.5):
        seconds, _ = seconds_of(client.ask, "PUT", server.url, body=b"x" * 20_000_000)
    assert 0.4 <= seconds < 0.8


def test_a_body_that_is_slow_to_come_ends_with_the_time_left(open_client):
    def pieces():
        for _ in range(15):
            yield b"order"
            time.sleep(0.1)

    client = open_client()
    with Scripted(200) as server, deadline(0.25):
        seconds, error = seconds_of(client.ask, "PUT", server.url, body=pieces())
    assert seconds < 1.0
    assert isinstance(error, client.late)


def test_that_says_nothing_of_the_server(open_client):
    with recorded() as metrics:
        client = open_client(breaker=Detect(consecutive=1))
        with Scripted(hangs) as server, deadline(0.1):
            seconds_of(client.ask, "GET", server.url)
        assert metrics.value("breaker_state", component=server.host, state="closed") == 1.0
        assert calls(metrics, server.host, "timeout") == 1.0


def test_the_deadline_goes_out_with_each_attempt(open_client, metrics):
    client = open_client()
    with Scripted(503, 200) as server, deadline(2.0):
        assert client.ask("GET", server.url)[0] == 200
    first, second = (int(each.headers["x-request-timeout-ms"]) for each in server.seen)
    assert 0 < second <= first <= 2000
    assert server.seen[0].headers["grpc-timeout"] == f"{first}m"


@pytest.mark.parametrize("name", ["X-Request-Timeout-Ms", "x-request-timeout-ms"])
def test_a_header_of_the_caller_s_own_is_kept(open_client, name):
    with Scripted(200) as server, deadline(2.0):
        open_client().ask("GET", server.url, headers={name: "5"})
    assert server.seen[0].headers["x-request-timeout-ms"] == "5"


def test_without_a_deadline_nothing_goes_out(open_client):
    with Scripted(200) as server:
        open_client().ask("GET", server.url)
    assert not {"x-request-timeout-ms", "grpc-timeout"} & server.seen[0].headers.keys()


def test_with_no_time_left_nothing_is_sent(open_client, metrics):
    client = open_client()
    with Scripted(200) as server, deadline(0.0), pytest.raises(DeadlineExpiredError) as caught:
        client.ask("GET", server.url)
    assert isinstance(caught.value, client.late)
    assert server.seen == []


def test_a_body_that_is_read_after_the_deadline_was_left_is_whole(open_client):
    client = open_client()
    with Scripted(drips(0.05, 0.5)) as server:
        with deadline(0.2):
            streaming = client.streaming(server.url)
            read = streaming.__enter__()
        assert len(read()) == 10
        streaming.__exit__(None, None, None)


def test_an_error_that_is_ours_and_the_client_s_can_be_pickled(open_client):
    client = open_client()
    with Scripted(200) as server, deadline(0.0), pytest.raises(DeadlineExpiredError) as caught:
        client.ask("GET", server.url)
    copy = pickle.loads(pickle.dumps(caught.value))  # noqa: S301 - our own
    assert type(copy) is type(caught.value)
    assert (copy.component, str(copy)) == (server.host, str(caught.value))


# Bad input.


@pytest.mark.parametrize(
    ("policies", "error"),
    [
        ({"retry": 3}, TypeError),
        ({"retry": transient}, TypeError),
        ({"breaker": True}, TypeError),
        ({"limit": 0}, ValueError),
        ({"limit": 1.5}, TypeError),
        ({"budget": 2}, ValueError),
        ({"budget": "much"}, TypeError),
        ({"budget": 0.1, "retry": retry(on=OSError, budget=0.2)}, ValueError),
        ({"name": ""}, ValueError),
        ({"name": 5}, TypeError),
        ({"metrics": 5}, TypeError),
    ],
)
def test_wrong_arguments_are_refused(open_client, policies, error):
    with pytest.raises(error, match=f"`{next(iter(policies))}` must"):
        open_client(**policies)


def test_a_test_s_clock_ends_no_real_read(open_client):
    client = open_client()
    with Scripted(drips(0.05, 0.4)) as server, FakeClock(), deadline(0.1):
        assert client.ask("GET", server.url) == (200, b"x" * 8)


# TLS.


@pytest.mark.parametrize("name", ["httpx", "requests"])
def test_a_body_that_drips_ends_behind_tls_too(library, name, tmp_path):
    """aiohttp and async httpx cancel, whatever is below."""
    client = library(name)
    ours = library(f"mainstay.integrations.{name}")
    certificate = self_signed(tmp_path)
    with Scripted(drips(0.02, 2), certificate=certificate) as server, deadline(0.3):
        if name == "httpx":
            inside = client.HTTPTransport(verify=False)
            with client.Client(transport=ours.Transport(inside)) as session:
                seconds, error = seconds_of(session.get, server.url)
        else:
            with client.Session() as session:
                session.mount("https://", ours.Adapter())
                seconds, error = seconds_of(session.get, server.url, verify=False)
    assert 0.28 <= seconds < 1.0  # the benchmark says by how much
    assert isinstance(error, DeadlineExpiredError)
