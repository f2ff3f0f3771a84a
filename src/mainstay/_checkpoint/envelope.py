"""The envelope of everything that is saved: a flipped bit is noticed, and large values shrink.

    "MSC" | version | flags | BLAKE2b-128 of flags and body | body

Flag 1 says that the body is compressed with zlib. Every byte is covered: the first four are
compared, the others are in the digest or are it.
"""

import hashlib
import zlib

_MAGIC = b"MSC\x01"
_COMPRESSED = 1
_DIGEST_SIZE = 16
_BODY = len(_MAGIC) + 1 + _DIGEST_SIZE
_COMPRESS_FROM = 2048
"""Bytes from which on compressing takes less time than writing would."""


class DamagedError(Exception):
    """The bytes are not what was sealed; the message says in what way."""


def seal(body: bytes) -> bytes:
    """Put *body* in an envelope."""
    flags = 0
    if len(body) >= _COMPRESS_FROM:
        smaller = zlib.compress(body, 1)
        if len(smaller) < len(body):
            flags, body = _COMPRESSED, smaller
    return b"%b%c%b%b" % (_MAGIC, flags, _digest(flags, body), body)


def unseal(sealed: bytes) -> bytes:
    """Take the body out of an envelope.

    Raises:
        DamagedError: If anything in it is not what it was.
    """
    if not sealed.startswith(_MAGIC):
        raise DamagedError("it does not begin as what mainstay saves does")
    if len(sealed) < _BODY:
        raise DamagedError("it is cut off")
    flags, body = sealed[len(_MAGIC)], sealed[_BODY:]
    if _digest(flags, body) != sealed[len(_MAGIC) + 1 : _BODY]:
        raise DamagedError("its checksum does not match")
    return zlib.decompress(body) if flags & _COMPRESSED else body


def _digest(flags: int, body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=_DIGEST_SIZE, key=bytes((flags,))).digest()
