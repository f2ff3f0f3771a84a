"""The deadline on the wire: what is left of it goes out in a header, and is in force elsewhere.

    header                 form                                         example
    X-Request-Timeout-Ms   milliseconds, 1 to 8 digits                  250
    grpc-timeout           1 to 8 digits and a unit, H M S m u n        250m

Both say a time that is left, so that no two clocks have to agree. What is anything else, or stands
there twice, is no deadline; of two that are good the shorter one counts.

Source:
    grpc-timeout is that of "gRPC over HTTP2", in the repository of gRPC. HTTP has no standard.
"""

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal, Protocol, TypeAlias

import attrs

from mainstay._core.arguments import Duration, to_seconds
from mainstay._core.deadline import deadline, deadline_of, remaining
from mainstay._metrics.collector import default_metrics, recorders_of
from mainstay._metrics.wire import WireRecorder

TIMEOUT_HEADER: Final = "X-Request-Timeout-Ms"
_GRPC_HEADER: Final = "grpc-timeout"

_MOST = 99_999_999  # eight digits
_MILLISECONDS = re.compile(r"[0-9]{1,8}")
_GRPC = re.compile(r"([0-9]{1,8})([HMSmun])")
_GRPC_UNITS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


class _HasItems(Protocol):
    def items(self) -> Iterable[tuple[Any, Any]]: ...


Headers: TypeAlias = Mapping[str, str] | _HasItems | Iterable[tuple[Any, Any]]
"""Headers as libraries have them: a mapping, in whatever case, or pairs of str or of bytes."""


def deadline_headers() -> dict[str, str]:
    """Return the headers that tell a server how much time its caller has left.

    Returns:
        The headers ``X-Request-Timeout-Ms`` and ``grpc-timeout``, in whole milliseconds, rounded
        down, at most 99,999,999. Outside of deadlines an empty dict.

    Example:
        >>> from mainstay import deadline, deadline_headers
        >>> deadline_headers()
        {}
        >>> from mainstay.testing import FakeClock
        >>> with FakeClock(), deadline(0.25):
        ...     deadline_headers()
        {'X-Request-Timeout-Ms': '250', 'grpc-timeout': '250m'}
    """
    left = remaining()
    if left is None:
        return {}
    # A float may be a hair below the number that was meant.
    text = str(min(int(left * 1000 + 1e-6), _MOST))
    return {TIMEOUT_HEADER: text, _GRPC_HEADER: f"{text}m"}


def deadline_from(
    headers: Headers, *, header: str = TIMEOUT_HEADER, at_most: Duration = 30.0
) -> deadline:
    """Return the `deadline` that the headers of a request ask for.

    The deadline can only shorten a surrounding one. If the headers have no time, or an invalid one,
    the block changes nothing.

    Args:
        headers: The headers of the request: a mapping of any library, or pairs of name and value.
        header: The name of the header that has the milliseconds left. ``grpc-timeout`` is read as
            well; of two times, the shorter one counts.
        at_most: The longest time that a request may ask for: seconds or a `timedelta`, above 0. A
            request that asks for more gets this time.

    Returns:
        A block for ``with``, which never interrupts, and for ``async with``, which does.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If *header* is not a valid header name, or *at_most* is out of range.

    Metrics:
        `wire_errors_total` counts headers that are not a number, negative, longer than eight
        digits, or sent more than once.

    Example:
        >>> from mainstay import deadline_from, remaining
        >>> with deadline_from({"x-request-timeout-ms": "250"}):
        ...     remaining() <= 0.25
        True
        >>> with deadline_from({"grpc-timeout": "soon"}):
        ...     print(remaining())
        None
    """
    reader = DeadlineReader(header, to_seconds(at_most, "at_most", zero=False))
    return deadline_of(reader.seconds(headers, recorders_of(default_metrics()).wire()))


def _check_header(_reader: object, _attribute: object, header: Any) -> None:
    """Raise unless *header* is the name of a header.

    Raises:
        TypeError: If it is not a str.
        ValueError: If HTTP does not take it.
    """
    if not isinstance(header, str):
        raise TypeError(f"`header` must be a str, not {header!r}")
    if not _TOKEN.fullmatch(header):
        raise ValueError(f"`header` must be the name of a header (RFC 9110), not {header!r}")


@attrs.frozen
class DeadlineReader:
    """Reads how much time a request leaves.

    Attributes:
        header: The name of the header in milliseconds.
        at_most: The most seconds that it may ask for.
    """

    header: str = attrs.field(validator=_check_header)
    at_most: float
    _kinds: dict[str | bytes, "_Kind"] = attrs.field(init=False, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        in_ms = self.header.lower()
        kinds: dict[str | bytes, _Kind] = {in_ms: "timeout_ms", _GRPC_HEADER: "grpc_timeout"}
        kinds |= {name.encode(): kind for name, kind in kinds.items() if isinstance(name, str)}
        object.__setattr__(self, "_kinds", kinds)

    def seconds(self, headers: Headers, recorder: WireRecorder) -> float | None:
        """Return the seconds that *headers* leave, or None if they say nothing, or garbage.

        Raises:
            TypeError: If *headers* are neither a mapping nor pairs.
        """
        found: dict[_Kind, list[str | bytes]] = {}
        for name, value in _pairs(headers):
            kind = self._kinds.get(name.lower()) if isinstance(name, str | bytes) else None
            if kind is not None:
                found.setdefault(kind, []).append(value)
        shortest = math.inf
        for kind, values in found.items():
            seconds = _seconds(kind, values[0]) if len(values) == 1 else None
            if seconds is None:
                recorder.unreadable(kind)
            else:
                shortest = min(shortest, seconds, self.at_most)
        return None if shortest == math.inf else shortest

    def seconds_of(self, name: str | bytes, value: object, recorder: WireRecorder) -> float | None:
        """As `seconds`, of a header that is the only one: *name*, in lower case, is one of ours."""
        kind = self._kinds[name]
        seconds = _seconds(kind, value)
        if seconds is None:
            recorder.unreadable(kind)
            return None
        return min(seconds, self.at_most)


_Kind: TypeAlias = Literal["timeout_ms", "grpc_timeout"]


def _pairs(headers: Any) -> list[tuple[Any, Any]]:
    items = getattr(headers, "items", None)
    try:
        return [(name, value) for name, value in (headers if items is None else items())]
    except (TypeError, ValueError):
        raise TypeError(
            f"`headers` must be a mapping, or pairs of name and value, not {headers!r}"
        ) from None


def _seconds(kind: _Kind, value: object) -> float | None:
    """Return what a header says, or None for garbage."""
    text = value.decode("latin-1") if isinstance(value, bytes) else value
    if not isinstance(text, str):
        return None
    text = text.strip(" \t")
    if kind == "timeout_ms":
        return int(text) / 1000.0 if _MILLISECONDS.fullmatch(text) else None
    match = _GRPC.fullmatch(text)
    return int(match[1]) * _GRPC_UNITS[match[2]] if match else None
