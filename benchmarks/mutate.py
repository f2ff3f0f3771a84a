"""Would a test notice if a decision were wrong? One mutant after the other; run by hand.

Each mutant changes one thing in one module (`mutants.py` says what), and the tests of that module
run on it, those of the lane for each edit, until one fails: then it is killed. One that no test
notices survives, unless it is equal: it does the same as the code. `equal_mutants.toml` has those,
each with the reason, and those that only tests see which start processes, each with such a test.

A mutant of a function's body replaces the code of the functions that are there, in a copy of a
process that has collected the tests (`fork`), and only the tests that reach its line run, the
fastest first. Those that act when the module is imported run in a process that imports it anew,
with all tests of the module. A test that takes ten seconds has failed; a mutant that takes much
longer than its tests all the same is killed by time.

    python benchmarks/mutate.py _core/detector.py
    python benchmarks/mutate.py --share 0.25

With a share, that part of each module's mutants is drawn, by a fixed seed or another one.
"""

import argparse
import ast
import gc
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import pickle
import platform
import random
import resource
import select
import signal
import sys
import tempfile
import time
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from types import CodeType, FunctionType

import coverage
import pytest

from harness import Report
from mutants import Mutant, mutants_of

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "mainstay"
EQUAL = Path(__file__).with_name("equal_mutants.toml")
SEED = 1

