"""The examples of shops on real servers: load with members of their pool killed, and the how-tos.

Each request of the test's own count is in the metrics, whatever happened meanwhile.
"""

import json
import time
from collections import Counter

import pytest
from integrations.serving import (
    Process,
    eventually,
    get,
    gunicorn,
    load,
    outcomes,
    samples,
    stock_server,
    uvicorn,
)

pytestmark = pytest.mark.process

REQUESTS = 800


@pytest.fixture
def stocks():
    with stock_server() as first, stock_server() as second:
        yield first, second


def urls(stocks):
    return " ".join(f"http://127.0.0.1:{each.port}" for each in stocks)


@pytest.fixture(params=["fastapi on uvicorn", "flask on gunicorn"])
def shop(request, stocks, tmp_path, library):
    """A shop with two workers."""
    metrics = tmp_path / "metrics"
    metrics.mkdir()
    variables = {"STOCK_URLS": urls(stocks), "PROMETHEUS_MULTIPROC_DIR": str(metrics)}
    if request.param == "flask on gunicorn":
        library("flask")
        library("gunicorn")
        options = ("--workers", "2", "--threads", "32", "--keep-alive", "60")
        server = gunicorn("flask_shop:app", *options, **variables)
    else:
        library("fastapi")
        library("uvicorn")
        server = uvicorn("fastapi_shop:app", "--workers", "2", **variables, DRAIN_SECONDS="0")
    with server:
        yield server


def test_every_request_is_counted_while_members_are_killed(shop, stocks):
    statuses = Counter()
    for stock in stocks:
        # Each is killed in the middle of the load, and is back before the other one is.
        kills = iter([stock.kill])
        statuses += load(
            shop.port,
            [f"/stock/{number}" for number in range(REQUESTS // 2)],
            begun=lambda done, kills=kills: done > 100 and next(kills, int)(),
        )
        stock.start()
        eventually(lambda: "ejected" not in states(shop.port))
    assert statuses.total() == REQUESTS
    counted = outcomes(shop.port, "shop", "pipeline")
    assert sum(counted.values()) == REQUESTS
    assert counted["success"] == statuses[200]
    assert counted.get("rejected", 0) == statuses[503]
    assert counted.get("error", 0) == statuses[500]
    assert statuses[200] >= REQUESTS * 0.99, statuses
    assert sum(outcomes(shop.port, "shop-places", "bulkhead").values()) == REQUESTS
    through_the_pool = sum(outcomes(shop.port, "stock", "failover").values())
    assert through_the_pool == REQUESTS - statuses[503]
    attempts = samples(shop.port, "member_attempts_total")
    answered = sum(value for labels, value in attempts if labels["outcome"] == "success")
    assert answered == statuses[200]
    (durations,) = [
        value
        for labels, value in samples(shop.port, "call_duration_seconds_count")
        if labels == {"component": "shop", "policy": "pipeline"}
    ]
    assert durations == REQUESTS - statuses[503]


def states(port):
    """How many members of the workers are in each state."""
    found = Counter()
    for labels, value in samples(port, "member_state"):
        found[labels["state"]] += value
    return {state: value for state, value in found.items() if value}


def test_more_than_there_are_places_for_are_turned_away_and_counted(shop):
    statuses = load(shop.port, ["/stock/hang-1.5"] * 60, customers=60)
    counted = outcomes(shop.port, "shop", "pipeline")
    assert statuses.total() == sum(counted.values()) == 60
    assert counted["rejected"] == statuses[503] > 0
    assert counted["success"] == statuses[200]


def test_health_tells_of_the_pool(shop, stocks):
    status, headers, body = get(shop.port, "/health")
    assert (status, headers["Content-Type"]) == (200, "application/health+json")
    assert json.loads(body)["checks"]["stock"][0]["observedValue"] == "ok"
    load(shop.port, ["/stock/lamp"] * 100)  # pools open at their first call, in each worker
    for each in stocks:
        each.kill()

    def is_down():
        status, _, body = get(shop.port, "/health")
        return status == 503 and json.loads(body)["checks"]["stock"][0]["observedValue"] == "down"

    eventually(is_down)


def test_the_stock_is_told_what_is_left_of_the_time(shop):
    status, _, body = get(shop.port, "/stock/lamp", {"X-Request-Timeout-Ms": "5000"})
    assert status == 200
    assert 4000 < int(json.loads(body)["left"]) <= 5000


def test_a_request_has_no_more_time_than_it_came_with(shop):
    load(shop.port, ["/stock/lamp"] * 20)  # the first call of each worker takes longer
    began = time.monotonic()
    status, _, _ = get(shop.port, "/stock/hang-5", {"X-Request-Timeout-Ms": "300"})
    assert time.monotonic() - began < 3
    if "flask_shop:app" in shop.command:  # whose view has the exception of its own client
        end = {"error": 1}
        assert status == 500
    else:
        end = {"timeout": 1}
        assert status == 504
    eventually(lambda: outcomes(shop.port, "shop", "pipeline") == {"success": 20, **end})


def test_it_drains_before_it_ends(stocks, library):
    library("fastapi")
    library("uvicorn")
    with uvicorn("fastapi_shop:app", STOCK_URLS=urls(stocks), DRAIN_SECONDS="3") as shop:
        assert get(shop.port, "/health")[0] == 200
        shop.process.terminate()
        eventually(lambda: get(shop.port, "/health")[0] == 503)
        assert get(shop.port, "/stock/lamp")[0] == 200
        assert shop.process.wait(30) is not None


@pytest.mark.parametrize("server", ["wsgi", "asgi"])
def test_the_shop_on_django(server, stocks, library):
    library("django")
    start = gunicorn if server == "wsgi" else uvicorn
    library(start.__name__)
    variables = {"STOCK_URLS": urls(stocks)}
    with start(f"django_shop:{server}", **variables) as shop:
        assert isinstance(shop, Process)
        assert get(shop.port, "/stock/lamp")[0] == 200
        assert get(shop.port, "/health")[0] == 200
        assert get(shop.port, "/stock/lamp", {"X-Request-Timeout-Ms": "0"})[0] == 504
        assert outcomes(shop.port, "shop", "pipeline") == {"success": 1, "timeout": 1}
