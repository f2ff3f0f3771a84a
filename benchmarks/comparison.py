"""Is the table of the README against tenacity, stamina, pybreaker and DBOS true?

Each cell is tried: the library is run where that shows it, and else its source is searched for the
words that it could not do without. A cell that is not so, another version than the one named, and a
table that differs from what is tried here end this with an error.
"""

import asyncio
import functools
import inspect
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from unittest import mock

import dbos
import httpx
import prometheus_client
import pybreaker
import stamina
import tenacity

import mainstay
from harness import Report, main
from mainstay.testing import FakeClock, recorded

README = Path(__file__).parents[1] / "README.md"
LIBRARIES = ("mainstay", "tenacity", "stamina", "pybreaker", "DBOS")

Cell = tuple[str, bool]
"""What the table says of one library, and whether that is so."""

SECONDS = 7
"""What a server asks to wait."""

KILLED_BY_DBOS = """
import os, sys
from dbos import DBOS, SetWorkflowID
DBOS(config={"name": "job", "system_database_url": sys.argv[1], "log_level": "CRITICAL"})
@DBOS.step()
def step(number):
    print(number, end=" ", flush=True)
@DBOS.workflow()
def job():
    for number in range(4):
        step(number)
        if number == 1 and sys.argv[2] == "killed":
            os.kill(os.getpid(), 9)
DBOS.launch()
if sys.argv[2] == "killed":
    with SetWorkflowID("job"):
        job()
DBOS.retrieve_workflow("job").get_result()
"""
KILLED_BY_MAINSTAY = """
import os, sys
from mainstay import checkpointed
@checkpointed(store=sys.argv[1], key="job", name="job")
def job(cp):
    for number in cp.iterate(range(4)):
        if number == 2 and sys.argv[2] == "killed":
            os.kill(os.getpid(), 9)
        print(number, end=" ", flush=True)
job()
"""


class Flaky:
    """A function that fails so often, and then answers."""

    def __init__(self, failures: int = 1) -> None:
        self.left = failures
        self.calls = 0

    def __call__(self) -> str:
        """Fail or answer."""
        self.calls += 1
        self.left -= 1
        if self.left >= 0:
            raise ConnectionError("refused")
        return "answer"


def raised(call: Callable[[], object]) -> str:
    """Return the name of the class of what a call raises."""
    try:
        call()
    except Exception as error:  # noqa: BLE001 - which one is what is asked
        return type(error).__name__
    return ""


def refused() -> None:
    """Fail always."""
    raise ConnectionError("refused")


def default(function: Callable, *names: str) -> list:
    """Return the defaults of parameters."""
    parameters = inspect.signature(function).parameters
    return [parameters[name].default for name in names]


@functools.cache
def source(library: str) -> str:
    """Return all code of a library, in lower case."""
    where = Path(import_module(library.lower()).__file__ or "")
    return "\n".join(path.read_text() for path in where.parent.rglob("*.py")).lower()


def nothing_of(library: str, *words: str) -> Cell:
    """Return the cell "no", which is so if none of the words is in the source."""
    return "no", not any(word in source(library) for word in words)


def out_of_the_box() -> list[Cell]:
    """With nothing said but which exceptions."""
    waits, always = set(), Flaky(1_000)
    for flaky in (Flaky(), Flaky(), Flaky(), always):
        with FakeClock() as clock:
            began = clock.now()
            raised(mainstay.retry(on=OSError, name="flaky")(flaky))
            waits.add(clock.now() - began)
    random_and_five = (len(waits), always.calls) == (4, 5)
    plain = tenacity.Retrying()
    no_waits = isinstance(plain.wait, type(tenacity.wait_none()))
    steps = default(dbos.DBOS.step, "retries_allowed", "max_attempts")
    return [
        ("5 attempts, random waits", random_and_five),
        ("for ever, no waits", no_waits and plain.stop is tenacity.stop_never),
        (
            "10 attempts, random waits",
            default(stamina.retry, "attempts", "wait_jitter") == [10, 1.0],
        ),
        ("no retry", raised(pybreaker.CircuitBreaker()(Flaky())) == "ConnectionError"),
        ("steps once; 3 times if asked", steps == [False, 3]),
    ]


def retry_after() -> list[Cell]:
    """A 503 that says when to come back."""
    answers = iter(
        [httpx.Response(503, headers={"Retry-After": str(SECONDS)}), httpx.Response(200)]
    )
    client = httpx.Client(transport=httpx.MockTransport(lambda _request: next(answers)))

    def fetch() -> httpx.Response:
        return client.get("http://shop.example/").raise_for_status()

    with FakeClock() as clock:
        began = clock.now()
        mainstay.retry(on=mainstay.transient, name="fetch")(fetch)()
        waited = clock.now() - began
    with mock.patch("time.sleep") as slept:
        tenacity.retry(wait=lambda _state: SECONDS)(Flaky())()
        stamina.retry(on=lambda _error: float(SECONDS), timeout=None)(Flaky())()
    by_hand = slept.call_args_list == [mock.call(SECONDS)] * 2
    return [
        ("yes", int(waited) == SECONDS),
        ("a function of yours", by_hand),
        ("a function of yours", by_hand),
        nothing_of("pybreaker", "retry-after", "retry_after"),
        nothing_of("dbos", "retry-after", "retry_after"),
    ]


