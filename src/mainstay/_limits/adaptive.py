"""`Adaptive`: how many calls at a time a service can handle, learned from how long calls take.

    what comes in                              then
    a success                                  its seconds join the window, unless that has 500
    the window is full                         s = its median; base = s if it is the first, and
                                               falls by 0.3 of the difference if s is less
    ... half of L was in use                   L = (L + g L + sqrt(L)) / 2, g = 1.4 base / s,
                                               but g at least 0.5, and at most 1
    ... less than half of L was in use         L stays; base = the least of such s in 30 s, if
                                               there are 5
    ... it is the first, and L was reached     a probe
    ... s > 2.5 base, the fifth time in a row  a probe
    a multiple of 30 s of wall time            a probe, if L was reached since the last such one,
                                               and no probe began in the last ten times s
    a probe                                    the limit is L / 2, and the window begins again
    ... it has 8 answers                       base = their median; the limit is L again
    ... it lasts too long                      the limit is L again
    a drop that counts                         L = 0.7 L, and no probe
    ... the first window is not full yet, or
        there was no success since the last    L = L / 4, and no probe

1. L is a number; the limit is its whole part. Both stay between `at_least` and `at_most`.
2. A window is full when it has 8 samples, or L of them if that is more, is 0.25 s old, and is 1 s
   old or has a certain median: the standard error of its logarithm is at most 0.2. What counts is
   samples, so that it works at one call a second too. The answers of a probe have to be as certain,
   or the probe 1 s old.
3. The answers of a probe are those to calls that began one s after the probe: by then the queue
   that the calls before it had made is gone. It lasts too long after another 10 seconds, or after
   three times s if that is more.
4. Multiples of wall time are the same instants in all processes. So they probe together, and none
   of them measures the queue that the others make.
5. A drop counts if its call began after the last one that did: what ends many calls at once is one
   drop, as a burst of lost packets is in TCP. And more than 2 % of about the last 500 answers have
   to be drops, or the last 3 of them, so that the tail of a latency does not look like overload.
6. A smaller limit takes no place away from a call under way.

The constants are judged by `benchmarks/overload.py`.

Source:
    D.-M. Chiu, R. Jain, "Analysis of the Increase and Decrease Algorithms for Congestion Avoidance
    in Computer Networks", Computer Networks and ISDN Systems 17, 1989 (a decrease by a factor, once
    per round trip); M. Allman, V. Paxson, E. Blanton, RFC 5681, 2009 (a larger one where nothing
    comes back); L. Brakmo, L. Peterson, "TCP Vegas", IEEE JSAC 13, 1995, and Netflix's
    concurrency-limits, 2018 (Vegas, Gradient2: a limit from how much longer calls take than without
    a queue); Envoy's gradient controller (room for the square root of the limit; measuring again
    with few calls). Windows by number of samples and probes at common instants are ours.
"""

import math
import statistics
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

import attrs

from mainstay._core.arguments import DefaultInt, to_count
from mainstay._core.failures import Classes, Judge, judge_of
from mainstay._core.functions import is_async_hook, name_of, repr_of
from mainstay._core.misuse import shows_use

_INITIAL: Final = DefaultInt(20)

PERIOD = 30.0
"""Seconds of wall time from one common probe to the next."""
MOST_SAMPLES = 500
"""How many samples a window takes; more samples would say nothing more."""
_LEAST_SAMPLES = 8
_YOUNGEST = 0.25
_OLDEST = 1.0
_ERROR = 0.2
_TOLERANCE = 1.4
_LEAST_GRADIENT = 0.5
_FALL = 0.3
_MOVED = 2.5
_IN_A_ROW = 5
_IDLE_SECONDS = 30.0
_PROBE_SHARE = 0.5
_LONGEST_PROBE = 10.0
_LONGEST_PROBE_MEDIANS = 3.0
_MEDIANS_BETWEEN_PROBES = 10.0
_DROPS = 0.02
_MEMORY = 0.998
_RUN = 3
_DECREASE = 0.7
_DECREASE_WITHOUT_SUCCESS = 0.25
_SHORTEST = 1e-6  # of an answer: a fake clock may not have moved


