"""`recover` and `recover_async`."""

import asyncio
import threading
from fractions import Fraction

import pytest

from mainstay import checkpoint_run, checkpointed, recover, recover_async
from mainstay._core.owner import this_process
from mainstay.errors import UnsaveableValueError
from mainstay.stores import MemoryStore
from mainstay.stores.base import Request, RunId, RunLease
from support.checkpoint_values import Totals
from support.checkpoints import CrashError, OopsError


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

    @checkpointed(store=store, key=lambda: "key", name="other", recoverable=True)
    async def asynchronous(cp, fail=[1]):  # noqa: B006 - once
        if fail:
            raise OopsError(fail.pop())
        return "async"

    with pytest.raises(OopsError):
        good("a", Totals(1, 2), [1])
    for call in (lambda: bad("b"), plain, lambda: asyncio.run(asynchronous())):
        with pytest.raises(OopsError):
            call()
    store.acquire(RunId("alive", "x"), Request(owner=this_process(), life="x", lease=30))
    outcomes = {each.name: each for each in recover(store)}
    assert outcomes["good"].outcome == "failed"  # its list came back as it was saved
    assert isinstance(outcomes["good"].error, OopsError)
    assert outcomes["bad"].outcome == "failed"
    assert "no function of that name" in outcomes["plain"].reason
    assert outcomes["other"].reason == "it is async; use recover_async"
    assert "works on it" in outcomes["alive"].reason
    again = {each.name: each for each in asyncio.run(recover_async(store))}
    assert (again["other"].outcome, again["other"].result) == ("done", "async")
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


def fails_at_first(cp):
    if not cp.resumed:
        raise OopsError
    return "done"


def interrupted(fn, **options):
    """A recoverable function, called once and interrupted."""
    job = checkpointed(name="job", key=lambda *_: "key", recoverable=True, **options)(fn)
    with pytest.raises(OopsError):
        job()
    return job


def listed_before(store, monkeypatch, meanwhile):
    """Let something happen between the look at a store and what is done about a run in it."""
    runs = store.list()
    monkeypatch.setattr(store, "list", lambda *_, **__: runs)
    meanwhile()


def test_arguments_are_pickled_where_that_is_allowed(store):
    @checkpointed(store=store, key=lambda *_: "key", recoverable=True, allow_pickle=True)
    def job(cp, share):
        if not cp.resumed:
            raise OopsError
        return share

    with pytest.raises(OopsError):
        job(Fraction(1, 2))
    assert [each.result for each in recover(store)] == [Fraction(1, 2)]


def test_a_run_that_another_process_finished_meanwhile_is_not_begun_anew(store, monkeypatch):
    calls = []

    def body(cp):
        calls.append(cp.attempt)
        return fails_at_first(cp)

    job = interrupted(body, store=store, on_complete="rerun")
    listed_before(store, monkeypatch, job)
    [outcome] = recover(store)
    assert (outcome.outcome, outcome.result, calls) == ("done", "done", [1, 2])


def test_a_run_that_another_process_finished_and_removed_meanwhile_is_not_begun_anew(
    store, monkeypatch
):
    """Known fault: with `keep=`, machines that recovered side by side did jobs again."""
    calls = []

    def body(cp):
        calls.append(cp.attempt)
        return fails_at_first(cp)

    job = interrupted(body, store=store)
    run = RunId("job", "key")
    with monkeypatch.context() as patches:
        listed_before(store, patches, lambda: job() and store.forget(run))
        [outcome] = recover(store)
    assert (outcome.outcome, calls) == ("left", [1, 2])
    assert outcome.reason == "it has ended meanwhile, and was removed"
    assert store.list() == []


def test_a_run_that_is_there_only_because_others_looked_for_it_is_not_begun(store, monkeypatch):
    calls = []

    def body(cp):
        calls.append(cp.attempt)
        return fails_at_first(cp)

    job = interrupted(body, store=store)
    run = RunId("job", "key")

    def meanwhile():
        job()
        store.forget(run)
        answer = store.acquire(run, Request(owner=this_process(), life="x", lease=30))
        store.release(RunLease(run, answer.record.token, answer.record.grant, 30), "error")

    with monkeypatch.context() as patches:
        listed_before(store, patches, meanwhile)
        [outcome] = recover(store)
    assert (outcome.outcome, calls) == ("left", [1, 2])
    assert store.list() == []


