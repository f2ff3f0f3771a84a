"""Which policy helps against what: a map of the decision guide, with every policy that there is."""

from itertools import groupby

from card import NOTE, Card

from mainstay._metrics.schema import GIVE_UP_REASONS

HELPS = (
    # What is wrong, when, what helps, and its name in the label `policy`.
    ("fails", "now and then, and works a moment later", "retry", "retry"),
    ("down", "for longer, and another server can do it", "FailoverPool", "failover"),
    ("down", "for longer, and there is only this one", "CircuitBreaker", "breaker"),
    ("down", "but an older answer, or none, will do", "fallback", "fallback"),
    ("slow", "in one call of a hundred", "redundant, hedged", "redundant"),
    ("slow", "or hangs, and nobody waits for so long", "timeout", "timeout"),
    ("wrong", "now and then, and does not say so", "redundant, voted", "redundant"),
    ("overloaded", "by too many calls at a time", "Bulkhead", "bulkhead"),
    ("overloaded", "or a quota says how many may begin", "RateLimit", "rate_limit"),
    ("killed", "your own program, in the middle of a long job", "checkpointed", "checkpoint"),
)
ROW, TOP = 42.0, 76.0


def draw() -> str:
    """Return the picture.

    Raises:
        ValueError: If there is a policy that the guide does not know, or it knows one too many.
    """
    known = {policy for *_, policy in HELPS} | {"pipeline"}
    if known != GIVE_UP_REASONS.keys():
        raise ValueError(f"the guide is to name each policy: {known ^ GIVE_UP_REASONS.keys()}")
    bottom = TOP + ROW * len(HELPS)
    card = Card(
        "Which policy",
        "; ".join(f"{wrong} {when}: {helps}" for wrong, when, helps, _ in HELPS) + ".",
        height=bottom + 54,
        lead="What goes wrong, and what helps against it.",
    )
    y = TOP
    for wrong, group in groupby(HELPS, key=lambda row: row[0]):
        rows = list(group)
        middle = y + ROW * len(rows) / 2
        for _, when, helps, _ in rows:
            here = y + ROW / 2
            points = [(168.0, middle), (190.0, middle), (190.0, here), (560.0, here)]
            card.arrow(*(points if here != middle else [points[0], points[-1]]))
            card.text(210, here - 5, when, NOTE)
            card.area(560, here - 15, 172, 30, "cover")
            card.text(646, here + 5, helps, "cover-text bold", "middle")
            y += ROW
        card.area(28, middle - 17, 140, 34, "fail")
        card.text(98, middle + 5, wrong, "fail-text bold", "middle")
    card.rule(bottom + 8)
    card.text(28, bottom + 32, "Several of them as one, in the right order:", NOTE)
    card.area(560, bottom + 13, 172, 30, "cover")
    card.text(646, bottom + 33, "pipeline", "cover-text bold", "middle")
    return card.svg()
