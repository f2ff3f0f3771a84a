"""Three services on loopback: the last one stops when the first one's caller has gone."""

import contextlib
import time

import pytest
from integrations.http_clients import CLIENTS
from integrations.scripted import Scripted, says

from mainstay import DeadlineExpiredError, deadline, deadline_from, retry
from mainstay.testing import recorded

pytestmark = [
    pytest.mark.process,  # these start servers
    pytest.mark.filterwarnings("ignore"),  # aiohttp warns of its own
]

PATIENCE = 0.3
ON_THE_WAY = 0.05  # what a relative time cannot know: how long the headers took


@pytest.mark.parametrize("name", CLIENTS)
def test_the_third_service_stops_with_the_first_caller(library, name):
    library(CLIENTS[name].library)
    worked = []

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
            with contextlib.suppress(client.base), deadline_from(handler.headers):
                client.ask("GET", url)
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
    left = [int(each.seen[0].headers["x-request-timeout-ms"]) for each in (front, middle, last)]
    assert left == sorted(left, reverse=True)
    assert len(last.seen) == 1
    assert len(worked) > 3
    assert max(worked) <= gone_at + ON_THE_WAY
