import asyncio
import logging
import threading
from datetime import timedelta

import attrs
import pytest
from checkpoint_values import Totals
from store_conformance import DEAD

from mainstay import (
    checkpoint_run,
    checkpointed,
    deadline,
    on_event,
    recover,
    recover_async,
    register_type,
    young_daly,
)
from mainstay._checkpoint import types
from mainstay.errors import (
    CheckpointError,
    CodeChangedError,
    CorruptCheckpointError,
    DeadlineExpiredError,
    LeaseLostError,
    PoisonedRunError,
    RunBusyError,
    RunCompleteError,
    SourceChangedError,
    StoreUnavailableError,
    UnknownTypeError,
    UnsaveableValueError,
)
from mainstay.stores import MemoryStore
from mainstay.stores.base import Held, Request, RunId
from mainstay.stores.owner import this_process
from mainstay.testing import FakeClock, Faults, recorded

pytest_plugins = ("checkpoint_colours",)

RUN = RunId("job", "key")


class OopsError(ValueError):
    """What a function raises that is to be interrupted."""


class CrashError(BaseException):
    """Ends an attempt as SIGKILL would: nothing is released."""


@pytest.fixture
def store():
    return MemoryStore()


@pytest.fixture
def metrics():
    with recorded() as metrics:
        yield metrics


@pytest.fixture(autouse=True)
def nothing_registered(monkeypatch):
    monkeypatch.setattr(types, "_registered", {})


@pytest.fixture
def crashing(monkeypatch):
    """Let `CrashError` leave the run as a dead process would."""
    release = MemoryStore.release

    def released(self, lease, how, error="", drop=()):
        if error.startswith("CrashError"):
            kept = self._owned(lease)
            kept.record = attrs.evolve(kept.record, owner=DEAD)
        else:
            release(self, lease, how, error, drop)

    monkeypatch.setattr(MemoryStore, "release", released)


async def add_up(cp, rows, fail_at=None, seen=None, key=lambda row: row):
    totals = cp.state(Totals())
    async for row in cp.iterate(rows, key=key):
        if seen is not None:
            seen.append(row)
        if row == fail_at:
            raise OopsError(row)
        totals.rows += 1
        totals.amount += row
    return totals.amount


# Going on.


def test_a_run_goes_on_after_the_last_item_that_was_done(in_colour, store):
    job, seen = in_colour.job(add_up, store=store), []
    with pytest.raises(ValueError, match="3"):
        job(range(6), 3, seen)
    assert job(range(6), None, seen) == 15
    assert seen == [0, 1, 2, 3, 3, 4, 5]


def test_a_run_that_never_failed_is_done_once(in_colour, store):
    job, seen = in_colour.job(add_up, store=store), []
    assert [job([1, 2], None, seen), job([1, 2], None, seen)] == [3, 3]
    assert seen == [1, 2]


@pytest.mark.parametrize("every", [1, 2, 3, 10, timedelta(hours=1), young_daly(mtbf=1e9)])
def test_what_was_saved_is_neither_lost_nor_applied_twice(in_colour, store, crashing, every):
    async def body(cp, crash_at) -> Totals:
        totals = cp.state(Totals())
        async for row in cp.iterate(range(20), key=lambda row: row):
            if totals.rows != row:
                raise AssertionError(f"state is at {totals.rows}, the cursor at {row}")
            if row == crash_at:
                raise CrashError
            totals.rows += 1
            totals.amount += row
        return totals

    job = in_colour.job(body, store=store, every=every, max_crashes=None)
    for crash_at in (7, 7, 13, 19):
        with pytest.raises(CrashError):
            job(crash_at)
    assert job(None) == Totals(20, 190)


def test_the_name_of_a_run_is_the_functions_and_its_key_comes_from_the_arguments(store):
    @checkpointed(store=store, key="import-{tenant}-{options[day]}")
    def import_rows(cp, tenant, options=None):
        return cp.name, cp.key

    name, key = import_rows("acme", options={"day": 3})
    assert name == f"{import_rows.__module__}.{import_rows.__qualname__}"
    assert key == "import-acme-3"


def test_without_a_key_the_arguments_tell_runs_apart(store):
    @checkpointed(store=store)
    def job(cp, a, b=2):
        return cp.key

    assert job(1) == job(1, 2) == job(a=1, b=2)
    assert job(1) != job("1")
    with pytest.raises(UnsaveableValueError, match="the arguments of"):
        job(iter([]))


def test_methods_get_cp_after_self(store):
    class Importer:
        @checkpointed(store=store, key="{tenant}")
        def rows(self, cp, tenant):
            return self, cp.key

        @checkpointed(store=store, key="class-{tenant}")
        @classmethod
        def of_class(cls, cp, tenant):
            return cp.key

        @checkpointed(store=store, key="static-{tenant}")
        @staticmethod
        def of_none(cp, tenant):
            return cp.key

    importer = Importer()
    with pytest.raises(UnsaveableValueError):  # it returns `self`
        importer.rows("acme")
    assert importer.of_class("a") == "class-a"
    assert importer.of_none("a") == "static-a"


