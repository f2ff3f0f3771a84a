"""redis-py against a server that does not answer for a while.

pip install mainstay redis
python redis_client.py redis://...
"""

import sys
import threading

import redis
from prometheus_client import REGISTRY
from redis.backoff import NoBackoff
from redis.retry import Retry

from mainstay import deadline, remaining, retry, transient


def connect_to(url: str) -> redis.Redis:
    """Make the client: one for the program, which repeats nothing by itself."""
    return redis.Redis.from_url(
        url,
        retry=Retry(NoBackoff(), 0),
        socket_connect_timeout=0.5,
        socket_timeout=0.5,
        decode_responses=True,
    )


@retry(on=transient, name="price")
def price(client: redis.Redis, item: str) -> str | None:
    """Read: safe to repeat."""
    return client.get(f"price:{item}")


@retry(on=transient, attempts=20, name="sell")
def sell(client: redis.Redis, item: str) -> int:
    """Change what was read, unless somebody else does; its own `transaction` never ends."""
    key = f"stock:{item}"
    with client.pipeline() as pipe:
        pipe.watch(key)
        left = int(pipe.get(key)) - 1
        pipe.multi()
        pipe.set(key, left)
        pipe.execute()
    return left


def next_order(client: redis.Redis) -> str | None:
    """Wait for an order, as long as there is time, and less than the limit of the socket."""
    found = client.blpop(["orders"], timeout=min(remaining(10.0), 0.4))
    return found[1] if found else None


def main(url: str) -> None:
    """Read, sell from four threads, and wait."""
    with connect_to(url) as client, redis.Redis.from_url(url) as administrator:
        client.mset({"price:lamp": "20", "stock:lamp": "100"})
        print("price:", price(client, "lamp"))
        administrator.client_pause(700, all=True)
        print("price:", price(client, "lamp"))

        threads = [threading.Thread(target=sell, args=(client, "lamp")) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        print("left:", client.get("stock:lamp"))

        with deadline(0.2):
            print("order:", next_order(client))

    labels = {"component": "price", "policy": "retry", "outcome": "recovered"}
    print("recovered:", REGISTRY.get_sample_value("mainstay_calls_total", labels))


if __name__ == "__main__":
    main(sys.argv[1])
