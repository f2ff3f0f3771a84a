"""What type checkers must see of redundant calls. Never run; `api.py` says how it is read."""

from typing import assert_type

from mainstay import (
    AllCopiesFailedError,
    FailoverPool,
    Member,
    NoDecisionError,
    Redundant,
    hedge,
    redundant,
    vote,
)

policy = redundant(start=hedge.quantile(0.95), decide=vote.first(), dispose=print)
assert_type(policy, Redundant)


@redundant(copies=3, decide=vote.majority(key=len))
def read(sensor: str, *, unit: int = 1) -> bytes:
    return sensor.encode() * unit


assert_type(read("oil"), bytes)
assert_type(policy.call(read, "oil", unit=2), bytes)
read(1)  # type: ignore[arg-type]
policy.call(read, 1)  # type: ignore[arg-type]
redundant(3)  # type: ignore[call-overload]
redundant(start=0.1)  # type: ignore[call-overload]
redundant(decide="majority")  # type: ignore[call-overload]
redundant(primary="thread")  # type: ignore[call-overload]
redundant(raises="first")  # type: ignore[call-overload]
assert_type(redundant(raises="group"), Redundant)
redundant(pool="replicas")  # type: ignore[call-overload]

pool = FailoverPool("replicas", [Member("a", 1), Member("b", 2)], on=OSError)
at_members = redundant(pool=pool, copies=2)


@at_members
def fetch(replica: int, key: str) -> bytes:
    return key.encode() * replica


@at_members
async def afetch(replica: int, key: str) -> bytes:
    return key.encode() * replica


assert_type(fetch("key"), bytes)
assert_type(at_members.call(len), int)
fetch(1, "key")  # type: ignore[call-arg, arg-type]


async def at_members_in_async_code() -> None:
    assert_type(await afetch("key"), bytes)


@policy
async def lookup(key: str) -> int:
    return len(key)


async def in_async_code() -> None:
    assert_type(await lookup("a"), int)
    async with policy.race() as race:
        race.start(lookup, "a")
        await race.result()


class Sum:
    def tally(self, copies: int, /) -> vote.Tally:
        return vote.first().tally(copies)


redundant(decide=Sum())


def caught(error: Exception) -> None:
    match error:
        case NoDecisionError():
            assert_type(error.exceptions[0], Exception | ExceptionGroup[Exception])
        case AllCopiesFailedError():
            assert_type(error.elapsed, float)