def test_call_runs_a_function_without_decorating_it(store):
    policy = checkpointed(store=store, key="{x}", name="called")
    assert policy.call(lambda cp, x: (cp.name, x), "a") == ("called", "a")


def test_a_block_ends_with_its_run(in_colour, store):
    async def body(cp):
        if cp.complete:
            return [item async for item in cp.iterate([1])], cp.token
        return [item async for item in cp.iterate([1])], cp.token

    assert in_colour.block(body, store=store) == ([1], 1)
    assert in_colour.block(body, store=store) == ([], None)


def test_a_block_that_is_left_by_an_exception_is_interrupted(in_colour, store):
    async def body(cp, fail):
        items = []
        async for item in cp.iterate("abc"):
            items.append(item)
            if fail and item == "b":
                raise OopsError(item)
        return items, cp.resumed, cp.attempt

    with pytest.raises(ValueError, match="b"):
        in_colour.block(lambda cp: body(cp, True), store=store)
    assert in_colour.block(lambda cp: body(cp, False), store=store) == (["b", "c"], True, 2)


def test_a_block_cannot_be_entered_twice_at_once(store):
    block = checkpoint_run("key", store=store)
    with block, pytest.raises(RuntimeError, match="entered already"):
        block.__enter__()


def test_a_sync_block_in_async_code_says_how_it_is_done(store):
    async def main():
        with checkpoint_run("key", store=store):
            pass

    with pytest.raises(TypeError, match="`async with`"):
        asyncio.run(main())


# Iterations.


def test_items_are_taken_lazily(in_colour, store):
    taken = []

    def rows():
        for row in range(3):
            taken.append(row)
            yield row

    async def body(cp):
        async for row in cp.iterate(rows()):
            assert taken == [*range(row + 1)]

    in_colour.job(body, store=store)()
    assert taken == [0, 1, 2]


def test_async_sources_are_iterated_over_in_async_code(store):
    async def rows(after=-1):
        for row in range(after + 1, 4):
            await asyncio.sleep(0)
            yield row

    async def page(last):
        return [row for row in range(4) if last is None or row > last]

    @checkpointed(store=store)
    async def job(cp):
        first = [row async for row in cp.iterate(rows(), key=lambda row: row)]
        second = [row async for row in cp.iterate(lambda last: rows(last or 0), key=int)]
        third = [row async for row in cp.iterate(page, key=int)]
        return [first, second, third]

    assert asyncio.run(job()) == [[0, 1, 2, 3], [1, 2, 3], [0, 1, 2, 3]]


def test_a_callable_source_is_asked_for_what_follows_the_last_key(in_colour, store):
    asked = []

    def rows(last):
        asked.append(last)
        return range(0 if last is None else last + 1, 5)

    job, seen = in_colour.job(add_up, store=store), []
    with pytest.raises(ValueError, match="3"):
        job(rows, 3, seen)
    assert job(rows, None, seen) == 10
    assert asked == [None, 2]
    assert seen == [0, 1, 2, 3, 3, 4]


def test_a_callable_source_that_begins_with_the_last_key_is_refused(in_colour, store):
    job = in_colour.job(add_up, store=store)
    with pytest.raises(ValueError, match="3"):
        job(range(5), 3)
    with pytest.raises(SourceChangedError, match="does not begin after it"):
        in_colour.job(add_up, store=store)(lambda last: range(last or 0, 5))


CHANGES = {
    "reordered": [1, 0, 2, 3, 4],
    "grown at the head": [9, 0, 1, 2, 3],
    "changed inside": [0, 7, 2, 3, 4],
    "shortened": [0, 1],
    "empty": [],
}