FAILOVER = (
    "failover/test_planner.py", "failover/test_engine.py", "failover/test_ejection.py",
    "failover/test_calls.py", "failover/test_rotation.py",
    "failover/test_standbys.py", "failover/test_selection.py", "failover/test_operations.py",
    "failover/test_opening.py", "failover/test_fencing.py", "failover/test_closing.py",
    "failover/test_probes.py", "failover/test_suspicion.py", "failover/test_results.py",
    "failover/test_attempt_timeout.py", "failover/test_late_cancellations.py",
    "failover/test_metrics.py", "failover/test_helpers.py", "failover/test_signatures.py",
    "failover/test_bad_input.py", "failover/test_model.py", "failover/test_start_model.py",
    "package/test_arguments.py",
)  # fmt: skip
VOTE = (
    "redundant/test_vote.py",
    "redundant/test_decision.py",
    "redundant/test_bad_input.py",
    "package/test_arguments.py",
)
RETRY = (
    "retry/test_decision.py", "retry/test_limits.py", "retry/test_on.py", "retry/test_results.py",
    "retry/test_properties.py", "retry/test_against_tenacity.py", "retry/test_bad_input.py",
)  # fmt: skip
OPS = (
    "ops/test_promql.py", "ops/test_rules.py", "ops/test_alerts.py", "ops/test_dashboard.py",
    "ops/test_command_line.py", "ops/test_events.py", "ops/test_levels.py",
)  # fmt: skip
SERVERS = (
    "servers/test_asgi.py", "servers/test_wsgi.py", "servers/test_own_responses.py",
    "servers/test_random_requests.py", "servers/test_short_way.py",
)  # fmt: skip
RECEIVER = (
    "servers/test_alertmanager.py", "servers/test_alertmanager_model.py",
    "failover/test_alert_log.py", "package/test_arguments.py",
)  # fmt: skip
MAP = ("checkpoint/test_map_model.py", "checkpoint/test_map.py")
TESTS: dict[str, Sequence[str]] = {
    "_core/detector.py": (
        "core/test_detector.py", "core/test_silence.py", "breaker/test_breaker.py",
        "package/test_arguments.py",
        "failover/test_ejection.py", "failover/test_late_cancellations.py",
        "failover/test_probes.py",
    ),
    "_core/silence.py": ("core/test_silence.py", "failover/test_late_cancellations.py"),
    "_core/budget.py": (
        "core/test_budget.py", "core/test_budget_readings.py", "retry/test_limits.py",
        "redundant/test_decision.py", "redundant/test_bad_input.py", "retry/test_bad_input.py",
        "failover/test_calls.py", "package/test_arguments.py",
    ),
    "_core/deadline.py": (
        "core/test_deadline.py", "core/test_interrupting_deadline.py", "core/test_context.py",
    ),
    "_core/call.py": (
        "retry/test_calls.py", "retry/test_on.py", "retry/test_events.py", "retry/test_limits.py",
        "core/test_interrupting_deadline.py", "breaker/test_breaker.py",
        "limits/test_fallback.py",
    ),
    "_core/dependability.py": ("metrics/test_availability.py", "metrics/test_uptime_readings.py"),
    "_metrics/uptime.py": ("metrics/test_uptime_readings.py", "metrics/test_availability.py"),
    "_retry/decision.py": RETRY,
    "_retry/strategies.py": RETRY,
    "_breaker/engine.py": ("breaker/test_breaker.py", "failover/test_late_cancellations.py"),
    "_failover/planner.py": FAILOVER,
    "_failover/engine.py": FAILOVER,
    "_failover/operations.py": FAILOVER,
    "_failover/rotation.py": FAILOVER,
    "_failover/suspicion.py": FAILOVER,
    "_failover/members.py": FAILOVER,
    "_failover/selection.py": FAILOVER,
    "_metrics/promql.py": ("metrics/test_questions_in_promql.py",),
    "_metrics/alertmanager.py": RECEIVER,
    "_failover/alert_log.py": RECEIVER,
    "_failover/alerted.py": RECEIVER,
    "integrations/alertmanager.py": RECEIVER,
    "_limits/adaptive.py": ("limits/test_adaptive.py",),
    "_limits/fullness.py": ("limits/test_fullness.py", "servers/test_health.py"),
    "integrations/_own_responses.py": SERVERS,
    "integrations/_serving.py": SERVERS,
    "integrations/asgi.py": SERVERS,
    "integrations/wsgi.py": SERVERS,
    "_redundant/decision.py": (
        "redundant/test_decision.py", "redundant/test_calls.py", "redundant/test_pool.py",
        "redundant/test_threads.py",
    ),
    "_redundant/race.py": (
        "redundant/test_calls.py", "redundant/test_cancellation.py", "redundant/test_pool.py",
        "redundant/test_bad_input.py", "redundant/test_threads.py",
    ),
    "_redundant/sketch.py": ("redundant/test_sketch.py", "redundant/test_latency.py"),
    "_checkpoint/schedule.py": (
        "checkpoint/test_schedule.py", "checkpoint/test_watcher.py", "checkpoint/test_iterate.py",
        "checkpoint/test_no_threads.py", "checkpoint/test_metrics.py", "package/test_arguments.py",
    ),
    "_checkpoint/progress.py": (
        "checkpoint/test_iterate.py", "checkpoint/test_steps.py", "checkpoint/test_nesting.py",
        "checkpoint/test_many_iterations.py", "checkpoint/test_atomic_steps.py",
        "checkpoint/test_state.py", "checkpoint/test_metrics.py",
        "checkpoint/test_idempotency_key.py", "checkpoint/test_code_change.py",
    ),
    "_checkpoint/above.py": MAP,
    "_checkpoint/window.py": MAP,
    "_checkpoint/spread.py": MAP,
    "_checkpoint/decision.py": (
        "checkpoint/test_decision.py", "checkpoint/test_ownership.py", "checkpoint/test_runs.py",
    ),
    "vote/__init__.py": VOTE,
    "vote/_agreement.py": VOTE,
    "vote/_median.py": VOTE,
    "ops/_promql.py": OPS,
}  # fmt: skip
"""The modules that decide, and their tests."""

IN_PLACE_IS_IMPOSSIBLE = 99
"""How a process ends that cannot give the functions that are there their new code."""

Fate = str
KILLED, BY_TIME, SURVIVED, UNREACHED = "killed", "killed by time", "survived", "reached by no test"


