"""The envelope of everything that is saved: a flipped bit is noticed, and large values shrink.

    "MSC" | version | flags | BLAKE2b-128 of all that is before and behind it | body

Flag 1 says that the body is compressed with zlib.
"""

import hashlib
import zlib

_MAGIC = b"MSC\x01"
_PLAIN = _MAGIC + b"\x00"
_COMPRESSED = _MAGIC + b"\x01"
_HEAD_SIZE = len(_PLAIN)
_DIGEST_SIZE = 16
_BODY = _HEAD_SIZE + _DIGEST_SIZE
_COMPRESS_FROM = 2048
"""Bytes from which on compressing takes less time than writing would."""


class DamagedError(Exception):
    """The bytes are not what was sealed; the message says in what way."""


def seal(body: bytes) -> bytes:
    """Put *body* in an envelope."""
    head = _PLAIN
    if len(body) >= _COMPRESS_FROM:
        smaller = zlib.compress(body, 1)
        if len(smaller) < len(body):
            head, body = _COMPRESSED, smaller
    return b"".join((head, _digest(head, body), body))


def unseal(sealed: bytes) -> bytes:
    """Take the body out of an envelope.

    Raises:
        DamagedError: If anything in it is not what it was.
    """
    if not sealed.startswith(_MAGIC):
        raise DamagedError("it does not begin as what mainstay saves does")
    if len(sealed) < _BODY:
        raise DamagedError("it is cut off")
    head, body = sealed[:_HEAD_SIZE], sealed[_BODY:]
    if _digest(head, body) != sealed[_HEAD_SIZE:_BODY]:
        raise DamagedError("its checksum does not match")
    return zlib.decompress(body) if head == _COMPRESSED else body


def _digest(head: bytes, body: bytes) -> bytes:
    state = hashlib.blake2b(head, digest_size=_DIGEST_SIZE)
    state.update(body)
    return state.digest()