@pytest.mark.parametrize("rows", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("key", [None, lambda row: row], ids=["by position", "by key"])
def test_a_source_that_changed_before_the_cursor_is_refused_and_nothing_is_lost(
    in_colour, store, rows, key
):
    job = in_colour.job(add_up, store=store)
    with pytest.raises(ValueError, match="3"):
        job([0, 1, 2, 3, 4], 3, None, key)
    with pytest.raises(SourceChangedError) as changed:
        job(rows, None, None, key)
    assert changed.value.iteration == "items"
    assert job([0, 1, 2, 3, 4], None, None, key) == 10


def test_a_source_that_grew_at_its_end_is_gone_through(in_colour, store):
    job = in_colour.job(add_up, store=store)
    with pytest.raises(ValueError, match="3"):
        job([0, 1, 2, 3], 3)
    assert job([0, 1, 2, 3, 4, 5]) == 15


def test_the_same_key_twice_in_a_row_is_refused(in_colour, store):
    job = in_colour.job(add_up, store=store)
    with pytest.raises(SourceChangedError, match="the key 2 comes twice in a row"):
        job([1, 2, 2, 3])
    with pytest.raises(SourceChangedError):
        job([1, 2, 2, 3])


def test_without_a_key_equal_items_are_told_apart_by_their_position(in_colour, store):
    assert in_colour.job(add_up, store=store)([2, 2, 2], None, None, None) == 6


def test_items_that_cannot_be_saved_need_a_key(in_colour, store):
    async def body(cp, key):
        async for _ in cp.iterate([object(), object()], key=key):
            pass

    with pytest.raises(UnsaveableValueError, match="item 0 of iteration 'items', without `key`"):
        in_colour.job(body, store=store)(None)


def test_keys_must_have_the_same_repr_everywhere(in_colour, store):
    async def body(cp):
        async for _ in cp.iterate([1, 2], key=lambda _: object()):
            pass

    with pytest.raises(UnsaveableValueError, match="keys are str, int"):
        in_colour.job(body, store=store)()


def test_an_item_that_was_left_by_break_is_done(in_colour, store):
    async def body(cp, fail):
        found = cp.state({"items": []})
        async for item in cp.iterate("abcd"):
            found["items"].append(item)
            if item == "b":
                break
        await cp.step("after", lambda: None)
        if fail:
            raise OopsError
        return found["items"]

    job = in_colour.job(body, store=store)
    with pytest.raises(OopsError):
        job(True)
    assert job(False) == ["a", "b"]


def test_iterations_follow_each_other(in_colour, store):
    async def body(cp, fail_at):
        log = cp.state([])
        for source in ("ab", "cd", "ef"):
            async for item in cp.iterate(source):
                if item == fail_at:
                    raise OopsError
                log.append(item)
        return log

    job = in_colour.job(body, store=store)
    for fail_at in "bdef":
        with pytest.raises(OopsError):
            job(fail_at)
    assert job("") == [*"abcdef"]


def test_iterations_inside_items_go_on_inside_them(in_colour, store):
    seen = []

    async def body(cp, fail_at):
        log = cp.state([])
        async for outer in cp.iterate("AB", name="outer"):
            async for inner in cp.iterate("xyz", name="inner"):
                seen.append(outer + inner)
                if outer + inner == fail_at:
                    raise OopsError
                log.append(outer + inner)
        return log

    job = in_colour.job(body, store=store)
    for fail_at in ("Ay", "Bz"):
        with pytest.raises(OopsError):
            job(fail_at)
    assert job("") == ["Ax", "Ay", "Az", "Bx", "By", "Bz"]
    assert seen == ["Ax", "Ay", "Ay", "Az", "Bx", "By", "Bz", "Bz"]


def test_state_that_an_item_changed_before_an_iteration_in_it_is_not_applied_twice(
    in_colour, store
):
    async def body(cp, fail_at):
        log = cp.state([])
        async for outer in cp.iterate("AB"):
            log.append(outer)
            async for inner in cp.iterate("xyz"):
                if outer + inner == fail_at:
                    raise OopsError
                log.append(outer + inner)
            log.append(outer.lower())
        return log

    job = in_colour.job(body, store=store)
    for fail_at in ("Ay", "Bx", "Bz"):
        with pytest.raises(OopsError):
            job(fail_at)
    assert job("") == ["A", "Ax", "Ay", "Az", "a", "B", "Bx", "By", "Bz", "b"]


def test_another_item_in_place_of_the_one_in_progress_is_refused(in_colour, store):
    async def body(cp, outers, fail_at):
        async for outer in cp.iterate(outers):
            async for inner in cp.iterate("xyz"):
                if outer + inner == fail_at:
                    raise OopsError

    job = in_colour.job(body, store=store)
    with pytest.raises(OopsError):
        job("AB", "By")
    with pytest.raises(SourceChangedError, match="the item in progress"):
        job("AC", "")


def test_two_iterations_of_one_name_at_once_are_refused(in_colour, store):
    async def body(cp):
        async for _ in cp.iterate("ab", name="rows"):
            async for _ in cp.iterate("cd", name="rows"):
                pass

    with pytest.raises(CheckpointError, match="'rows' of run 'key' is still going on"):
        in_colour.job(body, store=store)()


def test_two_iterations_side_by_side_are_refused(store):
    @checkpointed(store=store)
    def job(cp):
        return [*zip(cp.iterate("ab"), cp.iterate("cd"), strict=True)]

    with pytest.raises(CheckpointError, match="must follow or be inside each other"):
        job()


def test_a_source_that_fails_between_items_can_be_gone_on_with(in_colour, store):
    async def body(cp):
        log = cp.state([])
        source = Faults([OSError("disk")])
        for _ in range(2):
            try:
                async for item in cp.iterate(lambda last: gen(last, source), key=int, name="rows"):
                    log.append(item)
            except OSError:
                pass
        return log

    def gen(last, source):
        yield from range(0 if last is None else last + 1, 2)
        source()
        yield from range(2, 4)

    # The second use of a name in one run is another iteration.
    assert in_colour.job(body, store=store)() == [0, 1, 0, 1, 2, 3]


def test_every_few_items_and_every_so_often(in_colour, store, metrics):
    async def body(cp, seconds):
        async for _ in cp.iterate(range(10)):
            clock.advance(seconds)

    with FakeClock() as clock:
        in_colour.job(body, store=store, every=4, key=lambda _: "items")(0)
        saves = metrics.value("checkpoint_saves_total", outcome="ok")
        assert saves == 2 + 1 + 1  # after 4 and 8, at the loop's end, at the function's
        in_colour.job(body, store=store, every=timedelta(seconds=3), key=lambda _: "time")(1)
        assert metrics.value("checkpoint_saves_total", outcome="ok") - saves == 3 + 1 + 1
        assert metrics.value("checkpoint_interval_seconds") == 3.0


def test_save_inside_an_item_takes_effect_at_its_end(in_colour, store, crashing):
    async def body(cp, crash_at):
        log = cp.state([])
        async for item in cp.iterate(range(5)):
            if item == crash_at:
                raise CrashError
            log.append(item)
            if item == 1:
                await cp.save()
                log.append("rest")
        return log

    job = in_colour.job(body, store=store, every=100)
    with pytest.raises(CrashError):
        job(3)
    assert store.load(RUN).latest is not None
    assert job(None) == [0, 1, "rest", 2, 3, 4]


def test_save_outside_of_items_saves_now(in_colour, store, metrics):
    async def body(cp):
        cp.state({"a": 1})
        await cp.save()
        assert metrics.value("checkpoint_saves_total", outcome="ok") == 1

    in_colour.job(body, store=store)()


# State.


def test_state_is_one_object(in_colour, store):
    async def body(cp):
        state = cp.state({"a": 1})
        assert cp.state({"b": 2}) is state

    in_colour.job(body, store=store)()


@pytest.mark.parametrize("default", [0, "", None, (), 1.5, frozenset()])
def test_state_that_cannot_change_in_place_is_refused(in_colour, store, default):
    async def body(cp):
        cp.state(default)

    with pytest.raises(TypeError, match="`default` must be something that is changed in place"):
        in_colour.job(body, store=store)()


def test_state_that_cannot_be_saved_is_refused_with_its_path(in_colour, store):
    async def body(cp):
        state = cp.state({"rows": []})
        async for item in cp.iterate([1, 2]):
            state["rows"].append(threading.Lock() if item == 2 else item)

    with pytest.raises(UnsaveableValueError, match=r"state\['rows'\]\[1\] cannot be saved"):
        in_colour.job(body, store=store)()


def test_without_pickle_a_state_of_its_own_kind_is_refused_and_with_it_saved(in_colour, store):
    async def body(cp):
        state = cp.state({"x": 1j})
        state["range"] = range(3)
        await cp.save()
        return state["range"]

    with pytest.raises(UnsaveableValueError):
        in_colour.job(body, store=store)()
    assert in_colour.job(body, store=store, allow_pickle=True)() == range(3)


# Steps.


def test_a_saved_result_is_never_computed_again(in_colour, store):
    calls = Faults([1, 2, 3])

    async def body(cp, fail):
        results = [await cp.step("a", calls), await cp.step("b", calls), await cp.step("a", calls)]
        if fail:
            raise OopsError
        return results

    job = in_colour.job(body, store=store)
    with pytest.raises(OopsError):
        job(True)
    assert job(False) == [1, 2, 3]
    assert len(calls.calls) == 3


def test_a_step_that_failed_runs_again(in_colour, store):
    calls = Faults([OSError("down"), "up"])

    async def body(cp):
        return await cp.step("fetch", calls, 1, x=2)

    job = in_colour.job(body, store=store)
    with pytest.raises(OSError, match="down"):
        job()
    assert job() == "up"
    assert calls.calls == [((1,), {"x": 2})] * 2


def test_a_registered_exception_of_a_step_is_its_result(in_colour, store):
    register_type(KeyError)
    calls = Faults([KeyError("declined")], then="charged twice")

    async def body(cp, fail):
        try:
            await cp.step("charge", calls)
        except KeyError as error:
            if fail:
                raise OopsError from error
            return error.args[0]

    job = in_colour.job(body, store=store)
    with pytest.raises(OopsError):
        job(True)
    assert job(False) == "declined"
    assert len(calls.calls) == 1


def test_a_saved_exception_that_ends_the_run_does_not_end_it_for_ever(in_colour, store):
    register_type(KeyError)
    calls = Faults([KeyError("down"), "up"])

    async def body(cp):
        return await cp.step("charge", calls)

    job = in_colour.job(body, store=store)
    with pytest.raises(KeyError):
        job()
    assert job() == "up"


def test_a_step_inside_an_item_belongs_to_it_and_goes_with_it(in_colour, store, crashing):
    calls = Faults(range(100))

    async def body(cp, crash_at):
        log = cp.state([])
        async for item in cp.iterate("abc"):
            first = await cp.step("call", calls)
            if item == crash_at:
                raise CrashError
            log.append([first, await cp.step("call", calls)])
        return log

    job = in_colour.job(body, store=store)
    with pytest.raises(CrashError):
        job("b")
    assert len(store.load(RUN).results) == 1
    assert job("") == [[0, 1], [2, 3], [4, 5]]
    assert store.load(RUN).results == {}


def test_another_step_at_the_place_of_a_saved_one_is_refused_with_both_names(in_colour, store):
    async def body(cp, name):
        await cp.step(name, lambda: 1)
        raise OopsError

    job = in_colour.job(body, store=store)
    with pytest.raises(OopsError):
        job("publish")
    with pytest.raises(CodeChangedError, match="step 'publish' is now 'notify'"):
        job("notify")
    lenient = in_colour.job(body, store=store, on_code_change="ignore")
    with pytest.raises(OopsError):
        lenient("notify")


def test_a_result_is_built_from_the_return_annotation(in_colour, store):
    def totals() -> Totals:
        return Totals(1, 2)

    def untold():
        return Totals(1, 2)

    async def body(cp, fn, fail):
        value = await cp.step("totals", fn)
        if fail:
            raise OopsError
        return value.amount

    job = in_colour.job(body, store=store)
    with pytest.raises(UnsaveableValueError, match="the result of step 'totals'"):
        job(untold, False)
    with pytest.raises(OopsError):
        job(totals, True)
    with pytest.raises(UnknownTypeError, match="the result of step 'totals'"):
        job(untold, False)
    assert job(totals, False) == 2


def test_a_sync_step_refuses_an_async_function(store):
    async def fetch():
        pass

    @checkpointed(store=store)
    def job(cp):
        cp.step("fetch", fetch)

    with pytest.raises(TypeError, match="step 'fetch' is async"):
        job()


def test_steps_of_tasks_are_saved_one_at_a_time(store):
    async def fetch(number):
        await asyncio.sleep(0)
        return number

    @checkpointed(store=store)
    async def job(cp):
        return await asyncio.gather(*(cp.step(f"s{n}", fetch, n) for n in range(8)))

    assert asyncio.run(job()) == [*range(8)]


# Idempotency keys.


def test_an_idempotency_key_is_the_same_in_every_attempt_and_for_nothing_else(in_colour, store):
    keys = []

    async def body(cp, fail):
        keys.append(cp.idempotency_key())
        async for row in cp.iterate([1, 2], key=lambda row: row):
            keys.append(cp.idempotency_key(row))
            assert cp.idempotency_key(row) == cp.idempotency_key()[:0] + keys[-1]
            if fail and row == 2:
                raise OopsError

    with pytest.raises(OopsError):
        in_colour.job(body, store=store)(True)
    in_colour.job(body, store=store)(False)
    first, again = keys[:3], keys[3:]
    assert len(set(first)) == 3
    assert again == [first[0], first[2]]
    in_colour.job(body, store=store, on_complete="rerun")(False)
    assert not {*keys[5:]} & {*first}


# Ownership.


def hold(store, owner=None):
    store.acquire(RUN, Request(owner=owner or this_process(), life="other", lease=30.0))


def test_a_run_that_somebody_works_on_is_busy(in_colour, store, metrics):
    hold(store)
    with pytest.raises(RunBusyError) as busy:
        in_colour.job(add_up, store=store)([1])
    assert (busy.value.component, busy.value.key) == ("job", "key")
    assert 0 < busy.value.seconds_left <= 30
    assert metrics.value("calls_total", outcome="rejected") == 1


def test_a_dead_owner_is_recognised_at_once(in_colour, store, metrics):
    hold(store, DEAD)
    assert in_colour.job(add_up, store=store)([1, 2]) == 3
    assert metrics.value("checkpoint_resumes_total", reason="crash") == 1
    assert metrics.value("calls_total", outcome="recovered") == 1


def test_who_waits_gets_the_run_when_the_lease_ends(in_colour, store, metrics):
    with FakeClock() as clock:
        hold(store)
        assert in_colour.job(add_up, store=store, on_busy="wait")([1, 2]) == 3
        assert 30 <= clock.now() <= 31
    assert metrics.value("checkpoint_resumes_total", reason="takeover") == 1
    assert metrics.value("wait_seconds_total") == pytest.approx(clock.now())


def test_who_waits_for_longer_than_the_deadline_gives_up(in_colour, store):
    with FakeClock() as clock, deadline(5.0):
        hold(store)
        with pytest.raises(RunBusyError):
            in_colour.job(add_up, store=store, on_busy="wait")([1, 2])
        assert clock.now() == pytest.approx(5.0)


class Watched(MemoryStore):
    """Says when somebody was told that a run is held."""

    def __init__(self):
        super().__init__()
        self.held = threading.Event()

    def acquire(self, run, request):
        answer = super().acquire(run, request)
        if isinstance(answer, Held):
            self.held.set()
        return answer


def test_who_waits_for_the_result_gets_that_of_the_owner(in_colour):
    store, started, results = Watched(), threading.Event(), {}

    async def owner(cp):
        started.set()
        store.held.wait(10)
        return "owner's"

    async def other(cp):
        return "other's"

    def work(name, job):
        results[name] = job()

    jobs = {
        "owner": in_colour.job(owner, store=store),
        "attached": in_colour.job(other, store=store, on_busy="return", on_complete="rerun"),
    }
    threads = [threading.Thread(target=work, args=each, daemon=True) for each in jobs.items()]
    for thread in threads:
        thread.start()
        assert started.wait(10)
    for thread in threads:
        thread.join(10)
    assert results == {"owner": "owner's", "attached": "owner's"}


def test_a_zombie_saves_nothing_and_says_so(in_colour, store, metrics):
    seen = []

    async def body(cp):
        log = cp.state([])
        async for item in cp.iterate("abc"):
            if item == "b":
                clock.advance(31)
                hold(store)
            assert not cp.lost
            log.append(item)
            seen.append(item)

    with FakeClock() as clock:
        stop = on_event(lambda event: seen.append(event.kind))
        with pytest.raises(LeaseLostError):
            in_colour.job(body, store=store)()
        stop()
        assert seen == ["a", "b", "lease_lost"]
        clock.advance(31)
        assert in_colour.job(body_of_log, store=store)() == ["a", "c?"]
    assert metrics.value("checkpoint_saves_total", outcome="fenced") == 1
    assert metrics.value("checkpoint_lease_lost_total") == 1


async def body_of_log(cp):
    return [*cp.state([]), "c?"]


def test_a_lease_is_renewed_in_the_middle_of_a_long_item(in_colour, store):
    async def body(cp):
        async for _ in cp.iterate([1]):
            before = store.list()[0][0].seen
            waiting = threading.Event()
            while store.list()[0][0].seen == before:
                waiting.wait(0.01)

    in_colour.job(body, store=store, lease=0.06)()


def test_a_lost_lease_is_seen_in_the_middle_of_a_long_item(in_colour, store):
    async def body(cp):
        async for _ in cp.iterate([1]):
            kept = store._runs[RUN]
            kept.record = attrs.evolve(kept.record, token=99)
            waiting = threading.Event()
            while not cp.lost:
                waiting.wait(0.01)

    with pytest.raises(LeaseLostError):
        in_colour.job(body, store=store, lease=0.06)()


def test_a_lease_that_cannot_be_renewed_in_its_time_is_lost(store, monkeypatch, metrics):
    def unreachable(*_args):
        raise StoreUnavailableError("memory://", "down")

    @checkpointed(store=store, lease=30)
    def job(cp):
        run = cp._run
        monkeypatch.setattr(store, "commit", unreachable)
        clock.advance(20)
        run.renew()
        assert not cp.lost
        clock.advance(20)
        run.renew()
        assert cp.lost

    with FakeClock() as clock, pytest.raises(StoreUnavailableError):
        job()


# Ends.


def test_on_complete_says_what_a_finished_run_does(in_colour, store):
    async def body(cp):
        return await cp.step("count", calls)

    calls = Faults([1, 2])
    assert in_colour.job(body, store=store)() == 1
    assert in_colour.job(body, store=store, on_complete="return")() == 1
    with pytest.raises(RunCompleteError):
        in_colour.job(body, store=store, on_complete="raise")()
    assert in_colour.job(body, store=store, on_complete="rerun")() == 2
    assert in_colour.job(body, store=store)() == 2


def test_an_item_that_kills_the_process_poisons_the_run(in_colour, store, crashing, metrics):
    async def body(cp):
        async for item in cp.iterate([1, 2]):
            if item == 2:
                raise CrashError

    job = in_colour.job(body, store=store, max_crashes=3)
    for _ in range(3):
        with pytest.raises(CrashError):
            job()
    for _ in range(2):
        with pytest.raises(PoisonedRunError) as poisoned:
            job()
    assert poisoned.value.crashes == 3
    assert metrics.value("calls_total", outcome="rejected") == 2
    assert store.forget(RUN)


def test_an_error_is_recorded_with_the_attempt(in_colour, store):
    with pytest.raises(OopsError):
        in_colour.job(add_up, store=store)([1], 1)
    [(record, state)] = store.list()
    assert (state, record.attempt, record.exit) == ("interrupted", 1, "error")
    assert record.error == "OopsError: 1"


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, asyncio.CancelledError])
def test_an_interruption_releases_the_run(store, metrics, error):
    failures = [error()]

    @checkpointed(store=store, key=lambda: "key", name="job")
    def job(cp, fail=failures):
        if fail:
            raise fail.pop()
        return cp.attempt

    with pytest.raises(error):
        job()
    assert metrics.value("calls_total", outcome="cancelled") == 1
    assert job() == 2


