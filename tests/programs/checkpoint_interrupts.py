"""Makes checkpointed runs while a signal handler comes in, at each place where Python lets one in.

Arguments: what the handler does, "raises", "interrupts" (it calls `interrupt_all`) or "runs" (a run
of its own in the same store); where runs are kept, "memory" or "sqlite"; what is run, as in `JOBS`;
"every" and at every how many places, or "random" and how often a timer is to hit.
Prints how often the handler came in, and then what was wrong afterwards and where, with how often:
nothing if all was well.
"""

import faulthandler
import gc
import os
import random
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from time import monotonic, sleep
from typing import Any

sys.path.append(str(Path(__file__).parents[1]))

from mainstay import (
    Checkpoint,
    Metrics,
    RunInterruptedError,
    checkpoint_run,
    checkpointed,
    interrupt_all,
)
from mainstay._checkpoint import interruption, signals, steps, watcher
from mainstay.errors import StoreUnavailableError
from mainstay.stores import MemoryStore, SQLiteStore
from mainstay.testing import recorded
from support.handlers import Handler, TimedHandler

LONGEST = 60.0  # seconds for a run, which takes a hundredth of one
LONGEST_HIT = 0.002  # seconds after which the timer hits at the latest
SOON = 5.0  # seconds in which the watcher's thread sees what nobody has any more


class Interrupt(BaseException):
    """What the handler raises."""


# What is run: each comes to 6.


def items(cp: Checkpoint) -> int:
    total = cp.state({"sum": 0})
    for item in cp.iterate([1, 2, 3]):
        total["sum"] += item
        if item == 2:
            cp.save()
    return total["sum"]


def steps_of(cp: Checkpoint) -> int:
    return sum(cp.step(f"step {number}", int, number) for number in (1, 2, 3))


def fails(cp: Checkpoint) -> int:
    if cp.attempt == 1:
        for _ in cp.iterate([1]):
            raise OSError
    return 6


JOBS = {"items": items, "steps": steps_of, "fails": fails}


def in_function(job: Callable[[Checkpoint], int], store: Any, key: str) -> int:
    function = checkpointed(store=store, key="{key}", name="job")(lambda cp, key: job(cp))
    return function(key)


def in_block(job: Callable[[Checkpoint], int], store: Any, key: str) -> int:
    with checkpoint_run(key, store=store, name="job") as cp:
        return job(cp)


# What the handler does.


def raises(_store: Any) -> None:
    raise Interrupt


def interrupts(_store: Any) -> None:
    interrupt_all()


def runs(store: Any) -> None:
    with (
        suppress(StoreUnavailableError),  # where it came into a transaction of its own thread
        checkpoint_run("inner", store=store, on_complete="rerun") as cp,
    ):
        for _ in cp.iterate("ab"):
            pass


ACTS = {each.__name__: each for each in (raises, interrupts, runs)}


# What is left behind.


def threads() -> set[threading.Thread]:
    """Return all threads but those that Python never started, since the handler came first."""
    return {each for each in threading.enumerate() if each.is_alive()}


def left_in(store: Any) -> Iterator[str]:
    """Say what a run left in its store."""
    if any(status == "running" for _, status in store.list()):
        yield "a run of nobody that is running"
    if isinstance(store, MemoryStore):
        if store._lock._is_owned():
            yield "the lock of the store"
        return
    mine = store._connections._local.connection
    if mine.uses or mine.lock._is_owned():
        yield "the lock of a connection"
    if mine.connection is not None and mine.connection.in_transaction:
        yield "a transaction"
    if store._connections._opening._is_owned():
        yield "the lock of the connections"


def files() -> int:
    """Return how many files are open."""
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - one more is open for that


def leaves_files(before: int) -> bool:
    """True if more files stay open than *before*; a thread that ends has its own for a moment."""
    ends = monotonic() + SOON
    while files() > before:
        if monotonic() > ends:
            return True
        sleep(0.0001)
    return False


def left_in_metrics(metrics: Metrics) -> Iterator[str]:
    """Say what a run left in its gauge, which is to show what was counted once no run goes on."""
    counted = sum(
        metrics.value("checkpoint_items_total", component="job", outcome=outcome) or 0.0
        for outcome in ("done", "skipped")
    )
    if metrics.value("checkpoint_items_expected", component="job") not in (None, counted):
        yield "a run whose items are expected"


