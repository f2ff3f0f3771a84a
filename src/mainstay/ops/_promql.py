"""The parts of PromQL that rules and panels are put together from."""

import re
from collections.abc import Sequence

import attrs

from mainstay._metrics.schema import check_namespace

_ESCAPE = r"\\(?:[abfnrtv\\\"']|x[0-9a-fA-F]{2}|[0-7]{3}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8})"
_STRING = rf"""(?:"(?:[^"\\\n]|{_ESCAPE})*"|'(?:[^'\\\n]|{_ESCAPE})*'|`[^`]*`)"""
_MATCHER = re.compile(rf"\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*(=~|!~|!=|=)\s*({_STRING})\s*")
_DURATION = re.compile(r"([1-9][0-9]*)([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}

_OWN_LABELS = frozenset({"component", "policy", "outcome", "reason", "member", "state"})
"""Labels that `up` does not have."""


@attrs.frozen
class Matcher:
    """One condition of a selector, such as ``job="api"``."""

    label: str
    operator: str
    quoted: str

    def __str__(self) -> str:
        return f"{self.label}{self.operator}{self.quoted}"


@attrs.frozen
class Series:
    """Which series queries read: a namespace, and conditions on all of them."""

    namespace: str
    matchers: tuple[Matcher, ...] = ()

    def __call__(self, name: str, *conditions: str) -> str:
        """Return a selector of the series of a metric of ours that meet *conditions* as well."""
        return _selector(f"{self.namespace}_{name}", (*map(str, self.matchers), *conditions))

    def with_matchers(self, *more: Matcher) -> "Series":
        """Return the same with more conditions."""
        return attrs.evolve(self, matchers=(*self.matchers, *more))

    def up(self) -> str:
        """Return a selector of Prometheus's own `up` of the same targets."""
        about_targets = [str(m) for m in self.matchers if m.label not in _OWN_LABELS]
        return _selector("up", about_targets)

    def recorded(self, level: str, name: str, operation: str) -> str:
        """Return the name of a recorded series: level:metric:operation."""
        return f"{level}:{self.namespace}_{name}:{operation}"


def _selector(name: str, conditions: Sequence[str]) -> str:
    return f"{name}{{{','.join(conditions)}}}" if conditions else name


def series_of(namespace: str, selector: str) -> Series:
    """Return the series that users mean by `namespace=` and `selector=`.

    Raises:
        TypeError: If one of them is not a str.
        ValueError: If *namespace* is not a name that Prometheus takes, or *selector* is not a
            comma-separated list of conditions.
    """
    check_namespace(namespace)
    given: object = selector
    if not isinstance(given, str):
        raise TypeError(f"`selector` must be a str, not {given!r}")
    return Series(namespace, _matchers(selector))


def _matchers(selector: str) -> tuple[Matcher, ...]:
    found: list[Matcher] = []
    rest = selector.strip()
    while rest:
        match = _MATCHER.match(rest)
        after = rest[match.end() :] if match else ""
        if match is None or match[1].startswith("__") or (after and not after.startswith(",")):
            raise ValueError(
                f'`selector` must be conditions such as \'job="api",env!~"test.*"\', '
                f"not {selector!r}: cannot read {rest!r}"
            )
        found.append(Matcher(match[1], match[2], match[3]))
        rest = after[1:].strip()
    return tuple(found)


def event_count(counter: str, window: str) -> str:
    """Return how many events each series of a counter counted within a window.

    `increase` takes the first sample of a series for the start, and so misses the event that made
    the series appear. A series that was not there when the window began has counted all that it
    shows, unless it was set back since, as by a restart. `increase` also estimates what happened
    between the samples and the edges of the window, so that one event is 1.02; events are whole.
    """
    return f"{_of_new(counter, window)}\nor round(increase({counter}[{window}]))"


def amount(counter: str, window: str) -> str:
    """Return the same for a counter of seconds, which are not whole."""
    return f"{_of_new(counter, window)}\nor increase({counter}[{window}])"


def _of_new(counter: str, window: str) -> str:
    return (
        f"max_over_time({counter}[{window}])\n"
        f"  unless {counter} offset {window}\n"
        f"  unless resets({counter}[{window}]) > 0"
    )


def growth(counter: str, window: str) -> str:
    """Return the same without the events before a series was first seen, at a fourth of the work.

    It is for counters that start at 0, where a panel asks for many points in time.
    """
    return f"round(increase({counter}[{window}]))"


def check_slo(slo: float) -> float:
    """Return *slo* if it is one.

    Raises:
        TypeError: If it is not a number.
        ValueError: If it is not above 0 and below 1.
    """
    given: object = slo
    if isinstance(given, bool) or not isinstance(given, int | float):
        raise TypeError(f"`slo` must be a number, not {given!r}")
    if not 0 < slo < 1:
        raise ValueError(f"`slo` must be above 0 and below 1, such as 0.999, not {slo!r}")
    return slo


def seconds_of(window: str) -> int:
    """Return the seconds of a window such as "30d".

    Raises:
        TypeError: If it is not a str.
        ValueError: If it is not a whole number followed by s, m, h, d or w.
    """
    given: object = window
    if not isinstance(given, str):
        raise TypeError(f"`windows` must hold strings such as '30d', not {given!r}")
    match = _DURATION.fullmatch(window)
    if match is None:
        raise ValueError(
            f"`windows` must be a number above 0 followed by s, m, h, d or w, such as '30d', "
            f"not {window!r}"
        )
    return int(match[1]) * _SECONDS[match[2]]


def number(value: float) -> str:
    """Return a number as short as it is exact enough: 14.4 times 0.001 is 0.0144."""
    return f"{value:.12g}"