class Module:
    """A module, its mutants, and what its tests do to them."""

    def __init__(self, name: str) -> None:
        self.path = SOURCE / name
        dotted = name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        self.dotted = f"mainstay.{dotted}"
        self.tree = ast.parse(self.path.read_text())
        self.mutants = mutants_of(self.tree)
        self.files = [str(ROOT / "tests" / each) for each in TESTS[name]]
        self.seconds: dict[str, float] = {}
        self.reaching: dict[int, list[str]] = {}

    def changed(self, mutant: Mutant) -> CodeType:
        """Return the code of the module with one change, which stays in the tree."""
        mutant.apply()
        return compile(self.tree, str(self.path), "exec")

    def measure(self) -> None:
        """Run the tests without a change, to know who reaches which line, and how fast."""
        measured = in_child(self._measured)
        if not isinstance(measured, tuple):
            raise SystemExit(f"the tests of {self.dotted} fail without any change")
        self.seconds, self.reaching = measured

    def _measured(self) -> object:
        watch = coverage.Coverage(data_file=None, include=[str(self.path)], config_file=False)
        watch.start()
        reaching = _Reaching(watch)
        code = pytest.main(options(self.files), plugins=[reaching])
        watch.stop()
        if code:
            return int(code)
        return reaching.seconds, watch.get_data().contexts_by_lineno(str(self.path))

    def acts_at_import(self, mutant: Mutant) -> bool:
        """True if what a mutant changes has run when the tests have been collected."""
        return not mutant.in_function or "" in self.reaching.get(mutant.line, ())

    def tests_of(self, mutant: Mutant) -> list[str]:
        """Return the tests that reach a mutant, the fastest first."""
        reached = self.reaching.get(mutant.line, ())
        return sorted(filter(None, reached), key=lambda test: self.seconds.get(test, 0.0))

    def fates(self, chosen: Sequence[int]) -> dict[int, Fate]:
        """Return what becomes of each of the mutants with these numbers."""
        here = [number for number in chosen if self.mutants[number].in_function]
        found = self._received(here) if here else {}
        for number in chosen:
            mutant = self.mutants[number]
            alive = found.get(number, SURVIVED) in {SURVIVED, UNREACHED}
            if number not in found or (alive and self.acts_at_import(mutant)):
                found[number] = self._fate_anew(mutant)
        return found

    def _received(self, numbers: Sequence[int]) -> dict[int, Fate]:
        found = in_child(lambda: self._fates_in_place(numbers))
        if not isinstance(found, dict):
            raise SystemExit(f"the tests of {self.dotted} cannot be collected")
        return found

    def _fates_in_place(self, numbers: Sequence[int]) -> dict[int, Fate]:
        loop = _Loop(self, numbers)
        code = pytest.main(options(self.files), plugins=[loop])
        if loop.is_copy:
            os._exit(code)
        return loop.found

    def _fate_anew(self, mutant: Mutant) -> Fate:
        def run() -> int:
            sys.meta_path.insert(0, _Changed(self.dotted, self.changed(mutant)))
            return pytest.main(options(self.files))

        return fate_of(run, sum(self.seconds.values()))


class _Reaching:
    """A pytest plugin that tells coverage.py which test runs, and takes its time."""

    def __init__(self, watch: coverage.Coverage) -> None:
        self.watch = watch
        self.seconds: dict[str, float] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[object]:
        self.watch.switch_context(item.nodeid)
        started = time.process_time()
        try:
            return (yield)
        finally:
            self.seconds[item.nodeid] = time.process_time() - started


class _Loop:
    """A pytest plugin that runs, in place of all tests once, some of them for each mutant."""

    def __init__(self, module: Module, numbers: Sequence[int]) -> None:
        self.module = module
        self.numbers = numbers
        self.found: dict[int, Fate] = {}
        self.is_copy = False

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        items = {item.nodeid: item for item in session.items}
        importlib.import_module(self.module.dotted)  # some are imported when they are needed
        functions = [each for each in gc.get_objects() if type(each) is FunctionType]
        for number in self.numbers:
            mutant = self.module.mutants[number]
            tests = [items[each] for each in self.module.tests_of(mutant)]
            if not tests:
                self.found[number] = UNREACHED
                continue
            pid = os.fork()
            if not pid:
                self.is_copy = True
                os.setsid()
                limit_itself(self._seconds_of(tests))
                if not replace_code(functions, self.module.changed(mutant)):
                    os._exit(IN_PLACE_IS_IMPOSSIBLE)
                session.items[:] = tests
                return None
            fate = fate_after(pid, self._seconds_of(tests))
            if fate is not None:
                self.found[number] = fate
        return True

    def _seconds_of(self, tests: Sequence[pytest.Item]) -> float:
        return sum(self.module.seconds[each.nodeid] for each in tests)


