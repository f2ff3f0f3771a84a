"""The exception that ends a run reaches the user, whatever its message does to the store."""

import threading

import pytest

from mainstay.stores import SQLiteStore


class Speechless(Exception):
    def __str__(self):
        raise ZeroDivisionError


@pytest.mark.parametrize(
    ("error", "kept"),
    [
        (Speechless(), "Speechless"),
        (ValueError("data-\udcff.csv"), "ValueError: data-\\udcff.csv"),
        (ValueError("x" * 5000), "ValueError: " + "x" * 988),
    ],
    ids=["speechless", "no utf-8", "long"],
)
def test_an_exception_is_the_users_own_and_the_run_is_given_back(runner, tmp_path, error, kept):
    async def body(cp):
        raise error

    store = SQLiteStore(tmp_path / "runs.db")
    with pytest.raises(type(error)) as raised:
        runner.job(body, store=store)()
    assert raised.value is error
    [(record, state)] = store.list()
    assert (record.error, state) == (kept, "interrupted")


def test_a_store_that_fails_in_a_way_of_its_own_does_not_hide_it(runner, store, monkeypatch):
    def broken(*_args):
        raise RuntimeError("connection reset")

    async def body(cp):
        raise KeyError("mine")

    monkeypatch.setattr(store, "release", broken)
    with pytest.raises(KeyError, match="mine") as raised:
        runner.job(body, store=store)()
    assert raised.value.__notes__ == ["mainstay.checkpoint job: connection reset"]


def test_a_state_that_cannot_be_saved_does_not_hide_it(runner, store):
    """Known fault 9: in DBOS a TypeError takes the place of the real error."""

    async def body(cp):
        state = cp.state({"rows": []})
        async for _ in cp.iterate(range(2)):
            state["rows"].append(threading.Lock())
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        runner.job(body, store=store)()