@attrs.frozen(init=False)
class Adaptive:
    """A limit for `Bulkhead` that follows how long calls take.

    The limit rises while calls take as long as they do without a queue. The limit falls when calls
    take longer, or end by a timeout, a deadline, a late cancellation, or an exception that
    *overload* matches. Other exceptions do not change the limit. The duration without a queue is
    measured all the time: while the limit is reached, only half of the places are used for a moment
    every 30 s. The limit does not rise while less than half of the places are used.

    Args:
        initial: The first limit, from *at_least* to *at_most*. The default is 20, or the nearest of
            these bounds, so that a new process does not reject its first calls. If many processes
            share a small service, begin with 5.
        at_least: The smallest limit, at least 1.
        at_most: The largest limit, at least *at_least*.
        overload: The exceptions that mean too many calls, such as those of your client for status
            429 or 503: a subclass of `Exception`, a tuple of such classes, or a plain function that
            takes the exception and returns True or False. None for no exceptions.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of its range.

    Source:
        TCP Vegas (Brakmo, Peterson, 1995), Netflix's Gradient2 (2018), Envoy's gradient controller,
        and a decrease by a factor (Chiu, Jain, 1989); the probes at common instants are ours.

    Example:
        >>> from mainstay import Adaptive
        >>> Adaptive(at_most=200).initial
        20
    """

    initial: int
    at_least: int
    at_most: int
    overload: Classes | Callable[[Exception], object] | None = attrs.field(repr=repr_of)

    @shows_use(
        "Adaptive(at_most=200), with further parameters by name",
        elsewhere={
            "initial_limit": "`initial=`",
            "min_limit": "`at_least=`",
            "max_limit": "`at_most=`",
            "max_concurrency": "`at_most=`",
        },
    )
    def __init__(
        self,
        *,
        initial: int = _INITIAL,
        at_least: int = 1,
        at_most: int = 1000,
        overload: Classes | Callable[[Exception], object] | None = None,
    ) -> None:
        least, first, most = (
            to_count(at_least, "at_least"),
            to_count(initial, "initial"),
            to_count(at_most, "at_most"),
        )
        if isinstance(initial, DefaultInt):
            first = min(max(int(initial), least), most)
        if least > most:
            raise ValueError(f"`at_most` must be at least `at_least`, which is {least}, not {most}")
        if not least <= first <= most:
            raise ValueError(
                f"`initial` must be from `at_least` to `at_most`, {least} to {most}, not {first}"
            )
        overload_judge_of(overload)
        self.__attrs_init__(  # pyright: ignore[reportAttributeAccessIssue]  # by attrs
            first, least, most, overload
        )


def overload_judge_of(overload: object) -> Judge | None:
    """Return the function that says if an exception means overload; None if none does.

    Raises:
        TypeError: If *overload* is none of the accepted forms, or is async.
    """
    if overload is None:
        return None
    if is_async_hook(overload):
        raise TypeError(f"`overload` must be a plain predicate, and {name_of(overload)} is async")
    return judge_of(overload, "overload")


