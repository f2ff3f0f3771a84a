"""How long a server asks to wait, as its headers say.

    header                              form                        read
    retry-after-ms                      milliseconds                first
    Retry-After                         seconds, or a date          next
    x-ratelimit-reset, and what begins  seconds, "1m30.5s",         of status 429 alone: the longest
    so: -requests, -tokens, -after      seconds since 1970          of those that are used up

What is negative, no number of at most 15 digits, or no date says nothing.

Source:
    RFC 9110, 10.2.3 (Retry-After) and 5.6.7 (IMF-fixdate); the headers of the OpenAI and GitHub
    APIs.
"""

import re
from datetime import datetime, timezone
from typing import Any

_DIGITS = r"[0-9]{1,15}(?:\.[0-9]{1,15})?"
_NUMBER = re.compile(rf"[ \t]*{_DIGITS}[ \t]*")
_PARTS = re.compile("".join(rf"(?:({_DIGITS}){unit})?" for unit in ("h", "m", "s", "ms")))
_NAMES = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec"
_MONTHS = {name: number for number, name in enumerate(_NAMES.split(), 1)}
_FIXDATE = re.compile(
    rf"[A-Z][a-z]{{2}}, ([0-9]{{2}}) ({'|'.join(_MONTHS)}) ([0-9]{{4}}) "
    r"([0-9]{2}):([0-9]{2}):([0-9]{2}) GMT"
)
_UTC = timezone.utc  # noqa: UP017 - the name in all versions
_UNITS = (3600.0, 60.0, 1.0, 0.001)
_EPOCH = 1e9  # seconds since 1970 are above, waits below
_RESET = "x-ratelimit-reset"


def asked_delay(headers: Any, wall: float, *, throttled: bool) -> float | None:
    """Return the seconds that *headers* ask to wait, or None.

    Args:
        headers: Of an answer: whatever has `get`, for names in any case.
        wall: The present time, in seconds since 1970.
        throttled: True for an answer of status 429.
    """
    milliseconds = _number(_header(headers, "retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000.0
    said = _header(headers, "retry-after")
    if said is not None:
        seconds = _number(said)
        return _until_date(said, wall) if seconds is None else seconds
    return _until_reset(headers, wall) if throttled else None


def _header(headers: Any, name: str) -> str | None:
    try:
        value = headers.get(name)
    except Exception:  # noqa: BLE001 - a client's own mapping may raise anything
        return None
    return value if isinstance(value, str) else None


def _number(text: str | None) -> float | None:
    """Return a number as servers write it; None for anything else, that Python may take for one."""
    return float(text) if text and _NUMBER.fullmatch(text) else None


def _until_date(text: str, wall: float) -> float | None:
    try:
        date = _fixdate(text) or _any_date(text)
        return max(0.0, date.timestamp() - wall)
    except (ValueError, OverflowError):
        return None


def _fixdate(text: str) -> datetime | None:
    """Return a date in the form that servers are to write; None for any other form."""
    match = _FIXDATE.fullmatch(text)
    if match is None:
        return None
    day, month, *rest = match.groups()
    year, hour, minute, second = map(int, rest)
    return datetime(year, _MONTHS[month], int(day), hour, minute, second, tzinfo=_UTC)


def _any_date(text: str) -> datetime:
    from email.utils import parsedate_to_datetime  # noqa: PLC0415 - few servers give such a date

    date = parsedate_to_datetime(text)
    return date.replace(tzinfo=_UTC) if date.tzinfo is None else date  # "-0000"


def _until_reset(headers: Any, wall: float) -> float | None:
    found = []
    for kind in _kinds_of_resets(headers):
        seconds = _wait_of(_header(headers, f"{_RESET}{kind}"), wall)
        if seconds is not None:
            used_up = _number(_header(headers, f"x-ratelimit-remaining{kind}")) == 0
            found.append((used_up, seconds))
    return max(found)[1] if found else None


def _kinds_of_resets(headers: Any) -> set[str]:
    """Return how the names of the resets in *headers* end: "", "-requests" and so on."""
    try:
        names = [name.lower() for name in headers.keys()]  # noqa: SIM118 - some mappings iterate over pairs
    except Exception:  # noqa: BLE001 - as in `_header`
        return set()
    return {name.removeprefix(_RESET) for name in names if name.startswith(_RESET)}


def _wait_of(text: str | None, wall: float) -> float | None:
    number = _number(text)
    if number is not None:
        return number if number < _EPOCH else max(0.0, number - wall)
    match = _PARTS.fullmatch(text) if text else None
    if match is None:
        return None
    return sum(
        float(part) * unit for part, unit in zip(match.groups(), _UNITS, strict=True) if part
    )
