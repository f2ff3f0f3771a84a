"""One durable step with other libraries, as their documentation shows it: for `checkpoint.py`.

Run by itself with a name and a number, it takes so many steps: that is what strace watches.

    python benchmarks/checkpoint_peers.py NAME STEPS DIRECTORY
"""

import itertools
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from time import perf_counter

from dbos import DBOS
from diskcache import Cache
from joblib import Memory
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.sqlite import SqliteSaver

from harness import Loop, looped
from mainstay import checkpoint_run
from mainstay.stores import SQLiteStore

PAYLOAD = "x" * 200

BY_HAND = "by hand: INSERT and COMMIT"
STEP = "mainstay, cp.step"
ITEM = "mainstay, cp.iterate, every=1"
DBOS_SQLITE = "DBOS on SQLite, a step of a workflow"
LANGGRAPH = "LangGraph, SqliteSaver.put"
DISKCACHE = "diskcache, Cache.set"
DISKCACHE_FULL = "diskcache, Cache.set, sqlite_synchronous=2"
JOBLIB = "joblib, a call that Memory has not seen"

LACKS = {
    BY_HAND: "no owner, no resume, no checksum: only the row is on the disk",
    STEP: "-",
    ITEM: "-",
    DBOS_SQLITE: "owner checked at the commit, no lease; a resume replays a loop step by step",
    LANGGRAPH: "no owner: two processes both run; no resume of the code around it",
    DISKCACHE: "loses what was set before a loss of power; evicts at 1 GB; no owner, no order",
    DISKCACHE_FULL: "evicts at 1 GB; no owner, no order",
    JOBLIB: "never syncs; a flipped bit is handed back; two processes both compute",
}


@contextmanager
def by_hand(directory: Path) -> Iterator[Loop]:
    """Save as a careful engineer would by hand."""
    db = sqlite3.connect(directory / "by_hand.db", isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("CREATE TABLE step (id INTEGER PRIMARY KEY, value TEXT)")

    def step() -> None:
        db.execute("BEGIN IMMEDIATE")
        db.execute("INSERT INTO step (value) VALUES (?)", (PAYLOAD,))
        db.execute("COMMIT")

    yield looped(step)
    db.close()


def payload() -> str:
    """Give what is saved."""
    return PAYLOAD


@contextmanager
def steps(directory: Path) -> Iterator[Loop]:
    """Save a result of 200 bytes at each step, all in one run."""
    store = SQLiteStore(directory / "steps.db")
    with checkpoint_run("steps", store=store) as cp:
        yield looped(lambda: cp.step("step", payload))
    store.close()


@contextmanager
def items(directory: Path) -> Iterator[Loop]:
    """Save cursor and a state of 200 bytes with each item."""
    store = SQLiteStore(directory / "items.db")
    runs = itertools.count()

    def loop(times: int) -> float:
        with checkpoint_run(f"items-{next(runs)}", store=store) as cp:
            cp.state({"text": PAYLOAD})
            started = perf_counter()
            for _ in cp.iterate(range(times), key=int):
                pass
            return perf_counter() - started

    yield loop
    store.close()


@contextmanager
def dbos_steps(directory: Path) -> Iterator[Loop]:
    """Take the steps of one workflow for each loop."""
    database = f"sqlite:///{directory / 'dbos.db'}"
    DBOS(config={"name": "bench", "system_database_url": database, "log_level": "CRITICAL"})
    step = DBOS.step()(payload)

    @DBOS.workflow()
    def workflow(times: int) -> float:
        return looped(step)(times)

    DBOS.launch()
    yield workflow
    DBOS.destroy()


@contextmanager
def langgraph_puts(directory: Path) -> Iterator[Loop]:
    """Put checkpoints of one thread."""
    config = {"configurable": {"thread_id": "1", "checkpoint_ns": ""}}
    with SqliteSaver.from_conn_string(str(directory / "langgraph.db")) as saver:
        saver.setup()

        def put() -> None:
            checkpoint = empty_checkpoint()
            checkpoint["channel_values"] = {"text": PAYLOAD}
            saver.put(config, checkpoint, {}, {})

        yield looped(put)


@contextmanager
def diskcache_sets(directory: Path, **settings: int) -> Iterator[Loop]:
    """Set one key after the other."""
    keys = itertools.count()
    with Cache(str(directory / f"diskcache{len(settings)}"), **settings) as cache:
        yield looped(lambda: cache.set(next(keys), PAYLOAD))


def computed(number: int) -> str:
    """Give what is saved for a number that was not seen before."""
    return f"{number:200}"


def joblib_calls(directory: Path) -> nullcontext[Loop]:
    """Call a function with one argument after the other."""
    numbers = itertools.count()
    call = Memory(str(directory / "joblib"), verbose=0).cache(computed)
    return nullcontext(looped(lambda: call(next(numbers))))


CASES = {
    BY_HAND: by_hand,
    STEP: steps,
    ITEM: items,
    DBOS_SQLITE: dbos_steps,
    LANGGRAPH: langgraph_puts,
    DISKCACHE: diskcache_sets,
    DISKCACHE_FULL: lambda directory: diskcache_sets(directory, sqlite_synchronous=2),
    JOBLIB: joblib_calls,
}

if __name__ == "__main__":
    with CASES[sys.argv[1]](Path(sys.argv[3])) as many:
        many(int(sys.argv[2]))
