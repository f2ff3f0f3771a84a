"""requests against a shop in trouble.

pip install 'mainstay[requests]'
python requests_client.py
"""

import time

import requests
from prometheus_client import REGISTRY
from troubled_shop import troubled_shop

from mainstay import Detect, deadline, retry, transient
from mainstay.integrations.requests import Adapter

adapter = Adapter(
    retry=retry(on=transient, attempts=4, timeout=20.0),
    breaker=Detect(consecutive=5),
    limit=20,
    name="shop",
)
# One for the program: it keeps the connections, and what is known of each host.
session = requests.Session()
session.mount("https://", adapter)
session.mount("http://", adapter)


def main(shop: str) -> None:
    """Ask the shop."""
    orders = session.get(f"{shop}/orders", timeout=5.0)
    orders.raise_for_status()
    print("orders:", orders.text)

    placed = session.post(f"{shop}/orders", json={"tea": 1}, timeout=5.0)
    print("order placed:", placed.status_code, "- sent once, since it may have been taken")

    began = time.monotonic()
    try:
        with deadline(0.3):
            session.get(f"{shop}/report", timeout=5.0)
    except requests.Timeout as error:
        print(f"report: {type(error).__name__} after {time.monotonic() - began:.1f} s")

    try:
        for _ in range(5):
            session.get(f"{shop}/down", timeout=5.0)
    except requests.ConnectionError as error:
        print("down:", type(error).__name__)

    labels = {"component": "shop", "policy": "retry", "outcome": "recovered"}
    print("recovered:", REGISTRY.get_sample_value("mainstay_calls_total", labels))


if __name__ == "__main__":
    with troubled_shop() as address, session:
        main(address)
