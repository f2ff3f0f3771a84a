"""Does any order of events break a rule of stores, and would the proof notice if one did?

A state machine of Hypothesis has two workers, which are blocks of `checkpoint_run`, go through one
run on a server that loses answers, goes back to what it was some writes before, and whose clock
steps; `tests/support/store_machine.py` says what must hold. A share of it is among the tests.

Then the proof is tried itself: each mutant breaks the code in one way, and is to be found.
"""

import argparse
import contextlib
import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from sys import path
from time import perf_counter
from typing import Any
from unittest import mock

import attrs
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

path.append(str(Path(__file__).parents[1] / "tests"))

from mainstay._checkpoint.hold import Hold
from mainstay._checkpoint.sending import Sender
from mainstay.stores import memory
from mainstay.stores.base import Acquired, Change, Record, RunLease
from mainstay.stores.memory import MemoryStore
from support.forgetful_server import TROUBLES
from support.store_machine import StoreMachine

decided, numbered = memory.acquisition, vars(Hold)["_numbered"]
sent = Sender.commit
acquired, committed, released = MemoryStore.acquire, MemoryStore.commit, MemoryStore.release
is_granted = vars(memory)["_is_granted"]

seen: Counter[str] = Counter()


def same_token(record: Record, lease: RunLease) -> bool:
    """Compare tokens alone."""
    return record.token == lease.token


def same_status(record: Record, _lease: RunLease) -> bool:
    """Compare nothing."""
    return record.status == "running"


def applied_by_anyone(record: Record, _lease: RunLease, change: Change) -> bool:
    """Compare the number with that of another owner."""
    return 0 < change.sequence <= record.sequence


def applied_if_lower(record: Record, lease: RunLease, change: Change) -> bool:
    """Take the last change of all for a new one."""
    return is_granted(record, lease) and 0 < change.sequence < record.sequence


def cut_before_documents(kept: Any, change: Change) -> bool:
    """Look for the last document alone."""
    return bool(kept.record.sequence < change.after)


def acquisition_that(**changes: Any) -> Callable[..., Any]:
    """Give an `acquisition` that is asked with something else."""
    return lambda *args, **options: decided(*args, **{**options, **changes})


def every_request_is_new(before: Any, run: Any, request: Any, **options: Any) -> Any:
    """Take a request that is sent again for another one."""
    if before is not None and before.grant == request.grant:
        before = attrs.evolve(before, grant="another")
    return decided(before, run, request, **options)


def token_stays(before: Any, *args: Any, **options: Any) -> Any:
    """Give the token of before again."""
    answer = decided(before, *args, **options)
    if before is not None and isinstance(answer, Acquired):
        return attrs.evolve(answer, record=attrs.evolve(answer.record, token=before.token))
    return answer


def finished_runs_go_on(before: Any, *args: Any, **options: Any) -> Any:
    """Give a finished run to an owner."""
    if before is not None and before.status == "done":
        before = attrs.evolve(before, status="interrupted")
    return decided(before, *args, **options)


def acquire_old_contents(store: Any, *args: Any) -> Any:
    """Answer with the document of before the last."""
    answer = acquired(store, *args)
    if isinstance(answer, Acquired):
        old = attrs.evolve(answer.contents, latest=answer.contents.previous)
        return attrs.evolve(answer, contents=old)
    return answer


def commit_without_drops(store: Any, lease: RunLease, change: Change) -> None:
    """Keep results that were dropped."""
    committed(store, lease, attrs.evolve(change, drop=()))


def commit_without_results(store: Any, lease: RunLease, change: Change) -> None:
    """Lose results that are saved with a document."""
    committed(store, lease, attrs.evolve(change, put={} if change.document else change.put))


def commit_without_end(store: Any, lease: RunLease, change: Change) -> None:
    """Forget that the run has ended."""
    committed(store, lease, attrs.evolve(change, finished=False))


def commit_for_nothing(store: Any, lease: RunLease, change: Change) -> None:
    """Acknowledge each third save without writing it."""
    if change.sequence % 3:
        committed(store, lease, change)


def release_by_anyone(store: Any, lease: RunLease, *args: Any) -> None:
    """Release a run that somebody else has."""
    kept = vars(store)["_runs"].get(lease.run)
    if kept is not None:
        record = kept.record
        released(store, attrs.evolve(lease, token=record.token, grant=record.grant), *args)


def number_that_stays(hold: Any, change: Change) -> Change:
    """Give each save the same number."""
    return attrs.evolve(numbered(hold, change), sequence=1)


