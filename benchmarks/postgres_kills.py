"""Is a save lost, an owner doubled or an item applied twice, whatever is killed at whatever moment?

Workers go through one run of a hundred items, each started again when it is killed. Item by item
each saves a document with the number of the item and a sum, and a result. Killed are, one after the
other: a connection, at each message that a worker sends, in three ways; a worker, by SIGKILL, at
random moments; and the server, as in a crash of its machine, with fsync on. A second worker tries
to take the run over all the time.

    lost      a save that was acknowledged and is not there
    second    two workers who were both told "saved" of one generation of the document
    twice     an item that is counted twice in the sum, or in the results
"""

import argparse
import contextlib
import itertools
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TextIO

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from mainstay._core.owner import this_process
from mainstay.errors import LeaseLostError, StoreUnavailableError
from mainstay.stores.base import Acquired, Change, Finished, Request, Result, RunId, RunLease
from mainstay.stores.postgres import PostgresStore
from support.fault_proxy import FAULTS, FaultProxy
from support.postgres import Postgres

RUN = RunId("kills", "one")
LEASE = 4.0
ITEMS = 100
PATIENCE = 60.0


def work(url: str, log: str, pause: float = 0.0) -> None:
    """Work on the run until it has ended; write what was acknowledged to a file of its own."""
    store = PostgresStore(url, timeout=1.0)
    with Path(log).open("a", buffering=1) as acknowledged:
        while True:
            request = Request(owner=this_process(), life=os.urandom(8).hex(), lease=LEASE)
            answer = insisting(store.acquire, RUN, request)
            if isinstance(answer, Finished):
                break
            if not isinstance(answer, Acquired):
                time.sleep(0.01)
                continue
            lease = RunLease(RUN, answer.record.token, answer.record.grant, LEASE)
            with contextlib.suppress(LeaseLostError):
                items(store, lease, answer, acknowledged, pause)
    store.close()


def items(
    store: PostgresStore, lease: RunLease, answer: Acquired, acknowledged: TextIO, pause: float
) -> None:
    """Go through the items that are left."""
    state = json.loads(answer.contents.latest or b'{"done": 0, "sum": 0}')
    numbers = itertools.count(1)
    following = max(answer.contents.results, default=-1) + 1
    for item in range(state["done"] + 1, ITEMS + 1):
        state = {"done": item, "sum": state["sum"] + item}
        change = Change(
            document=json.dumps(state).encode(),
            put={following: Result("item", str(item).encode())},
            sequence=next(numbers),
            finished=item == ITEMS,
        )
        following += 1
        time.sleep(pause)
        insisting(store.commit, lease, change)
        acknowledged.write(f"{item} {lease.token} {lease.grant}\n")


def insisting(call: object, *args: object) -> object:
    """Send again what was not answered, as a run does while its lease lasts."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return call(*args)
        except StoreUnavailableError as error:
            if not error.retryable or time.monotonic() > end:
                raise
            time.sleep(0.005)


def killing(server: Postgres, url: str, logs: Iterator[str], kind: str, kills: int) -> None:
    """Have two processes work on the run, and kill so many workers, or the server so often."""

    def start() -> subprocess.Popen:
        return subprocess.Popen([sys.executable, __file__, "--work", url, "--log", next(logs)])

    workers = [start(), start()]
    for _ in range(kills):
        time.sleep(random.uniform(0.1, 0.5))
        if kind == "server":
            server.crash()
            server.start()
        else:
            victim = workers.pop(random.randrange(2))
            victim.kill()
            victim.wait()
            workers.append(start())
    for worker in workers:
        if worker.wait():
            raise SystemExit("a worker failed")


def attempt(server: Postgres, proxy: FaultProxy, kind: str, number: int) -> dict[str, int]:
    """Go through the run once, with one kind of kill; count what must not be."""
    url = f"postgresql://postgres@127.0.0.1:{proxy.port}/postgres"
    with tempfile.TemporaryDirectory() as directory:
        logs = (str(Path(directory) / str(each)) for each in itertools.count())
        if kind in FAULTS:
            proxy.fail_at(number, kind)
            with ThreadPoolExecutor() as threads:
                for done in [threads.submit(work, url, next(logs)) for _ in range(2)]:
                    done.result()
            kills = int(proxy.has_failed.is_set())
        else:
            killing(server, url, logs, kind, number)
            kills = number
        lines = [line.split() for path in Path(directory).iterdir()
                 for line in path.read_text().splitlines()]  # fmt: skip
    store = PostgresStore(url)
    contents = store.load(RUN)
    store.forget(RUN)
    store.close()
    state = json.loads(contents.latest)
    kept = [int(result.value) for result in contents.results.values()]
    acknowledged = {int(item) for item, _, _ in lines}
    return {
        "kills": kills,
        "saves": len(lines),
        "lost": len(acknowledged - {*kept}) + (state["done"] != ITEMS),
        "second": len(lines) - len({item for item, _, _ in lines}),
        "twice": len(kept) - len({*kept}) + (state["sum"] != sum(range(ITEMS + 1))),
    }


def main() -> None:
    """Run a share of the kills, or all of them, and print what came out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few kills of each kind")
    parser.add_argument("--work", help="the URL for a worker")
    parser.add_argument("--log", help="where a worker writes what was acknowledged")
    options = parser.parse_args()
    if options.work:
        work(options.work, options.log, pause=0.02)  # long enough to be killed
        return
    plan = {
        **{fault: [*range(1, 4 if options.quick else 111)] for fault in FAULTS},
        "worker": [2] if options.quick else [10] * 15,
        "server": [1] if options.quick else [3] * 10,
    }
    server = Postgres(fsync="on")
    proxy = FaultProxy(server.port)
    try:
        print("| killed | kills | saves acknowledged | lost | second owners | items twice |")
        print("| --- | --: | --: | --: | --: | --: |")
        for kind, numbers in plan.items():
            total: dict[str, int] = {}
            for number in numbers:
                for what, count in attempt(server, proxy, kind, number).items():
                    total[what] = total.get(what, 0) + count
            print(f"| {kind} | {' | '.join(map(str, total.values()))} |", flush=True)
    finally:
        proxy.close()
        server.remove()


if __name__ == "__main__":
    main()
