"""A shop on Flask that stays up: limits, deadlines, failover, health.

    pip install mainstay flask gunicorn
    export PROMETHEUS_MULTIPROC_DIR=/run/shop/metrics
    rm -rf "$PROMETHEUS_MULTIPROC_DIR" && mkdir -p "$PROMETHEUS_MULTIPROC_DIR"
    gunicorn --workers 2 --threads 8 flask_shop:app

`STOCK_URLS` says where the servers of the stock are.
"""

import json
import math
import os
import urllib.request
from typing import Any

from flask import Flask, Response
from prometheus_client import REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from mainstay import (
    Bulkhead,
    DeadlineExpiredError,
    FailoverPool,
    Member,
    Probe,
    RejectedError,
    deadline_headers,
    remaining,
    transient,
)
from mainstay.integrations.wsgi import Middleware


def ask(url: str, item: str) -> Any:
    """Ask one server of the stock, which is told how much time is left."""
    request = urllib.request.Request(f"{url}/{item}", headers=deadline_headers())
    with urllib.request.urlopen(request, timeout=remaining(default=2.0)) as answer:
        return json.load(answer)


def ping(url: str) -> bool:
    """Find out if one is there."""
    ask(url, "health")
    return True


urls = os.environ.get("STOCK_URLS", "http://stock-1:8000 http://stock-2:8000").split()
stock = FailoverPool(
    "stock",
    [Member(f"stock-{number}", url) for number, url in enumerate(urls, 1)],
    on=transient,
    probe=Probe(ping, every=1.0),
)

app = Flask(__name__)
app.wsgi_app = Middleware(  # type: ignore[method-assign] # as Flask's documentation does
    app.wsgi_app,
    name="shop",
    bulkhead=Bulkhead("shop-places", limit=20, max_wait=0.5),
    ready=("stock",),
    exempt=("/metrics",),
)


@app.get("/stock/<item>")
def show(item: str) -> Any:
    """Answer a customer."""
    return stock.call(ask, item)


@app.errorhandler(RejectedError)
def refuse(error: RejectedError) -> Response:
    """Answer what a policy in a view has refused, of which Flask would make 500."""
    seconds = str(math.ceil(error.retry_after or 1))
    return Response("try again later", 503, {"Retry-After": seconds})


@app.errorhandler(DeadlineExpiredError)
def end(_error: DeadlineExpiredError) -> Response:
    """Answer a request whose time was over inside of a view."""
    return Response("the time of the request is over", 504)


@app.get("/metrics")
def export() -> Response:
    """Answer Prometheus for this process, or for all workers."""
    registry = REGISTRY
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        registry = CollectorRegistry()
        MultiProcessCollector(registry)
    return Response(generate_latest(registry), content_type="text/plain; version=0.0.4")
