"""What errors of checkpoints say: what, on what, after how much, and what to do."""

import datetime as dt
import sqlite3
import threading

import attrs
import pytest

from mainstay import checkpointed, recover
from mainstay.errors import CodeChangedError, StoreUnavailableError, UnsaveableValueError
from mainstay.stores import SQLiteStore
from support.checkpoints import OopsError


class Zone(dt.tzinfo):
    pass


@attrs.define(slots=False)
class Row:
    lock: object = None


def untidy():
    row = Row()
    row.cache = {}
    return row


def unfinished():
    row = Row()
    del row.lock
    return row


def circle():
    rows = []
    rows.append(rows)
    return rows


@pytest.mark.parametrize(
    ("value", "path", "said", "advice"),
    [
        (Row(threading.Lock()), "state.lock", "no exact form in JSON", "save its parts"),
        (untidy(), "state", "attribute 'cache' is not among its fields", "make it one"),
        (unfinished(), "state", "field 'lock' has no value", "give it one"),
        (circle(), "state", "contains itself", "in place of references"),
        ([Zone()], "state[0]", "not a time zone that can be saved", "use zoneinfo.ZoneInfo"),
        ([dt.datetime(2024, 1, 1, tzinfo=Zone())], "state[0]", "no name", "datetime.timezone"),
    ],
)
def test_what_cannot_be_saved_is_told_with_what_to_do(runner, store, value, path, said, advice):
    async def body(cp):
        cp.state(value)

    with pytest.raises(UnsaveableValueError) as refused:
        runner.job(body, store=store)()
    assert refused.value.path == path
    before, _, after = str(refused.value).partition("; ")
    assert before.startswith(f"{path} cannot be saved: ")
    assert said in before
    assert advice in after


def test_what_cannot_be_told_apart_is_told_to_need_a_key(store):
    job = checkpointed(store=store)(lambda _cp, lock: lock)
    with pytest.raises(UnsaveableValueError, match="no exact form in JSON; give `key=`, or pass"):
        job(threading.Lock())


def test_a_store_that_is_locked_says_for_how_long_and_by_whom(tmp_path, monkeypatch):
    monkeypatch.setattr("mainstay.stores._opening.BUSY_SECONDS", 0.0)
    store = SQLiteStore(tmp_path / "runs.db")
    job = checkpointed(store=store, key=lambda: "key", lease=0.03)(lambda _cp: 1)
    store.list()
    store.close()
    other = sqlite3.connect(tmp_path / "runs.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(
        StoreUnavailableError, match=r"locked, by another process, for as long as .*; keep no"
    ):
        job()
    other.close()
    assert job() == 1


def test_a_store_that_cannot_be_opened_says_what_it_needs(tmp_path):
    store = SQLiteStore(tmp_path / "missing" / "runs.db")
    with pytest.raises(
        StoreUnavailableError, match=r"directory must exist.*; its content is unchanged"
    ):
        store.list()


@attrs.define
class Old:
    rows: int = 3


@attrs.define
class New:
    lines: int = 0


New.__module__, New.__qualname__ = Old.__module__, Old.__qualname__


def old() -> Old:
    return Old()


def new() -> New:
    return New()


@pytest.mark.parametrize("ends", [True, False], ids=["result", "step"])
def test_a_type_that_no_longer_takes_what_was_saved_is_changed_code(runner, store, ends):
    async def before(cp) -> Old:
        value = await cp.step("totals", old)
        if not ends:
            raise OopsError
        return value

    async def after(cp) -> New:
        return await cp.step("totals", new)

    if ends:
        runner.job(before, store=store)()
    else:
        with pytest.raises(OopsError):
            runner.job(before, store=store)()
    with pytest.raises(CodeChangedError, match="no longer accepts its saved data") as changed:
        runner.job(after, store=store)()
    assert changed.value.key == "key"
    assert "cannot be saved" not in str(changed.value)


def test_an_argument_that_its_type_no_longer_takes_is_changed_code(store):
    def before(cp, totals: Old):
        raise OopsError

    def after(cp, totals: New):
        raise AssertionError("never reached")

    options = {"store": store, "key": lambda _totals: "key", "name": "job", "recoverable": True}
    with pytest.raises(OopsError):
        checkpointed(**options)(before)(Old())
    checkpointed(**options)(after)
    [recovered] = recover(store)
    assert type(recovered.error) is CodeChangedError