def left(store: Any, before: set[threading.Thread]) -> Iterator[str]:
    """Say what a run left behind."""
    ends = monotonic() + SOON
    while watcher._watchers and monotonic() < ends:
        sleep(0.0001)
    if watcher._watchers:
        yield "a run in the watcher"
    if watcher._lock._is_owned():
        yield "the lock of the watchers"
    if interruption._running:
        yield "a run that `interrupt_all` knows"
    if signals._going_on():
        yield "a run that waits for SIGTERM"
    if any(step() for step in steps._AROUND.get()):
        yield "a step around all other code"
    yield from left_in(store)
    for each in threads() - before:
        each.join(SOON)
    if threads() > before:
        yield "a thread"


def wrong_with(run: Callable[[], int]) -> Iterator[str]:
    """Say what is wrong with another attempt."""
    for first in (True, False):
        try:
            result = run()
        except OSError:  # as it should, if none had begun
            if not first:
                yield "every attempt fails"
        except Exception as error:  # noqa: BLE001 - whatever it is, it is wrong
            yield f"another attempt raises {type(error).__name__}"
            return
        else:
            if result != 6:
                yield f"the result is {result}"
            return


class Trials:
    """Runs of a job in a form, each with a handler at a place of its own."""

    def __init__(self, act: str, where: str, folder: str) -> None:
        self._act = ACTS[act]
        self._where = where
        self._folder = Path(folder)
        self._stores = 0
        self.found: Counter[str] = Counter()
        self.places = 0
        self._begin_again()

    def _begin_again(self) -> None:
        """Go on without what was left behind, so that it is counted once."""
        for each in (watcher._watchers, interruption._running, signals._watched):
            each.clear()
        self._stores += 1
        self._store: Any = MemoryStore()
        if self._where == "sqlite":
            self._store = SQLiteStore(self._folder / f"{self._stores}.db")
        self._threads = threads()
        self._files = 0

    def _acts(self) -> None:
        self._act(self._store)

    def every(self, run: Callable[[Any, str], int], stride: int) -> None:
        """Try places so far from each other."""
        for number in range(3):  # what is asked only once, and imported, is not asked again
            self._interrupted(run, f"warm {number}", Handler(self._acts, 0))
        at = 1
        while self._interrupted(run, f"place {at}", Handler(self._acts, at)):
            at += stride

    def random(self, run: Callable[[Any, str], int], times: int) -> None:
        """Have a timer hit so often, at random."""
        dice, end, runs = random.Random(times), self.places + times, 0
        while self.places < end:
            runs += 1
            handler = TimedHandler(self._acts, dice.uniform(1e-6, LONGEST_HIT))
            self._interrupted(run, f"random {runs}", handler)

    def _interrupted(
        self, run: Callable[[Any, str], int], key: str, handler: Handler | TimedHandler
    ) -> bool:
        """Try a place; return False if the handler did not come in."""
        faulthandler.dump_traceback_later(LONGEST, exit=True)
        again = partial(run, self._store, key)
        with recorded() as metrics:
            with suppress(Interrupt, RunInterruptedError, OSError):
                handler.call(again)
            wrong = [*left(self._store, self._threads), *left_in_metrics(metrics)]
            wrong += wrong_with(again)
        # A handler that raises may come between the opening of a file and its assignment, and into
        # a finalizer, whose rest Python leaves out.
        if self._files and self._act is not ACTS["raises"] and leaves_files(self._files):
            wrong.append("a file")
        self._files = files()
        faulthandler.cancel_dump_traceback_later()
        for each in wrong:
            self.found[f"{each}: {handler.where}"] += 1
        if wrong:
            self._begin_again()
        self.places += handler.where != ""
        return handler.where != ""


def main(act: str, where: str, job: str, how: str, number: int) -> None:
    gc.disable()  # what is left must go without a collection
    sys.unraisablehook = lambda _: None  # of finalizers that the handler came into
    with tempfile.TemporaryDirectory() as folder:
        trials = Trials(act, where, folder)
        for form in (in_function, in_block):
            {"every": trials.every, "random": trials.random}[how](partial(form, JOBS[job]), number)
    print(trials.places)
    for what, times in sorted(trials.found.items()):
        print(times, what)


main(*sys.argv[1:5], number=int(sys.argv[5]))
