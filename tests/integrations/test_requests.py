"""What only the adapter of requests does; the rest is in `test_http_clients`."""

import gc
import http.client
import inspect
import io
from types import SimpleNamespace

import pytest
from integrations.scripted import Scripted, says

from mainstay import BulkheadFullError, deadline, remaining, retry, transient
from mainstay.testing import FakeClock, no_waits, recorded


@pytest.fixture
def requests(library):
    return library("requests")


@pytest.fixture
def urllib3(library):
    return library("urllib3")


@pytest.fixture
def metrics():
    with no_waits(), recorded() as metrics:
        yield metrics


@pytest.fixture
def open_session(requests, library):
    """Makes a session whose requests are handed to a function, which answers with a status."""
    ours = library("mainstay.integrations.requests")

    class Inside(requests.adapters.BaseAdapter):
        def __init__(self, answer):
            super().__init__()
            self.answer, self.given, self.closed = answer, [], False

        def send(self, request, **options):
            self.given.append(options)
            answer = self.answer(request)
            answer = answer if isinstance(answer, tuple) else (answer, None)
            response = requests.Response()
            response.request, response.url = request, request.url
            response.status_code, response.raw = answer
            response._content_consumed = response.raw is None
            response._content = b"said" if response.raw is None else False
            return response

        def close(self):
            self.closed = True

    def make(answer, **policies):
        session, inside = requests.Session(), Inside(answer)
        session.trust_env = False
        session.mount("http://", ours.Adapter(inside, **policies))
        session.mount("https://", ours.Adapter(inside, **policies))
        session.inside = inside
        return session

    return make


@pytest.mark.parametrize(
    ("url", "component"),
    [
        ("http://shop.example/orders", "shop.example"),
        ("http://Shop.Example:80/", "shop.example"),
        ("https://shop.example:443/", "shop.example"),
        ("https://shop.example:80/", "shop.example:80"),
        ("http://me:secret@shop.example:8080/", "shop.example:8080"),
        ("http://[::1]:8080/", "[::1]:8080"),
    ],
)
def test_the_component_is_the_host(open_session, metrics, url, component):
    open_session(lambda _request: 200).get(url)
    labels = {"component": component, "policy": "retry", "outcome": "success"}
    assert metrics.value("calls_total", **labels) == 1.0


class Pieces:
    def __iter__(self):
        return iter([b"or", b"der"])


@pytest.mark.parametrize("body", [io.BytesIO(b"-order"), Pieces(), b"order"])
def test_a_body_that_can_be_read_again_is(open_session, metrics, body):
    bodies, statuses = [], iter([503, 503, 200])
    if isinstance(body, io.BytesIO):
        body.seek(1)

    def answer(request):
        sent = request.body
        if hasattr(sent, "read"):
            sent = sent.read()
        bodies.append(sent if isinstance(sent, bytes) else b"".join(sent))
        return next(statuses)

    assert open_session(answer).put("http://a.example", data=body).status_code == 200
    assert bodies == [b"order"] * 3


def test_a_generator_of_which_nothing_was_read_is_sent_after_all(requests, open_session, metrics):
    bodies = []

    def pieces():
        yield b"order"

    def answer(request):
        if not bodies:
            bodies.append(None)
            raise requests.ConnectionError("refused", request=request)
        bodies.append(b"".join(request.body))
        return 200

    assert open_session(answer).put("http://a.example", data=pieces()).status_code == 200
    assert bodies == [None, b"order"]


@pytest.mark.parametrize(
    ("timeout", "connect", "read"),
    [(None, 2.0, 2.0), (5, 2.0, 2.0), (1, 1, 1), ((1, 9), 1, 2.0), ((None, 0.5), 2.0, 0.5)],
)
def test_the_timeouts_are_no_longer_than_the_time_left(open_session, timeout, connect, read):
    session = open_session(lambda _request: 200)
    with FakeClock(), deadline(2.0):
        session.get("http://a.example", timeout=timeout)
    given = session.inside.given[0]["timeout"].clone()
    given.start_connect()
    assert given.connect_timeout == connect
    assert given.read_timeout == pytest.approx(read, abs=0.1)


@pytest.mark.parametrize("total", [None, 1.0, 5.0])
def test_a_timeout_of_urllib3_keeps_its_parts(open_session, urllib3, total):
    session = open_session(lambda _request: 200)
    timeout = urllib3.Timeout(connect=0.5, read=9, total=total)
    with FakeClock(), deadline(2.0):
        session.get("http://a.example", timeout=timeout)
    given = session.inside.given[0]["timeout"]
    assert (given.connect_timeout, given.total) == (0.5, min(2.0, total or 2.0))
    assert timeout.total == total


def test_without_a_deadline_the_timeout_is_passed_as_it_is(open_session):
    session = open_session(lambda _request: 200)
    session.get("http://a.example", timeout=(1, 2), verify=False)
    assert session.inside.given[0]["timeout"] == (1, 2)
    assert session.inside.given[0]["verify"] is False