def test_a_cancellation_releases_the_run(store):
    started = asyncio.Event()

    @checkpointed(store=store, key=lambda: "key", name="job")
    async def job(cp):
        async for _ in cp.iterate([1, 2, 3]):
            if cp.attempt == 1:
                started.set()
                await asyncio.Event().wait()
        return cp.attempt

    async def main():
        task = asyncio.create_task(job())
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return await job()

    assert asyncio.run(main()) == 2


def test_finished_runs_are_kept_by_count_and_age(in_colour, store, monkeypatch):
    async def body(cp, number):
        pass

    job = in_colour.job(body, store=store, key=str, keep=2)
    for number in range(4):
        job(number)
    assert [record.run.key for record, _ in store.list()] == ["2", "3"]
    monkeypatch.setattr("mainstay._checkpoint.retention.wall_time", lambda: 4e9)
    in_colour.job(body, store=store, key=str, keep=(5, timedelta(days=1)))(9)
    assert store.list() == []


def test_an_old_run_that_cannot_be_forgotten_is_logged(store, monkeypatch, caplog):
    def broken(_name=None):
        raise StoreUnavailableError("memory://", "down")

    monkeypatch.setattr(store, "list", broken)
    checkpointed(store=store, keep=1).call(lambda _cp: None)
    assert "old runs of" in caplog.text


