"""The middlewares on real servers: streams, websockets, clients that leave, deadlines."""

import contextlib
import json
import socket
import time

import pytest
from integrations.serving import LONGEST, eventually, get, gunicorn, outcomes, samples, uvicorn

from support.processes import LOOPBACK, PROGRAMS

pytestmark = pytest.mark.process

TWO = {"success": 2}


@pytest.fixture(params=["uvicorn with httptools", "uvicorn with h11", "starlette", "gunicorn"])
def server(request, library):
    """A server of an application that streams, with one worker."""
    if request.param == "starlette":
        library("starlette")
        library("uvicorn")
        with uvicorn("served_starlette:app", directory=PROGRAMS) as server:
            yield server
        return
    if request.param == "gunicorn":
        library("gunicorn")
        options = ("--threads", "8")
        with gunicorn("served_app:wsgi", *options, directory=PROGRAMS) as server:
            yield server
        return
    library("uvicorn")
    http = request.param.rpartition(" ")[2]
    with uvicorn("served_app:asgi", "--http", http, directory=PROGRAMS) as server:
        yield server


@pytest.fixture
def async_server(library):
    library("uvicorn")
    library("websockets")
    with uvicorn("served_app:asgi", directory=PROGRAMS) as server:
        yield server


@pytest.fixture
def starlette(library):
    library("starlette")
    library("uvicorn")
    with uvicorn("served_starlette:app", directory=PROGRAMS) as server:
        yield server


def in_flight(server):
    return sum(value for _, value in samples(server.port, "in_flight"))


def counted(server):
    return outcomes(server.port, "shop", "pipeline")


@contextlib.contextmanager
def asking(server, path):
    """A client that has sent a request and reads nothing yet."""
    with socket.create_connection((LOOPBACK, server.port), LONGEST) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: shop\r\n\r\n".encode())
        yield connection


def test_a_stream_has_its_place_until_its_body_is_out(server):
    with asking(server, "/stream-8") as one, asking(server, "/stream-8") as other:
        for connection in (one, other):
            assert connection.recv(1000).startswith(b"HTTP/1.1 200")
        assert in_flight(server) == 2
        status, headers, _ = get(server.port, "/")
        assert (status, headers["Retry-After"]) == (503, "1")
        for connection in (one, other):
            body = b""
            while not body.endswith(b"0\r\n\r\n"):
                body += connection.recv(1000)
    eventually(lambda: in_flight(server) == 0)
    assert get(server.port, "/")[0] == 200
    assert counted(server) == {"success": 3, "rejected": 1}


def test_a_client_that_leaves_a_stream_is_cancelled(server):
    with asking(server, "/stream-10") as connection:
        connection.recv(1000)
    eventually(lambda: counted(server) == {"cancelled": 1})
    eventually(lambda: in_flight(server) == 0)


def test_a_client_that_leaves_while_nobody_asks_is_cancelled(async_server):
    with asking(async_server, "/wait-0.5"):
        eventually(lambda: in_flight(async_server) == 1)
    eventually(lambda: counted(async_server) == {"cancelled": 1})
    assert in_flight(async_server) == 0


def test_a_client_that_waits_is_none_that_has_left(server):
    assert get(server.port, "/wait-0.3")[0] == 200
    assert get(server.port, "/stream-3")[2] == b"drip" * 3
    assert counted(server) == TWO


def test_the_time_of_a_request_ends_it(async_server):
    began = time.monotonic()
    assert get(async_server.port, "/wait-10", {"X-Request-Timeout-Ms": "300"})[0] == 504
    assert time.monotonic() - began < 2
    assert counted(async_server) == {"timeout": 1}


def test_a_stream_is_cut_off_at_the_end_of_its_time(server):
    began = time.monotonic()
    with socket.create_connection((LOOPBACK, server.port), LONGEST) as connection:
        connection.sendall(
            b"GET /stream-100 HTTP/1.1\r\nHost: shop\r\nX-Request-Timeout-Ms: 450\r\n\r\n"
        )
        body = b""
        while chunk := connection.recv(1000):
            body += chunk
    assert time.monotonic() - began < 3
    assert body.startswith(b"HTTP/1.1 200")
    assert not body.endswith(b"0\r\n\r\n"), "nobody may take it for the whole"
    assert body.count(b"HTTP/1.1") == 1
    assert body.count(b"drip") < 10
    eventually(lambda: counted(server) == {"timeout": 1})


def test_the_page_about_health_is_served(server):
    status, _, body = get(server.port, "/health")
    assert (status, json.loads(body)["status"]) == (200, "pass")
    assert get(server.port, "/health", method="HEAD")[2] == b""
    assert counted(server) == {}


def test_websockets_pass(async_server):
    from websockets.sync.client import connect  # noqa: PLC0415 - if it is there

    url = f"ws://{LOOPBACK}:{async_server.port}/chat"
    with contextlib.ExitStack() as stack:
        for number in range(5):
            each = stack.enter_context(connect(url))
            each.send(f"hello {number}")
            assert each.recv(LONGEST) == f"hello {number}"
        assert in_flight(async_server) == 0, "for they may stay for hours"
        assert get(async_server.port, "/")[0] == 200
    assert counted(async_server) == {"success": 1}


def test_a_websocket_is_refused_by_503(async_server):
    from websockets.exceptions import InvalidStatus  # noqa: PLC0415 - as above
    from websockets.sync.client import connect  # noqa: PLC0415

    url = f"ws://{LOOPBACK}:{async_server.port}/closed"
    with pytest.raises(InvalidStatus) as caught, connect(url):
        pass
    assert caught.value.response.status_code == 503
    assert caught.value.response.headers["Retry-After"] == "1"


def test_work_after_the_response_has_no_place_and_no_deadline(starlette):
    for _ in range(4):
        answer = get(starlette.port, "/background-0.6", {"X-Request-Timeout-Ms": "300"})
        assert answer[::2] == (200, b"done")
    assert in_flight(starlette) == 0
    assert counted(starlette) == {"success": 4}


def test_starlette_is_interrupted_in_time(starlette):
    began = time.monotonic()
    assert get(starlette.port, "/wait-10", {"X-Request-Timeout-Ms": "300"})[0] == 504
    assert time.monotonic() - began < 2
    assert counted(starlette) == {"timeout": 1}


def test_a_thread_of_starlette_is_not_interrupted_and_its_time_is_over(starlette):
    assert get(starlette.port, "/thread-0.5", {"X-Request-Timeout-Ms": "200"})[0] == 504
    assert counted(starlette) == {"timeout": 1}


def test_a_client_of_starlette_that_leaves_is_cancelled(starlette):
    with asking(starlette, "/wait-0.5"):
        eventually(lambda: in_flight(starlette) == 1)
    eventually(lambda: counted(starlette) == {"cancelled": 1})