def in_the_end() -> list[Cell]:
    """What the caller of a function gets that always fails."""

    def noted() -> bool:
        with FakeClock():
            try:
                mainstay.retry(on=OSError, name="noted")(Flaky(9))()
            except ConnectionError as error:
                return "5 attempts" in error.__notes__[0]
        return False

    twice = tenacity.retry(stop=tenacity.stop_after_attempt(2))
    reraised = tenacity.retry(stop=tenacity.stop_after_attempt(2), reraise=True)
    with stamina.set_testing(testing=True, attempts=2):
        of_stamina = raised(stamina.retry(on=OSError)(Flaky(9)))
    breaker = pybreaker.CircuitBreaker(fail_max=2)
    of_breaker = [raised(lambda: breaker.call(Flaky())) for _ in range(2)]
    errors = ["ConnectionError", "CircuitBreakerError"]
    with tempfile.TemporaryDirectory() as directory:
        database = f"sqlite:///{directory}/jobs.db"
        dbos.DBOS(config={"name": "job", "system_database_url": database, "log_level": "CRITICAL"})
        step = dbos.DBOS.step(name="refused", retries_allowed=True, interval_seconds=0.01)
        failing = dbos.DBOS.workflow()(step(refused))
        dbos.DBOS.launch()
        of_dbos = raised(failing)
        dbos.DBOS.destroy()
    return [
        ("your exception, the attempts noted on it", noted()),
        (
            "`RetryError`, or yours with `reraise`",
            [raised(twice(Flaky(9))), raised(reraised(Flaky(9)))]
            == ["RetryError", "ConnectionError"],
        ),
        ("your exception", of_stamina == "ConnectionError"),
        ("yours, or `CircuitBreakerError`", of_breaker == errors),
        ("`DBOSMaxStepRetriesExceeded`", of_dbos == "DBOSMaxStepRetriesExceeded"),
    ]


def breakers() -> list[Cell]:
    """A breaker, around a function and a coroutine function."""

    async def arefused() -> None:
        refused()

    theirs, ours = pybreaker.CircuitBreaker(fail_max=1), mainstay.CircuitBreaker("x", on=OSError)
    raised(lambda: asyncio.run(theirs(arefused)()))
    for _ in range(5):
        raised(lambda: asyncio.run(ours(arefused)()))
    tornado = inspect.isfunction(pybreaker.CircuitBreaker.call_async)
    words = "breaker", "circuit_"
    return [
        ("yes", ours.state == "open"),
        nothing_of("tenacity", *words),
        nothing_of("stamina", *words),
        ("of `def`, and in Tornado", theirs.current_state == "closed" and tornado),
        nothing_of("dbos", "breaker"),
    ]


def others() -> list[Cell]:
    """Other servers, more copies."""
    names = ("FailoverPool", "redundant", "hedge", "vote")
    return [
        ("yes", all(name in mainstay.__all__ for name in names)),
        *(nothing_of(peer, "failover", "hedge", "vote") for peer in LIBRARIES[1:]),
    ]


def limits() -> list[Cell]:
    """How many calls at once, and per second."""
    words = "bulkhead", "semaphore", "rate limit", "rate_limit", "max_concurren"
    queue = inspect.signature(dbos.DBOS.register_queue).parameters
    return [
        ("yes", {"Bulkhead", "RateLimit"} <= {*mainstay.__all__}),
        *(nothing_of(peer, *words) for peer in LIBRARIES[1:4]),
        ("of its queues", {"concurrency", "limiter"} <= {*queue}),
    ]


def killed() -> list[Cell]:
    """A job that is killed with SIGKILL, and started again."""

    def numbers(program: str) -> list[str]:
        with tempfile.TemporaryDirectory() as directory:
            store = f"sqlite:///{directory}/jobs.db"
            command = [sys.executable, "-c", program, store]
            runs = [
                subprocess.run([*command, how], stdout=subprocess.PIPE, text=True, check=False)
                for how in ("killed", "again")
            ]
        return [run.stdout for run in runs if run.returncode in (-signal.SIGKILL, 0)]

    words = "sqlite", "checkpoint"
    return [
        ("goes on after the last item or step", numbers(KILLED_BY_MAINSTAY) == ["0 1 ", "2 3 "]),
        *(nothing_of(peer, *words) for peer in LIBRARIES[1:4]),
        ("goes on after the last step", numbers(KILLED_BY_DBOS) == ["0 1 ", "2 3 "]),
    ]


