"""Runs that earlier versions left behind are found, go on, and come to the same.

The files are those of `fixtures/write.py`, by the commit that wrote them.
"""

import shutil
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

from mainstay import checkpointed, recover
from mainstay.errors import CheckpointError, PoisonedRunError
from mainstay.stores import MemoryStore, SQLiteStore
from mainstay.stores.base import RunId
from support import stored_jobs as jobs

FIXTURES = Path(__file__).parent / "fixtures"
WITH_PARTS = (jobs.interrupted_in_parts, jobs.interrupted_after_parts)
GO_ON = [
    *(("released", fn, place) for fn, place in jobs.PLACES.items() if fn not in WITH_PARTS),
    *(("killed", fn, place) for fn, place in jobs.DEATHS.items()),
]

pytestmark = pytest.mark.usefixtures("nothing_registered")


def commits(kind):
    """The commits that files of a kind are of."""
    return sorted(file.name.partition("-")[0] for file in FIXTURES.glob(f"*-{kind}.db"))


@pytest.fixture(params=commits("released"))
def opened(request, tmp_path):
    """Opens a copy of a file: `opened("killed")`."""
    stores = []

    def opened(kind):
        copy = shutil.copy(FIXTURES / f"{request.param}-{kind}.db", tmp_path)
        stores.append(SQLiteStore(copy))
        return stores[-1]

    jobs.register()
    jobs.calls.clear()
    yield opened
    for store in stores:
        store.close()


def id_of(fn, key="key"):
    return RunId(f"{fn.__module__}.{fn.__qualname__}", key)


def states(store):
    return {record.run: state for record, state in store.list()}


@pytest.mark.parametrize(("kind", "fn", "place"), GO_ON, ids=lambda value: getattr(
    value, "__name__", None))  # fmt: skip
def test_a_run_goes_on_where_it_was_and_comes_to_the_same(opened, caplog, kind, fn, place):
    undisturbed = jobs.run(fn, MemoryStore())
    all_calls = [*jobs.calls]
    jobs.calls.clear()
    store = opened(kind)
    runs = set(states(store))
    assert jobs.run(fn, store) == undisturbed
    assert jobs.calls == all_calls[all_calls.index(place) :]
    assert states(store).keys() == runs
    assert states(store)[id_of(fn)] == "done"
    assert "other code" not in caplog.text


@pytest.mark.parametrize("kind", ["released", "killed"])
def test_a_block_goes_on_under_the_name_that_was_saved(opened, kind):
    store = opened(kind)
    runs = set(states(store))
    assert jobs.block(store) == [6, 1500]
    assert jobs.calls == ["item row 3", "item row 4", "item row 5"]
    assert states(store).keys() == runs
    assert states(store)[RunId("run", "nightly")] == "done"


@pytest.mark.parametrize("kind", ["released", "killed"])
def test_a_run_is_recovered_with_the_arguments_that_were_kept(opened, kind):
    store = opened(kind)
    jobs.recoverable_job(store)
    found = {RunId(each.name, each.key): each for each in recover(store)}
    ours = found.pop(id_of(jobs.recoverable, "invoice-acme"))
    assert (ours.outcome, ours.result) == ("done", ["acme", Decimal("6.60"), date(2024, 2, 29)])
    assert jobs.calls == ["amount 2.20", "amount 3.30"]
    assert {each.outcome for each in found.values()} == {"left"}


def test_a_result_is_returned_and_nothing_is_done_again(opened):
    store = opened("released")
    assert jobs.run(jobs.by_key, store, name="ended") == {"rows": 6, "cents": 1500}
    assert jobs.run(jobs.steps_of_many_types, store, name="ended with steps") == [
        True, 30, "HIGH", 1.5,
    ]  # fmt: skip
    assert jobs.calls == []


def test_a_poisoned_run_stays_poisoned(opened):
    store = opened("released")
    with pytest.raises(PoisonedRunError) as poisoned:
        checkpointed(store=store, key=lambda: "key")(jobs.deadly)()
    assert poisoned.value.crashes == 2
    assert jobs.calls == []


def test_a_run_that_was_interrupted_inside_a_step_with_parts_says_that_it_cannot_go_on(opened):
    store, run = opened("released"), id_of(jobs.interrupted_in_parts)
    saved = store.load(run)
    with pytest.raises(CheckpointError, match="interrupted in step 'load' with steps or iter"):
        jobs.run(jobs.interrupted_in_parts, store)
    assert store.load(run) == saved
    assert states(store)[run] == "interrupted"
    assert jobs.calls == []


def test_a_run_goes_on_after_a_step_with_parts_that_has_its_result(opened):
    store = opened("released")
    assert jobs.run(jobs.interrupted_after_parts, store) == ["loaded", 20]
    assert jobs.calls == ["loaded", "compute 2"]


@pytest.mark.parametrize("opened", commits("map"), indirect=True)
@pytest.mark.parametrize("how", ["released", "killed"])
@pytest.mark.parametrize("fn", jobs.MAPS, ids=lambda fn: fn.__name__)
def test_a_map_goes_on_with_the_items_that_are_not_done(opened, caplog, fn, how):
    store, name = opened("map"), jobs.killed(fn) if how == "killed" else id_of(fn).name
    run = RunId(name, "key")
    before = states(store)
    result = jobs.run(fn, store, name=name)
    done = [100, 0, 300] if fn is jobs.mapped_as_done else [0, 100, 200]
    assert result[:3] == done
    assert sorted(result) == [row["cents"] for row in jobs.ROWS]
    prices = [call for call in jobs.calls if call.startswith("price")]
    missing = [f"price {row['id']}" for row in jobs.ROWS if row["cents"] not in done]
    assert sorted(prices) == missing
    assert states(store) == before | {run: "done"}
    assert [record.attempt for record, _ in store.list() if record.run == run] == [2]
    assert "other code" not in caplog.text


def test_the_files_are_small():
    assert sum(file.stat().st_size for file in FIXTURES.glob("*.db")) < 100_000
