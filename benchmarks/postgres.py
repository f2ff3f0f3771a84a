"""What does a durable save in PostgreSQL cost, over one row by hand on the same server?

A server of Debian's package postgresql with fsync on and this process share the machine, without a
network in between: so the count of round trips, which is given beside, matters more than the
microseconds elsewhere. The row by hand is a prepared INSERT of psycopg on one connection, each a
transaction of its own. Peers run as their documentation shows it, on the same server. absurd is
installed by a file of SQL, which its package does not have: $ABSURD_SQL says where one of the same
version is, sql/absurd.sql of its repository. Without that, its row is left out.
"""

import asyncio
import contextlib
import itertools
import logging
import multiprocessing
import os
import random
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import attrs
import psycopg

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from harness import Loop, Measure, Report, looped, main, ratio, times_of
from mainstay import checkpoint_run
from mainstay._core.owner import this_process
from mainstay.stores.base import Acquired, Request, RunId
from mainstay.stores.postgres import PostgresStore
from server_stores import (
    BOTH,
    CP_ASTEP,
    CP_STEP,
    DOCUMENT,
    LEASE,
    PAYLOAD,
    STEP,
    VALUE,
    async_steps,
    both,
    document,
    items,
    payload,
    step,
    trips,
)
from support.fault_proxy import FaultProxy
from support.postgres import Postgres

if TYPE_CHECKING:
    from absurd_sdk import TaskContext

ABSURD_SQL = os.environ.get("ABSURD_SQL")
RAW, RAW_ASYNC = "by hand: INSERT", "by hand, psycopg.AsyncConnection"
CP_ITERATE = "mainstay, cp.iterate, every=1"
DBOS_STEP, LANGGRAPH = "DBOS, a step of a workflow", "LangGraph, PostgresSaver.put"
ABSURD_STEP = "absurd, a step of a task"
OWNER = """
import sys, attrs
from mainstay.stores.base import Request, RunId
from mainstay._core.owner import this_process
from mainstay.stores.postgres import PostgresStore

owner = attrs.evolve(this_process(), boot="another machine")
store = PostgresStore(sys.argv[1])
store.acquire(RunId("takeover", sys.argv[2]), Request(owner=owner, life="a", lease=6.0))
print("acquired", flush=True)
sys.stdin.read()
"""


def by_hand(url: str, table: str, value: bytes = VALUE) -> Callable[[], object]:
    """Insert a row, as a careful engineer would by hand."""
    connection = psycopg.connect(url, autocommit=True, prepare_threshold=0)
    connection.execute(
        f"CREATE TABLE IF NOT EXISTS {table} (id int8 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,"
        " run int8, number int8, slot text, value bytea)"
    )
    numbers = itertools.count()
    statement = f"INSERT INTO {table} (run, number, slot, value) VALUES (1, %s, 'slot', %b)"  # noqa: S608
    return lambda: connection.execute(statement, (next(numbers), value))


def async_by_hand(url: str, runner: asyncio.Runner) -> Loop:
    """Insert rows in a task."""
    statement = "INSERT INTO raw (run, number, slot, value) VALUES (1, %s, 'slot', %b)"
    connection = runner.run(
        psycopg.AsyncConnection.connect(url, autocommit=True, prepare_threshold=0)
    )

    async def inserts(times: int) -> float:
        started = perf_counter()
        for number in range(times):
            await connection.execute(statement, (number, VALUE))
        return perf_counter() - started

    return lambda times: runner.run(inserts(times))


@contextlib.contextmanager
def dbos_steps(url: str) -> Iterator[Loop]:
    """Take the steps of one workflow for each loop."""
    from dbos import DBOS  # noqa: PLC0415 - starts threads

    config = {"name": "bench", "system_database_url": url, "log_level": "CRITICAL"}
    DBOS(config=config)
    taken = DBOS.step()(payload)

    @DBOS.workflow()
    def workflow(times: int) -> float:
        return looped(taken)(times)

    DBOS.launch()
    yield workflow
    DBOS.destroy()