def test_headers_of_the_deadline_are_gone_afterwards(requests, open_session):
    seen = []

    def answer(request):
        seen.append(dict(request.headers))
        return 200

    with FakeClock(), deadline(2.0):
        response = open_session(answer).get("http://a.example")
    assert seen[0]["X-Request-Timeout-Ms"] == "2000"
    assert "X-Request-Timeout-Ms" not in response.request.headers


def test_waits_are_those_of_a_test_s_clock(open_session):
    left = []

    def answer(_request):
        left.append(remaining())
        return 503

    with recorded(), FakeClock(), deadline(10):
        policy = retry(on=transient, attempts=5, wait=4)
        open_session(answer, retry=policy).get("http://a.example")
    assert left == [10.0, 6.0, 2.0]


def test_an_answer_without_a_connection_has_no_place(open_session, metrics):
    session = open_session(lambda _request: 200, limit=1)
    assert [session.get("http://a.example").content for _ in range(3)] == [b"said"] * 3


def raw_of(urllib3, body):
    return urllib3.HTTPResponse(io.BytesIO(body), preload_content=False)


@pytest.mark.parametrize(
    "read",
    [
        lambda response: b"".join(response.iter_content(3)),
        lambda response: response.content,
        lambda response: response.raw.read(),
        lambda response: b"".join(iter(lambda: response.raw.read(3), b"")),
        lambda response: b"\n".join(response.iter_lines()),
    ],
)
def test_a_place_is_held_until_the_body_is_read(open_session, urllib3, metrics, read):
    session = open_session(lambda _request: (200, raw_of(urllib3, b"one order")), limit=1)
    response = session.get("http://a.example", stream=True)
    with pytest.raises(BulkheadFullError):
        session.get("http://a.example", stream=True)
    assert read(response) == b"one order"
    assert session.get("http://a.example").content == b"one order"


def test_an_answer_that_nobody_closes_loses_its_place_with_it(open_session, urllib3, metrics):
    session = open_session(lambda _request: (200, raw_of(urllib3, b"order")), limit=1)
    session.get("http://a.example", stream=True)
    gc.collect()
    assert session.get("http://a.example").content == b"order"


def test_what_users_read_of_raw_is_there(open_session, urllib3, metrics):
    session = open_session(lambda _request: (200, raw_of(urllib3, b"a\nb\n")), limit=1)
    response = session.get("http://a.example", stream=True)
    assert (response.raw.status, [*response.raw]) == (0, [b"a\n", b"b\n"])
    response.close()


def test_the_adapter_closes_what_is_inside(open_session):
    session = open_session(lambda _request: 200)
    session.close()
    assert session.inside.closed


def test_the_parameters_are_those_of_the_transports_of_httpx(library):
    adapter = inspect.signature(library("mainstay.integrations.requests").Adapter)
    transport = inspect.signature(library("mainstay.integrations.httpx").Transport)
    assert [*adapter.parameters] == [*transport.parameters]


@pytest.mark.parametrize("adapter", [5, "http://", object()])
def test_an_adapter_has_to_be_one(library, requests, adapter):
    ours = library("mainstay.integrations.requests")
    with pytest.raises(TypeError, match="`transport` must be a BaseAdapter of requests"):
        ours.Adapter(adapter)


def test_cookies_are_kept_behind_a_limit(open_session, urllib3, metrics):
    headers = http.client.HTTPMessage()
    headers["Set-Cookie"] = "taste=tea"

    original = SimpleNamespace(msg=headers, isclosed=lambda: False, close=int)
    raw = raw_of(urllib3, b"order")
    raw._original_response = original
    session = open_session(lambda _request: (200, raw), limit=1)
    session.get("http://a.example")
    assert session.cookies.get("taste") == "tea"


@pytest.mark.process
def test_what_follows_a_challenge_goes_through_the_adapter(requests, library, metrics):
    session = requests.Session()
    session.mount("http://", library("mainstay.integrations.requests").Adapter(limit=1))
    challenge = says(401, WWW_Authenticate='Digest realm="shop", nonce="1", qop="auth"')
    with Scripted(challenge, 503, 200) as server:
        response = session.get(server.url, auth=requests.auth.HTTPDigestAuth("me", "secret"))
    assert response.status_code == 200
    assert len(server.seen) == 3


@pytest.mark.process
def test_a_body_that_comes_too_late_gives_its_connection_back(requests, library, metrics):
    inside = requests.adapters.HTTPAdapter(pool_maxsize=1, pool_block=True)
    session = requests.Session()
    session.mount("http://", library("mainstay.integrations.requests").Adapter(inside))
    with Scripted(200) as server:
        with deadline(0.05):
            response = session.get(server.url, stream=True)
            while remaining():
                pass
            with pytest.raises(requests.ReadTimeout):
                response.content  # noqa: B018 - it reads
        pool = inside.poolmanager.connection_from_url(server.url)
        assert pool.pool.qsize() == 1
        assert session.get(server.url).status_code == 200
