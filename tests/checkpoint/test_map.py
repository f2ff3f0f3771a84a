"""`cp.map`: what reaches the loop, what is saved, what runs again, and what is refused."""

import asyncio
import contextlib
import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta

import attrs
import pytest

from mainstay import RunInterruptedError, checkpoint_run, checkpointed, interrupt_all
from mainstay._checkpoint import results
from mainstay._checkpoint.document import opened
from mainstay.errors import (
    CheckpointError,
    CodeChangedError,
    LeaseLostError,
    SourceChangedError,
    StoreUnavailableError,
    UnsaveableValueError,
)
from mainstay.stores import MemoryStore
from mainstay.testing import FakeClock
from support.checkpoints import RUN, CrashError, OopsError
from support.examples import strides
from support.executors import Kept

ITEMS = 14
SQUARES = [n * n for n in range(ITEMS)]


def square(n):
    return n * n


def number(n):
    return n


def until_the_end(executor, items=range(ITEMS)):
    """The items, and at their end let the executor make what it keeps."""
    yield from items
    executor.no_more()


async def collect(cp, spreading, *, executor=None, crash_at=None, fn=square, **options):
    """Log the results; a crash comes where the state has changed, and the item is not done."""
    executor = executor or Kept()
    log = cp.state([])
    source = until_the_end(executor)
    async for result in spreading.map(cp, fn, source, number, executor=executor, **options):
        log.append(result)
        if len(log) == crash_at:
            raise CrashError
    return log


# What reaches the loop.


def test_results_come_in_the_order_of_the_source(spreading, store):
    kept = Kept(3)
    log = spreading.job(collect, store=store)(spreading, executor=kept, ahead=4)
    assert log == SQUARES
    assert kept.made != kept.calls


def test_results_come_as_they_end_where_order_does_not_matter(spreading, store):
    kept = Kept(3)
    log = spreading.job(collect, store=store)(spreading, executor=kept, ahead=4, ordered=False)
    assert log == [square(n) for n in kept.made]
    assert sorted(log) == SQUARES
    assert log != SQUARES


def test_no_more_items_are_under_way_than_ahead_says(spreading, store):
    kept, read = Kept(), []

    def source():
        for n in range(10):
            read.append(n)
            yield n

    async def body(cp):
        had = 0
        async for _ in spreading.map(cp, number, source(), executor=kept, ahead=3):
            had += 1
            assert len(read) <= had + 3

    spreading.job(body, store=store)()
    assert read == [*range(10)]


def test_what_is_ready_reaches_the_loop_before_the_source_is_read_on(runner, store):
    read, had = [], []

    def source():
        for n in range(5):
            read.append(n)
            yield n

    async def body(cp):
        async for n in cp.map(number, source(), executor=Kept(), ahead=5):
            had.append((n, len(read)))  # noqa: PERF401 - as it is at that moment

    runner.job(body, store=store)()
    assert [n for n, _ in had] == [*range(5)]
    assert all(count <= n + 2 for n, count in had)


def test_the_default_of_ahead_is_four_for_each_processor_and_at_least_sixteen(
    runner, store, monkeypatch
):
    for processors, ahead in ((None, 16), (2, 16), (64, 256)):
        monkeypatch.setattr("os.cpu_count", lambda processors=processors: processors)
        kept = Kept(ahead - 1)

        async def body(cp, kept=kept):
            results = cp.map(number, until_the_end(kept, range(300)), executor=kept)
            await anext(aiter(results))
            return len(kept.calls)

        assert runner.job(body, store=store, key=lambda *_: str(ahead))() == ahead


def test_results_may_be_anything_and_none_is_a_result(spreading, store):
    async def body(cp):
        values = spreading.map(cp, lambda n: threading.Lock() if n else None, [0, 1])
        return [type(value).__name__ async for value in values]

    assert spreading.job(body, store=store)() == ["NoneType", "lock"]


def test_nothing_to_do_is_done(spreading, store):
    async def body(cp):
        return [each async for each in spreading.map(cp, square, [])]

    assert spreading.job(body, store=store)() == []


def test_async_sources_are_read_and_a_callable_may_be_awaited(store):
    async def rows(after=-1):
        for row in range(after + 1, 4):
            await asyncio.sleep(0)
            yield row

    async def page(last):
        return [row for row in range(4) if last is None or row > last]

    async def double(row):
        await asyncio.sleep(0)
        return row * 2

    @checkpointed(store=store)
    async def job(cp):
        first = [each async for each in cp.map(double, rows())]
        second = [each async for each in cp.map(double, page, number)]
        with ThreadPoolExecutor(2) as pool:
            third = [each async for each in cp.map(square, rows(), executor=pool)]
        return [first, second, third]

    assert asyncio.run(job()) == [[0, 2, 4, 6], [0, 2, 4, 6], [0, 1, 4, 9]]


