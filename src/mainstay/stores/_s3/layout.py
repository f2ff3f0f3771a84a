"""What is in the object of a run, and in those of its parts.

The object of a run is a line of JSON, which is its header, and then what the header says the sizes
of: the arguments, the two documents and the tail, which has the last results. The header has the
record, the names of parts, and a nonce. Two versions of the object are never equal, because of the
nonce, and so no two have one ETag, which is made of the content.

A part is an object that is written once: many results, or one document. It counts if the object of
its run names it.

A run that was forgotten leaves a header with its token. That is shorter than the object of any run,
so that a list of the bucket tells one from the other.
"""

import json
import struct
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias, get_args

import attrs

from mainstay._core.owner import Owner
from mainstay.stores._s3.failures import S3Failure
from mainstay.stores._s3.numbers import Ranges
from mainstay.stores.base import Exit, Record, Result, RunId, Status

_FORMAT = 1
TOMBSTONE_SIZES = range(40, 97)
"""The bytes that the object of a forgotten run may have; that of a run has more."""

Document: TypeAlias = bytes | str | None
"""A document, or the name of the part that has it, or None if there is none."""
Tail: TypeAlias = Mapping[int, bytes]
"""Results by number, each as it is written."""

_encode = json.JSONEncoder(separators=(",", ":")).encode  # `dumps` would make one each time
_ENTRY = struct.Struct(">III")
_TIMES = ("expires", "seen", "saved", "created", "updated")
_COUNTS = ("token", "sequence", "attempt", "crashes")
_TEXTS = ("life", "grant", "status", "exit", "error")
_NAMED = (*_TEXTS, *_COUNTS, *_TIMES)


@attrs.frozen
class ResultsPart:
    """A part that has results.

    Attributes:
        name: Its name among the parts of the run.
        live: The numbers of those of its results that are kept still.
    """

    name: str
    live: Ranges


@attrs.frozen
class Stored:
    """A run as its object has it.

    Attributes:
        record: What the store knows of the run.
        latest: The last document.
        previous: The one before it.
        parts: The parts that have results, the oldest one first.
        tail: The results that are in no part.
    """

    record: Record
    latest: Document = None
    previous: Document = None
    parts: tuple[ResultsPart, ...] = ()
    tail: Tail = attrs.field(factory=dict)

    def names(self) -> frozenset[str]:
        """Return the names of all its parts."""
        documents = {each for each in (self.latest, self.previous) if isinstance(each, str)}
        return frozenset(documents | {each.name for each in self.parts})


@attrs.frozen
class Forgotten:
    """What is left of a run that was forgotten: its token."""

    token: int


def packed(number: int, result: Result) -> bytes:
    """Return a result as it is written."""
    slot = result.slot.encode("utf-8", "surrogatepass")
    return _ENTRY.pack(number, len(slot), len(result.value)) + slot + result.value


def unpacked(data: bytes) -> dict[int, Result]:
    """Return the results of a tail or a part.

    Raises:
        S3Failure: If it is damaged.
    """
    return {number: _result(entry) for number, entry in entries(data).items()}


def entries(data: bytes) -> dict[int, bytes]:
    """Return the results of a tail or a part, each as it is written.

    Raises:
        S3Failure: If it is damaged.
    """
    found: dict[int, bytes] = {}
    at = 0
    while at < len(data):
        if at + _ENTRY.size > len(data):
            raise S3Failure.corrupt("a result is cut off")
        number, slot, value = _ENTRY.unpack_from(data, at)
        end = at + _ENTRY.size + slot + value
        if end > len(data):
            raise S3Failure.corrupt("a result is cut off")
        found[number] = data[at:end]
        at = end
    return found


def _result(entry: bytes) -> Result:
    _, slot, _ = _ENTRY.unpack_from(entry)
    end = _ENTRY.size + slot
    try:
        return Result(entry[_ENTRY.size : end].decode("utf-8", "surrogatepass"), entry[end:])
    except UnicodeDecodeError:
        raise S3Failure.corrupt("the name of a step cannot be read") from None


