"""aiohttp against a shop in trouble.

pip install 'mainstay[aiohttp]'
python aiohttp_client.py
"""

import asyncio
import time

import aiohttp
from prometheus_client import REGISTRY
from troubled_shop import troubled_shop

from mainstay import Detect, deadline, retry, transient
from mainstay.integrations.aiohttp import Middleware

# One for the program: it keeps what is known of each host.
shop_policies = Middleware(
    retry=retry(on=transient, attempts=4, timeout=20.0),
    breaker=Detect(consecutive=5),
    limit=20,
    name="shop",
)


async def main(shop: str) -> None:
    """Ask the shop."""
    limit = aiohttp.ClientTimeout(total=30.0)
    async with aiohttp.ClientSession(shop, middlewares=[shop_policies], timeout=limit) as session:
        async with session.get("/orders", raise_for_status=True) as response:
            print("orders:", await response.text())

        async with session.post("/orders", json={"tea": 1}) as response:
            print("order placed:", response.status, "- sent once, since it may have been taken")

        began = time.monotonic()
        try:
            with deadline(0.3):
                async with session.get("/report") as response:
                    await response.read()
        except aiohttp.ClientError as error:
            print(f"report: {type(error).__name__} after {time.monotonic() - began:.1f} s")

        try:
            for _ in range(5):
                async with session.get("/down") as response:
                    await response.read()
        except aiohttp.ClientError as error:
            print("down:", type(error).__name__)

    labels = {"component": "shop", "policy": "retry", "outcome": "recovered"}
    print("recovered:", REGISTRY.get_sample_value("mainstay_calls_total", labels))


if __name__ == "__main__":
    with troubled_shop() as address:
        asyncio.run(main(address))
