"""Policies with `on=transient` around real clients and real faulty servers."""

import httpx
import psycopg
import pytest
import requests
from integrations import faulty

from mainstay import CircuitBreaker, Detect, FailoverPool, Member, retry, transient
from support.postgres import Postgres

pytestmark = pytest.mark.process

FAULTS = {
    "hanging": faulty.hangs,
    "reset": faulty.resets,
    "503, and asks": faulty.answers(503, "Retry-After: 2"),
    "500": faulty.answers(500),
}


def post_by_httpx(url):
    return httpx.post(url, timeout=0.2).raise_for_status().text


def post_by_requests(url):
    answer = requests.post(url, timeout=0.2)
    answer.raise_for_status()
    return answer.text


@pytest.fixture(params=FAULTS)
def server(request):
    with faulty.FaultyServer(FAULTS[request.param]) as running:
        running.fault = request.param
        yield running


@pytest.fixture(params=[post_by_httpx, post_by_requests])
def post(request):
    return request.param


def test_a_breaker_around_what_may_not_be_sent_again_opens(metrics, server, post):
    breaker = CircuitBreaker("shop", on=transient, detect=Detect(consecutive=2))
    for _ in range(2):
        with pytest.raises((httpx.HTTPError, requests.RequestException)):
            breaker.call(post, server.url)
    assert breaker.state == "open"


def test_a_pool_ejects_a_member_whose_call_it_may_not_repeat(metrics, server, post):
    with faulty.FaultyServer(faulty.answers(200)) as other:
        members = [Member("first", server.url), Member("second", other.url)]
        detect = Detect(consecutive=1)
        pool = FailoverPool("shop", members, on=transient, detect=detect, select="round_robin")
        outcomes = [outcome_of(pool.call, post) for _ in range(2)]
        assert pool.status().members[0].state == "ejected"
    asks = server.fault == "503, and asks"  # then any method may be sent again
    assert sorted(outcomes) == (["{}", "{}"] if asks else ["failed", "{}"])


def outcome_of(call, post):
    try:
        return call(post)
    except (httpx.HTTPError, requests.RequestException):
        return "failed"


def test_a_retry_sends_nothing_twice_that_may_have_been_processed(metrics, server, post):
    if server.fault == "503, and asks":
        pytest.skip("it asks for another attempt")
    with pytest.raises((httpx.HTTPError, requests.RequestException)):
        retry(on=transient, wait=0, name="order").call(post, server.url)
    assert metrics("calls_total", component="order", outcome="error") == 1
    assert metrics("errors_total", component="order") == 1


def test_a_deadlock_charges_no_member(metrics):
    """Two callers met, and the server is well: the call is made again, and nobody is ejected."""
    server = Postgres()
    try:
        server.ask("create table items (name text primary key, number int)")
        server.ask("insert into items values ('a', 1), ('b', 1)")
        members = [Member("db", server.url)]
        pool = FailoverPool("db", members, on=transient, detect=Detect(consecutive=1))
        tried = []

        @retry(on=transient, wait=0)
        @pool
        def change(url):
            tried.append(url)
            with psycopg.connect(url) as mine:
                mine.execute("set lock_timeout = '50ms'")
                mine.execute("update items set number = 2 where name = 'a'")
            return "done"

        with psycopg.connect(server.url) as other:
            other.execute("update items set number = 3 where name = 'a'")
            with pytest.raises(psycopg.errors.LockNotAvailable):
                change()
        assert change() == "done"
        assert len(tried) > 2
        assert pool.status().members[0].state == "active"
    finally:
        server.remove()