@attrs.define(eq=False)
class AdaptiveLimit:
    """The decision. *now* is seconds of a monotonic clock, *wall* seconds since 1970.

    A *now* that was read before a lock may be older than the last one; it then counts as that one.
    `Follower` passes on the answers every 0.25 s, and a drop at once; at admissions from
    `next_tick` on it calls `tick`.

    Attributes:
        settings: What the user gave.
        limit: How many calls may be under way at this moment, those of a probe included.
        baseline: What calls take without a queue, in seconds; None before the first window.
        probing: True while it is measured with half of the places.
        next_tick: From which *now* on `tick` may change something.
    """

    settings: Adaptive
    limit: int = 0
    baseline: float | None = None
    probing: bool = False
    next_tick: float = -math.inf
    _level: float = 0.0  # L
    _now: float = -math.inf
    _window: list[float] = attrs.field(factory=list)
    _opened: float = -math.inf  # since when the window has been there
    _most: int = 0  # most calls under way, among those of the window
    _median: float = 0.0  # of the last window
    _moved: int = 0  # how many windows in a row were far above the baseline
    _idle: deque[tuple[float, float]] = attrs.field(factory=deque)  # when, and what median
    _multiple: float = math.inf  # of the period: the last one
    _reached: bool = False  # True if L was reached since the last common probe
    _probed: float = -math.inf  # when the last probe began
    _probe_from: float = 0.0  # when calls begin whose answers are the probe's
    _probe_until: float = math.inf
    _answers: list[float] = attrs.field(factory=list)
    _drops: float = 0.0  # the share of drops among the last answers
    _run: int = 0  # how many of the last answers were drops
    _succeeded: bool = True  # True if a call succeeded since the last drop that counted
    _decreased: float = -math.inf

    def __attrs_post_init__(self) -> None:
        self._level = float(self.settings.initial)
        self.limit = self.settings.initial

    # What happens.

    def answered(
        self, samples: Iterable[tuple[float, float, int]], now: float, wall: float
    ) -> None:
        """Record successes.

        Args:
            samples: Of each call when it began, how many seconds it took, and how many calls were
                under way when it was admitted, itself included.
            now: When they are passed on; they may have ended before.
            wall: The same instant in seconds since 1970.
        """
        self._advance(now, wall)
        count = 0
        for began, seconds, in_flight in samples:
            count += 1
            self._reached = self._reached or in_flight >= int(self._level)
            if self.probing:
                if began >= self._probe_from and len(self._answers) < MOST_SAMPLES:
                    self._answers.append(max(seconds, _SHORTEST))
            elif len(self._window) < MOST_SAMPLES:
                self._window.append(max(seconds, _SHORTEST))
                self._most = max(self._most, in_flight)
        if count:
            self._drops *= _MEMORY**count
            self._run = 0
            self._succeeded = True
        if not self.probing:
            self._look_at_window()
        elif is_certain(self._answers, _LEAST_SAMPLES, self._now - self._probe_from):
            self.baseline = statistics.median(self._answers)
            self._idle.clear()
            self._end_probe()

    def dropped(self, began: float, now: float, wall: float) -> None:
        """Record a drop: that a call ended in a way that means overload.

        Args:
            began: When it began.
            now: When it ended.
            wall: The same instant in seconds since 1970.
        """
        self._advance(now, wall)
        self._drops = self._drops * _MEMORY + (1 - _MEMORY)
        self._run += 1
        if began <= self._decreased or (self._drops <= _DROPS and self._run < _RUN):
            return
        known = self._succeeded and self.baseline is not None
        self._decreased = self._now
        self._succeeded = False
        self._end_probe()
        self._set_level(self._level * (_DECREASE if known else _DECREASE_WITHOUT_SUCCESS))

    def tick(self, now: float, wall: float) -> None:
        """Begin or end a probe if it is time to; before `next_tick` there is nothing to do."""
        if now >= self.next_tick:
            self._advance(now, wall)

    # What follows.

    def _advance(self, now: float, wall: float) -> None:
        self._now = now = max(now, self._now)
        if self._opened == -math.inf:
            self._opened = now
        if now >= self._probe_until:
            self._end_probe()
        multiple = wall // PERIOD
        if multiple > self._multiple and self._reached and self._may_probe():
            self._reached = False
            self._probe()
        self._multiple = multiple
        self.next_tick = min(now + PERIOD - wall % PERIOD, self._probe_until)

    def _may_probe(self) -> bool:
        """True if there is a baseline to measure again, and calls are short for how old it is."""
        return (
            self.baseline is not None
            and self._now >= self._probed + _MEDIANS_BETWEEN_PROBES * self._median
        )

    def _look_at_window(self) -> None:
        """Draw the conclusions from the window, if it is full."""
        age = self._now - self._opened
        if age < _YOUNGEST or not is_certain(self._window, self._level, age):
            return
        median, most = statistics.median(self._window), self._most
        self._open_window()
        first = self.baseline is None
        base = median if self.baseline is None else self.baseline
        self.baseline = base = min(base, base + _FALL * (median - base))
        self._median = median
        if most < self._level / 2:
            self._idle_for(median)
        else:
            gradient = min(1.0, max(_LEAST_GRADIENT, _TOLERANCE * base / median))
            self._set_level((self._level * (1 + gradient) + math.sqrt(self._level)) / 2)
        self._moved = self._moved + 1 if median > _MOVED * self.baseline else 0
        if self._moved >= _IN_A_ROW or (first and self._reached):
            self._probe()

    def _idle_for(self, median: float) -> None:
        """Learn what calls take without a queue, where there can be none."""
        idle = self._idle
        idle.append((self._now, median))
        while idle[0][0] < self._now - _IDLE_SECONDS:
            idle.popleft()
        if len(idle) >= _IN_A_ROW:
            self.baseline = min(each for _, each in idle)

    def _set_level(self, level: float) -> None:
        settings = self.settings
        self._level = min(max(level, settings.at_least), settings.at_most)
        places = self._level * _PROBE_SHARE if self.probing else self._level
        self.limit = max(settings.at_least, int(places))

    def _open_window(self) -> None:
        self._window.clear()
        self._most = 0
        self._opened = self._now

    def _probe(self) -> None:
        self._moved = 0
        self._answers.clear()
        self._probed = self._now
        self._probe_from = self._now + self._median
        longest = max(_LONGEST_PROBE, _LONGEST_PROBE_MEDIANS * self._median)
        self._probe_until = self._probe_from + longest
        self.next_tick = min(self.next_tick, self._probe_until)
        self.probing = True
        self._set_level(self._level)

    def _end_probe(self) -> None:
        self._probe_until = math.inf
        self.probing = False
        self._open_window()
        self._set_level(self._level)


def is_certain(samples: list[float], least: float, age: float) -> bool:
    """True if the median of *samples* may be used: they are enough, and agree or are old enough.

    Args:
        samples: Seconds, above 0.
        least: How many it takes, unless that is more than a window has room for; at least 8.
        age: How long they have been gathered, in seconds.
    """
    if len(samples) < min(max(_LEAST_SAMPLES, least), MOST_SAMPLES):
        return False
    return age >= _OLDEST or error_of_median(samples) <= _ERROR


def error_of_median(samples: list[float]) -> float:
    """Return the standard error of the logarithm of the median of *samples*, all above 0.

    As if they were lognormal: 1.25 times their spread over the root of how many there are, and the
    spread is the interquartile range over 1.35.
    """
    low, _, high = statistics.quantiles(samples, n=4)
    return 1.25 / 1.35 * math.log(high / low) / math.sqrt(len(samples))
