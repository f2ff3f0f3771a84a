"""The limits that `overload.py` compares: ours, and others, written after their published rules.

* fixed: as many places as somebody has set.
* AIMD (Netflix's concurrency-limits): 1 more after a success if half of the limit was in use, 10 %
  less after a drop or 5 s; 20 to 200.
* AIMD once per round trip: 1 / L more, 30 % less for the calls that began before the last decrease.
* Vegas and Gradient2 (the same library) behind its windows of 1 s with 10 samples at least.
* failsafe-go's adaptive limiter: windows of 1 s with 50 samples at least, 90th percentiles.
* Envoy's gradient controller, with the settings of its documentation.
* The client throttle of Google's SRE book: K = 2, two minutes.

None of them has a queue, and all are told the same.
"""

# ruff: noqa: ARG002, D102, PLR2004 - the peers' rules share one face, and have these numbers

import math
import random
import statistics
from collections import deque

from mainstay._limits.adaptive import Adaptive, AdaptiveLimit

HAND_OVER = 0.25


class Ours:
    """`AdaptiveLimit`, told as a bulkhead does it: by calls that begin, and of a drop at once."""

    def __init__(self, settings: Adaptive, wall: float) -> None:
        self.decision = AdaptiveLimit(settings)
        self.wall = wall  # that of the beginning
        self.samples: list[tuple[float, float, int]] = []
        self.due = 0.0

    def admits(self, now: float, in_flight: int) -> bool:
        if now >= self.due:
            self.hand_over(now)
        return in_flight < self.decision.limit

    def answered(self, began: float, now: float, in_flight: int) -> None:
        self.samples.append((began, now - began, in_flight))

    def dropped(self, began: float, now: float, in_flight: int) -> None:
        self.hand_over(now)
        self.decision.dropped(began, now, self.wall + now)

    def hand_over(self, now: float) -> None:
        samples, self.samples = self.samples, []
        self.decision.tick(now, self.wall + now)
        if samples:
            self.decision.answered(samples, now, self.wall + now)
        self.due = min(now + HAND_OVER, self.decision.next_tick)


class Fixed:
    """A limit that stays; infinity for none. The base of those that move."""

    def __init__(self, limit: float) -> None:
        self.limit = limit

    def admits(self, now: float, in_flight: int) -> bool:
        return in_flight < int(self.limit) if self.limit < math.inf else True

    def answered(self, began: float, now: float, in_flight: int) -> None:
        """Nothing moves."""

    def dropped(self, began: float, now: float, in_flight: int) -> None:
        """Nothing moves."""


class AIMD(Fixed):
    """Netflix's, per sample."""

    def __init__(self) -> None:
        super().__init__(20.0)

    def answered(self, began: float, now: float, in_flight: int) -> None:
        if now - began > 5:
            self.dropped(began, now, in_flight)
        elif 2 * in_flight >= self.limit:
            self.limit = min(200.0, self.limit + 1)

    def dropped(self, began: float, now: float, in_flight: int) -> None:
        self.limit = max(20.0, math.floor(self.limit * 0.9))


class RoundTripAIMD(Fixed):
    """Chiu and Jain's, once per round trip."""

    def __init__(self) -> None:
        super().__init__(20.0)
        self.decreased = -math.inf

    def answered(self, began: float, now: float, in_flight: int) -> None:
        if 2 * in_flight >= self.limit:
            self.limit += 1 / self.limit

    def dropped(self, began: float, now: float, in_flight: int) -> None:
        if began >= self.decreased:
            self.decreased = now
            self.limit = max(1.0, self.limit * 0.7)


class Windowed(Fixed):
    """Netflix's windows: the mean of a second, if it has ten samples; otherwise they are lost."""

    def __init__(self) -> None:
        super().__init__(20.0)
        self.closes = 1.0
        self.seconds: list[float] = []
        self.most = 0
        self.drop = False

    def answered(self, began: float, now: float, in_flight: int) -> None:
        self.seconds.append(now - began)
        self.most = max(self.most, in_flight)
        self._close(now)

    def dropped(self, began: float, now: float, in_flight: int) -> None:
        self.drop = True
        self.answered(began, now, in_flight)

    def _close(self, now: float) -> None:
        if now < self.closes:
            return
        if len(self.seconds) >= 10:
            self.update(statistics.fmean(self.seconds), self.most, drop=self.drop)
        self.closes = now + 1.0
        self.seconds, self.most, self.drop = [], 0, False

    def update(self, rtt: float, in_flight: int, *, drop: bool) -> None:
        raise NotImplementedError


class Vegas(Windowed):
    """The queue is what the smallest rtt does not explain; it is probed for after many samples."""

    def __init__(self) -> None:
        super().__init__()
        self.least = math.inf
        self.count = 0
        self.jitter = random.uniform(0.5, 1)

    def update(self, rtt: float, in_flight: int, *, drop: bool) -> None:
        self.count += 1
        if self.count > self.jitter * 30 * self.limit:
            self.count, self.jitter = 0, random.uniform(0.5, 1)
            self.least = rtt
            return
        if rtt < self.least:
            self.least = rtt
            return
        limit, log = self.limit, max(1.0, math.log10(self.limit))
        queue = math.ceil(limit * (1 - self.least / rtt))
        if drop:
            limit -= log
        elif 2 * in_flight < limit:
            return
        elif queue <= log:
            limit += 6 * log
        elif queue < 3 * log:
            limit += log
        elif queue > 6 * log:
            limit -= log
        self.limit = min(1000.0, max(1.0, limit))