# Code changes.


async def old_body(cp, fail=1):
    totals = cp.state(Totals())
    async for row in cp.iterate([1, 2]):
        totals.amount += row
    if fail:
        raise OopsError
    return totals.amount


async def new_body(cp):
    """A docstring."""
    totals = cp.state(Totals())  # and a comment
    return totals.amount + 100


def interrupted(in_colour, store, **options):
    with pytest.raises(OopsError):
        in_colour.job(old_body, store=store, **options)()


def test_changed_code_is_warned_of_once_and_the_run_goes_on(in_colour, store, caplog):
    interrupted(in_colour, store)
    with caplog.at_level(logging.WARNING, "mainstay.checkpoint"):
        assert in_colour.job(new_body, store=store)() == 103
    assert "goes on with other code: the source of the function differs" in caplog.text


def test_changed_code_is_refused_where_that_was_asked_for(in_colour, store):
    interrupted(in_colour, store)
    with pytest.raises(CodeChangedError, match="the source of the function differs"):
        in_colour.job(new_body, store=store, on_code_change="raise")()
    with pytest.raises(CodeChangedError, match="it was version '1' and is version '2'"):
        in_colour.job(old_body, store=store, version="2", on_code_change="raise")()
    assert in_colour.job(old_body, store=store, on_code_change="raise")(False) == 3