def results_of(tail: Tail) -> dict[int, Result]:
    """Return the results of a tail."""
    return {number: _result(entry) for number, entry in tail.items()}


def together(results: Iterable[bytes]) -> bytes:
    """Return results as a tail or a part has them."""
    return b"".join(results)


def to_object(stored: Stored | Forgotten, nonce: str) -> bytes:
    """Return the content of an object."""
    if isinstance(stored, Forgotten):
        return _line({"format": _FORMAT, "nonce": nonce, "forgotten": stored.token})
    record, owner = stored.record, stored.record.owner
    tail = together(stored.tail.values())
    blobs = (record.arguments, stored.latest, stored.previous, tail)
    header: dict[str, Any] = {
        "format": _FORMAT,
        "nonce": nonce,
        "run": (record.run.name, record.run.key),
        "owner": (owner.boot, owner.namespace, owner.pid, owner.started, owner.host),
        **{name: getattr(record, name) for name in _NAMED},
        "parts": [(each.name, each.live) for each in stored.parts],
        "blobs": [len(each) if isinstance(each, bytes) else each for each in blobs],
    }
    inline = (each for each in blobs if isinstance(each, bytes))
    return b"".join((_line(header), *inline))


def _line(header: Mapping[str, Any]) -> bytes:
    return _encode(header).encode() + b"\n"


def from_object(data: bytes, run: RunId) -> tuple[Stored | Forgotten, str]:
    """Return what an object says of *run*, and its nonce.

    Raises:
        S3Failure: If a newer mainstay wrote it, or none.
    """
    line, _, rest = data.partition(b"\n")
    try:
        header: Any = json.loads(line)
        number = header["format"]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise S3Failure.corrupt(f"the object of {run} is none that mainstay wrote") from None
    if number != _FORMAT:
        raise S3Failure.newer(str(run), repr(number), _FORMAT)
    try:
        if "forgotten" in header:
            return Forgotten(_count(header["forgotten"])), _text(header["nonce"])
        return _stored(header, rest, run), _text(header["nonce"])
    except (ValueError, TypeError, KeyError, OverflowError):
        raise S3Failure.corrupt(f"the record of {run} is none that mainstay wrote") from None


def _stored(header: Mapping[str, Any], rest: bytes, run: RunId) -> Stored:
    if [run.name, run.key] != header["run"]:
        raise ValueError(run)
    boot, namespace, pid, started, host = header["owner"]
    owner = Owner(_text(boot), _text(namespace), _count(pid), _count(started), _text(host))
    arguments, latest, previous, tail = _blobs(header["blobs"], rest)
    if isinstance(arguments, str) or not isinstance(tail, bytes):
        raise TypeError(header["blobs"])
    checked: dict[str, Any] = {
        **{name: _text(header[name]) for name in ("life", "grant", "error")},
        **{name: _count(header[name]) for name in _COUNTS},
        **{name: _time(header[name]) for name in _TIMES},
        "status": _one_of(header["status"], get_args(Status)),
        "exit": _one_of(header["exit"], get_args(Exit)),
    }
    record = Record(run=run, owner=owner, arguments=arguments, **checked)
    parts = tuple(ResultsPart(_text(name), _ranges(live)) for name, live in header["parts"])
    return Stored(record, latest, previous, parts, entries(tail))


def _blobs(sizes: Any, rest: bytes) -> list[Document]:
    found: list[Document] = []
    at = 0
    for size in sizes:
        if size is None or isinstance(size, str):
            found.append(size)
        else:
            found.append(rest[at : at + _count(size)])
            at += size
    if at != len(rest):
        raise ValueError(at)
    return found


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value


def _count(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise TypeError(value)
    return value


def _time(value: Any) -> float:
    if type(value) not in (int, float):
        raise TypeError(value)
    return float(value)


def _one_of(value: Any, values: tuple[Any, ...]) -> Any:
    if value not in values:
        raise ValueError(value)
    return value


def _ranges(values: Any) -> Ranges:
    return tuple((_count(first), _count(last)) for first, last in values)
