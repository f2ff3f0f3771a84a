"""Jobs whose runs are kept in files of earlier versions, and what they come to.

`tests/checkpoint/fixtures/write.py` runs them under an earlier commit and stops them; the tests go
on with them under this one. Both must find the same source, since its digest is saved: a job here
is never edited, and a new question is a new job. Only what both commits have may be used.
"""

import asyncio
import dataclasses
import enum
from concurrent.futures import Executor, Future
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import attrs

from mainstay import checkpoint_run, checkpointed, register_type

ROWS = [{"id": f"row {number}", "cents": number * 100} for number in range(6)]

calls = []
"""What was done in this process: steps that were computed, and items that were begun."""


class Interrupted(Exception):
    """Ends an attempt where it was told to."""


def raise_interrupted():
    raise Interrupted


@attrs.define
class Interruption:
    """Where a job stops, and how; nowhere unless somebody says so."""

    place: str = ""
    act: object = raise_interrupted


interruption = Interruption()


def reach(place):
    """Note that a job has come to a place, and stop it there if that was asked for."""
    calls.append(place)
    if place == interruption.place:
        interruption.act()


@attrs.define
class Totals:
    rows: int = 0
    cents: int = 0


class Level(enum.Enum):
    LOW = 1
    HIGH = 2


@dataclasses.dataclass
class Point:
    x: float
    y: float = 0.0


@attrs.define
class Everything:
    """Something of each type that can be saved."""

    number: int
    huge: int
    share: float
    endless: float
    wave: complex
    yes: bool
    nothing: None
    text: str
    raw: bytes
    money: Decimal
    id: UUID
    path: Path
    moment: datetime
    day: date
    hour: time
    span: timedelta
    pair: tuple[int, str]
    names: set[str]
    frozen: frozenset[int]
    by_number: dict[int, str]
    level: Level
    point: Point
    points: list[Point]


EVERYTHING = Everything(
    number=1,
    huge=10**30,
    share=0.1,
    endless=float("-inf"),
    wave=1 - 2j,
    yes=True,
    nothing=None,
    text="naïve ☃ \x00",
    raw=b"\x00\xff",
    money=Decimal("12.30"),
    id=UUID("12345678-1234-5678-1234-567812345678"),
    path=Path("/srv/rows.csv"),
    moment=datetime(2024, 2, 29, 23, 59, 59, 999999, tzinfo=UTC),
    day=date(2024, 2, 29),
    hour=time(12, 30, fold=1),
    span=timedelta(days=-1, microseconds=1),
    pair=(1, "one"),
    names={"a", "b"},
    frozen=frozenset({1, 2}),
    by_number={1: "one", 2: "two"},
    level=Level.HIGH,
    point=Point(1.5, -0.0),
    points=[Point(1.0), Point(2.0, 3.0)],
)


class Declined(Exception):
    """What a step raises that is its result, once its class is registered."""


def register():
    """Let exceptions of these jobs be results of steps."""
    register_type(Declined)


def by_position(cp):
    """Items without a key, and a state."""
    totals = cp.state(Totals())
    for row in cp.iterate(ROWS):
        reach(f"item {row['id']}")
        totals.rows += 1
        totals.cents += row["cents"]
    return [totals.rows, totals.cents]


def by_key(cp):
    """Items with a key."""
    totals = cp.state({"rows": 0, "cents": 0})
    for row in cp.iterate(ROWS, key=lambda row: row["id"]):
        reach(f"item {row['id']}")
        totals["rows"] += 1
        totals["cents"] += row["cents"]
    return totals


def from_callable(cp):
    """A source that is asked for what follows the last key."""

    def after(last):
        known = [row["id"] for row in ROWS]
        return ROWS[known.index(last) + 1 if last else 0 :]

    totals = cp.state(Totals())
    for row in cp.iterate(after, key=lambda row: row["id"]):
        reach(f"item {row['id']}")
        totals.rows += 1
        totals.cents += row["cents"]
    return [totals.rows, totals.cents]


def two_iterations(cp):
    """One iteration after another, each with a name, and one inside the items of the second."""
    seen = cp.state([])
    for letter in cp.iterate("ab", name="letters"):
        seen.append(letter)
    for number in cp.iterate([1, 2], name="numbers"):
        for letter in cp.iterate("xyz", name="inner"):
            reach(f"inner {number}{letter}")
            seen.append(f"{number}{letter}")
    return seen


def compute(number):
    reach(f"compute {number}")
    return number * 10


def steps_in_items(cp):
    """Steps inside an item, whose results are saved before the item is done."""
    results = cp.state([])
    for number in cp.iterate(range(4), key=lambda number: number):
        first = cp.step("first", compute, number)
        second = cp.step("second", compute, number + 100)
        reach(f"item {number}")
        results.append(first + second)
    return results


def everything() -> Everything:
    calls.append("everything")
    return EVERYTHING


def steps_of_many_types(cp):
    """Steps of a run, outside of items."""
    first = cp.step("everything", everything)
    second = cp.step("again", everything)
    reach("between")
    return [first == second, cp.step("last", compute, 3), first.level.name, first.point.x]


def charge():
    calls.append("charge")
    raise Declined("4711")


