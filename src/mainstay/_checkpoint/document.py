"""What a save writes, as bytes in a checksummed envelope, and how it is read.

One save is one `Change`: every part of it is written in one transaction, or none.

    what is saved                    the document   results that are added   that are removed
    everything (`Progress.capture`)  the next one   all that are new         of items that are done
    one step's result alone          as it was      that one                 -
    the end of the run               with result    all that are new         of all items

The document holds the version and digest of the code that made it; the state at the last item
boundary; the cursors by iteration; the seconds of work and the number of items that it stands for;
and the result, once the function has ended. A result of a step stands in an envelope of its own.

    "MSC" | version | flags | BLAKE2b-128 of all that is before and behind it | body

The checksum of the envelope detects a flipped bit. Large values are compressed with zlib, which
flag 1 says. Version 2 means that further cursors are in results (see `archive`), version 3 that
items of an iteration were done out of order (see `spread`): earlier versions of mainstay, which
would do finished items again, refuse such documents.
"""

import contextlib
import hashlib
import zlib
from collections.abc import Callable
from typing import Any

import attrs

from mainstay._checkpoint import shape
from mainstay._checkpoint.code import Code
from mainstay._checkpoint.codec import Codec, Json, to_bytes
from mainstay._checkpoint.shape import DamagedError, check_document, inflated, parsed
from mainstay.errors import (
    CheckpointError,
    CodeChangedError,
    CorruptCheckpointError,
    UnsaveableValueError,
)
from mainstay.stores.base import Contents, RunId

MISSING: Any = object()
"""In place of a state or result that was never there; None is a value."""

_MAGIC = b"MSC\x01"
_ARCHIVED = b"MSC\x02"
_OUT_OF_ORDER = b"MSC\x03"
_MAGICS = (_MAGIC, _ARCHIVED, _OUT_OF_ORDER)
_PLAIN = b"\x00"
_COMPRESSED = b"\x01"
_HEAD_SIZE = 5
_DIGEST_SIZE = 16
_BODY = _HEAD_SIZE + _DIGEST_SIZE
_COMPRESS_FROM = 2048
"""Bytes from which on compressing takes less time than writing would."""


@attrs.frozen(kw_only=True)
class Document:
    """What a save writes besides results of steps, with state and result as JSON.

    Attributes:
        out_of_order: True if there were iterations whose items may be done in any order.
    """

    code: Code
    state: Json = MISSING
    cursors: dict[str, Json] = attrs.field(factory=dict)
    seconds: float = 0.0
    items: int = 0
    result: Json = MISSING
    out_of_order: bool = False

    def sealed(self, *, with_archive: bool = False) -> bytes:
        """Return the bytes to save; *with_archive*, if more cursors stand in results."""
        tree = {
            "code": [self.code.version, self.code.digest],
            "cursors": self.cursors,
            "seconds": round(self.seconds, 3),
            "items": self.items,
        }
        if self.state is not MISSING:
            tree["state"] = self.state
        if self.result is not MISSING:
            tree["result"] = self.result
        magic = _ARCHIVED if with_archive else _MAGIC
        return seal(to_bytes(tree), magic=_OUT_OF_ORDER if self.out_of_order else magic)


def opened(sealed: bytes) -> Document:
    """Read a document.

    Raises:
        DamagedError: If it is not what was saved.
    """
    tree = parsed(unseal(sealed))
    check_document(tree)
    return Document(
        code=Code(*tree["code"]),
        state=tree.get("state", MISSING),
        cursors=tree["cursors"],
        seconds=tree["seconds"],
        items=tree["items"],
        result=tree.get("result", MISSING),
        out_of_order=sealed.startswith(_OUT_OF_ORDER),
    )


def run_in_words(run: RunId) -> str:
    """Return a run as messages about its saved data name it."""
    return f"run {run.key!r} of {run.name}"


