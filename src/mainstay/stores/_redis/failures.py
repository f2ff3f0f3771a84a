"""What a server or a connection said, and whether the same request may succeed a moment later."""

import re
from collections.abc import Mapping

from mainstay.stores._failure import ServerFailure

_PASSES = frozenset({
    "LOADING",  # reads its files after a start
    "READONLY", "MASTERDOWN", "NOREPLICAS",  # a failover: a name that leads to a replica still
    "TRYAGAIN", "CLUSTERDOWN",
    "BUSY",  # with a script of somebody else's
    "MISCONF",  # its disk is full
    "NOSCRIPT", "UNKILLABLE", "UNBLOCKED",
})  # fmt: skip
_HINTS: Mapping[str, str] = {
    "OOM": "; give the server more memory, or forget runs",
    "MISCONF": "; free some of the disk of the server",
    "TLSFILES": (
        "; mend the files that ssl_ca_certs=, ssl_certfile= and ssl_keyfile= name in the URL"
    ),
    "NOAUTH": "; give user and password in the URL",
    "WRONGPASS": "; mend user and password in the URL",
    "NOPERM": (
        "; grant the user the keys {mainstay}:* and the commands EVALSHA, SCRIPT LOAD, SET, GET, "
        "TIME, INFO, CONFIG GET, HMGET, HGETALL, HGET, HSET, HDEL, ZADD, ZREM, ZRANGEBYLEX, "
        "ZRANGEBYSCORE, ZREVRANGE, UNLINK, CLIENT SETNAME and SELECT, and for on_busy="
        '"wait" the channels {mainstay}:* and the commands PUBLISH, SUBSCRIBE and UNSUBSCRIBE'
    ),
    "MOVED": "; a cluster gives its keys to many servers: name one server that has them all",
    "CROSSSLOT": "; name one server that is no cluster",
}
_CODES = {
    "AskError": "MOVED",
    "AuthenticationError": "WRONGPASS",
    "AuthenticationWrongNumberOfArgsError": "WRONGPASS",
    "BusyLoadingError": "LOADING",
    "ClusterCrossSlotError": "CROSSSLOT",
    "ClusterDownError": "CLUSTERDOWN",
    "MasterDownError": "MASTERDOWN",
    "MovedError": "MOVED",
    "NoPermissionError": "NOPERM",
    "NoScriptError": "NOSCRIPT",
    "OutOfMemoryError": "OOM",
    "ReadOnlyError": "READONLY",
    "TryAgainError": "TRYAGAIN",
}
"""What the server said first, by the class that redis-py makes of that."""
_CODE = re.compile(rf"\b({'|'.join({*_PASSES, *_HINTS, 'WRONGTYPE'})})\b")
"""Redis 6 says what a script stumbled over in the middle of a sentence."""
_FILE = re.compile(
    r"No such file|Is a directory|PEM lib|KEY_VALUES_MISMATCH|NO_CERTIFICATE_OR_CRL_FOUND"
)
_LASTING = re.compile(
    r"[Cc]ertificate|WRONG_VERSION_NUMBER|Name or service not known"
    r"|nodename nor servname|wrong number of arguments"
)
"""What of a failure to connect will not pass."""


class RedisFailure(ServerFailure):
    """What Redis or a connection said; its code is the first word of what the server said."""

    HINTS = _HINTS
    FOREIGN = frozenset({"SCHEMA", "WRONGTYPE"})


def refused(error: BaseException) -> RedisFailure:
    """Return the failure that a server answered with."""
    message = " ".join(str(error).split())
    known = _CODES.get(type(error).__name__)
    found = _CODE.search(message)
    code = known or (found[0] if found else "")
    return RedisFailure(message, code, retryable=code in _PASSES)


def lost(error: BaseException) -> RedisFailure:
    """Return the failure for a connection that could not be made, or was lost."""
    known = _CODES.get(type(error).__name__)
    if known:
        return refused(error)
    problem = " ".join(str(error).split()) or "the connection was lost"
    if _FILE.search(problem):
        return RedisFailure(problem, "TLSFILES", cut=True)
    return RedisFailure(problem, retryable=_LASTING.search(problem) is None, cut=True)
