"""The OpenAI SDK, and those that are generated like it, against a service that is full.

pip install mainstay openai
python openai_client.py
"""

import time

import openai
from prometheus_client import REGISTRY
from troubled_cloud import troubled_cloud

from mainstay import deadline, remaining, retry, transient


def connect_to(url: str) -> openai.OpenAI:
    """Make the client: one for the program, which repeats nothing by itself."""
    return openai.OpenAI(api_key="none", base_url=f"{url}/v1", max_retries=0)


@retry(on=transient, name="ask")
def ask(client: openai.OpenAI, question: str) -> str | None:
    """Ask: each attempt has the time that is left, of its own 60 seconds without a deadline."""
    answer = client.chat.completions.create(
        model="some-model",
        messages=[{"role": "user", "content": question}],
        timeout=remaining(60.0),
    )
    return answer.choices[0].message.content


def main(url: str) -> None:
    """Ask a service that is full at first, and says when it will not be."""
    client = connect_to(url)
    began = time.monotonic()
    with deadline(10.0):
        print("answer:", ask(client, "What gives light?"))
    print(f"after {time.monotonic() - began:.1f} s, since it asked for 0.25 s")
    labels = {"component": "ask", "policy": "retry", "outcome": "recovered"}
    print("recovered:", REGISTRY.get_sample_value("mainstay_calls_total", labels))
    client.close()


if __name__ == "__main__":
    with troubled_cloud() as address:
        main(address)
