"""Through how many functions, and how many files, does a call go?

Counted with `sys.setprofile` are calls of Python functions, ours and the user's; comprehensions, of
which newer Pythons make no frame, are left out, and what attrs wrote for our classes counts as a
call and as no file. A hop is a call from one file into another. Nothing is timed, so that one run
on any machine is enough. `--chain` prints the functions in their order. It uses public names only:
to compare with another commit, run it with that one's `src` in PYTHONPATH.
"""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import mainstay
from harness import Report
from mainstay import (
    AllMembersFailedError,
    Detect,
    FailoverPool,
    Member,
    checkpoint_run,
    failover,
    hedge,
    redundant,
)

SOURCE = Path(mainstay.__file__).parent
HERE = Path(__file__)
LONG = 3600.0  # seconds: nothing comes back, and nothing is due, while this script runs


class Walk:
    """The Python functions that were called, each with its file, and the file of its caller."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, str]] = []

    def __call__(self, frame: FrameType, event: str, _argument: object) -> None:
        """Record a call; the profiler tells of returns as well."""
        where = self._place(frame)
        if event == "call" and where and not frame.f_code.co_name.endswith(_COMPREHENSIONS):
            caller = self._place(frame.f_back) if frame.f_back else ""
            self.calls.append((caller, where, frame.f_code.co_qualname))

    @staticmethod
    def _place(frame: FrameType) -> str:
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(SOURCE):
            return str(path.relative_to(SOURCE))
        if "mainstay" in path.name and "attrs" in path.name:
            return "attrs"
        return "yours" if path == HERE and frame.f_code.co_name in _YOURS else ""

    def files(self) -> list[str]:
        """List the files of mainstay in the order in which they were reached."""
        return [*dict.fromkeys(where for _, where, _ in self.calls if where.endswith(".py"))]

    def hops(self) -> int:
        """Count the calls from one file of mainstay into another."""
        pairs = [(a, b) for a, b, _ in self.calls if a.endswith(".py") and b.endswith(".py")]
        return sum(a != b for a, b in pairs)


_COMPREHENSIONS = ("comp>", "<genexpr>")
_YOURS = {"answer", "answer_unless_down", "refuse", "first_hangs", "key"}


@contextmanager
def profiled(walk: Walk) -> Iterator[None]:
    """Record the calls that the block makes in this thread."""
    sys.setprofile(walk)
    try:
        yield
    finally:
        sys.setprofile(None)


def answer(_resource: object = None) -> int:
    """Do the work."""
    return 1


EJECTING = Detect(consecutive=1, eject_for=LONG, max_eject=LONG)


def pool_of(members: int, **options: object) -> FailoverPool:
    """Make a pool whose resources are the names of its members."""
    return FailoverPool("walk", [Member(n, n) for n in "abc"[:members]], on=OSError, **options)


def pool_call() -> Walk:
    """A call through a decorated function; the first member answers."""
    call = failover(pool_of(2))(answer)
    return walk_of(call)


def second_member(detect: Detect) -> Walk:
    """The first member fails, and the second one answers."""
    down = set()

    def answer_unless_down(resource: str) -> int:
        if resource in down:
            raise OSError
        return 1

    call = failover(pool_of(2, detect=detect))(answer_unless_down)
    if detect is not EJECTING:
        down.add("a")
    call()
    down.add("a")
    return walk_of(call, warm=False)


def all_down() -> Walk:
    """All of three members are down already, and `when_all_down="raise"`."""

    def refuse(_resource: str) -> int:
        raise OSError

    call = failover(pool_of(3, detect=EJECTING, when_all_down="raise"))(refuse)

    def rejected() -> None:
        try:
            call()
        except (AllMembersFailedError, OSError):
            return

    for _ in range(5):
        rejected()
    return walk_of(rejected)


def walk_of(call: Callable[[], object], *, warm: bool = True) -> Walk:
    """Walk through one call, after another one that makes what is made once."""
    if warm:
        call()
    walk = Walk()
    with profiled(walk):
        call()
    return walk


def item(every: int) -> Walk:
    """One turn of a loop over items, from one item to the next."""

    def key(item: int) -> int:
        return item

    walk = Walk()
    with tempfile.TemporaryDirectory() as directory:
        store = f"sqlite:///{directory}/walk.db"
        with checkpoint_run("walk", store=store, every=every, name="walk") as cp:
            cp.state({"done": 0})
            items = iter(cp.iterate(range(10), key=key))
            for _ in range(3):
                next(items)
            with profiled(walk):
                next(items)
    return walk


async def hedged(*, due: bool) -> Walk:
    """An async call with a hedge that is due, or not."""
    calls = 0

    async def first_hangs() -> int:
        nonlocal calls
        calls += 1
        if due and calls % 2:
            await asyncio.sleep(LONG)
        return calls

    policy = redundant(copies=2, start=hedge.after(0.001 if due else LONG), budget=None)
    call = policy(first_hangs)
    await call()
    await asyncio.sleep(0.01)  # what is left of the first call ends
    walk = Walk()
    with profiled(walk):
        await call()
    await asyncio.sleep(0.01)
    return walk


def shortest(walk: Callable[[], Walk]) -> Walk:
    """Return the shortest of some walks: a call that is slow by chance is recorded as slow."""
    return min((walk() for _ in range(5)), key=lambda each: len(each.calls))


def report(*, chain: bool) -> Report:
    """Walk through everything."""
    walks = {
        "pool: the first member answers": shortest(pool_call),
        "pool: it fails, the second answers": shortest(lambda: second_member(Detect())),
        "pool: the same, and it is ejected": shortest(lambda: second_member(EJECTING)),
        "pool: all down, rejected": shortest(all_down),
        "item: nothing is due": shortest(lambda: item(every=1000)),
        "item: saved": shortest(lambda: item(every=1)),
        "async hedge: not due": shortest(lambda: asyncio.run(hedged(due=False))),
        "async hedge: due, and it wins": shortest(lambda: asyncio.run(hedged(due=True))),
    }
    result = Report()
    result.table(
        "A walk through calls",
        ["call", "Python calls", "files", "hops"],
        [[name, len(walk.calls), len(walk.files()), walk.hops()] for name, walk in walks.items()],
    )
    if chain:
        for name, walk in walks.items():
            steps = [f"{where}: {function}" for _, where, function in walk.calls]
            result.say("\n".join([f"### {name}", "", *(f"    {step}" for step in steps)]))
    return result


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chain", action="store_true", help="print each function, in order")
    print("\n\n".join(report(chain=parser.parse_args().chain).parts))