@contextlib.contextmanager
def langgraph_puts(url: str) -> Iterator[Loop]:
    """Put checkpoints of one thread."""
    from langgraph.checkpoint.base import empty_checkpoint  # noqa: PLC0415 - heavy
    from langgraph.checkpoint.postgres import PostgresSaver  # noqa: PLC0415 - a peer

    config = {"configurable": {"thread_id": "1", "checkpoint_ns": ""}}
    with PostgresSaver.from_conn_string(url) as saver:
        saver.setup()

        def put() -> None:
            checkpoint = empty_checkpoint()
            checkpoint["channel_values"] = {"text": PAYLOAD}
            saver.put(config, checkpoint, {}, {})

        yield looped(put)


@contextlib.contextmanager
def absurd_steps(url: str, tables: str) -> Iterator[Loop]:
    """Take the steps of one task for each loop, in its worker; *tables* is the SQL of absurd."""
    from absurd_sdk import Absurd  # noqa: PLC0415 - a peer that most runs leave out

    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(tables)
    app, seconds = Absurd(url, queue_name="bench"), []
    app.create_queue()

    @app.register_task("bench")
    def task(params: dict, context: "TaskContext") -> None:
        seconds.append(looped(lambda: context.step("step", payload))(params["times"]))

    def loop(times: int) -> float:
        app.spawn("bench", {"times": times})
        app.work_batch()
        return seconds.pop()

    yield loop
    app.close()


def single(report: Report, url: str, *, quick: bool) -> None:
    """Compare one caller with a row by hand."""
    store = PostgresStore(url)
    with contextlib.ExitStack() as held:
        runner = held.enter_context(asyncio.Runner())
        cp = held.enter_context(checkpoint_run("steps", store=store, lease=LEASE))
        loops = {
            RAW: looped(by_hand(url, "raw")),
            DOCUMENT: looped(document(store, RunId("store", "document"))),
            STEP: looped(step(store, RunId("store", "step"))),
            BOTH: looped(both(store, RunId("store", "both"))),
            CP_STEP: looped(lambda: cp.step("step", payload)),
            CP_ITERATE: items(store),
            RAW_ASYNC: async_by_hand(url, runner),
            CP_ASTEP: async_steps(store, runner),
            DBOS_STEP: held.enter_context(dbos_steps(url)),
            LANGGRAPH: held.enter_context(langgraph_puts(url)),
        }
        if ABSURD_SQL:
            tables = Path(ABSURD_SQL).read_text(encoding="utf-8")
            loops[ABSURD_STEP] = held.enter_context(absurd_steps(url, tables))
            report.say(f"absurd {version('absurd-sdk')}, with the tables of that version.")
        else:
            report.say("absurd is left out: $ABSURD_SQL does not say where its SQL is.")
        times = times_of(loops, rounds=3 if quick else 150, sample_seconds=0.02 if quick else 0.03)
        report.times("One caller, 200 bytes a save", times, RAW)
    store.close()
    for what, case, at_least, aim in (
        ("a save of a document, at the store", DOCUMENT, 1.25, 1.1),
        ("a save of a result, at the store", STEP, 1.25, 1.1),
        ("`cp.step`", CP_STEP, 1.5, 1.3),
        ("`cp.iterate(every=1)`", CP_ITERATE, 1.5, 1.3),
        ("async `cp.step`", CP_ASTEP, 1.8, 1.4),
    ):
        report.measures.append(
            Measure(f"PostgreSQL: {what} / INSERT by hand", at_least, aim, ratio(times, case, RAW))
        )
    peers = ratio(times, DBOS_STEP, CP_STEP)
    report.measures.append(
        Measure("PostgreSQL: a step of DBOS / `cp.step`", 5, 7, peers, more_is_better=True)
    )