def test_a_run_that_has_ended_maps_nothing(runner, store):
    async def body(cp):
        return [n async for n in cp.map(number, range(3), executor=Kept())]

    for expected in ([0, 1, 2], []):
        assert runner.block(body, store=store) == expected


# What is saved, and what runs again.


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("again", [True, False])
def test_after_a_crash_at_any_item_each_result_is_in_the_state_once(
    spreading, crashing, ordered, again, every
):
    for crash_at in range(1, ITEMS + 1, strides()):
        store, ahead = MemoryStore(), 4
        first, second = Kept(3), Kept(2)
        job = spreading.job(collect, store=store, every=every)
        with pytest.raises(CrashError):
            job(spreading, executor=first, crash_at=crash_at, ordered=ordered, ahead=ahead)
        saved = opened(latest).items if (latest := store.load(RUN).latest) else 0
        assert saved == (crash_at - 1) // every * every
        log = job(spreading, executor=second, ordered=again, ahead=ahead)
        assert sorted(log) == SQUARES
        assert len(second.calls) == ITEMS - saved
        assert len({*first.calls} & {*second.calls}) <= ahead + (crash_at - saved)
        assert len(first.calls) <= crash_at + ahead
        if ordered and again:
            assert log == SQUARES


def test_the_skipped_the_done_and_the_failed_are_counted(spreading, store, metrics):
    def fail_once(n):
        if n == 5 and not metrics("checkpoint_items_total", outcome="failed"):
            raise OopsError(n)
        return n * n

    job = spreading.job(collect, store=store)
    with pytest.raises(OopsError):
        job(spreading, fn=fail_once)
    assert job(spreading, fn=fail_once) == SQUARES
    outcomes = {
        outcome: metrics("checkpoint_items_total", outcome=outcome)
        for outcome in ("done", "skipped", "failed")
    }
    assert outcomes == {"done": ITEMS, "skipped": 5, "failed": 1}


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("every", [1, 3])
def test_so_many_items_are_expected_as_the_source_has(spreading, store, metrics, ordered, every):
    """The gauge of what is done when all is through says it at every item, also on a resume."""
    expected = []

    async def body(cp, crash):
        kept, seen = Kept(3), 0
        source = [*range(ITEMS)]
        options = {"executor": kept, "ahead": 5, "ordered": ordered}
        async for n in spreading.map(cp, number, source, number, **options):
            seen += 1
            expected.append(metrics("checkpoint_items_expected"))
            if crash and seen == 6:
                raise OopsError
            if n == ITEMS - 4:
                kept.no_more()

    job = spreading.job(body, store=store, every=every)
    with pytest.raises(OopsError):
        job(crash=True)
    failed = metrics("checkpoint_items_total", outcome="done")
    job(crash=False)
    assert expected[:6] == [ITEMS] * 6
    assert {*expected[6:]} == {ITEMS + failed}
    done = metrics("checkpoint_items_total", outcome="done")
    assert done + metrics("checkpoint_items_total", outcome="skipped") == ITEMS + failed


def test_iterate_and_map_go_on_from_each_other(spreading, crashing):
    async def iterated(cp, _spreading, crash_at=None):
        log = cp.state([])
        async for n in cp.iterate(range(ITEMS), number):
            log.append(n * n)
            if len(log) == crash_at:
                raise CrashError
        return log

    for before, after in ((iterated, collect), (collect, iterated)):
        store = MemoryStore()
        job = spreading.job(before, store=store)
        with pytest.raises(CrashError):
            job(spreading, crash_at=5)
        assert spreading.job(after, store=store, on_code_change="ignore")(spreading) == SQUARES


def test_iterate_refuses_what_was_done_out_of_order(spreading, crashing, store):
    job = spreading.job(collect, store=store)
    with pytest.raises(CrashError):
        job(spreading, executor=Kept(3), ahead=4, crash_at=3, ordered=False)
    assert store.load(RUN).latest[:4] == b"MSC\x03"

    async def iterated(cp):
        async for _ in cp.iterate(range(ITEMS), number):
            raise AssertionError("it begins again")

    with pytest.raises(CodeChangedError, match=r"`cp.map` with ordered=False.*use `cp.map`"):
        spreading.job(iterated, store=store, on_code_change="ignore")()


def test_a_document_of_items_in_order_is_as_it_always_was(spreading, store):
    spreading.job(collect, store=store)(spreading, executor=Kept(3), ahead=4)
    latest = store.load(RUN).latest
    assert latest[:4] == b"MSC\x01"
    assert opened(latest).cursors["items"].keys() == {
        "count", "last", "digest", "closed", "at", "inner",
    }  # fmt: skip


