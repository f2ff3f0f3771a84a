"""botocore, and so boto3, against a cloud in trouble.

pip install mainstay botocore
python botocore_client.py
"""

from typing import Any

from botocore.config import Config
from botocore.session import get_session
from prometheus_client import REGISTRY
from troubled_cloud import troubled_cloud

from mainstay import deadline, retry, transient

CONFIG = Config(
    retries={"total_max_attempts": 1},  # ours are the only ones
    connect_timeout=1.0,
    read_timeout=2.0,
    s3={"addressing_style": "path"},
)


def connect_to(url: str) -> Any:
    """Make the client: one for the program. boto3's `client` and `resource` take the same."""
    session = get_session()
    session.set_credentials("key", "secret")
    return session.create_client("s3", "us-east-1", endpoint_url=url, config=CONFIG)


@retry(on=transient, name="read")
def read(store: Any, key: str) -> bytes:
    """Read an object, its body included."""
    body: bytes = store.get_object(Bucket="shop", Key=key)["Body"].read()
    return body


def main(url: str) -> None:
    """Read an object from a store that asks for less at first."""
    store = connect_to(url)
    with deadline(5.0):
        print("read:", read(store, "lamp"))
    labels = {"component": "read", "policy": "retry", "outcome": "recovered"}
    print("recovered:", REGISTRY.get_sample_value("mainstay_calls_total", labels))


if __name__ == "__main__":
    with troubled_cloud() as address:
        main(address)