@attrs.frozen
class Renumbering:
    """A store that gives each save that it is sent a number of its own."""

    store: Any
    tries: Iterator[int] = attrs.field(factory=itertools.count)

    def commit(self, lease: RunLease, change: Change) -> None:
        """Pass the save on under the next number."""
        number = change.sequence * 1000 + next(self.tries)
        self.store.commit(lease, attrs.evolve(change, sequence=number))


def resend_under_a_new_number(sender: Any, *args: Any) -> None:
    """Send a save again as another one."""
    sent(attrs.evolve(sender, store=Renumbering(sender.store)), *args)


MUTANTS: dict[str, tuple[object, str, Any]] = {
    "the grant is not compared": (memory, "_is_granted", same_token),
    "neither token nor grant is compared": (memory, "_is_owned", same_status),
    "the end of a run is not looked at in a save": (memory, "_is_owned", is_granted),
    "no number is compared": (memory, "_has_applied", lambda *_: False),
    "the last number counts as new": (memory, "_has_applied", applied_if_lower),
    "numbers of other owners count": (memory, "_has_applied", applied_by_anyone),
    "an owner goes on after what was lost": (memory, "_is_cut", lambda *_: False),
    "an owner goes on after a lost result": (memory, "_is_cut", cut_before_documents),
    "an owner is taken for gone at any time": (
        memory, "acquisition", acquisition_that(gone="takeover"),
    ),
    "an owner is never gone": (memory, "acquisition", acquisition_that(gone="")),
    "a request that is sent again is another": (memory, "acquisition", every_request_is_new),
    "a takeover leaves the token": (memory, "acquisition", token_stays),
    "a finished run goes on": (memory, "acquisition", finished_runs_go_on),
    "an owner gets the document before the last": (MemoryStore, "acquire", acquire_old_contents),
    "results that are dropped stay": (MemoryStore, "commit", commit_without_drops),
    "results beside a document are lost": (MemoryStore, "commit", commit_without_results),
    "the last save does not end the run": (MemoryStore, "commit", commit_without_end),
    "a save is acknowledged, not written": (MemoryStore, "commit", commit_for_nothing),
    "anyone may release": (MemoryStore, "release", release_by_anyone),
    "each save has the same number": (Hold, "_numbered", number_that_stays),
    "a save is sent again under a new number": (Sender, "commit", resend_under_a_new_number),
}  # fmt: skip


class Counted(StoreMachine):
    """The machine, which counts what happened."""

    def __init__(self) -> None:
        super().__init__()
        seen["orders of events"] += 1

    def teardown(self) -> None:
        """Count, and end."""
        log = self.server.log
        super().teardown()
        seen["writes"] += len(log)
        seen["times that writes were forgotten"] += self.server.cuts
        seen["owners"] += sum(each.kind == "acquire" for each in log)


BATCH = 500
"""Orders of events of one seed: Hypothesis keeps all that it has tried."""


def run(examples: int, number: int) -> None:
    """Try so many orders of events."""
    for first in range(0, examples, BATCH):
        try_out(min(BATCH, examples - first), number + first)


def try_out(examples: int, number: int) -> None:
    """Try the orders of events that a seed leads to."""
    plan = settings(
        max_examples=examples,
        stateful_step_count=50,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        report_multiple_bugs=False,
        print_blob=False,
        suppress_health_check=[*HealthCheck],
    )
    run_state_machine_as_test(seed(number)(Counted), settings=plan, _min_steps=1)


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Print nothing of an order of events that fails."""
    with contextlib.redirect_stdout(None), contextlib.redirect_stderr(None):
        yield


def first_of(error: BaseException) -> str:
    """Say what was found."""
    text = str(error) or type(error).__name__
    return text.splitlines()[0].replace("|", "/")


def main() -> None:
    """Run all orders of events, and all mutants."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few orders of events")
    parser.add_argument("--seed", type=int, default=1, help="where the orders of events begin")
    options = parser.parse_args()
    began = perf_counter()
    run(20 if options.quick else 2000, options.seed)
    print(f"{perf_counter() - began:.0f} s, troubles: {', '.join(TROUBLES[1:])}.\n")
    print("| what | how often |\n| --- | --: |")
    for what, count in seen.items():
        print(f"| {what} | {count} |")
    print("\n| mutant | orders of events until it was found | as |\n| --- | --: | --- |")
    for name, (where, what, instead) in MUTANTS.items():
        seen.clear()
        found = "**not found**"
        with mock.patch.object(where, what, instead), silent():
            try:
                run(100 if options.quick else 3000, options.seed)
            except Exception as error:  # noqa: BLE001 - whatever a mutant leads to
                found = first_of(error)
        print(f"| {name} | {seen['orders of events']} | {found} |", flush=True)


if __name__ == "__main__":
    main()