def workflows() -> list[Cell]:
    """Work that is handed to other machines, now or at a time."""
    names = ("register_queue", "create_schedule", "start_workflow")
    words = "schedule_", "enqueue", "workflow"
    return [
        ("no", not any("queue" in name.lower() for name in mainstay.__all__)),
        *(nothing_of(peer, *words) for peer in LIBRARIES[1:4]),
        ("yes", all(hasattr(dbos.DBOS, name) for name in names)),
    ]


def shared_breakers() -> list[Cell]:
    """What one process knows of a server that another one has found down."""
    return [
        ("no", "shared" not in inspect.signature(mainstay.CircuitBreaker).parameters),
        nothing_of("tenacity", "redis"),
        nothing_of("stamina", "redis"),
        ("in Redis", inspect.isclass(pybreaker.CircuitRedisStorage)),
        nothing_of("dbos", "redis"),
    ]


def trio() -> list[Cell]:
    """Another event loop than asyncio's."""
    return [
        ("no", "UnsupportedLoopError" in mainstay.errors.__all__),
        ("yes", "trio.sleep" in source("tenacity")),
        ("yes", "trio.sleep" in source("stamina")),
        nothing_of("pybreaker", "trio"),
        nothing_of("dbos", "trio"),
    ]


def prometheus() -> list[Cell]:
    """What Prometheus sees, with nothing written for it."""
    with FakeClock(), recorded() as metrics:
        mainstay.retry(on=OSError, name="seen")(Flaky())()
        names = ("calls_total", "call_duration_seconds_count", "call_attempts_count")
        seen = [metrics.value(name, component="seen", policy="retry") for name in names]
    stamina.instrumentation.set_on_retry_hooks([stamina.instrumentation.PrometheusOnRetryHook])
    with mock.patch("time.sleep"):
        stamina.retry(on=OSError)(Flaky())()
    theirs = {
        sample.name
        for family in prometheus_client.REGISTRY.collect()
        for sample in family.samples
        if sample.name.startswith("stamina")
    }
    otlp = "otlp_traces_endpoints" in source("dbos") and "prometheus" not in source("dbos")
    return [
        ("every call: outcome, time, attempts", seen == [1, 1, 1]),
        nothing_of("tenacity", "prometheus"),
        ("retries", "stamina_retries_total" in theirs),
        nothing_of("pybreaker", "prometheus"),
        ("traces and logs in OTLP", otlp),
    ]


def views() -> list[Cell]:
    """What people look at."""
    words = "dashboard", "alerting"
    conductor = "conductor dashboard" in source("dbos")
    return [
        ("yes", "MainstayPoolDown" in mainstay.ops.rules() or "alert:" in mainstay.ops.rules()),
        *(nothing_of(peer, *words) for peer in LIBRARIES[1:4]),
        ("in Conductor, its service", conductor),
    ]


ROWS: dict[str, Callable[[], list[Cell]]] = {
    "Out of the box": out_of_the_box,
    "Waits as long as a server asks": retry_after,
    "In the end you get": in_the_end,
    "Circuit breaker": breakers,
    "Failover, hedged calls, votes": others,
    "Bulkhead, rate limit": limits,
    "After `kill -9`": killed,
    "Queues, schedules, workflows": workflows,
    "Breakers that processes share": shared_breakers,
    "trio": trio,
    "In Prometheus": prometheus,
    "Alerts, dashboard, live view": views,
}


def table_of_the_readme() -> list[list[str]]:
    """Return its rows, the header first."""
    lines = README.read_text().splitlines()
    begin = next(place for place, line in enumerate(lines) if line.startswith("| | mainstay"))
    rows = []
    for line in lines[begin:]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip("|"))])
    return rows


def report(*, quick: bool) -> Report:
    """Try every cell; there is no quick way."""
    del quick
    result = Report()
    header, _, *rows = table_of_the_readme()
    versions = [f"{each} {'.'.join(version(each).split('.')[:2])}" for each in LIBRARIES[1:]]
    tried = {name: row() for name, row in ROWS.items()}
    wrong = [
        f"{name}, {library}: {text}"
        for name, cells in tried.items()
        for library, (text, is_so) in zip(LIBRARIES, cells, strict=True)
        if not is_so
    ]
    there = [[name, *(text for text, _ in cells)] for name, cells in tried.items()]
    if header != ["", "mainstay", *versions]:
        wrong.append(f"the README compares {header}, and here are {versions}")
    wrong += [f"the README says {mine}" for mine in rows if mine not in there]
    wrong += [f"the README does not say {mine}" for mine in there if mine not in rows]
    if wrong:
        raise SystemExit("\n".join(wrong))
    result.say(f"All {len(ROWS)} rows of the table in the README are so: {', '.join(versions)}.")
    return result


if __name__ == "__main__":
    main(report, __doc__)