def declined(cp):
    """A step whose result is an exception."""
    try:
        cp.step("charge", charge)
    except Declined as error:
        reach("declined")
        return error.args[0]
    return "charged"


def deadly(cp):
    """An item that kills each process that comes to it."""
    for number in cp.iterate(range(3)):
        reach(f"item {number}")
    return "survived"


async def asynchronous(cp):
    """All of it in async code."""
    totals = cp.state(Totals())
    async for row in cp.iterate(ROWS, key=lambda row: row["id"]):
        cents = await cp.step("cents", acompute, row["cents"])
        reach(f"item {row['id']}")
        totals.rows += 1
        totals.cents += cents
    return [totals.rows, totals.cents, await cp.step("last", compute, totals.rows)]


async def acompute(number):
    await asyncio.sleep(0)
    return compute(number)


def block(store):
    """A block, which is kept under the name `run`."""
    with checkpoint_run("nightly", store=store) as cp:
        totals = cp.state(Totals())
        for row in cp.iterate(ROWS, key=lambda row: row["id"]):
            reach(f"item {row['id']}")
            totals.rows += 1
            totals.cents += row["cents"]
        return [totals.rows, totals.cents]


def recoverable(cp, customer: str, amounts: list[Decimal], day: date):
    """Arguments that are kept with the run."""
    totals = cp.state({"sum": Decimal(0)})
    for amount in cp.iterate(amounts, key=str):
        reach(f"amount {amount}")
        totals["sum"] += amount
    return [customer, totals["sum"], day]


INVOICE = ("acme", [Decimal("1.10"), Decimal("2.20"), Decimal("3.30")], date(2024, 2, 29))


def recoverable_job(store):
    """Make `recoverable` known to `recover`."""
    return checkpointed(store=store, key="invoice-{customer}", recoverable=True)(recoverable)


def interrupted_in_parts(cp):
    """A step with parts, which a step could have when these runs were written."""

    def load():
        cp.step("part", compute, 1)
        for number in cp.iterate(range(3), name="parts"):
            reach(f"part {number}")
        return "loaded"

    return [cp.step("load", load), cp.step("last", compute, 2)]


def interrupted_after_parts(cp):
    """As before, interrupted when the step has its result."""

    def load():
        cp.step("part", compute, 1)
        for number in cp.iterate(range(3), name="parts"):
            reach(f"part {number}")
        return "loaded"

    loaded = cp.step("load", load)
    reach("loaded")
    return [loaded, cp.step("last", compute, 2)]


class TwoByTwo(Executor):
    """Keeps two calls, and makes the second one first when another one comes."""

    def __init__(self):
        self._kept = []

    def submit(self, fn, /, item):
        if len(self._kept) == 2:
            self.make_kept()
        self._kept.append((Future(), fn, item))
        return self._kept[-1][0]

    def make_kept(self):
        while self._kept:
            future, fn, item = self._kept.pop()
            future.set_result(fn(item))

    def until_the_end(self, source):
        yield from source
        self.make_kept()


def price(row):
    calls.append(f"price {row['id']}")
    return row["cents"]


async def aprice(row):
    return price(row)


def id_of_row(row):
    return row["id"]


def mapped(cp):
    """Items that are worked on side by side, whose results come in order."""
    seen, pairs = cp.state([]), TwoByTwo()
    rows = pairs.until_the_end(ROWS)
    for cents in cp.map(price, rows, id_of_row, executor=pairs, ahead=4):
        reach(f"result {cents}")
        seen.append(cents)
    return seen


def mapped_as_done(cp):
    """As before, whose results come as they are done."""
    seen, pairs = cp.state([]), TwoByTwo()
    rows = pairs.until_the_end(ROWS)
    for cents in cp.map(price, rows, id_of_row, executor=pairs, ahead=4, ordered=False):
        reach(f"result {cents}")
        seen.append(cents)
    return seen


async def mapped_in_tasks(cp):
    """Items that are worked on in tasks, whose results come in order."""
    seen = cp.state([])
    async for cents in cp.map(aprice, ROWS, id_of_row, ahead=4):
        reach(f"result {cents}")
        seen.append(cents)
    return seen


MAPS = {mapped: "result 300", mapped_as_done: "result 200", mapped_in_tasks: "result 300"}
"""The jobs with `cp.map`, which is younger than the others, and where each is stopped."""

PLACES = {
    by_position: "item row 3",
    by_key: "item row 3",
    from_callable: "item row 3",
    two_iterations: "inner 2y",
    steps_in_items: "item 2",
    steps_of_many_types: "between",
    declined: "declined",
    asynchronous: "item row 3",
    interrupted_in_parts: "part 1",
    interrupted_after_parts: "loaded",
}
"""The jobs that are run by `run`, and where each is stopped by an exception."""

DEATHS = {
    by_position: "item row 3",
    steps_in_items: "compute 102",
    asynchronous: "item row 3",
}
"""As before, and where the process is killed."""


def killed(fn):
    """Give the name of the run of a job whose process is killed, where another one has its own."""
    return f"{fn.__name__} killed"


def run(fn, store, **options):
    """Run a job, in the name that it has by default."""
    job = checkpointed(store=store, key=lambda: "key", **options)(fn)
    value = job()
    return asyncio.run(value) if asyncio.iscoroutine(value) else value