class Gradient2(Windowed):
    """The rtt against its own long average."""

    def __init__(self) -> None:
        super().__init__()
        self.long, self.count = 0.0, 0

    def update(self, rtt: float, in_flight: int, *, drop: bool) -> None:
        self.count += 1
        weight = 1 / self.count if self.count <= 10 else 2 / 601
        self.long += weight * (rtt - self.long)
        if self.long > 2 * rtt:
            self.long *= 0.95
        if in_flight < self.limit / 2:
            return
        gradient = min(1.0, max(0.5, 1.5 * self.long / rtt))
        self.limit = 0.8 * self.limit + 0.2 * (gradient * self.limit + 4)
        self.limit = min(200.0, max(20.0, self.limit))


class FailsafeGo(Fixed):
    """Vegas on percentiles against an average, and what correlates with how many are in flight."""

    def __init__(self) -> None:
        super().__init__(20.0)
        self.closes = 1.0
        self.began = 0.0
        self.seconds: list[float] = []
        self.most = 0
        self.last: deque[float] = deque(maxlen=5)
        self.short = self.long = 0.0
        self.windows: deque[tuple[float, float, float]] = deque(maxlen=50)

    def answered(self, began: float, now: float, in_flight: int) -> None:
        self.seconds.append(now - began)
        self.most = max(self.most, in_flight)
        if now >= self.closes and len(self.seconds) >= 50:
            self._update(now)
            self.closes, self.began, self.seconds, self.most = now + 1.0, now, [], 0

    dropped = answered

    def _update(self, now: float) -> None:
        p90 = sorted(self.seconds)[int(0.9 * len(self.seconds))]
        self.last.append(p90)
        rtt = statistics.median(self.last)
        first = not self.windows
        self.short = rtt if first else self.short + 2 / 6 * (rtt - self.short)
        self.long = rtt if first else self.long + 2 / 11 * (rtt - self.long)
        throughput = len(self.seconds) / (now - self.began)
        self.windows.append((self.most, throughput, rtt))
        limit, log = self.limit, max(1.0, math.log10(self.limit))
        queue = limit * (1 - self.long / self.short)
        if queue > 6 * log or (self.most >= int(limit) and self._chokes()):
            limit -= log
        elif queue < 3 * log:
            limit += log
        self.limit = min(200.0, 5.0 * self.most, max(1.0, limit))

    def _chokes(self) -> bool:
        most, throughput, rtt = zip(*self.windows, strict=True)
        if min(len({*most}), len({*throughput}), len({*rtt})) < 2:
            return False
        gain, delay = (statistics.correlation(most, each) for each in (throughput, rtt))
        steady = statistics.pstdev(throughput) < 0.2 * statistics.fmean(throughput)
        return gain < 0 or (delay > 0.5 and (gain < 0.3 or steady))


class Envoy(Fixed):
    """The median of 0.1 s against one that is measured each minute with 3 calls at a time."""

    def __init__(self) -> None:
        super().__init__(3.0)
        self.least = 0.0
        self.stored = 3.0
        self.measuring = True
        self.due = 0.0
        self.closes = 0.1
        self.seconds: list[float] = []
        self.at_least = 0

    def admits(self, now: float, in_flight: int) -> bool:
        if not self.measuring and now >= self.due:
            self._measure()
        return super().admits(now, in_flight)

    def answered(self, began: float, now: float, in_flight: int) -> None:
        self.seconds.append(now - began)
        if self.measuring:
            if len(self.seconds) >= 50:
                self.least = statistics.median(self.seconds)
                self.measuring, self.limit = False, self.stored
                self.due = now + 60 * random.uniform(1, 1.1)
                self.seconds, self.closes = [], now + 0.1
        elif now >= self.closes:
            gradient = min(2.0, max(0.5, 1.25 * self.least / statistics.median(self.seconds)))
            limit = gradient * self.limit + math.sqrt(self.limit)
            self.limit = min(1000.0, max(3.0, limit))
            self.seconds, self.closes = [], now + 0.1
            self.at_least = self.at_least + 1 if self.limit == 3 else 0
            if self.at_least >= 5:
                self._measure()

    dropped = answered

    def _measure(self) -> None:
        self.measuring, self.stored, self.limit = True, self.limit, 3.0
        self.seconds, self.at_least = [], 0


class Throttle:
    """Google's: refused with a probability that grows as fewer calls are accepted."""

    def __init__(self) -> None:
        self.requests = self.accepts = 0
        self.seconds: deque[list[int]] = deque()

    def _second(self, now: float) -> list[int]:
        if not self.seconds or self.seconds[-1][0] != int(now):
            self.seconds.append([int(now), 0, 0])
        while self.seconds[0][0] <= now - 120:
            _, requests, accepts = self.seconds.popleft()
            self.requests -= requests
            self.accepts -= accepts
        return self.seconds[-1]

    def admits(self, now: float, in_flight: int) -> bool:
        self._second(now)[1] += 1
        self.requests += 1
        return random.random() >= (self.requests - 2 * self.accepts) / (self.requests + 1)

    def answered(self, began: float, now: float, in_flight: int) -> None:
        self._second(now)[2] += 1
        self.accepts += 1

    def dropped(self, began: float, now: float, in_flight: int) -> None:
        """Not accepted."""