class _Changed(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    """Imports a module from code that was changed."""

    def __init__(self, name: str, code: CodeType) -> None:
        self.name = name
        self.code = code

    def find_spec(
        self, name: str, path: Sequence[str] | None, _target: object = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Find that module only."""
        spec = importlib.machinery.PathFinder.find_spec(name, path) if name == self.name else None
        if spec is not None:
            spec.loader = self
        return spec

    def get_code(self, _name: str) -> CodeType:
        """Return what it was given."""
        return self.code

    def get_source(self, _name: str) -> None:
        """There is none."""


def replace_code(functions: Sequence[FunctionType], changed: CodeType) -> bool:
    """Give functions the code that they have in *changed*; False if one of them cannot have it."""
    by_place: dict[tuple[str, int], CodeType] = {}
    codes = [changed]
    while codes:
        code = codes.pop()
        codes += [each for each in code.co_consts if isinstance(each, CodeType)]
        place = code.co_qualname, code.co_firstlineno
        if place in by_place and "<lambda>" in code.co_qualname:
            return False
        by_place[place] = code
    try:
        for function in functions:
            code = function.__code__
            if code.co_filename == changed.co_filename:
                function.__code__ = by_place[code.co_qualname, code.co_firstlineno]
    except ValueError:  # it uses other variables of what is around it
        return False
    return True


# Processes.


def options(files: Sequence[str]) -> list[str]:
    """Return the arguments of pytest."""
    without = ["cacheprovider", "xdist", "randomly"]
    left_out = [each for name in without for each in ("-p", f"no:{name}")]
    # Rewriting of assertions would import this package, a plugin of pytest, by another way.
    chosen = ["-m", "not process", "--assert=plain", "--hypothesis-seed=0", "--timeout=10"]
    return ["-qx", *chosen, *left_out, *files]


@contextmanager
def quiet() -> Iterator[None]:
    """Print nothing, and leave files nowhere but in a directory that is removed."""
    with tempfile.TemporaryDirectory() as directory:
        os.environ["PYTEST_DEBUG_TEMPROOT"] = directory
        os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = f"{directory}/hypothesis"
        yield


def silence_itself() -> None:
    """Have this process print nothing, and every run of it draw the same numbers."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    random.seed(SEED)


def in_child(fn: Callable[[], object]) -> object:
    """Return what *fn* returns in a copy of this process."""
    reads, writes = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(reads)
        silence_itself()
        with os.fdopen(writes, "wb") as pipe:
            pickle.dump(fn(), pipe)
        os._exit(0)
    os.close(writes)
    with os.fdopen(reads, "rb") as pipe:
        answer = pipe.read()
    os.waitpid(pid, 0)
    return pickle.loads(answer) if answer else None  # noqa: S301 - by this script itself


def fate_of(run: Callable[[], int], seconds: float) -> Fate:
    """Return what becomes of a mutant in a copy of this process."""
    pid = os.fork()
    if not pid:
        os.setsid()
        silence_itself()
        limit_itself(seconds)
        os._exit(run())
    return fate_after(pid, seconds) or SURVIVED


def limit_itself(seconds: float) -> None:
    """Have this process end if it computes for too long, or takes too much memory."""
    most = int(5 + 5 * seconds)
    resource.setrlimit(resource.RLIMIT_CPU, (most, most))
    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))


