"""A complete exporter in a Flask app: what mainstay records, and the host's CPU, memory and disks.

    pip install 'mainstay[host]' flask
    python flask_exporter.py [PORT]

`/metrics` answers in the format that is asked for: Prometheus asks for OpenMetrics, a browser gets
plain text. The registry is the app's own, so nothing else ends up in it.
"""

import random
import sys

from flask import Flask, Response, request
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from mainstay import Availability, HostCollector, Metrics, retry

registry = CollectorRegistry()
metrics = Metrics(registry)
registry.register(HostCollector())

AWAY = 0.3  # the share of calls that find the warehouse away

warehouse = Availability("warehouse", metrics=metrics)
app = Flask(__name__)


@retry(on=ConnectionError, attempts=4, wait=0.01, metrics=metrics, name="stock")
def stock(article: str) -> int:
    """Ask a warehouse that is away now and then."""
    if random.random() < AWAY:
        raise ConnectionError("the warehouse does not answer")
    return len(article)


@app.get("/stock/<article>")
def show(article: str) -> dict[str, int]:
    """Answer a customer."""
    return {article: stock(article)}


@app.post("/warehouse/<state>")
def note(state: str) -> tuple[str, int]:
    """Take note that the warehouse is down, or up again."""
    try:
        {"down": warehouse.fail, "up": warehouse.restore}[state]()
    except (KeyError, ValueError) as error:
        return f"{error}\n", 400
    return "", 204


@app.get("/metrics")
def export() -> Response:
    """Answer Prometheus."""
    encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    return Response(encode(registry), content_type=content_type)


if __name__ == "__main__":
    app.run(port=int(sys.argv[1]) if len(sys.argv) > 1 else 8000)
