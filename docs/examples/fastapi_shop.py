"""A shop on FastAPI that stays up: limits, deadlines, failover, health, draining.

    pip install mainstay fastapi httpx uvicorn
    uvicorn fastapi_shop:app

`STOCK_URLS` says where the servers of the stock are. With several workers, set
`PROMETHEUS_MULTIPROC_DIR` to an empty directory first, and each scrape of `/metrics` sees all.
"""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import FrameType
from typing import Any

import httpx
from fastapi import FastAPI, Response
from prometheus_client import REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from mainstay import (
    Bulkhead,
    FailoverPool,
    Member,
    Probe,
    deadline_headers,
    drain,
    remaining,
    transient,
)
from mainstay.integrations.asgi import Middleware

DRAIN_SECONDS = float(os.environ.get("DRAIN_SECONDS", "10"))  # more than the load balancer's period

client = httpx.AsyncClient()


async def ask(url: str, item: str) -> Any:
    """Ask one server of the stock, which is told how much time is left."""
    answer = await client.get(
        f"{url}/{item}", headers=deadline_headers(), timeout=remaining(default=2.0)
    )
    answer.raise_for_status()
    return answer.json()


async def ping(url: str) -> bool:
    """Find out if one is there."""
    await ask(url, "health")
    return True


urls = os.environ.get("STOCK_URLS", "http://stock-1:8000 http://stock-2:8000").split()
stock = FailoverPool(
    "stock",
    [Member(f"stock-{number}", url) for number, url in enumerate(urls, 1)],
    on=transient,
    probe=Probe(ping, every=1.0),
)


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    """At SIGTERM say that no more requests are wanted, and stop only after a while."""
    loop = asyncio.get_running_loop()
    stop = signal.getsignal(signal.SIGTERM)  # uvicorn's, which ends at once

    def stop_later(number: int, frame: FrameType | None) -> None:
        drain(DRAIN_SECONDS)
        if callable(stop):
            loop.call_soon_threadsafe(loop.call_later, DRAIN_SECONDS, stop, number, frame)

    signal.signal(signal.SIGTERM, stop_later)
    async with client, stock:  # so that the probe is at work before the first request
        yield


app = FastAPI(lifespan=lifespan)
app.add_middleware(
    Middleware,
    name="shop",
    bulkhead=Bulkhead("shop-places", limit=20, max_wait=0.5),
    ready=("stock",),
    exempt=("/metrics",),
)


@app.get("/stock/{item}")
async def show(item: str) -> Any:
    """Answer a customer."""
    return await stock.call(ask, item)


@app.get("/metrics")
def export() -> Response:
    """Answer Prometheus for this process, or for all workers."""
    registry = REGISTRY
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        registry = CollectorRegistry()
        MultiProcessCollector(registry)
    return Response(generate_latest(registry), media_type="text/plain; version=0.0.4")
