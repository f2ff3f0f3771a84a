"""The document of a run: all that one save writes besides results of steps, and how it is read.

It holds the version and digest of the code that made it; the state at the last item boundary;
the cursors by iteration; the seconds of work and the number of items that it stands for; and the
result, once the function has ended.
"""

from typing import Any

import attrs

from mainstay._checkpoint.codec import Codec, Json, from_bytes, to_bytes
from mainstay._checkpoint.decision import Code
from mainstay._checkpoint.envelope import DamagedError, seal, unseal
from mainstay.errors import CodeChangedError, CorruptCheckpointError, UnsaveableValueError
from mainstay.stores.base import Contents, RunId

MISSING: Any = object()
"""In place of a state or result that was never there; None is a value."""


@attrs.frozen(kw_only=True)
class Document:
    """What a save writes, with state and result as JSON."""

    code: Code
    state: Json = MISSING
    cursors: dict[str, Json] = attrs.field(factory=dict)
    seconds: float = 0.0
    items: int = 0
    result: Json = MISSING

    def sealed(self) -> bytes:
        """Give the bytes to save."""
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
        return seal(to_bytes(tree))


def opened(sealed: bytes) -> Document:
    """Read a document.

    Raises:
        DamagedError: If it is not what was saved.
    """
    tree = from_bytes(unseal(sealed))
    return Document(
        code=Code(*tree["code"]),
        state=tree.get("state", MISSING),
        cursors=tree["cursors"],
        seconds=tree["seconds"],
        items=tree["items"],
        result=tree.get("result", MISSING),
    )


def newest(contents: Contents, run: RunId) -> tuple[Document | None, list[str]]:
    """Read the newest document that is not damaged.

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
        raise CorruptCheckpointError(f"run {run.key!r} of {run.name}", "; ".join(problems))
    return None, problems


def unsealed(sealed: bytes, place: str) -> Json:
    """Read JSON that has only one generation.

    Raises:
        CorruptCheckpointError: If it is not what was saved.
    """
    try:
        return from_bytes(unseal(sealed))
    except DamagedError as error:
        raise CorruptCheckpointError(place, str(error)) from error


def restored(codec: Codec, saved: Json, place: str, run: RunId) -> Any:
    """Turn what was saved of a run back into a value; *place* begins the path to what is wrong.

    Raises:
        CodeChangedError: If a type no longer takes what was saved of it.
        UnknownTypeError: If it names a type that may not be built.
    """
    try:
        return codec.decode(saved, place)
    except UnsaveableValueError as error:
        raise CodeChangedError(run.name, run.key, f"{error.path}: {error.problem}") from error