def saving(url: str, name: str, pipe: "multiprocessing.connection.Connection") -> None:
    """Save as fast as possible, what and as long as it is told: in a process of its own.

    Args:
        url: Where the server is.
        name: Of the runs, new ones: numbers of results that are kept already would be looked up.
        pipe: What to do, and how often it was done.
    """
    store = PostgresStore(url, pool=1, session_locks=False)
    saves = {
        RAW: by_hand(url, "raw"),
        DOCUMENT: document(store, RunId("document", name)),
        STEP: step(store, RunId("step", name)),
    }
    for save in saves.values():
        for _ in range(5):
            save()
    pipe.send(None)
    while (order := pipe.recv()) is not None:
        case, ends = order
        save, count = saves[case], 0
        while time.monotonic() < ends:
            save()
            count += 1
        pipe.send(count)
    store.close()


def many(report: Report, url: str, *, quick: bool) -> None:
    """Compare the saves per second of many processes."""
    rows = []
    goals = {1: (0.85, 0.95), 8: (0.85, 0.95), 32: (0.7, 0.9), 64: (0.7, 0.9)}
    seconds, rounds = (0.2, 1) if quick else (0.5, 15)
    start = multiprocessing.get_context("fork")
    by_hand(url, "raw")()  # makes the table, before many would at once
    for processes in (1, 2) if quick else goals:
        pipes = []
        workers = []
        for number in range(processes):
            mine, theirs = start.Pipe()
            worker = start.Process(target=saving, args=(url, f"{number} of {processes}", theirs))
            worker.start()
            pipes.append(mine)
            workers.append(worker)
        for pipe in pipes:
            pipe.recv()
        rates: dict[str, list[float]] = {RAW: [], DOCUMENT: [], STEP: []}
        for _ in range(rounds):
            for case in random.sample([*rates], len(rates)):
                ends = time.monotonic() + seconds
                for pipe in pipes:
                    pipe.send((case, ends))
                rates[case].append(sum(pipe.recv() for pipe in pipes) / seconds)
        for pipe, worker in zip(pipes, workers, strict=True):
            pipe.send(None)
            worker.join()
        shares = {
            case: statistics.median(a / b for a, b in zip(rates[case], rates[RAW], strict=True))
            for case in (DOCUMENT, STEP)
        }
        raw = statistics.median(rates[RAW])
        rows.append([processes, f"{raw:,.0f}", *(f"{each:.2f}" for each in shares.values())])
        at_least, aim = goals.get(processes, (0.85, 0.95))
        for case, share in shares.items():
            report.measures.append(
                Measure(f"PostgreSQL, {processes} processes, {case}: saves per second / inserts",
                        at_least, aim, share, more_is_better=True)
            )  # fmt: skip
    header = ["processes", "inserts by hand per second", "documents", "results"]
    report.table("Saves per second over inserts by hand, a connection each", header, rows)


