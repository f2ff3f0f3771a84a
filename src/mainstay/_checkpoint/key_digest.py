"""The digest of keys in their order: the same however they are cut into chunks.

    key                       kind   words        text
    int of at most 64 bits    "i"    itself       -
    str                       "s"    its length   itself
    any other                 "r"    the length   its `repr`

The three columns are digested side by side, and the digest is that of their digests. No two
sequences of keys fill all columns alike: the kinds say how the words are read, and the words where
the text is cut. A column of a whole chunk is made at once, which is what makes it cheap.
"""

import hashlib
import struct
from itertools import groupby
from typing import Any

_DIGEST_SIZE = 16
_WORD = 2**63


class KeyDigest:
    """The digest of all keys that were added so far."""

    __slots__ = ("_kinds", "_texts", "_words")

    def __init__(self) -> None:
        self._kinds = hashlib.blake2b(digest_size=_DIGEST_SIZE)
        self._words = hashlib.blake2b(digest_size=_DIGEST_SIZE)
        self._texts = hashlib.blake2b(digest_size=_DIGEST_SIZE)

    def add(self, keys: list[Any], types: set[type]) -> None:
        """Add more keys.

        Args:
            keys: The keys, of types that `check_keys` accepts.
            types: Which types these are.
        """
        if len(types) > 1:
            for each, same in groupby(keys, type):
                self.add([*same], {each})
        elif types == {int}:
            self._add_numbers(keys)
        elif types == {str}:
            self._add_texts(b"s", keys)
        else:
            self._add_texts(b"r", [*map(repr, keys)])

    def _add_numbers(self, numbers: list[int]) -> None:
        try:
            words = struct.pack(f"<{len(numbers)}q", *numbers)
        except struct.error:  # at least one of them does not fit into 64 bits
            for number in numbers:
                if -_WORD <= number < _WORD:
                    self._add_numbers([number])
                else:
                    self._add_texts(b"r", [repr(number)])
            return
        self._kinds.update(b"i" * len(numbers))
        self._words.update(words)

    def _add_texts(self, kind: bytes, texts: list[str]) -> None:
        self._kinds.update(kind * len(texts))
        self._words.update(struct.pack(f"<{len(texts)}q", *map(len, texts)))
        self._texts.update("".join(texts).encode("utf-8", "surrogatepass"))

    def digest(self) -> str:
        """Return 32 hexadecimal digits for the keys up to here."""
        columns = self._kinds.digest() + self._words.digest() + self._texts.digest()
        return hashlib.blake2b(columns, digest_size=_DIGEST_SIZE).hexdigest()