def test_an_async_run_that_was_finished_and_removed_meanwhile_is_not_begun_anew(store, monkeypatch):
    calls = []

    @checkpointed(store=store, key="{name}", name="job", recoverable=True)
    async def job(cp, name: str):
        calls.append(cp.attempt)
        raise OopsError

    with pytest.raises(OopsError):
        asyncio.run(job("key"))
    with monkeypatch.context() as patches:
        listed_before(store, patches, lambda: store.forget(RunId("job", "key")))
        [outcome] = asyncio.run(recover_async(store))
    assert (outcome.outcome, calls) == ("left", [1])
    assert store.list() == []


@pytest.mark.parametrize("on_busy", ["raise", "wait", "return"])
def test_a_run_that_another_process_took_up_meanwhile_is_left_alone(store, monkeypatch, on_busy):
    interrupted(fails_at_first, store=store, on_busy=on_busy)
    request = Request(owner=this_process(), life="x", lease=30)
    listed_before(store, monkeypatch, lambda: store.acquire(RunId("job", "key"), request))
    [outcome] = recover(store)
    assert outcome.outcome == "left"
    assert "works on run 'key'" in outcome.reason


def test_a_run_whose_owner_just_died_once_too_often_is_left_alone(store, crashing):
    @checkpointed(store=store, key=lambda: "key", recoverable=True, max_crashes=1)
    def job(cp):
        raise CrashError

    with pytest.raises(CrashError):
        job()
    [outcome] = recover(store)
    assert (outcome.outcome, outcome.reason) == (
        "left", "it died 1 time in a row without progress",
    )  # fmt: skip


def test_a_function_that_finds_another_run_busy_has_failed(store):
    def body(cp):
        fails_at_first(cp)
        with checkpoint_run("inner", store=store):
            pass

    interrupted(body, store=store)
    store.acquire(RunId("run", "inner"), Request(owner=this_process(), life="x", lease=30))
    outcomes = {each.name: each for each in recover(store)}
    assert outcomes["job"].outcome == "failed"
    assert outcomes["job"].reason == "it raised RunBusyError"


def test_a_function_may_keep_its_runs_in_several_stores():
    stores = [MemoryStore(), MemoryStore()]
    for store in stores:
        interrupted(fails_at_first, store=store)
    outcomes = [each.outcome for store in stores for each in recover(store)]
    assert outcomes == ["done", "done"]


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_key_that_depends_on_the_day_is_that_of_the_run(store, kind):
    today = ["monday"]
    seen = []

    def work(cp, rows, fail_at):
        for row in rows:
            seen.append((cp.key, cp.attempt, row))
            if row == fail_at and cp.attempt == 1:
                raise OopsError
        return cp.key

    def body(cp, tenant):
        return work(cp, cp.iterate("ab"), "b")

    async def abody(cp, tenant):
        return work(cp, [row async for row in cp.iterate("ab")], "b")

    job = checkpointed(
        store=store, key=lambda tenant: f"{tenant}-{today[0]}", name="job", recoverable=True
    )(body if kind == "sync" else abody)
    with pytest.raises(OopsError):
        job("acme") if kind == "sync" else asyncio.run(job("acme"))
    today[0] = "tuesday"
    found = recover(store) if kind == "sync" else asyncio.run(recover_async(store))
    assert [(each.key, each.outcome, each.result) for each in found] == [
        ("acme-monday", "done", "acme-monday")
    ]
    assert [(record.run.key, state) for record, state in store.list()] == [("acme-monday", "done")]
    assert {key for key, _, _ in seen} == {"acme-monday"}


def test_what_an_async_function_raises_again_is_handed_back(store):
    @checkpointed(store=store, key="{name}", recoverable=True)
    async def job(cp, name: str):
        raise OopsError

    with pytest.raises(OopsError):
        asyncio.run(job("a"))
    [found] = asyncio.run(recover_async(store))
    assert (found.outcome, found.reason) == ("failed", "it raised OopsError")
    assert isinstance(found.error, OopsError)