def cpu_seconds(pid: int) -> float:
    """Give the time that a process has had a processor for."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def processors(report: Report, url: str, *, quick: bool) -> None:
    """Compare the work of server and client where nothing waits for the disk: load adds little."""
    url = f"{url}?options=-c%20synchronous_commit%3Doff"
    saves, rounds = (20, 3) if quick else (300, 60)
    with contextlib.ExitStack() as held:
        connection = held.enter_context(psycopg.connect(url, autocommit=True))

        def opened() -> PostgresStore:
            store = PostgresStore(url, pool=1, session_locks=False)
            held.callback(store.close)
            return store

        def servers() -> set[int]:
            of_clients = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend'"
            return {pid for (pid,) in connection.execute(of_clients)}

        cases = {}
        for case, made in {
            RAW: lambda: by_hand(url, "raw"),
            DOCUMENT: lambda: document(opened(), RunId("processors", "document")),
            STEP: lambda: step(opened(), RunId("processors", "step")),
        }.items():
            before = servers()
            save = made()
            looped(save)(20)
            [pid] = servers() - before
            cases[case] = save, pid
        taken: dict[str, list[tuple[float, float]]] = {case: [] for case in cases}
        for _ in range(rounds):
            for case, (save, pid) in random.sample([*cases.items()], len(cases)):
                server, client = cpu_seconds(pid), time.process_time()
                looped(save)(saves)
                both = cpu_seconds(pid) - server, time.process_time() - client
                taken[case].append((both[0] / saves * 1e6, both[1] / saves * 1e6))
    least = {case: [min(each) for each in zip(*both, strict=True)] for case, both in taken.items()}
    rows = [
        [case, *(f"{each:.1f}" for each in both), f"{sum(both) / sum(least[RAW]):.2f}x"]
        for case, both in least.items()
    ]
    header = ["case", "server", "client", "both, vs by hand"]
    report.table("Microseconds of a processor per save, least of all rounds", header, rows)


def log(report: Report, url: str) -> None:
    """Compare what is written to the log of the server."""
    store = PostgresStore(url)
    rows = []
    for size in (200, 20_000, 200_000):
        cases = {
            "by hand": by_hand(url, f"raw{size}", os.urandom(size)),
            "document": document(store, RunId("log", str(size)), os.urandom(size)),
        }
        with psycopg.connect(url, autocommit=True) as connection:
            written = {}
            for case, save in cases.items():
                for _ in range(4):
                    save()
                connection.execute("CHECKPOINT")
                save(), save()
                [before] = connection.execute("SELECT pg_current_wal_lsn()").fetchone()
                for _ in range(100):
                    save()
                [after] = connection.execute(
                    "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), %s)", (before,)
                ).fetchone()
                written[case] = float(after) / 100
        share = written["document"] / written["by hand"]
        rows.append([f"{size:,}", *(f"{each:,.0f}" for each in written.values()), f"{share:.3f}x"])
        if size == 20_000:  # noqa: PLR2004 - the one with a goal
            report.measures.append(
                Measure("PostgreSQL: bytes of WAL of a save of 20 kB / by hand", 1.1, 1.03, share)
            )
    header = ["bytes of a document", "WAL by hand", "WAL of a save", "ratio"]
    report.table("Bytes written to the log per save", header, rows)
    store.close()


def takeover(report: Report, url: str, *, quick: bool) -> None:
    """Measure from the SIGKILL of an owner elsewhere to the acquisition by another process."""
    store = PostgresStore(url)
    seconds = []
    for number in range(2 if quick else 20):
        run = RunId("takeover", str(number))
        owner = subprocess.Popen(
            [sys.executable, "-c", OWNER, url, str(number)],
            stdout=subprocess.PIPE,
            stdin=subprocess.PIPE,
        )
        if owner.stdout is not None:
            owner.stdout.readline()
        killed = perf_counter()
        owner.send_signal(signal.SIGKILL)
        request = Request(owner=attrs.evolve(this_process(), host="b"), life="b", lease=6.0)
        while not isinstance(store.acquire(run, request), Acquired):
            time.sleep(0.01)
        seconds.append(perf_counter() - killed)
        owner.communicate()
    store.close()
    report.say(
        f"Takeover after SIGKILL of an owner whose process id proves nothing, lease 6 s: median "
        f"{statistics.median(seconds):.3f} s, longest {max(seconds):.3f} s, of {len(seconds)}."
    )
    report.measures.append(
        Measure("PostgreSQL: takeover after SIGKILL elsewhere", 1.0, 0.1, max(seconds), unit=" s")
    )


def report(*, quick: bool) -> Report:
    """Run everything on one server."""
    logging.disable(logging.CRITICAL)
    found = Report()
    server = Postgres(fsync="on", max_connections="200")
    try:
        [(server_version,)] = server.ask("SHOW server_version")
        url = server.url.partition("?")[0]
        found.say(
            f"PostgreSQL {server_version}, psycopg {psycopg.__version__}, fsync on, loopback."
        )
        PostgresStore.migrate(url)
        many(found, url, quick=quick)
        single(found, url, quick=quick)
        processors(found, url, quick=quick)
        proxy = FaultProxy(server.port)
        through = f"postgresql://postgres@127.0.0.1:{proxy.port}/postgres"
        trips(found, "PostgreSQL", PostgresStore(through, session_locks=False), proxy)
        log(found, url)
        takeover(found, url, quick=quick)
    finally:
        server.remove()
    return found


if __name__ == "__main__":
    main(report, __doc__)