def test_changed_code_is_ignored_where_that_was_asked_for(in_colour, store, caplog):
    interrupted(in_colour, store)
    assert in_colour.job(new_body, store=store, on_code_change="ignore")() == 103
    assert "other code" not in caplog.text


def test_changed_code_can_migrate_the_state(in_colour, store):
    async def body(cp):
        return cp.state({"total": 0})

    interrupted(in_colour, store)
    job = in_colour.job(
        body, store=store, version="2", on_code_change=lambda old: {"total": old["amount"]}
    )
    assert job() == {"total": 3}


def test_a_migration_is_not_lost_when_nothing_asked_for_the_state(in_colour, store):
    async def silent(cp):
        async for _ in cp.iterate([1, 2]):
            pass
        await cp.save()
        raise OopsError

    async def body(cp):
        return cp.state({"total": 0})

    interrupted(in_colour, store)
    options = {"version": "2", "on_code_change": lambda old: {"total": old["amount"]}}
    with pytest.raises(OopsError):
        in_colour.job(silent, store=store, **options)()
    assert in_colour.job(body, store=store, **options)() == {"total": 3}


def test_state_that_no_longer_fits_its_type_is_told_so(in_colour, store):
    @attrs.define
    class Other:
        pass

    Other.__module__, Other.__qualname__ = "checkpoint_values", "Totals"

    async def body(cp):
        cp.state(Other())

    interrupted(in_colour, store)
    with pytest.raises(CodeChangedError, match="no longer takes what was saved"):
        in_colour.job(body, store=store)()


