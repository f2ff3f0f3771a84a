"""How policies nest: the layers of a real pipeline, and what `explain` says of each."""

import re

from card import WIDTH, Card

from mainstay import (
    Bulkhead,
    CircuitBreaker,
    RateLimit,
    RejectedError,
    explain,
    fallback,
    pipeline,
    retry,
    timeout,
)

ON = (ConnectionError, TimeoutError, RejectedError)
WHY = {
    "fallback": "answers when all else has failed",
    "timeout": "ends the whole call",
    "retry": "calls again; holds nothing while it waits",
    "breaker": "sees every attempt",
    "rate limit": "each attempt takes a turn",
    "bulkhead": "each attempt takes a place",
}
LAST = "ends one attempt"
LINE = re.compile(r" *(?P<policy>\w+) (?P<name>\w+): (?P<worst>.+)")


def layers() -> list[tuple[str, str]]:
    """Return the layers from the outside in, each with what it comes to at worst.

    Raises:
        ValueError: If the order is one that `explain` warns of.
    """
    fetch = pipeline(
        "orders",
        fallback(default=None, on=ON),
        timeout(30.0),
        retry(on=ON, attempts=3, timeout=20.0),
        CircuitBreaker("shop", on=ON),
        RateLimit("shop", 100),
        Bulkhead("shop", limit=20),
        timeout(2.0, in_thread=True),
    )
    explanation = explain(fetch)
    if explanation.warnings:
        raise ValueError(f"the picture shows an order that is wrong: {explanation.warnings}")
    *lines, _function = str(explanation).splitlines()
    found = [LINE.fullmatch(line) for line in lines]
    return [(each["policy"].replace("_", " "), each["worst"]) for each in found if each]


def draw() -> str:
    """Return the picture."""
    nested = layers()
    card = Card(
        "How policies nest",
        "From the outside in: "
        + ", ".join(policy for policy, _ in nested)
        + ", and the function. Each layer has a line with what it does and its longest time.",
        height=432,
        lead="The first policy of a pipeline is the outermost. What each comes to at worst, as "
        "explain says:",
    )
    for depth, (policy, worst) in enumerate(nested):
        left, top = 28 + 14 * depth, 72 + 30 * depth
        height = 38 * (len(nested) - depth) + 36
        card.area(left, top, WIDTH - 2 * left, height, "cover")
        why = LAST if depth == len(nested) - 1 else WHY[policy]
        card.text(left + 14, top + 21, policy, "cover-text bold")
        card.text(left + 106, top + 21, why, "cover-text small")
        card.text(WIDTH - left - 14, top + 21, worst, "cover-text small", "end")
    left, top = 28 + 14 * len(nested), 72 + 30 * len(nested)
    card.area(left, top, WIDTH - 2 * left, 36, "ok")
    card.text(WIDTH / 2, top + 23, "● your function", "ok-text bold", "middle")
    card.counted(
        412, ['calls_total{policy="pipeline"} +1', "errors_total +1 for each failed attempt"]
    )
    return card.svg()
