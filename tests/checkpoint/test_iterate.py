"""`cp.iterate`: what is passed over, what is refused, and when it saves."""

import asyncio
import threading
from datetime import timedelta

import pytest

from mainstay import checkpoint_run, checkpointed
from mainstay._checkpoint.document import opened
from mainstay.errors import CheckpointError, SourceChangedError, UnsaveableValueError
from mainstay.stores import store_of
from mainstay.testing import FakeClock, Faults
from support.checkpoints import RUN, CrashError, OopsError, add_up


def test_items_are_taken_lazily(runner, store):
    """Known fault 15: safe-state makes a list of the source; others try to pickle it."""
    taken = []

    def rows():
        for row in range(3):
            taken.append(row)
            yield row

    async def body(cp):
        async for row in cp.iterate(rows()):
            assert taken == [*range(row + 1)]

    runner.job(body, store=store)()
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


def test_a_callable_source_is_asked_for_what_follows_the_last_key(runner, store):
    asked = []

    def rows(last):
        asked.append(last)
        return range(0 if last is None else last + 1, 5)

    job, seen = runner.job(add_up, store=store), []
    with pytest.raises(ValueError, match="3"):
        job(rows, 3, seen)
    assert job(rows, None, seen) == 10
    assert asked == [None, 2]
    assert seen == [0, 1, 2, 3, 3, 4]


def test_a_callable_source_that_begins_with_the_last_key_is_refused(runner, store):
    job = runner.job(add_up, store=store)
    with pytest.raises(ValueError, match="3"):
        job(range(5), 3)
    with pytest.raises(SourceChangedError, match="does not begin after it"):
        runner.job(add_up, store=store)(lambda last: range(last or 0, 5))


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
    runner, store, rows, key
):
    """Known fault: safe-state never processes a new head, and another item twice."""
    job = runner.job(add_up, store=store)
    with pytest.raises(ValueError, match="3"):
        job([0, 1, 2, 3, 4], 3, None, key)
    with pytest.raises(SourceChangedError) as changed:
        job(rows, None, None, key)
    assert changed.value.iteration == "items"
    assert job([0, 1, 2, 3, 4], None, None, key) == 10


@pytest.mark.parametrize(
    ("rows", "seen"), [([10, 20, 30, 40], [30, 40]), ([5, 10, 20, 30, 40], None)]
)
def test_a_list_in_place_of_a_callable_source_is_checked_by_its_last_key(runner, store, rows, seen):
    def after(last):
        return [row for row in (10, 20, 30, 40) if last is None or row > last]

    with pytest.raises(OopsError):
        runner.job(add_up, store=store)(after, 30)
    job, again = runner.job(add_up, store=store), []
    if seen is None:
        with pytest.raises(SourceChangedError, match="after 2 items: the items before that"):
            job(rows)
    else:
        job(rows, None, again)
        assert again == seen


def test_a_source_that_grew_at_its_end_is_gone_through(runner, store):
    job = runner.job(add_up, store=store)
    with pytest.raises(ValueError, match="3"):
        job([0, 1, 2, 3], 3)
    assert job([0, 1, 2, 3, 4, 5]) == 15


def test_the_same_key_twice_in_a_row_is_refused(runner, store):
    job = runner.job(add_up, store=store)
    for _ in range(2):
        with pytest.raises(SourceChangedError) as refused:
            job([1, 2, 2, 3])
        assert str(refused.value) == (
            "job: iteration 'items' of run 'key' cannot go on after 2 items: two neighbouring "
            "items have the same key 2; give a `key` that tells them apart"
        )


def test_without_a_key_equal_items_are_told_apart_by_their_position(runner, store):
    assert runner.job(add_up, store=store)([2, 2, 2], None, None, None) == 6