async def all_of_them(cp, items):
    return [n async for n in items("abc")]


async def left_by_break(cp, items):
    async for n in items("abc"):
        if n == "b":
            break
    await cp.step("after", number, 1)
    return [n async for n in items("xyz")]


async def left_by_an_error(cp, items):
    async for n in items("abc"):
        await cp.step("inside", number, n)
        if n == "b":
            raise OopsError


async def left_by_an_error_that_was_dealt_with(cp, items):
    log = cp.state([])
    with contextlib.suppress(OopsError):
        async for n in items("abc"):
            log.append(n)
            if n == "b":
                raise OopsError
    await cp.save()
    log.append(await cp.step("after", number, 1))
    raise OopsError


async def a_step_while_an_error_propagates(cp, items):
    log = cp.state([])
    async for n in items("abc"):
        log.append(n)
        try:
            if n == "b":
                raise OopsError
        finally:
            await cp.step("finally", number, n)


async def iterations_inside_items(cp, items):
    log = cp.state([])
    async for n in items("abc"):
        async for inner in items("12", name="inner"):
            log.append(n + inner)
            if log[-1] == "b2":
                raise OopsError


async def saves_inside_items(cp, items):
    log = cp.state([])
    async for n in items("abc"):
        log.append(n)
        await cp.save()
        if n == "c":
            raise OopsError


@pytest.mark.parametrize(
    "scenario",
    [
        all_of_them, left_by_break, left_by_an_error, left_by_an_error_that_was_dealt_with,
        a_step_while_an_error_propagates, iterations_inside_items, saves_inside_items,
    ],
)  # fmt: skip
@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize("ordered", [True, False])
def test_a_map_that_ends_items_in_order_saves_what_an_iteration_does(
    spreading, scenario, every, ordered
):
    async def by_iterate(cp):
        return await scenario(cp, cp.iterate)

    async def by_map(cp):
        def items(source, **options):
            one_at_a_time = {"ahead": 1, "ordered": ordered, **options}
            return spreading.map(cp, number, source, **one_at_a_time)

        return await scenario(cp, items)

    saved = []
    for body in (by_iterate, by_map):
        store = MemoryStore()
        job = spreading.job(body, store=store, every=every, on_code_change="ignore")
        for _ in range(2):
            with contextlib.suppress(OopsError):
                job()
        contents = store.load(RUN)
        document = opened(contents.latest) if contents.latest else None
        slots = sorted(result.slot for result in contents.results.values())
        saved.append([document and (document.state, document.cursors, document.items), slots])
    assert saved[0] == saved[1]


OTHERS = "items beyond the first unfinished item are not the same, or in another order"
CHANGES = {
    "reordered": ([0, 2, 1, *range(3, ITEMS)], OTHERS),
    "another one done": ([0, 1, 30, *range(3, ITEMS)], OTHERS),
    "one more before": ([20, *range(ITEMS)], OTHERS),
    "shortened": ([0, 1], "it ends too early: 1 more had been done before"),
}


@pytest.mark.parametrize(("items", "problem"), CHANGES.values(), ids=CHANGES)
def test_a_source_that_changed_where_items_are_done_is_refused(spreading, crashing, items, problem):
    """Where the first item is not done, and the two after it are."""
    store = MemoryStore()

    async def body(cp, items, crash):
        log = cp.state([])
        kept = Kept(3)
        source = until_the_end(kept, items)
        options = {"executor": kept, "ahead": 4, "ordered": False}
        async for n in spreading.map(cp, number, source, number, **options):
            log.append(n)
            if crash and len(log) == 3:
                raise CrashError
        return log

    job = spreading.job(body, store=store)
    with pytest.raises(CrashError):
        job(range(ITEMS), crash=True)
    cursor = opened(store.load(RUN).latest).cursors["items"]
    assert (cursor["count"], cursor["above"][0]) == (0, "6")
    with pytest.raises(SourceChangedError, match=problem):
        job(items, crash=False)
    assert sorted(job(range(ITEMS), crash=False)) == [*range(ITEMS)]


def test_a_callable_source_is_asked_for_what_follows_the_first_gap(spreading, crashing, store):
    asked = []

    async def body(cp, crash, shift=0):
        log, kept = cp.state([]), Kept(3)

        def rows(last):
            asked.append(last)
            first = 0 if last is None else last + 1
            return until_the_end(kept, range(first + shift, ITEMS))

        async for n in spreading.map(
            cp, number, rows, number, executor=kept, ahead=4, ordered=False
        ):
            log.append(n)
            if crash and len(log) == 6:  # 2 1 0, 5 4 3
                raise CrashError
        return log

    job = spreading.job(body, store=store)
    with pytest.raises(CrashError):
        job(crash=True)
    with pytest.raises(SourceChangedError, match="beyond the first unfinished item"):
        job(crash=False, shift=1)
    assert sorted(job(crash=False)) == [*range(ITEMS)]
    assert asked == [None, 2, 2]


