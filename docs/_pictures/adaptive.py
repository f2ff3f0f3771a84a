"""A limit that follows what a server can do: `Adaptive` itself, with a simulated server."""

import heapq
import random
import statistics
from collections.abc import Callable

from card import NOTE, WIDTH, Card
from timeline import Timeline

from mainstay import Adaptive
from mainstay._limits.adaptive import PERIOD, AdaptiveLimit

SECONDS = 60.0
TAKES = 0.1
WORKERS = ((0.0, 12), (20.0, 5), (40.0, 12))
"""How many calls the server works on at a time, from when on."""
OFFERED = 240
HANDED_OVER_EVERY = 0.25
WALL = 1_000_000 * PERIOD + 12.0


def workers(now: float) -> int:
    """Return how many calls the server works on at a time."""
    return [count for since, count in WORKERS if now >= since][-1]


def run() -> list[tuple[float, int, float]]:
    """Return the limit over time, with how long calls take then, in seconds."""
    numbers = random.Random(1)
    limit = AdaptiveLimit(Adaptive())
    points: list[tuple[float, int, float]] = []
    # Of the calls under way: their ends, their beginnings, and how many there were then.
    ends: list[tuple[float, float, int]] = []
    free = [0.0] * workers(0.0)  # when each worker is
    answers: list[tuple[float, float, int]] = []
    now, handed_over = 0.0, 0.0
    while now < SECONDS:
        now += numbers.expovariate(OFFERED)
        while ends and ends[0][0] <= now:
            end, began, under_way = heapq.heappop(ends)
            answers.append((began, end - began, under_way))
        if now >= handed_over:
            handed_over += HANDED_OVER_EVERY
            limit.answered(answers, now, WALL + now)
            took = statistics.median([seconds for _, seconds, _ in answers] or [TAKES])
            points.append((now, limit.limit, took))
            answers.clear()
        limit.tick(now, WALL + now)
        if len(ends) >= limit.limit:
            continue  # refused
        while len(free) > workers(now):
            free.remove(min(free))
        free += [now] * (workers(now) - len(free))
        begins = max(now, min(free))
        free[free.index(min(free))] = end = begins + TAKES * numbers.uniform(0.8, 1.2)
        heapq.heappush(ends, (end, now, len(ends) + 1))
    return points


def draw() -> str:
    """Return the picture."""
    points = run()
    most = max(limit for _, limit, _ in points)
    slowest = max(took for _, _, took in points)
    card = Card(
        "A limit that follows the load",
        f"A server can work on {WORKERS[0][1]} calls at a time, then on {WORKERS[1][1]} for twenty "
        "seconds, then again on more; callers ask for twice as much throughout. The limit falls "
        "and rises with what the server can do, and calls that are let in stay fast.",
        height=362,
        lead="Twice as many calls come as the server can answer; the limit lets in what it can do.",
    )
    line = Timeline(card, top=88, bottom=322, seconds=SECONDS)
    line.axis(10)
    line.lane(100, "calls at a time")
    y = scale(218, 120 / (most + 2))
    ends = [since for since, _ in WORKERS[1:]] + [SECONDS]
    for (since, count), end in zip(WORKERS, ends, strict=True):
        left, top = line.x(since), y(count)
        card.area(left, top, line.x(end) - left, y(0) - top, "idle")
        card.text(
            (left + line.x(end)) / 2,
            top + 18,
            f"the server can do {count}",
            "idle-text small",
            "middle",
        )
    card.curve([(line.x(at), y(limit)) for at, limit, _ in points], "ok")
    card.text(line.x(8), y(most) - 4, "the limit", "ok-text small over", "middle")
    words = "dips: it measures again what a call takes without a queue"
    card.text(line.right, 98, words, NOTE, "end")
    line.lane(250, "seconds a call")
    y = scale(318, 70 / slowest)
    card.curve([(line.x(at), y(took)) for at, _, took in points], "cover")
    for took in (TAKES, slowest):
        card.text(WIDTH - 34, y(took) + 4, f"{took:.1f}", NOTE)
    card.text(line.x(23.5), y(slowest) + 8, "until the limit has followed", NOTE)
    return card.svg()


def scale(bottom: float, pixels: float) -> Callable[[float], float]:
    """Return where a value is, with 0 at *bottom*."""
    return lambda value: bottom - pixels * value
