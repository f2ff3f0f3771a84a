"""What type checkers must see of redundant calls. Never run; `api.py` says how it is read."""

from typing import assert_type

from mainstay import AllCopiesFailedError, NoDecisionError, Redundant, hedge, redundant, vote

policy = redundant(start=hedge.quantile(0.95), decide=vote.first(), dispose=print)
assert_type(policy, Redundant)


@redundant(copies=3, decide=vote.majority(key=len))
def read(sensor: str, *, unit: int = 1) -> bytes:
    return sensor.encode() * unit


assert_type(read("oil"), bytes)
assert_type(policy.call(read, "oil", unit=2), bytes)
read(1)  # type: ignore[arg-type]
policy.call(read, 1)  # type: ignore[arg-type]
redundant(3)  # type: ignore[call-arg]
redundant(start=0.1)  # type: ignore[arg-type]
redundant(decide="majority")  # type: ignore[arg-type]
redundant(primary="thread")  # type: ignore[arg-type]


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
