"""Rows that others have written into a store's file: SQLite keeps any value in any column.

Field faults, D7: the run is damaged by name, and the other runs are listed, checked and run.
"""

import json

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from mainstay import StoreCollector, checkpointed
from mainstay.__main__ import main
from mainstay.errors import CorruptCheckpointError
from support.sqlite_files import connection_of

MALFORMED = {
    "life": b"x",
    "token": "many",
    "grant": b"x",
    "sequence": -1,
    "status": "lost",
    "boot": b"x",
    "namespace": b"x",
    "pid": "x",
    "started": 1.5,
    "host": b"x",
    "expires": float("inf"),
    "seen": "now",
    "saved": b"\x00",
    "attempt": 2**62,
    "crashes": "x",
    "exit": "by magic",
    "error": b"x",
    "arguments": "x",
    "created": 1e300,
    "updated": "x",
}


@pytest.fixture
def job(tmp_path):
    @checkpointed(store=f"sqlite:///{tmp_path}/runs.db", key="{key}", name="job")
    def work(cp, key, *, fail=False):
        cp.step("one", int)
        if fail:
            raise OSError(key)
        return key

    for key in ("bad", "good"):
        with pytest.raises(OSError, match=key):
            work(key, fail=True)
    return work


def write(store, statement, *values):
    with connection_of(store) as db:
        db.execute(statement, values)


def commanded(capsys, store, *arguments):
    try:
        code = main(["checkpoints", *arguments, "--store", store.url])
    except SystemExit as end:
        code = end.code
    out, err = capsys.readouterr()
    return code, out, err


@pytest.mark.parametrize(("column", "value"), MALFORMED.items(), ids=MALFORMED)
def test_a_row_that_cannot_have_been_written_is_damage(capsys, store, job, column, value):
    write(store, f"UPDATE run SET \"{column}\" = ? WHERE key = 'bad'", value)  # noqa: S608 - our names
    problem = f"run 'bad' of job is damaged: its `{column}` cannot be read"
    with pytest.raises(CorruptCheckpointError, match=problem):
        job("bad")
    assert job("good") == "good"

    code, out, _ = commanded(capsys, store, "list", "--json")
    bad, good = json.loads(out)
    assert (code, bad["error"], bad["items"]) == (
        0, f"damaged: its `{column}` cannot be read", None,
    )  # fmt: skip
    assert (good["state"], good["items"]) == ("done", 0)
    assert commanded(capsys, store, "list")[0] == 0
    code, out, _ = commanded(capsys, store, "verify")
    assert (code, problem in out, "2 runs, 1 damaged part" in out) == (1, True, True)
    assert commanded(capsys, store, "show", "job", "bad")[0] == 2

    registry = CollectorRegistry()
    registry.register(StoreCollector(store))
    assert b'checkpoint_runs{component="job",state="done"} 1.0' in generate_latest(registry)

    assert commanded(capsys, store, "forget", "job", "bad")[0] == 0
    assert job("bad") == "bad"


@pytest.mark.parametrize("column", ["name", "key"])
def test_a_run_that_cannot_be_named_is_told(store, job, column):
    write(store, f"UPDATE run SET {column} = x'00' WHERE key = 'bad'")  # noqa: S608 - as above
    with pytest.raises(CorruptCheckpointError, match=f"its `{column}` cannot be read"):
        store.list()
    assert job("good") == "good"


@pytest.mark.parametrize("slot", [b"x", b"\xff", b""])
def test_a_result_whose_place_is_no_text_is_damage(capsys, store, job, slot):
    write(store, "UPDATE result SET slot = ? WHERE id = (SELECT min(id) FROM result)", slot)
    with pytest.raises(CorruptCheckpointError, match="is no text"):
        job("bad")
    assert job("good") == "good"
    assert "1 damaged part\n" in commanded(capsys, store, "verify")[1]
    assert commanded(capsys, store, "show", "job", "bad")[0] == 0