def fate_after(pid: int, seconds: float) -> Fate | None:
    """Wait for a process that runs the tests of a mutant; None if it could not."""
    handle = os.pidfd_open(pid)
    ended, _, _ = select.select([handle], [], [], 20 + 5 * seconds)
    os.close(handle)
    if not ended:
        os.killpg(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    if not ended or os.WIFSIGNALED(status):
        return BY_TIME
    code = os.WEXITSTATUS(status)
    if code == IN_PLACE_IS_IMPOSSIBLE:
        return None
    return KILLED if code else SURVIVED


# What is told.


def is_meant(mutant: Mutant, entry: Mapping[str, str]) -> bool:
    """True if an entry of `equal_mutants.toml` is about a mutant; a star stands for any change."""
    return mutant.scope == entry["in"] and entry["change"] in {"*", str(mutant)}


def report(names: Sequence[str], share: float, seed: int) -> Report:
    """Try the mutants of the modules."""
    result = Report()
    equals = tomllib.loads(EQUAL.read_text())
    rows: list[list[object]] = []
    left: list[list[object]] = []
    total: Counter[str] = Counter()
    for name in names:
        counts, alive = tried(name, share, seed, equals.get(name, ()))
        rows.append(row_of(f"`{name}`", counts))
        left += alive
        total += counts
    rows.append(row_of("all", total))
    header = [
        "module",
        "mutants",
        "run",
        "killed",
        "of these by time",
        "by processes",
        "equal",
        "survived",
    ]
    result.table(f"Mutants; {share:.0%} of each module's were run, seed {seed}", header, rows)
    if left:
        result.table("Survivors", ["where", "in", "change", "what"], left)
    return result


def tried(
    name: str, share: float, seed: int, equals: Sequence[Mapping[str, str]]
) -> tuple[Counter[str], list[list[object]]]:
    """Try the mutants of a module; return counts, and a line for each that is alive."""
    started = time.monotonic()
    module = Module(name)
    module.measure()
    numbers = range(len(module.mutants))
    drawn = sorted(random.Random(seed).sample(numbers, round(share * len(numbers))))
    fates = module.fates(drawn)
    alive = [module.mutants[each] for each in drawn if fates[each] in {SURVIVED, UNREACHED}]
    listed = [[entry for entry in equals if is_meant(each, entry)] for each in alive]
    left = [each for each, entries in zip(alive, listed, strict=True) if not entries]
    seen = sum("seen_by" in entry for entries in listed for entry in entries[:1])
    counts = Counter(fates.values())
    counts.update(mutants=len(numbers), run=len(drawn), seen=seen)
    counts.update(equal=len(alive) - len(left) - seen, alive=len(left))
    took = time.monotonic() - started
    print(f"{name}: {len(left)} of {len(drawn)} alive, {took:.0f} s", file=sys.stderr)
    reached = {id(module.mutants[each]): fates[each] for each in drawn}
    return counts, [
        [f"`{name}:{each.line}`", each.scope, f"`{each}`", reached[id(each)]] for each in left
    ]


def row_of(name: str, counts: Counter[str]) -> list[object]:
    """Return the line of a module."""
    killed = counts[KILLED] + counts[BY_TIME]
    alive = counts["seen"], counts["equal"], counts["alive"]
    return [name, counts["mutants"], counts["run"], killed, counts[BY_TIME], *alive]


def main() -> None:
    """Try them, and print the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("modules", nargs="*", metavar="module", help="which; all without any")
    parser.add_argument("--share", type=float, default=1.0, help="of each module's mutants")
    parser.add_argument("--seed", type=int, default=SEED, help="another one draws others")
    chosen = parser.parse_args()
    unknown = {*chosen.modules} - {*TESTS}
    if unknown:
        parser.error(f"there is no {' or '.join(sorted(unknown))}, but {', '.join(TESTS)}")
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT / "src"))
    sys.dont_write_bytecode = True
    with quiet():
        result = report(chosen.modules or [*TESTS], chosen.share, chosen.seed)
    packages = ", ".join(f"{each} {version(each)}" for each in ("mainstay", "pytest", "hypothesis"))
    print(f"{platform.python_implementation()} {platform.python_version()}; {packages}.\n")
    print("\n\n".join(result.parts))


if __name__ == "__main__":
    main()