# Damage.


def damaged(sealed):
    return sealed[:-1] + bytes([sealed[-1] ^ 1])


def test_a_damaged_save_is_counted_and_the_one_before_is_used(in_colour, store, metrics):
    seen = []
    job = in_colour.job(add_up, store=store)
    with pytest.raises(OopsError):
        job([1, 2, 3], 3)
    kept = store._runs[RUN]
    kept.latest = damaged(kept.latest)
    assert job([1, 2, 3], None, seen) == 6
    assert seen == [2, 3]
    assert metrics.value("checkpoint_corrupt_total") == 1


def test_a_damaged_result_is_read_from_its_copy(in_colour, store, metrics):
    job = in_colour.job(add_up, store=store)
    assert job([1, 2]) == 3
    kept = store._runs[RUN]
    kept.latest = damaged(kept.latest)
    assert job([1, 2]) == 3
    assert metrics.value("checkpoint_corrupt_total") == 1


def test_where_nothing_can_be_read_the_run_is_not_begun_again(in_colour, store):
    job = in_colour.job(add_up, store=store)
    with pytest.raises(OopsError):
        job([1, 2, 3], 3)
    kept = store._runs[RUN]
    kept.latest, kept.previous = damaged(kept.latest), damaged(kept.previous)
    for _ in range(2):
        with pytest.raises(CorruptCheckpointError, match="run 'key' of job is damaged"):
            job([1, 2, 3])


