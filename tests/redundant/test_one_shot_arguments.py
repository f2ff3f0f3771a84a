"""Arguments that only one copy of a call could read are refused before the first one starts.

Field faults, A10.
"""

import io
import sys

import pytest

from mainstay import FailoverPool, Member, hedge, redundant, vote
from support.redundancy import RUNNERS

POLICIES = {
    "hedged": {"start": hedge.after(9.0)},
    "cold": {},
    "together": {"start": hedge.together()},
    "voted": {"decide": vote.majority(), "copies": 3},
}


@pytest.fixture(params=RUNNERS.values(), ids=RUNNERS)
def runner(request):
    return request.param


def of_kind(runner, fn):
    if runner is RUNNERS["threads"]:
        return fn

    async def afn(*args, **kwargs):
        return fn(*args, **kwargs)

    return afn


def parts():
    yield b"a"


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
@pytest.mark.parametrize("make", [parts, lambda: io.BytesIO(b"a"), lambda: (n for n in "a")])
def test_no_copy_starts(runner, policy, make, metrics):
    called = []
    policy = redundant(**policy, **runner.options)
    for args, kwargs in (((make(),), {}), ((), {"body": make()})):
        with pytest.raises(ValueError, match="copies would share it"):
            runner.run(
                policy, of_kind(runner, lambda body: called.append((body,))), *args, **kwargs
            )
    assert called == []
    assert metrics.outcomes() == {}


def test_the_argument_is_named():
    def upload(name, body):
        """Stand for what is called."""

    with pytest.raises(ValueError, match="argument `body` is a generator, which can be read once"):
        redundant().call(upload, "a", parts())
    pool = FailoverPool("db", [Member("a", 1), Member("b", 2)], on=OSError)
    with pytest.raises(ValueError, match="argument `body` is a file, which can be read once"):
        redundant(pool=pool).call(lambda site, body: None, io.StringIO("a"))


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
def test_all_else_is_passed_to_every_copy(runner, policy):
    policy = redundant(**policy, **runner.options)
    fn = of_kind(runner, lambda make, lines, out, *, more: (next(make()), more))
    assert runner.run(policy, fn, parts, iter("ab"), sys.__stdout__, more=[parts]) == (
        b"a",
        [parts],
    )


class Reader(io.BytesIO):
    @redundant()
    def size(self):
        return len(self.getvalue())

    @redundant(start=hedge.after(9.0))
    async def asize(self):
        return len(self.getvalue())


def test_the_self_of_a_method_is_no_argument():
    assert Reader(b"ab").size() == 2
    assert RUNNERS["inline"].run_main(Reader(b"ab").asize()) == 2