def newest(contents: Contents, run: RunId) -> tuple[Document | None, list[str]]:
    """Read the newest document of *run* that is not damaged.

    Returns:
        The document, None if nothing was ever saved; and what is wrong with newer ones.

    Raises:
        CorruptCheckpointError: If there are documents and none can be read.
    """
    problems: list[str] = []
    for sealed in (contents.latest, contents.previous):
        if sealed is None:
            continue
        try:
            return opened(sealed), problems
        except DamagedError as error:
            problems.append(str(error))
    if problems:
        raise CorruptCheckpointError(run_in_words(run), "; ".join(problems))
    return None, problems


def opened_value(sealed: bytes, place: str, check: Callable[[Json], object]) -> Json:
    """Read JSON that has only one generation.

    Args:
        sealed: The bytes that were saved.
        place: What they are, for people.
        check: Raises if they are no such thing.

    Raises:
        CorruptCheckpointError: If it is not what was saved.
    """
    try:
        tree = parsed(unseal(sealed))
        check(tree)
    except DamagedError as error:
        raise CorruptCheckpointError(place, str(error)) from None
    return tree


def restored(codec: Codec, saved: Json, place: str, run: RunId, *, migrates: bool = False) -> Any:
    """Return the value that was saved of *run*.

    Args:
        codec: The codec of the saved value.
        saved: The saved value.
        place: The beginning of the path in messages.
        run: The run as messages name it.
        migrates: True if `on_code_change` is a function that migrates the value.

    Raises:
        CodeChangedError: If a type no longer accepts its saved data.
        UnknownTypeError: If the saved data names a type that may not be built.
    """
    try:
        return codec.decode(saved, place)
    except UnsaveableValueError as error:
        cures = ["give `on_code_change` a function that migrates the state"] if migrates else []
        if codec.on_gone is None and _fits_without_what_is_gone(codec, saved):
            cures.append("use on_code_change='ignore', which drops the fields that are gone")
        advice = ", or ".join([*cures, "forget the run"])
        problem = f"{error.path}: {error.problem}"
        raise CodeChangedError(run.name, run.key, problem, advice) from error


def _fits_without_what_is_gone(codec: Codec, saved: Json) -> bool:
    with contextlib.suppress(CheckpointError):
        attrs.evolve(codec, on_gone=lambda _field: None).decode(saved, "")
        return True
    return False


def seal(body: bytes, what: str = "what is saved", magic: bytes = _MAGIC) -> bytes:
    """Put *body* in an envelope.

    Raises:
        UnsaveableValueError: If *body* is too large; *what* names it in the message.
    """
    if len(body) > shape.MOST_BYTES:
        raise UnsaveableValueError(
            what,
            f"it takes {len(body)} bytes as JSON, and the most is {shape.MOST_BYTES} bytes; save "
            f"keys in place of data, or parts of it as results of steps",
        )
    head = magic + _PLAIN
    if len(body) >= _COMPRESS_FROM:
        smaller = zlib.compress(body, 1)
        if len(smaller) < len(body):
            head, body = magic + _COMPRESSED, smaller
    return b"".join((head, _checksum(head, body), body))


def unseal(sealed: bytes) -> bytes:
    """Take the body out of an envelope.

    Raises:
        DamagedError: If the envelope or the body is damaged.
    """
    if type(sealed) is not bytes or not sealed.startswith(_MAGICS):
        raise DamagedError("it does not begin like saved data of mainstay")
    if len(sealed) < _BODY:
        raise DamagedError("it is cut off")
    head, body = sealed[:_HEAD_SIZE], sealed[_BODY:]
    if _checksum(head, body) != sealed[_HEAD_SIZE:_BODY]:
        raise DamagedError("its checksum does not match")
    return inflated(body) if head.endswith(_COMPRESSED) else body


def _checksum(head: bytes, body: bytes) -> bytes:
    state = hashlib.blake2b(head, digest_size=_DIGEST_SIZE)
    state.update(body)
    return state.digest()
