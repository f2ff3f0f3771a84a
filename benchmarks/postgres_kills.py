"""Is a save lost, an owner doubled or an item applied twice, whatever is killed at whatever moment?

Workers go through one run of a hundred items, each started again when it is killed. Item by item
each saves a document with the number of the item and a sum, and a result. Killed are, one after the
other: a connection, at each message that a worker sends, in three ways; a worker, by SIGKILL, at
random moments; and the server, as in a crash of its machine, with fsync on. A second worker tries
to take the run over all the time.

No kill hits a process that only starts. All workers of a run are started before it, say when they
are ready, and wait for their turn; the moment of a kill is drawn over the time in which both work.
A kill that finds the run at its end is left out, and another is made in the next run.

    owner     kills of the worker who had the run at that moment
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
from collections import Counter
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
PAUSE = 0.005
"""Seconds that an item takes in a worker that may be killed: as long as its save, on two cores."""
LONGEST_LIFE = 0.15
"""Seconds of work, at most, before the next kill of a worker."""
LONGEST_CALM = 0.5
"""Seconds of work, at most, before the next kill of the server, which takes a while to restart."""
MOST_AT_ONCE = 10
"""Kills of one run, at most."""
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
            acknowledged.write(f"had {lease.token}\n")
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


class Worker:
    """A process that works on the run from `begin` on, and is ready to when it is made."""

    def __init__(self, url: str, log: Path) -> None:
        self.log = log
        log.touch()
        command = [sys.executable, __file__, "--work", url, "--log", str(log)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def await_ready(self) -> None:
        """Wait until the process has imported all that it needs."""
        if self.process.stdout.readline() != "ready\n":
            raise SystemExit("a worker failed before it began")

    def begin(self) -> None:
        """Let it work."""
        self.process.stdin.write("begin\n")
        self.process.stdin.flush()

    def kill(self) -> bool:
        """Kill it; False if it had ended by itself."""
        self.process.kill()
        return self.end() < 0

    def end(self) -> int:
        """Wait until it has ended; return its exit code."""
        code = self.process.wait(PATIENCE)
        self.process.stdin.close()
        self.process.stdout.close()
        return code

    def newest_token(self) -> int:
        """Return the token of its last acquisition; 0 if it never had the run."""
        tokens = [line.split()[1] for line in self.log.read_text().splitlines() if "had" in line]
        return int(tokens[-1]) if tokens else 0


def killing(server: Postgres, url: str, directory: Path, kind: str, kills: int) -> tuple[int, int]:
    """Have two processes work on the run, and kill so many workers, or the server so often.

    Returns:
        How many were killed while the run went on, and how many of them had it.
    """
    count = 2 + (kills if kind == "worker" else 0)
    waiting = [Worker(url, directory / str(number)) for number in range(count)]
    for each in waiting:
        each.await_ready()
    working = [waiting.pop(), waiting.pop()]
    for each in working:
        each.begin()
    killed = owners = 0
    for _ in range(kills):
        time.sleep(random.uniform(0.0, LONGEST_CALM if kind == "server" else LONGEST_LIFE))
        if any(each.process.poll() is not None for each in working):
            break
        if kind == "server":
            server.crash()
            server.start()
            killed += 1
            continue
        victim = working.pop(random.randrange(2))
        had = victim.newest_token() > max(each.newest_token() for each in working)
        if victim.kill():
            killed += 1
            owners += had
        working.append(waiting.pop())
        working[-1].begin()
    for each in waiting:
        each.kill()
    if any(each.end() for each in working):
        raise SystemExit("a worker failed")
    return killed, owners


def attempt(server: Postgres, proxy: FaultProxy, kind: str, number: int) -> dict[str, int]:
    """Go through the run once, with one kind of kill; count what must not be."""
    url = f"postgresql://postgres@127.0.0.1:{proxy.port}/postgres"
    owners = 0
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        if kind in FAULTS:
            proxy.fail_at(number, kind)
            with ThreadPoolExecutor() as threads:
                for done in [threads.submit(work, url, directory / str(each)) for each in range(2)]:
                    done.result()
            kills = int(proxy.has_failed.is_set())
        else:
            kills, owners = killing(server, url, directory, kind, number)
        lines = [line.split() for path in directory.iterdir()
                 for line in path.read_text().splitlines() if "had" not in line]  # fmt: skip
    store = PostgresStore(url)
    contents = store.load(RUN)
    store.forget(RUN)
    store.close()
    state = json.loads(contents.latest)
    kept = [int(result.value) for result in contents.results.values()]
    acknowledged = {int(item) for item, _, _ in lines}
    return {
        "kills": kills,
        "owner": owners,
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
        print("ready", flush=True)
        if sys.stdin.readline():  # nothing comes where nobody wants it any more
            work(options.work, options.log, pause=PAUSE)
        return
    plan = {
        **dict.fromkeys(FAULTS, 3 if options.quick else 110),
        "worker": 4 if options.quick else 200,
        "server": 1 if options.quick else 40,
    }
    server = Postgres(fsync="on")
    proxy = FaultProxy(server.port)
    try:
        print(
            "| killed | kills | of the owner | saves acknowledged | lost | second owners "
            "| items twice |"
        )
        print("| --- | --: | --: | --: | --: | --: | --: |")
        for kind, kills in plan.items():
            total: Counter[str] = Counter()
            if kind in FAULTS:
                for message in range(1, kills + 1):
                    total.update(attempt(server, proxy, kind, message))
            else:
                while (left := kills - total["kills"]) > 0:
                    total.update(attempt(server, proxy, kind, min(left, MOST_AT_ONCE)))
            print(f"| {kind} | {' | '.join(map(str, total.values()))} |", flush=True)
    finally:
        proxy.close()
        server.remove()


if __name__ == "__main__":
    main()
