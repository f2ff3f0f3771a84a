"""What a server promises, by its own settings: how what was saved is kept, and what it removes."""

from collections.abc import Mapping
from typing import Any

import attrs

from mainstay.stores._redis.failures import RedisFailure
from mainstay.stores._redis.operations import RedisOperation
from mainstay.stores.base import Promises

_OLDEST = 6
_REPLICAS = "kept on this server's disk; a failover can lose the last saves; never two owners"
_HIDDEN = (
    "the server does not show its setting appendfsync, so that nobody knows if saves survive its "
    "crash; ask those who run the server, and have them set it to always"
)


@attrs.frozen(kw_only=True)
class Survey:
    """What was found.

    Attributes:
        fatal: What keeps the server from being used, and what to do about that.
        weak: What weakens a promise, and what to do about that.
        durable: True if saves survive a crash of the server.
        replicas: True if a failover is possible.
    """

    fatal: tuple[str, ...]
    weak: tuple[str, ...]
    durable: bool
    replicas: bool


def probing(*, everysec: bool) -> RedisOperation[Promises]:
    """Find out what the server promises."""
    found = yield from _surveyed(everysec=everysec)
    return Promises(
        fenced=True,
        durable=found.durable,
        failover=_REPLICAS if found.replicas else "",
        problems=found.fatal + found.weak,
    )


def surveying(*, everysec: bool) -> RedisOperation[None]:
    """Fail if the server is set up to lose what was saved."""
    found = yield from _surveyed(everysec=everysec)
    if found.fatal:
        raise RedisFailure("; ".join(found.fatal))


def _surveyed(*, everysec: bool) -> RedisOperation[Survey]:
    [text] = yield [("INFO",)]
    facts = dict(
        line.split(":", 1) for line in text.decode(errors="replace").splitlines() if ":" in line
    )
    try:
        [answer] = yield [("CONFIG", "GET", "appendfsync")]
    except RedisFailure as failure:
        if failure.cut or failure.retryable:
            raise
        answer = []
    fsync = answer[1].decode(errors="replace") if len(answer) > 1 else ""
    return survey(facts, fsync, everysec=everysec)


def survey(facts: Mapping[str, str], fsync: str, *, everysec: bool) -> Survey:
    """Judge a server.

    Args:
        facts: What INFO says.
        fsync: The setting appendfsync; empty if the server does not show it.
        everysec: True if the loss of the last second is accepted.
    """
    version = facts.get("redis_version", "")
    major = version.partition(".")[0]
    evicts = facts.get("maxmemory_policy", "noeviction")
    appends = facts.get("aof_enabled") == "1"
    every_second = appends and fsync == "everysec"
    fatal = {
        f"it is Redis {version}, and {_OLDEST} or newer is needed; upgrade the server": (
            major.isdecimal() and int(major) < _OLDEST
        ),
        f"maxmemory-policy is {evicts}, so that the server removes runs when its memory is full; "
        "set maxmemory-policy noeviction": evicts != "noeviction",
        "appendonly is off, so that a crash of the server loses what was saved; set appendonly yes "
        "and appendfsync always": not appends,
        f"appendfsync is {fsync}, so that a crash of the server loses what was saved last; set "
        "appendfsync always, or accept the loss of a second by appendfsync everysec and "
        "?durability=everysec in the URL": (
            appends and fsync not in ("", "always") and not (every_second and everysec)
        ),
    }
    weak = {
        "appendfsync is everysec, so that a crash of the server loses the saves of its last second "
        "or two; for none, set appendfsync always": every_second and everysec,
        _HIDDEN: appends and not fsync,
    }
    return Survey(
        fatal=_those(fatal),
        weak=_those(weak),
        durable=appends and fsync == "always",
        replicas=facts.get("connected_slaves", "0") != "0",
    )


def _those(problems: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(problem for problem, is_there in problems.items() if is_there)