def test_a_damaged_step_is_not_computed_again(in_colour, store):
    async def body(cp):
        await cp.step("charge", lambda: 1)
        raise OopsError

    job = in_colour.job(body, store=store)
    with pytest.raises(OopsError):
        job()
    results = store._runs[RUN].results
    results.update({slot: damaged(sealed) for slot, sealed in results.items()})
    with pytest.raises(CorruptCheckpointError, match="the result of step 'charge'"):
        job()


# Use outside of the run.


def test_cp_of_a_run_that_has_ended_is_of_no_use(store):
    kept = []
    checkpointed(store=store).call(kept.append)
    [cp] = kept
    for use in (cp.save, lambda: cp.step("a", int), lambda: cp.state({}), cp.idempotency_key):
        with pytest.raises(RunCompleteError, match="has ended"):
            use()
    with pytest.raises(RunCompleteError):
        cp.iterate([1])
    assert store.list()[0][1] == "done"


def test_cp_of_a_finished_block_answers_what_was_saved_and_nothing_else(in_colour, store):
    async def first(cp):
        cp.state({"a": 1})
        await cp.step("known", lambda: 42)

    async def second(cp):
        assert cp.state({"a": 0}) == {"a": 1}
        assert await cp.step("known", int) == 42
        with pytest.raises(RunCompleteError):
            await cp.step("unknown", int)
        with pytest.raises(RunCompleteError):
            await cp.save()

    in_colour.block(first, store=store)
    in_colour.block(second, store=store)


def test_cp_belongs_to_the_thread_of_its_run(store):
    problems = []

    def elsewhere(cp):
        try:
            cp.step("a", int)
        except CheckpointError as error:
            problems.append(str(error))

    def job(cp):
        thread = threading.Thread(target=elsewhere, args=(cp,))
        thread.start()
        thread.join()

    checkpointed(store=store).call(job)
    assert "belongs to the thread that the run is in" in problems[0]


# Deadlines, metrics, events.


def test_with_no_time_left_nothing_is_called(in_colour, store, metrics):
    job = in_colour.job(add_up, store=store)
    with FakeClock(), deadline(0), pytest.raises(DeadlineExpiredError):
        job([1])
    assert store.list() == []
    assert metrics.value("calls_total", outcome="timeout") == 1
    assert metrics.value("give_ups_total", policy="checkpoint", reason="timeout") == 1


def test_what_happened_is_counted(in_colour, store, metrics):
    async def body(cp, fail):
        async for item in cp.iterate(range(4)):
            clock.advance(1)
            if fail and item == 2:
                raise OopsError
        await cp.step("end", lambda: None)

    with FakeClock() as clock:
        job = in_colour.job(body, store=store)
        with pytest.raises(OopsError):
            job(True)
        job(False)
    value = metrics.value
    assert value("calls_total", policy="checkpoint", outcome="error") == 1
    assert value("calls_total", policy="checkpoint", outcome="recovered") == 1
    assert value("errors_total", error_type="OopsError") == 1
    assert value("checkpoint_items_total", outcome="done") == 4
    assert value("checkpoint_items_total", outcome="skipped") == 2
    assert value("checkpoint_items_total", outcome="failed") == 1
    assert value("checkpoint_steps_total", source="executed") == 1
    assert value("checkpoint_resumes_total", reason="error") == 1
    assert value("checkpoint_saved_seconds_total") == 2
    assert value("checkpoint_replayed_seconds_total") == 1
    assert value("checkpoint_save_duration_seconds_count") == value(
        "checkpoint_saves_total", outcome="ok"
    )
    assert value("checkpoint_size_bytes_count") == value("checkpoint_saves_total") - 1
    assert value("checkpoint_last_save_timestamp_seconds") > 1.6e9


def test_a_resume_is_told(in_colour, store, caplog):
    caplog.set_level(logging.INFO, "mainstay.checkpoint")
    events = []
    stop = on_event(events.append)
    job = in_colour.job(add_up, store=store)
    with pytest.raises(OopsError):
        job(["secret"], "secret")
    with pytest.raises(TypeError):
        job(["secret"])
    stop()
    [event] = events
    assert (event.kind, event.policy, event.attempt) == ("run_resumed", "checkpoint", 2)
    assert caplog.messages == [
        "job: run 'key' goes on with attempt 2 after error; 0 item(s) are done"
    ]


# Recovery.


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