def test_items_that_cannot_be_saved_need_a_key(runner, store):
    async def body(cp, key):
        async for _ in cp.iterate([object(), object()], key=key):
            pass

    with pytest.raises(UnsaveableValueError) as refused:
        runner.job(body, store=store)(None)
    assert str(refused.value) == (
        "iteration 'items': items[0] cannot be saved: an object has no exact form in JSON; give "
        "`key=`, or iterate over plain values"
    )


def test_keys_must_have_the_same_repr_everywhere(runner, store):
    async def body(cp):
        async for _ in cp.iterate([1, 2], key=lambda _: object()):
            pass

    with pytest.raises(UnsaveableValueError, match="keys are str, int"):
        runner.job(body, store=store)()


def test_an_item_that_was_left_by_break_is_done(runner, store):
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

    job = runner.job(body, store=store)
    with pytest.raises(OopsError):
        job(True)
    assert job(False) == ["a", "b"]


def test_iterations_follow_each_other(runner, store):
    async def body(cp, fail_at):
        log = cp.state([])
        for source in ("ab", "cd", "ef"):
            async for item in cp.iterate(source):
                if item == fail_at:
                    raise OopsError
                log.append(item)
        return log

    job = runner.job(body, store=store)
    for fail_at in "bdef":
        with pytest.raises(OopsError):
            job(fail_at)
    assert job("") == [*"abcdef"]


def test_iterations_inside_items_go_on_inside_them(runner, store):
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

    job = runner.job(body, store=store)
    for fail_at in ("Ay", "Bz"):
        with pytest.raises(OopsError):
            job(fail_at)
    assert job("") == ["Ax", "Ay", "Az", "Bx", "By", "Bz"]
    assert seen == ["Ax", "Ay", "Ay", "Az", "Bx", "By", "Bz", "Bz"]


def test_an_item_without_an_iteration_does_not_keep_the_next_one_from_saving(runner, store):
    async def body(cp, seen):
        state = cp.state({"sum": 0})
        async for row in cp.iterate([1, 2, 3]):
            if row == 2:
                state["sum"] += row
                continue
            async for part in cp.iterate("ab"):
                if (row, part) == (3, "b") and not cp.resumed:
                    raise OopsError
                seen.append((row, part))

    seen = []
    job = runner.job(body, store=store)
    with pytest.raises(OopsError):
        job(seen)
    job(seen)
    assert seen == [(1, "a"), (1, "b"), (3, "a"), (3, "b")]


def test_state_that_an_item_changed_before_an_iteration_in_it_is_not_applied_twice(runner, store):
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

    job = runner.job(body, store=store)
    for fail_at in ("Ay", "Bx", "Bz"):
        with pytest.raises(OopsError):
            job(fail_at)
    assert job("") == ["A", "Ax", "Ay", "Az", "a", "B", "Bx", "By", "Bz", "b"]


def test_another_item_in_place_of_the_one_in_progress_is_refused(runner, store):
    async def body(cp, outers, fail_at):
        async for outer in cp.iterate(outers):
            async for inner in cp.iterate("xyz"):
                if outer + inner == fail_at:
                    raise OopsError

    job = runner.job(body, store=store)
    with pytest.raises(OopsError):
        job("AB", "By")
    with pytest.raises(SourceChangedError, match="item that was in progress"):
        job("AC", "")


def test_two_iterations_of_one_name_at_once_are_refused(runner, store):
    async def body(cp):
        async for _ in cp.iterate("ab", name="rows"):
            async for _ in cp.iterate("cd", name="rows"):
                pass

    with pytest.raises(CheckpointError, match="'rows' of run 'key' is still going on"):
        runner.job(body, store=store)()


def test_two_iterations_side_by_side_are_refused(store):
    @checkpointed(store=store)
    def job(cp):
        return [*zip(cp.iterate("ab"), cp.iterate("cd"), strict=True)]

    with pytest.raises(CheckpointError, match="must follow or be inside each other"):
        job()


def test_a_source_that_fails_between_items_can_be_gone_on_with(runner, store):
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
    assert runner.job(body, store=store)() == [0, 1, 0, 1, 2, 3]


