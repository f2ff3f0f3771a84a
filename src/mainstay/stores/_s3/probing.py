"""What a bucket promises, by trying: whether it writes under a condition, and refuses to.

Lists of vendors do not tell: some servers take a condition, ignore it, and answer that all is well.
"""

import os

from mainstay.stores._s3.failures import S3Failure
from mainstay.stores._s3.names import Names
from mainstay.stores._s3.requests import ABSENT, Delete, Get, Put, S3Operation
from mainstay.stores.base import Promises

_FAILOVER = (
    "kept as the service keeps objects; a copy of the bucket elsewhere lags behind, and going over "
    "to the copy can lose the last saves; never two owners"
)
_UNKNOWN_METHODS = (405, 501)
_UNKNOWN_CODES = frozenset({"NotImplemented", "InvalidArgument", "InvalidRequest"})
_CURE = (
    "two owners could write to one run here; use a service that has conditional writes, such as "
    "Amazon S3, or a newer version of this one, or another store"
)


def probing(names: Names) -> S3Operation[Promises]:
    """Find out what the bucket promises."""
    problem = yield from _tried(f"{names.probes}/{os.urandom(16).hex()}")
    if problem:
        return Promises(fenced=False, durable=False, problems=(f"{problem}: {_CURE}",))
    return Promises(fenced=True, durable=True, failover=_FAILOVER)


def _tried(name: str) -> S3Operation[str]:
    """Return what the bucket does that no save could rely on; "" if nothing."""
    try:
        return (yield from _steps(name))
    except S3Failure as failure:
        if failure.status not in _UNKNOWN_METHODS and failure.code not in _UNKNOWN_CODES:
            raise
        return f"the server does not know a write under a condition: {failure.problem}"


def _steps(name: str) -> S3Operation[str]:
    first = yield from _written(Put(name, b"first", ABSENT))
    if first is None:
        return "If-None-Match: * was refused for an object that is not there"
    [again] = yield [Put(name, b"again", ABSENT)]
    if again is not None:
        return "If-None-Match: * was ignored: an object was written over that had to stay"
    second = yield from _written(Put(name, b"second", first))
    if second is None:
        return "If-Match was refused although the object had that ETag"
    if not first or second == first:
        return "the ETag of an object stayed the same while its content changed"
    [stale] = yield [Put(name, b"stale", first)]
    if stale is not None:
        return "If-Match was ignored: an object was written over that had another ETag"
    yield [Delete([name])]
    [gone] = yield [Put(name, b"gone", second)]
    if gone is not None:
        return "If-Match was ignored: an object was written that was not there"
    return ""


def _written(put: Put) -> S3Operation[str | None]:
    """Write an object; return its ETag, also if the answer was lost and it was sent again."""
    [etag] = yield [put]
    if etag is not None:
        return str(etag)
    [found] = yield [Get(put.name)]
    return found.etag if found is not None and found.data == put.data else None
