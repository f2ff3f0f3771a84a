"""`recover` and `recover_async`."""

import asyncio
import threading

import pytest
from checkpoint_colours import OopsError
from checkpoint_values import Totals

from mainstay import (
    checkpointed,
    recover,
    recover_async,
)
from mainstay.errors import UnsaveableValueError
from mainstay.stores.base import Request, RunId
from mainstay.stores.owner import this_process


def test_recover_runs_again_what_was_interrupted(store):
    @checkpointed(store=store, key="{name}", name="good", recoverable=True)
    def good(cp, name: str, totals: Totals, fail=[1]):  # noqa: B006 - once
        if fail and name == "a":
            fail.pop()
            raise OopsError
        return [name, totals.amount]

    @checkpointed(store=store, key="{name}", name="bad", recoverable=True)
    def bad(cp, name: str):
        raise OopsError(name)

    @checkpointed(store=store, key=lambda: "key", name="plain")
    def plain(cp):
        raise OopsError

    @checkpointed(store=store, key=lambda: "key", name="colour", recoverable=True)
    async def other_colour(cp, fail=[1]):  # noqa: B006 - once
        if fail:
            raise OopsError(fail.pop())
        return "async"

    with pytest.raises(OopsError):
        good("a", Totals(1, 2), [1])
    for call in (lambda: bad("b"), plain, lambda: asyncio.run(other_colour())):
        with pytest.raises(OopsError):
            call()
    store.acquire(RunId("alive", "x"), Request(owner=this_process(), life="x", lease=30))
    outcomes = {each.name: each for each in recover(store)}
    assert outcomes["good"].outcome == "failed"  # its list came back as it was saved
    assert isinstance(outcomes["good"].error, OopsError)
    assert outcomes["bad"].outcome == "failed"
    assert "no function of that name" in outcomes["plain"].reason
    assert outcomes["colour"].reason == "it is async; use recover_async"
    assert "works on it" in outcomes["alive"].reason
    again = {each.name: each for each in asyncio.run(recover_async(store))}
    assert (again["colour"].outcome, again["colour"].result) == ("done", "async")
    assert again["good"].reason == "use recover"


def test_arguments_that_recover_would_need_must_be_saveable(store):
    @checkpointed(store=store, key=lambda *_: "key", name="job", recoverable=True)
    def job(cp, lock):
        pass

    with pytest.raises(UnsaveableValueError, match=r"the arguments of recoverable job: args\[0\]"):
        job(threading.Lock())
    assert store.list() == []


def test_a_method_cannot_be_recoverable(store):
    class Importer:
        def rows(self, cp):
            pass

    with pytest.raises(TypeError, match="`recoverable` is for functions"):
        checkpointed(store=store, recoverable=True)(Importer.rows)