def test_a_save_is_durable_before_the_next_item_is_given_out(runner, url):
    """Known fault: LangGraph's default loses up to 60 of 60 fast nodes."""

    async def body(cp):
        number = 0
        async for _ in cp.iterate("abc"):
            other = store_of(url)
            latest = other.load(RUN).latest
            other.close()
            assert (opened(latest).items if latest else 0) == number
            number += 1

    runner.job(body, store=url, every=1)()


def test_every_few_items_and_every_so_often(runner, store, metrics):
    async def body(cp, seconds):
        async for _ in cp.iterate(range(10)):
            clock.advance(seconds)

    with FakeClock() as clock:
        runner.job(body, store=store, every=4, key=lambda _: "items")(0)
        saves = metrics("checkpoint_saves_total", outcome="ok")
        assert saves == 2 + 1 + 1  # after 4 and 8, at the loop's end, at the function's
        runner.job(body, store=store, every=timedelta(seconds=3), key=lambda _: "time")(1)
        assert metrics("checkpoint_saves_total", outcome="ok") - saves == 3 + 1 + 1
        assert metrics("checkpoint_interval_seconds") == 3.0


def test_save_inside_an_item_takes_effect_at_its_end(runner, store, crashing):
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

    job = runner.job(body, store=store, every=100)
    with pytest.raises(CrashError):
        job(3)
    assert store.load(RUN).latest is not None
    assert job(None) == [0, 1, "rest", 2, 3, 4]


def test_save_outside_of_items_saves_now(runner, store, metrics):
    async def body(cp):
        cp.state({"a": 1})
        await cp.save()
        assert metrics("checkpoint_saves_total", outcome="ok") == 1

    runner.job(body, store=store)()


# Sources that use the run themselves: between two items, nothing belongs to the one before.


@pytest.mark.parametrize("every", [1, 2, 4, 5, 100])
def test_a_step_in_a_source_is_computed_once_whenever_saves_are(store, every):
    fetched = []

    def page(number):
        fetched.append(number)
        return [number * 10 + row for row in range(3)]

    @checkpointed(store=store, key=lambda _fail_at: "key", every=every)
    def job(cp, fail_at):
        def rows():
            for number in range(3):
                yield from cp.step("page", page, number)

        log = cp.state([])
        for row in cp.iterate(rows(), key=lambda row: row):
            if row == fail_at:
                raise OopsError
            log.append(row)
        return log

    for fail_at in (11, 22):
        with pytest.raises(OopsError):
            job(fail_at)
    assert job(None) == [0, 1, 2, 10, 11, 12, 20, 21, 22]
    assert fetched == [0, 1, 2]


def test_a_source_of_batches_repeats_the_batch_in_progress(runner, store):
    async def body(cp, fail):
        log = cp.state([])
        async for batch in cp.iterate([[0, 1, 2], [3, 4, 5], [6]]):
            if fail and 3 in batch:
                raise OopsError
            log.extend(batch)
        return log

    job = runner.job(body, store=store)
    with pytest.raises(OopsError):
        job(True)
    assert job(False) == [*range(7)]


def test_the_name_of_an_iteration_is_not_that_of_another_one_with_its_number(runner, store):
    async def body(cp):
        return [[row async for row in cp.iterate("ab", name=name)] for name in ("x", "x", "x#2")]

    assert runner.job(body, store=store)() == [["a", "b"]] * 3


def test_an_iteration_belongs_to_the_thread_of_its_run(store):
    errors = []

    def take(items):
        try:
            list(items)
        except CheckpointError as error:
            errors.append(error)

    with checkpoint_run("key", store=store) as cp:
        thread = threading.Thread(target=take, args=(cp.iterate([1, 2]),))
        thread.start()
        thread.join()
    assert ["belongs to the thread that the run" in str(error) for error in errors] == [True]
