"""Numbers as people read them: two or three figures, and a unit."""

from collections.abc import Sequence

_MINUTE, _HOUR, _DAY = 60, 3_600, 86_400


def percent(share: float) -> str:
    """Return a share; one above 0 is not shown as 0, and one below 1 not as 100."""
    if share >= 1 or share <= 0:
        return "100 %" if share >= 1 else "0 %"
    if share * 100 < 9.95:  # noqa: PLR2004 - from there on it has two figures before the point
        return f"{max(share * 100, 0.1):.1f} %"
    return f"{min(share * 100, 99):.0f} %"


def rate(per_second: float) -> str:
    """Return a rate per second, without the unit."""
    if per_second < 9.95:  # noqa: PLR2004 - as above
        return f"{per_second:.1f}" if per_second <= 0 or per_second >= 0.05 else "<0.1"  # noqa: PLR2004
    if per_second < 9_999.5:  # noqa: PLR2004 - five figures from there on
        return f"{per_second:,.0f}"
    return f"{per_second / 1_000:,.0f}k"


def took(seconds: float) -> str:
    """Return how long a call took."""
    if seconds < 0.9995:  # noqa: PLR2004 - 1,000 ms from there on
        return f"{seconds * 1_000:.0f} ms" if seconds >= 0.001 else "<1 ms"  # noqa: PLR2004
    return f"{seconds:.1f} s" if seconds < 99.95 else f"{seconds:,.0f} s"  # noqa: PLR2004


def age(seconds: float) -> str:
    """Return how long something has been so: 8s, 1m54s, 2h03m, 3d04h."""
    whole = max(0, int(seconds))
    if whole < _MINUTE:
        return f"{whole}s"
    if whole < _HOUR:
        return f"{whole // _MINUTE}m{whole % _MINUTE:02}s"
    if whole < _DAY:
        return f"{whole // _HOUR}h{whole % _HOUR // _MINUTE:02}m"
    return f"{whole // _DAY}d{whole % _DAY // _HOUR:02}h"


def interval(seconds: float) -> str:
    """Return the time between two scrapes or saves."""
    return f"{seconds:.1f}".removesuffix(".0") + "s" if seconds < _MINUTE else age(seconds)


def counted(count: float, noun: str) -> str:
    """Return a number with its noun."""
    return f"{count:,.0f} {noun}" + ("" if round(count) == 1 else "s")


def names(them: Sequence[str]) -> str:
    """Return up to three names, or two and how many more there are."""
    if len(them) <= 3:  # noqa: PLR2004 - as the first line says
        return ", ".join(them)
    return f"{them[0]}, {them[1]} +{len(them) - 2}"