class FirstHangs(Kept):
    """Its first call ends when the loop has come to nothing but boundaries for a while."""

    def __init__(self):
        super().__init__()
        self.first = Future()
        self.furthest = None
        self._boundaries = 0

    def submit(self, fn, /, item):
        self._boundaries = 0
        future = super().submit(fn, item)
        return self.first if item == 0 else future

    def boundary(self):
        self._boundaries += 1
        if self._boundaries == 3:
            self.furthest = max(self.calls)
            self.first.set_result(0)


def test_the_source_is_read_at_most_64_times_ahead_beyond_the_gap(runner, store, monkeypatch):
    async def body(cp):
        options = {"executor": hanging, "ahead": 2, "ordered": False}
        return [n async for n in cp.map(number, range(200), **options)]

    def commit(lease, change):
        hanging.boundary()
        return save(lease, change)

    hanging, save = FirstHangs(), store.commit
    monkeypatch.setattr(store, "commit", commit)
    monkeypatch.setattr(results, "_LONGEST_WAIT", 0.01)
    had = runner.job(body, store=store, every=timedelta(microseconds=1))()
    assert sorted(had) == [*range(200)]
    assert (hanging.furthest, had.index(0)) == (127, 127)


@pytest.mark.timeout(20)
def test_where_saves_are_rare_there_is_room_all_the_same(runner, store, monkeypatch):
    """The executor ends a call only when another one comes, and no wait comes to a boundary."""
    monkeypatch.setattr(results, "_LONGEST_WAIT", 3600.0)

    async def body(cp):
        kept = Kept(1)
        source = until_the_end(kept, range(1000))
        options = {"executor": kept, "ahead": 2, "ordered": False}
        return [n async for n in cp.map(number, source, **options)]

    assert sorted(runner.job(body, store=store, every=timedelta(hours=1))()) == [*range(1000)]


def test_equal_keys_under_way_are_refused_out_of_order(spreading, store):
    async def body(cp, ordered):
        log = cp.state([])
        kept = Kept(3)

        def source():
            yield from [1, 2]
            kept.no_more()  # both end while the third is read
            yield from [1, 3]

        async for n in spreading.map(
            cp, number, source(), number, executor=kept, ahead=4, ordered=ordered
        ):
            log.append(n)
        return log

    problem = "another item under way has the key 1, too; out of order give a `key` that tells all "
    with pytest.raises(SourceChangedError, match=f"{problem}items apart$"):
        spreading.job(body, store=store)(ordered=False)
    in_order = spreading.job(body, store=store, key=lambda *_, **__: "in order")
    assert in_order(ordered=True) == [1, 2, 1, 3]


def test_one_and_true_are_two_keys_and_a_key_may_come_again_later(spreading, store):
    async def body(cp):
        results = spreading.map(cp, repr, [1, True, 2, 1], lambda n: n, ahead=1, ordered=False)
        return [each async for each in results]

    assert spreading.job(body, store=store)() == ["1", "True", "2", "1"]


def test_a_callable_source_that_begins_with_the_last_key_is_refused(spreading, store):
    async def body(cp, shift):
        def rows(last):
            return range(0 if last is None else last + shift, 5)

        async for n in spreading.map(cp, number, rows, number):
            if n == 3:
                raise OopsError

    with pytest.raises(OopsError):
        spreading.job(body, store=store)(1)
    with pytest.raises(SourceChangedError, match="does not begin after it"):
        spreading.job(body, store=store)(0)


# Errors, at their turn.


@pytest.mark.parametrize("ordered", [True, False])
def test_what_fn_raises_comes_at_its_turn_and_the_next_attempt_goes_on_there(
    spreading, store, ordered
):
    def fail_once(n):
        if n == 5 and not failed:
            failed.append(n)
            raise OopsError(n)
        return n * n

    failed = []
    kept = Kept(3)
    job = spreading.job(collect, store=store)
    with pytest.raises(OopsError) as caught:
        job(spreading, fn=fail_once, executor=kept, ahead=4, ordered=ordered)
    note = "raised for item 5 of iteration 'items', with the key 5, by `fn` of cp.map or by the"
    assert caught.value.__notes__[0].startswith(f"mainstay.checkpoint job: {note}")
    saved = opened(store.load(RUN).latest)
    made_before = kept.made[: kept.made.index(5)]
    assert sorted(saved.state) == ([n * n for n in range(5)] if ordered else
                                   sorted(n * n for n in made_before))  # fmt: skip
    assert sorted(job(spreading, fn=fail_once, ordered=ordered)) == SQUARES


