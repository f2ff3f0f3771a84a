"""What child processes of the tests run: jobs, and how they are told to die.

    python checkpoint_jobs.py STORE PLAN

PLAN is JSON. `job` names a function below, `every` its policy, `die` says where the process is to
be killed: ["before" | "after", operation, n] kills at the n-th call of that store operation, and
[null, ...] nowhere. The child prints lines and flushes each, so that nothing printed is lost.
"""

import asyncio
import gc
import inspect
import json
import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import attrs

from mainstay import AsyncCheckpoint, Checkpoint, checkpointed, young_daly
from mainstay.stores import store_of

ITEMS = 20
EVERY = {
    "1": 1,
    "2": 2,
    "3": 3,
    "time": timedelta(microseconds=1),
    "hour": timedelta(hours=1),
    "young_daly": young_daly(mtbf=3600, max_replay=1e-9),
}


@attrs.define
class Tally:
    done: list[int] = attrs.field(factory=list)
    steps: list[int] = attrs.field(factory=list)


def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def charge(row: int) -> int:
    say("charge", row)
    return row * 10


def sync_job(cp: Checkpoint) -> list[list[int]]:
    tally = cp.state(Tally())
    for row in cp.iterate(range(ITEMS), key=lambda row: row):
        check(tally, row)
        say("item", row)
        if row % 3 == 1:
            tally.steps.append(cp.step("charge", charge, row))
        tally.done.append(row)
    say("loop ended")
    return [tally.done, tally.steps, [cp.step("publish", charge, 100)]]


async def async_job(cp: AsyncCheckpoint) -> list[list[int]]:
    tally = cp.state(Tally())
    async for row in cp.iterate(range(ITEMS), key=lambda row: row):
        check(tally, row)
        say("item", row)
        if row % 3 == 1:
            tally.steps.append(await cp.step("charge", charge, row))
        tally.done.append(row)
    say("loop ended")
    return [tally.done, tally.steps, [await cp.step("publish", charge, 100)]]


def work(row):
    say("work", row)
    return row


def map_job(cp: Checkpoint, *, ordered: bool = True) -> list[list[int]]:
    tally = cp.state(Tally())
    with ThreadPoolExecutor(3) as pool:
        rows = cp.map(work, range(ITEMS), int, executor=pool, ahead=4, ordered=ordered)
        for row in rows:
            if row % 3 == 1:
                tally.steps.append(cp.step("charge", charge, row))
            tally.done.append(row)
    return [tally.done, tally.steps, [cp.step("publish", charge, 100)]]


def unordered_map_job(cp: Checkpoint) -> list[list[int]]:
    return map_job(cp, ordered=False)


async def async_map_job(cp: AsyncCheckpoint) -> list[list[int]]:
    async def awork(row):
        await asyncio.sleep(0)
        return work(row)

    tally = cp.state(Tally())
    async for row in cp.map(awork, range(ITEMS), int, ahead=4):
        if row % 3 == 1:
            tally.steps.append(await cp.step("charge", charge, row))
        tally.done.append(row)
    return [tally.done, tally.steps, [await cp.step("publish", charge, 100)]]


def short_job(cp: Checkpoint) -> list[int]:
    return [cp.step("charge", charge, row) for row in cp.iterate(range(3))]


def check(tally, row):
    if tally.done != [*range(row)]:
        say("WRONG", "state", tally.done, "cursor", row)


def csv_job(cp: Checkpoint, path: str) -> list[int]:
    tally = cp.state({"rows": 0, "cents": 0})
    with Path(path).open() as file:
        for line in cp.iterate(file, key=lambda line: line.split(",", 1)[0]):
            _, cents, _ = line.split(",")
            tally["rows"] += 1
            tally["cents"] += int(cents)
    return [tally["rows"], tally["cents"]]


def slow_job(cp: Checkpoint) -> int:
    """An item that goes on until the process is told otherwise, by a file or a signal."""
    tally = cp.state({"rows": 0})
    for row in cp.iterate(range(3), key=lambda row: row):
        say("item", row)
        if row == 1:
            sys.stdin.readline()
        tally["rows"] += 1
        say("done", row)
    return tally["rows"]


def deadly_job(cp: Checkpoint) -> None:
    """Its first item kills the process."""
    for row in cp.iterate(range(3)):
        say("item", row)
        os.kill(os.getpid(), signal.SIGKILL)


def die_at(kind, when, operation, number):
    """Kill this process at one call of an operation of a kind of store, sync or async."""
    call = getattr(kind, operation)
    made = 0

    def dies(moment):
        if made == number and when == moment:
            os.kill(os.getpid(), signal.SIGKILL)

    def dying(self, *args, **kwargs):
        nonlocal made
        made += 1
        dies("before")
        answer = call(self, *args, **kwargs)
        dies("after")
        return answer

    async def adying(self, *args, **kwargs):
        nonlocal made
        made += 1
        dies("before")
        answer = await call(self, *args, **kwargs)
        dies("after")
        return answer

    setattr(kind, operation, adying if inspect.iscoroutinefunction(call) else dying)


def run(url, plan):
    say("pid", os.getpid())
    when, operation, number = plan.get("die") or [None, "", 0]
    store = store_of(url)
    if when:
        die_at(type(store), when, operation, number)
    fn = globals()[plan["job"]]
    options = {"store": store, "every": EVERY[plan.get("every", "1")], "name": "job",
               "key": lambda *_: "key", "max_crashes": None, **plan.get("options", {})}  # fmt: skip
    job = checkpointed(**options)(fn)
    value = job(*plan.get("args", []))
    if inspect.isawaitable(value):
        value = asyncio.run(value)
    say("result", json.dumps(value))


def warm_up():
    """Do in silence, in memory, what every child does: none needs to import and parse it again."""
    said = os.dup(1)
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        for job in ("sync_job", "async_job"):
            run(f"memory://{job}", {"job": job})
        os.dup2(said, 1)
    os.close(said)
    gc.freeze()


def serve():
    """Fork a child for each line of standard input, so that Python starts once for all of them."""
    warm_up()
    for line in sys.stdin:
        url, plan = json.loads(line)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                run(url, plan)
                code = 0
            except BaseException as error:  # noqa: BLE001 - told to the test
                say("error", type(error).__name__, error)
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        say("status", status)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        run(sys.argv[1], json.loads(sys.argv[2]))
    else:
        serve()
