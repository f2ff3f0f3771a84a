"""`cp.idempotency_key`: the same for an item in every attempt, and never a second effect."""

import pytest

from mainstay.errors import CheckpointError, UnsaveableValueError
from support.checkpoints import OopsError


def by_id(row):
    return row["id"]


ROWS = [{"id": 1}, {"id": 2}, {"id": 3}]


@pytest.mark.parametrize("key", [None, by_id], ids=["by position", "by key"])
def test_the_item_in_progress_has_one_key_however_it_is_named(runner, store, key):
    async def body(cp):
        return [
            {cp.idempotency_key(), cp.idempotency_key(row), cp.idempotency_key(dict(row))}
            async for row in cp.iterate(ROWS, key=key)
        ]

    keys = runner.job(body, store=store)()
    assert [len(each) for each in keys] == [1, 1, 1]
    assert len(set.union(*keys)) == 3


@pytest.mark.parametrize("key", [None, by_id], ids=["by position", "by key"])
def test_an_idempotency_key_of_an_equal_item_leaves_the_source_as_it_was(runner, store, key):
    seen = []

    async def body(cp, fail_at):
        async for row in cp.iterate(ROWS, key=key):
            seen.append((row["id"], cp.idempotency_key(dict(row))))
            if row["id"] == fail_at:
                raise OopsError

    job = runner.job(body, store=store)
    with pytest.raises(OopsError):
        job(2)
    job(None)
    assert [number for number, _ in seen] == [1, 2, 2, 3]
    assert seen[1] == seen[2]


def test_without_a_key_only_the_item_in_progress_has_an_idempotency_key(runner, store):
    async def body(cp):
        async for _ in cp.iterate(["a", "b"]):
            cp.idempotency_key("b")

    with pytest.raises(CheckpointError, match="give the iteration a `key`"):
        runner.job(body, store=store)()


def test_by_key_an_item_has_the_same_idempotency_key_before_during_and_after(runner, store):
    async def body(cp):
        return [tuple(map(cp.idempotency_key, ROWS)) async for _ in cp.iterate(ROWS, key=by_id)]

    assert len({*runner.job(body, store=store)()}) == 1


def test_an_item_around_the_one_in_progress_keeps_its_idempotency_key(runner, store):
    async def body(cp):
        keys = []
        async for order in cp.iterate([{"id": 1}, {"id": 2}], key=by_id):
            before = cp.idempotency_key(order)
            inside = [
                cp.idempotency_key(order)
                async for _ in cp.iterate([("line", 1)], key=lambda line: line[1])
            ]
            keys.append({before, *inside, cp.idempotency_key()})
        return keys

    assert [len(each) for each in runner.job(body, store=store)()] == [1, 1]


def test_equal_items_of_inner_iterations_differ_by_the_item_around_them(runner, store):
    async def body(cp):
        return [
            cp.idempotency_key()
            async for _ in cp.iterate("ab")
            async for _ in cp.iterate("xy", name="inner")
        ]

    assert len({*runner.job(body, store=store)()}) == 4


def test_no_idempotency_key_is_given_for_a_key_that_differs_in_every_process(runner, store):
    async def body(cp):
        async for _ in cp.iterate([1], key=lambda _: object()):
            cp.idempotency_key()

    with pytest.raises(UnsaveableValueError, match="keys are str, int"):
        runner.job(body, store=store)()


def test_what_has_no_exact_form_outside_of_items_is_named(runner, store):
    async def body(cp):
        cp.idempotency_key([object()])

    with pytest.raises(UnsaveableValueError, match=r"^item\[0\] cannot be saved"):
        runner.job(body, store=store)()


def test_what_items_are_known_by_is_the_same_in_every_version(runner, store):
    """The keys made of it stand in the systems of others, which know by them what has been done."""
    known = []

    async def body(cp):
        known_by = cp._run.progress.known_by
        known.append(known_by(None))
        async for order in cp.iterate([{"id": 7}], key=by_id):
            known.append(known_by(None))
            async for _ in cp.iterate(["line"], name="lines"):
                known.extend([known_by(None), known_by(order)])
        known.append(known_by("refund"))

    runner.job(body, store=store)()
    order, line = "f8ff38fc46966ee49e686d0ab3fb497c", "b5fb2d6aa2f95186e8f3665a3b2c7dc7"
    assert known == [
        ("", ""),
        ("items", order),
        (f"items[{order}]/lines", line),
        ("items", order),
        ("", "eff4ad67718f8e775c3a9e7308dabfbf"),
    ]


def test_after_a_break_it_is_that_of_the_run_again(runner, store):
    keys = []

    async def body(cp):
        keys.append(cp.idempotency_key())
        async for _ in cp.iterate([1, 2], key=lambda number: number):
            keys.append(cp.idempotency_key())
            break
        keys.append(cp.idempotency_key())

    runner.job(body, store=store)()
    before, inside, after = keys
    assert before == after != inside