def test_after_an_error_what_has_not_begun_is_cancelled(spreading, store):
    def fail(n):
        if n == 0:
            raise OopsError(n)

    class MakesTheFirst(Kept):
        """The first call is made when all are there, the others not at all."""

        def _keep(self, make):
            self._kept.append(make)
            if len(self._kept) == 4:
                self._kept[0]()

    kept = MakesTheFirst()
    with pytest.raises(OopsError):
        spreading.job(collect, store=store)(spreading, fn=fail, executor=kept, ahead=4)
    assert [kept.futures[n].cancelled() for n in range(1, 4)] == [True] * 3
    assert kept.made == [0]


@pytest.mark.parametrize("ordered", [True, False])
def test_an_error_of_the_source_comes_after_the_results_before_it(spreading, store, ordered):
    def source():
        yield from range(3)
        raise OopsError("the page is gone")

    async def body(cp):
        log = cp.state([])
        async for n in spreading.map(cp, number, source(), ahead=8, ordered=ordered):
            log.append(n)

    with pytest.raises(OopsError, match="the page is gone"):
        spreading.job(body, store=store)()
    assert opened(store.load(RUN).latest).state == [0, 1, 2]


@pytest.mark.parametrize(
    ("items", "key", "error", "problem"),
    [
        ([1, 2, 3, 3], number, SourceChangedError, "two neighbouring items have the same key 3"),
        ([1, 2, 3, object()], None, UnsaveableValueError, r"items\[3\]"),
        ([1, 2, 3, float("nan")], number, UnsaveableValueError, "NaN"),
        ([1, 2, 3, 0], lambda n: 6 // n, ZeroDivisionError, "zero"),
        ([1, 2, 3, frozenset()], number, UnsaveableValueError, "not frozenset"),
    ],
)
def test_a_key_that_is_none_is_told_after_the_results_before_it(
    spreading, store, items, key, error, problem
):
    async def body(cp):
        log = cp.state([])
        async for n in spreading.map(cp, number, items, key, ahead=8):
            log.append(n)

    with pytest.raises(error, match=problem):
        spreading.job(body, store=store)()
    assert opened(store.load(RUN).latest).state == [1, 2, 3]


def test_an_executor_that_takes_no_more_says_so_after_the_results_before(runner, store):
    class Full(Kept):
        def submit(self, fn, /, item):
            if item == 2:
                raise RuntimeError("cannot schedule new futures after shutdown")
            return super().submit(fn, item)

    async def body(cp):
        log = cp.state([])
        async for n in cp.map(number, range(5), executor=Full(), ahead=4):
            log.append(n)

    with pytest.raises(RuntimeError, match="after shutdown") as caught:
        runner.job(body, store=store)()
    assert "for item 2" in caught.value.__notes__[0]
    assert opened(store.load(RUN).latest).state == [0, 1]


@pytest.mark.parametrize("end", [StopIteration, StopAsyncIteration])
def test_what_would_end_a_loop_in_silence_is_an_error(spreading, store, end):
    def fail(n):
        raise end(n)

    async def body(cp, fn, key):
        async for _ in spreading.map(cp, fn, range(3), key):
            raise AssertionError("there is no result")

    for fn, key in ((fail, None), (number, fail)):
        with pytest.raises(RuntimeError):
            spreading.job(body, store=store)(fn, key)


def test_a_second_map_in_a_run_is_another_iteration(spreading, store):
    async def body(cp):
        log = cp.state([])
        for _ in range(2):
            with contextlib.suppress(OopsError):
                async for n in spreading.map(cp, fail_at_2, range(4)):
                    log.append(n)
        return log

    def fail_at_2(n):
        if n == 2:
            raise OopsError(n)
        return n

    assert spreading.job(body, store=store)() == [0, 1, 0, 1]


# Leaving the loop.


@pytest.mark.parametrize("ordered", [True, False])
def test_after_break_what_has_not_begun_is_cancelled_and_the_item_is_done(
    spreading, store, ordered
):
    kept = Kept(3)

    async def body(cp):
        log = cp.state([])
        source = until_the_end(kept)
        async for n in spreading.map(
            cp, number, source, number, executor=kept, ahead=4, ordered=ordered
        ):
            log.append(n)
            if len(log) == 2:
                break
        await cp.save()
        again = [n async for n in spreading.map(cp, number, range(3), name="more")]
        return [log, again]

    first = [0, 1] if ordered else [2, 1]
    job = spreading.job(body, store=store)
    assert job() == [first, [0, 1, 2]]
    under_way = [n for n in kept.calls if n not in kept.made]
    assert under_way
    assert all(kept.futures[n].cancelled() for n in under_way)
    cursor = opened(store.load(RUN).latest).cursors["items"]
    assert cursor["closed"]
    assert cursor["count"] == (2 if ordered else 0)


def test_an_iterator_that_is_kept_ends_with_the_run(spreading, store):
    kept = Kept(3)

    async def body(cp):
        source = until_the_end(kept)
        results = spreading.map(cp, number, source, number, executor=kept, ahead=4)
        async for _ in results:
            held.append(results)
            raise OopsError

    held = []
    with pytest.raises(OopsError):
        spreading.job(body, store=store)()
    assert held
    under_way = [n for n in kept.calls if n not in kept.made]
    assert all(kept.futures[n].cancelled() for n in under_way)


def test_tasks_are_awaited_before_the_run_ends(store):
    ended, begun = [], asyncio.Event()

    async def slow_to_end(n):
        if n == 0:
            return n
        try:
            begun.set()
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append(n)

    @checkpointed(store=store, key="{leave}")
    async def job(cp, leave):
        async for _ in cp.map(slow_to_end, range(4), ahead=4):
            if leave == "break":
                break
            if leave == "error":
                raise OopsError
        return [*ended]

    async def scenario():
        await job("break")
        assert sorted(ended) == [1, 2, 3]
        ended.clear()
        with pytest.raises(OopsError):
            await job("error")
        assert sorted(ended) == [1, 2, 3]
        ended.clear()
        begun.clear()
        task = asyncio.create_task(job("wait"))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert sorted(ended) == [1, 2, 3]

    asyncio.run(scenario())


def test_errors_of_dropped_items_are_nobodys_business(store, caplog):
    async def fail(n):
        if n:
            raise OopsError(n)
        await asyncio.sleep(0)

    async def main():
        async with checkpoint_run("key", store=store) as cp:
            async for _ in cp.map(fail, range(4), ahead=4):
                break

    asyncio.run(main())
    assert [each.message for each in caplog.records if each.name == "asyncio"] == []


# Inside the loop, and inside fn.


@pytest.mark.parametrize("ordered", [True, False])
def test_steps_and_iterations_inside_the_loop_are_as_in_iterate(spreading, crashing, ordered):
    """Crash in each step of the loop: each effect is made once, each inner item counted once."""

    async def body(cp, crash_at=None):
        log, kept = cp.state([]), Kept(2)
        moments = 0

        def maybe_crash():
            nonlocal moments
            moments += 1
            if moments == crash_at:
                raise CrashError

        async for n in spreading.map(
            cp, number, until_the_end(kept, range(5)), number,
            executor=kept, ahead=3, ordered=ordered,
        ):  # fmt: skip
            async for inner in cp.iterate("ab", name="inner"):
                log.append(f"{n}{inner}")
                maybe_crash()
            effect = await cp.step("effect", lambda n=n: effects.append(n) or n)
            maybe_crash()
            log.append(effect)
        return log

    whole = [each for n in range(5) for each in (f"{n}a", f"{n}b", n)]
    for crash_at in range(1, 16, min(4, strides())):  # three moments to an item
        store, effects = MemoryStore(), []
        job = spreading.job(body, store=store)
        with pytest.raises(CrashError):
            job(crash_at=crash_at)
        log = job()
        assert sorted(log, key=str) == sorted(whole, key=str)
        assert sorted(effects) == [*range(5)]
        at = [log.index(f"{n}a") for n in range(5)]
        assert all(log[i : i + 3] == [f"{n}a", f"{n}b", n] for n, i in enumerate(at))
        assert not ordered or log == whole


def test_a_map_inside_an_item_and_items_inside_a_map(spreading, crashing, store):
    async def body(cp, crash_at=None):
        log = cp.state([])
        async for outer in cp.iterate("ab"):
            async for n in spreading.map(cp, square, range(3), name="inner"):
                log.append(f"{outer}{n}")
                if len(log) == crash_at:
                    raise CrashError
        return log

    job = spreading.job(body, store=store)
    with pytest.raises(CrashError):
        job(crash_at=5)
    assert job() == ["a0", "a1", "a4", "b0", "b1", "b4"]


def test_cp_inside_fn_is_refused(spreading, store):
    async def body(cp, use):
        async for _ in spreading.map(cp, lambda _: use(cp), range(3)):
            raise AssertionError("there is no result")

    uses = {
        "cp.state": lambda cp: cp.state([]),
        "cp.iterate": lambda cp: cp.iterate("a"),
        "cp.map": lambda cp: cp.map(number, "a", executor=Kept()),
        "cp": lambda cp: cp.idempotency_key(),
    }
    for name, use in uses.items():
        problem = f"`{name}` was used inside `fn` of `cp.map` of run 'key'"
        with pytest.raises(CheckpointError, match=problem):
            spreading.job(body, store=store)(use)


def test_a_step_or_save_inside_fn_is_refused_in_async_code_too(store):
    @checkpointed(store=store)
    async def job(cp):
        async def step(_):
            await cp.step("a", number, 1)

        async def save(_):
            await cp.save()

        async def child(_):
            await asyncio.create_task(save(None))

        for fn in (step, save, child):
            with pytest.raises(CheckpointError, match=r"inside `fn` of `cp\.map`"):
                async for _ in cp.map(fn, [1]):
                    pass

    asyncio.run(job())


def test_cp_inside_fn_in_a_thread_is_refused(runner, store):
    async def body(cp):
        with ThreadPoolExecutor(1) as pool:
            async for _ in cp.map(lambda _: cp.state([]), range(3), executor=pool):
                raise AssertionError("there is no result")

    with pytest.raises(CheckpointError, match="belongs to the thread that the run is in"):
        runner.job(body, store=store)()


def test_another_run_may_be_used_inside_fn(spreading, store):
    def nested(n):
        with checkpoint_run(f"inner {n}", store=store) as cp:
            return cp.step("a", square, n)

    async def body(cp):
        return [each async for each in spreading.map(cp, nested, range(3))]

    if spreading.in_tasks:
        return  # a sync block would block the loop there
    assert spreading.job(body, store=store)() == [0, 1, 4]


def test_map_is_refused_inside_a_step(runner, store):
    async def body(cp):
        await cp.step("a", lambda: cp.map(number, [1], executor=Kept()))

    with pytest.raises(CheckpointError, match=r"`cp.map` was used inside step 'a'"):
        runner.job(body, store=store)()


def test_the_items_have_idempotency_keys_inside_the_loop_and_in_the_source(runner, store):
    keys = {}

    async def body(cp, crash):
        pairs = ((n, cp.idempotency_key(n)) for n in range(4))
        async for n, key in cp.map(lambda pair: pair, pairs, lambda p: p[0], executor=Kept()):
            assert keys.setdefault(n, (key, cp.idempotency_key())) == (key, cp.idempotency_key())
            if crash and n == 2:
                raise OopsError

    job = runner.job(body, store=store)
    with pytest.raises(OopsError):
        job(crash=True)
    job(crash=False)
    assert len({key for pair in keys.values() for key in pair}) == 8


# Waiting is a boundary.


class Recording(MemoryStore):
    """Says when a document was saved."""

    def __init__(self):
        super().__init__()
        self.saved = threading.Event()

    def commit(self, lease, change):
        super().commit(lease, change)
        if change.document is not None:
            self.saved.set()


@pytest.fixture
def looks_often(monkeypatch):
    """A loop that waits looks every 5 ms whether there is something else to do."""
    monkeypatch.setattr(results, "_LONGEST_WAIT", 0.005)


@pytest.mark.usefixtures("looks_often")
def test_a_save_that_is_due_is_made_while_the_loop_waits(runner):
    store = Recording()

    def work(n):
        for _ in range(2 if n == 2 else 0):  # the second time the loop does nothing but wait
            assert had_two.wait(10)
            store.saved.clear()
            clock.advance(60)
            while not store.saved.wait(0.05):  # it was before the schedule had heard of the last
                clock.advance(60)
            saved.append(opened(store.load(RUN).latest).state)
        return n

    async def body(cp):
        log = cp.state([])
        with ThreadPoolExecutor(1) as pool:
            async for n in cp.map(work, range(4), executor=pool):
                log.append(n)
                if n == 1:
                    had_two.set()

    saved, had_two = [], threading.Event()
    with FakeClock() as clock:
        runner.job(body, store=store, every=timedelta(seconds=30), lease=86_400)()
    assert saved == [[0, 1], [0, 1]]


@pytest.mark.usefixtures("looks_often")
def test_a_lost_lease_is_told_while_the_loop_waits(runner, store):
    released = threading.Event()

    def work(n):
        if n == 1:
            kept = store._runs[RUN]
            kept.record = attrs.evolve(kept.record, token=99)
            assert released.wait(10)
        return n

    async def body(cp):
        with ThreadPoolExecutor(1) as pool:
            try:
                async for _ in cp.map(work, range(4), executor=pool):
                    pass
            finally:
                released.set()

    with pytest.raises(LeaseLostError):
        runner.job(body, store=store, lease=0.06)()


@pytest.mark.usefixtures("looks_often")
def test_interrupt_all_acts_while_the_loop_waits(runner, store):
    had_one, released = threading.Event(), threading.Event()

    def work(n):
        if n == 1:
            assert had_one.wait(10)
            interrupt_all()
            assert released.wait(10)
        return n

    async def body(cp):
        log = cp.state([])
        with ThreadPoolExecutor(1) as pool:
            try:
                async for n in cp.map(work, range(4), executor=pool):
                    log.append(n)
                    had_one.set()
            finally:
                released.set()

    with pytest.raises(RunInterruptedError):
        runner.job(body, store=store, every=timedelta(hours=1))()
    assert opened(store.load(RUN).latest).state == [0]
    assert store.list()[0][1] == "interrupted"


@pytest.mark.usefixtures("looks_often")
def test_a_store_that_fails_while_the_loop_waits_ends_it(runner, store, monkeypatch):
    released = threading.Event()

    def unreachable(*_args):
        raise StoreUnavailableError("memory://", "down")

    def work(n):
        if n == 1:
            monkeypatch.setattr(store, "commit", unreachable)
            clock.advance(60)
            assert released.wait(10)
        return n

    async def body(cp):
        with ThreadPoolExecutor(1) as pool:
            try:
                async for _ in cp.map(work, range(4), executor=pool):
                    pass
            finally:
                released.set()

    with FakeClock() as clock, pytest.raises(StoreUnavailableError):
        runner.job(body, store=store, every=timedelta(seconds=30))()


# What is refused at once.


BAD = [
    ({"fn": None}, "`fn` must be a function"),
    ({"source": 5}, "`source` must be an iterable"),
    ({"key": 5}, "`key` must be a function"),
    ({"source": lambda last: [last]}, "`key` is needed with a callable source"),
    ({"executor": 4}, "`executor` must be a concurrent.futures.Executor"),
    ({"ahead": "4"}, "`ahead` must be a whole number"),
    ({"ordered": 1}, "`ordered` must be True or False"),
    ({"name": ""}, "`name` must be a str that is not empty"),
    ({"progress": None}, "`progress` must be True or False"),
]


@pytest.mark.parametrize(("wrong", "problem"), BAD)
def test_a_wrong_argument_is_refused_by_its_name(runner, store, wrong, problem):
    async def body(cp):
        arguments = {"fn": number, "source": [1], "executor": Kept()} | wrong
        with pytest.raises(TypeError, match=problem):
            cp.map(**arguments)
        with pytest.raises(ValueError, match="`ahead` must be at least 1"):
            cp.map(number, [1], executor=Kept(), ahead=0)

    runner.job(body, store=store)()


async def adouble(n):
    return n * 2


def generator(n):
    yield n


def test_an_async_function_and_an_executor_do_not_go_together(runner, store):
    async def body(cp):
        with pytest.raises(TypeError, match=r"adouble is async.*leave `executor` out"):
            cp.map(adouble, [1], executor=Kept())
        with pytest.raises(TypeError, match=r"generator is a generator"):
            cp.map(generator, [1], executor=Kept())

    runner.job(body, store=store)()


def test_sync_code_needs_an_executor_and_nothing_async(store):
    async def rows():
        yield 1

    with checkpoint_run("key", store=store) as cp:
        with pytest.raises(TypeError, match="`executor` is needed: give a ThreadPoolExecutor"):
            cp.map(number, [1])
        with pytest.raises(TypeError, match=r"adouble is async; use `cp.map` in an async function"):
            cp.map(adouble, [1])
        with pytest.raises(TypeError, match="`source` is async"):
            cp.map(number, rows(), executor=Kept())


def test_a_plain_function_without_an_executor_is_refused_in_async_code(store):
    @checkpointed(store=store)
    async def job(cp):
        assert [n async for n in cp.map(lambda n: adouble(n), [1, 2])] == [2, 4]  # noqa: PLW0108 - a plain one
        async for _ in cp.map(square, [1]):
            pass

    with pytest.raises(TypeError, match=r"square is not async.*`executor` such as a Thread"):
        asyncio.run(job())


# Shown to people.


def test_a_terminal_shows_how_far_it_is(runner, store, monkeypatch):
    class Terminal:
        written = ""

        def isatty(self):
            return True

        def write(self, text):
            self.written += text

        def flush(self):
            pass

    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setitem(sys.modules, "tqdm", None)

    async def body(cp, crash=None):
        source = [*range(6)]
        options = {"executor": Kept(), "progress": True, "ordered": False, "name": "rows"}
        async for n in cp.map(number, source, **options):
            if n == crash:
                raise OopsError

    job = runner.job(body, store=store)
    with pytest.raises(OopsError):
        job(crash=3)
    terminal.written = ""
    job()
    assert "rows: 6 done, 0 left, resumed at 3" in terminal.written
