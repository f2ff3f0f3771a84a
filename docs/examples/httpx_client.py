"""httpx against a shop in trouble, sync and async.

pip install 'mainstay[httpx]'
python httpx_client.py
"""

import asyncio
import time

import httpx
from prometheus_client import REGISTRY
from troubled_shop import troubled_shop

from mainstay import Detect, deadline, retry, transient
from mainstay.integrations.httpx import AsyncTransport, Transport

# One for the program: it keeps the connections, and what is known of each host.
client = httpx.Client(
    transport=Transport(
        retry=retry(on=transient, attempts=4, timeout=20.0),
        breaker=Detect(consecutive=5),
        limit=20,
        name="shop",
    ),
    timeout=5.0,
)


def main(shop: str) -> None:
    """Ask the shop."""
    orders = client.get(f"{shop}/orders").raise_for_status()
    print("orders:", orders.text)

    placed = client.post(f"{shop}/orders", json={"tea": 1})
    print("order placed:", placed.status_code, "- sent once, since it may have been taken")

    began = time.monotonic()
    try:
        with deadline(0.3):
            client.get(f"{shop}/report")
    except httpx.TimeoutException as error:
        print(f"report: {type(error).__name__} after {time.monotonic() - began:.1f} s")

    try:
        for _ in range(5):
            client.get(f"{shop}/down")
    except httpx.TransportError as error:
        print("down:", type(error).__name__)

    labels = {"component": "shop", "policy": "retry", "outcome": "recovered"}
    print("recovered:", REGISTRY.get_sample_value("mainstay_calls_total", labels))


async def amain(shop: str) -> None:
    """Ask the shop in async code: the deadline interrupts."""
    async with httpx.AsyncClient(transport=AsyncTransport(name="shop, async")) as aclient:
        response = await aclient.get(f"{shop}/orders")
        print("orders, async:", response.text)


if __name__ == "__main__":
    with troubled_shop() as address, client:
        main(address)
        asyncio.run(amain(address))
