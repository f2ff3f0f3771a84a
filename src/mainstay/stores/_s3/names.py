r"""What the objects of a run are called in the bucket.

A bucket lists objects in the order of the bytes of their names. So the names of runs are written in
letters that any server takes, in the order in which Python sorts runs by name and key:

    digits, B to Z, a to z    as they are
    -                         as it is
    . / A _                   .- .s Aa __
    : ; < = > ? @             A0 to A6
    [ \ ] ^ `                _0 _1 _2 _3 _a
    bytes below -             ! and two hexadecimal digits
    bytes above z             ~ and two hexadecimal digits
    the end of name and key   !, before which nothing sorts
"""

import functools
import re

from mainstay.stores.base import RunId

_LONGEST = 1024
"""Bytes that the name of an object may have."""
_END = "!"
_PAIRS = {
    ".": ".-", "/": ".s", "A": "Aa", "_": "__", "[": "_0", "\\": "_1", "]": "_2", "^": "_3",
    "`": "_a", **{letter: f"A{number}" for number, letter in enumerate(":;<=>?@")},
}  # fmt: skip
_SPECIAL = {value: key for key, value in _PAIRS.items()}
_LEAST, _MOST = ord("-"), ord("z")
_WRITTEN = {
    byte: (
        _PAIRS.get(chr(byte), chr(byte))
        if _LEAST <= byte <= _MOST
        else f"{'!' if byte < _LEAST else '~'}{byte:02x}"
    )
    for byte in range(256)
}
_PART = re.compile(r"[!~][0-9a-f]{2}|[._A].|[^!~._A]")
_RUN = re.compile(rf"(?P<name>[^/]*){_END}/(?P<key>[^/]*){_END}")


@functools.lru_cache(maxsize=4096)  # each save asks for the same names again
def escaped(text: str) -> str:
    """Return *text* in letters that names of objects may have, sorted as *text* is."""
    return "".join(map(_WRITTEN.__getitem__, text.encode("utf-8", "surrogatepass")))


def unescaped(name: str) -> str:
    """Return the text of which *name* is the escaped form.

    Raises:
        ValueError: If it is of none.
    """
    parts = _PART.findall(name)
    text = b"".join(map(_read, parts)).decode("utf-8", "surrogatepass")
    if escaped(text) != name:
        raise ValueError(name)
    return text


def _read(part: str) -> bytes:
    if part[0] in "!~":
        return bytes.fromhex(part[1:])
    return _SPECIAL.get(part, part).encode()


class Names:
    """The names of the objects of a store.

    Args:
        prefix: What all begin with; empty, or with a slash at its end.
    """

    def __init__(self, prefix: str) -> None:
        self.prefix: str = prefix
        self.runs: str = f"{prefix}runs"
        self.clock: str = f"{prefix}clock"
        self.probes: str = f"{prefix}probes"

    def runs_of(self, name: str) -> str:
        """Return the folder of the runs of *name*."""
        return f"{self.runs}/{escaped(name)}{_END}"

    def run(self, run: RunId) -> str:
        """Return the name of the object of *run*.

        Raises:
            ValueError: If it is longer than the names of objects may be.
        """
        name = f"{self.runs_of(run.name)}/{escaped(run.key)}{_END}"
        room = _LONGEST - len("parts/") - len("/") - _LONGEST_PART
        if len(name) > room:
            raise ValueError(
                f"name and key of a run must be short enough for the name of an object, which may "
                f"have {room} bytes here, not {len(name)}: shorten {run.name[:40]!a}, "
                f"{run.key[:40]!a}; every byte but ASCII letters and digits takes up to three"
            )
        return name

    def run_of(self, name: str) -> RunId | None:
        """Return the run whose object has that name; None for what no mainstay named."""
        found = _RUN.fullmatch(name.removeprefix(f"{self.runs}/"))
        if found is None:
            return None
        try:
            return RunId(unescaped(found["name"]), unescaped(found["key"]))
        except ValueError:
            return None

    def parts_of(self, run: RunId) -> str:
        """Return the folder of the parts of *run*."""
        return f"{self.prefix}parts{self.run(run).removeprefix(self.runs)}"

    def part(self, run: RunId, part: str) -> str:
        """Return the name of the object of a part of *run*."""
        return f"{self.parts_of(run)}/{part}"


_LONGEST_PART = 40
_TOKEN_DIGITS = 16


def new_part(token: int, nonce: str, number: int) -> str:
    """Return a name for a part that the owner with *token* writes; nobody chooses it twice."""
    return f"{token:0{_TOKEN_DIGITS}d}-{nonce}-{number}"


def token_of(part: str) -> int | None:
    """Return the token of who wrote a part; None for what no mainstay named."""
    token, dash, _ = part.rpartition("/")[2].partition("-")
    return int(token) if dash and token.isdecimal() and token.isascii() else None
