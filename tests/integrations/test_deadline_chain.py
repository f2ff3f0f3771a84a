"""Three services on loopback: the last one stops when the first one's caller has gone."""

import contextlib
import threading
import time
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import pytest
from integrations.http_clients import CLIENTS
from integrations.scripted import Scripted, says

from mainstay import DeadlineExpiredError, deadline, deadline_from, retry
from mainstay.integrations.wsgi import Middleware
from mainstay.testing import recorded

pytestmark = [
    pytest.mark.process,  # these start servers
    pytest.mark.filterwarnings("ignore"),  # aiohttp warns of its own
]

PATIENCE = 0.3
ON_THE_WAY = 0.5  # what a relative time cannot know: how long the headers took


@pytest.mark.parametrize("name", CLIENTS)
def test_the_third_service_stops_with_the_first_caller(library, name):
    library(CLIENTS[name].library)
    worked, answered = [], threading.Semaphore(0)

    @retry(on=OSError, name="third")
    def work(server):
        worked.append(time.monotonic())
        server.over.wait(0.01)

    def third(handler, server):
        with contextlib.suppress(DeadlineExpiredError), deadline_from(handler.headers):
            for _ in range(300):
                work(server)
        says(200)(handler, server)

    def passing_on(client, url):
        def step(handler, server):
            try:
                with contextlib.suppress(client.base), deadline_from(handler.headers):
                    client.ask("GET", url)
            finally:
                answered.release()
            says(200)(handler, server)

        return step

    with recorded(), contextlib.ExitStack() as stack:
        clients = [stack.enter_context(contextlib.closing(CLIENTS[name]())) for _ in range(3)]
        last = stack.enter_context(Scripted(third))
        middle = stack.enter_context(Scripted(passing_on(clients[1], last.url)))
        front = stack.enter_context(Scripted(passing_on(clients[2], middle.url)))
        gone_at = time.monotonic() + PATIENCE
        with deadline(PATIENCE), pytest.raises(DeadlineExpiredError):
            clients[0].ask("GET", front.url)
        for _ in range(2):  # whose clients are closed here
            assert answered.acquire(timeout=10)
    left = [int(each.seen[0].headers["x-request-timeout-ms"]) for each in (front, middle, last)]
    assert left == sorted(left, reverse=True)
    assert len(last.seen) == 1
    assert len(worked) > 3
    assert max(worked) <= gone_at + ON_THE_WAY


class Quiet(WSGIRequestHandler):
    def log_message(self, *_args):
        pass


class Threading(ThreadingMixIn, WSGIServer):
    daemon_threads = True


@contextlib.contextmanager
def serving(app):
    """Serve a WSGI app on loopback, through the middleware; give its address."""
    wrapped = Middleware(app, health=None)
    server = make_server("127.0.0.1", 0, wrapped, Threading, Quiet)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


@pytest.mark.parametrize("name", ["httpx", "requests"])
def test_the_same_with_the_middleware_of_servers(library, name):
    library(CLIENTS[name].library)
    worked, over = [], threading.Event()

    @retry(on=OSError, name="third")
    def work():
        worked.append(time.monotonic())
        over.wait(0.01)

    def third(_environ, start):
        for _ in range(300):
            work()
        start("200 OK", [])
        return [b"done"]

    def passing_on(client, url):
        def app(_environ, start):
            status, body = client.ask("GET", url)
            start(f"{status} Said", [])
            return [body]

        return app

    with recorded(), contextlib.ExitStack() as stack:
        clients = [stack.enter_context(contextlib.closing(CLIENTS[name]())) for _ in range(3)]
        last = stack.enter_context(serving(third))
        middle = stack.enter_context(serving(passing_on(clients[1], last)))
        front = stack.enter_context(serving(passing_on(clients[2], middle)))
        gone_at = time.monotonic() + PATIENCE
        with deadline(PATIENCE), pytest.raises(DeadlineExpiredError):
            clients[0].ask("GET", front)
        over.set()
    assert len(worked) > 3
    assert max(worked) <= gone_at + ON_THE_WAY
