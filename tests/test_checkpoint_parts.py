"""The parts of checkpoints by themselves, and what surrounds them."""

import asyncio
import functools
import inspect
import json
import math
import os
import signal
import subprocess
import sys
import textwrap
import threading
from datetime import timedelta
from pathlib import Path
from unittest import mock

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector
from store_conformance import DEAD, RUN, acquired, request, save

from mainstay import (
    Metrics,
    StoreCollector,
    checkpoint_run,
    checkpointed,
    recover,
    young_daly,
)
from mainstay.__main__ import main
from mainstay._checkpoint import progressbar, signals
from mainstay._checkpoint.decision import next_save, poll_wait, smoothed
from mainstay._checkpoint.digest import digest_of
from mainstay._checkpoint.document import opened
from mainstay._checkpoint.offload import off_loop
from mainstay.errors import (
    CheckpointError,
    SourceChangedError,
    StoreUnavailableError,
    UnsupportedLoopError,
)
from mainstay.stores import MemoryStore, SQLiteStore
from mainstay.stores.base import RunId

# Forking beside other threads is what some tests are about; Python 3.12 and newer warn of it.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* multi-threaded:DeprecationWarning")

SECONDS = st.floats(1e-6, 1e9)


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path / 'runs.db'}"


# When a save is due.


@given(st.integers(1, 10**6), st.integers(0, 10**6), SECONDS, SECONDS)
def test_after_so_many_items_whatever_the_time(every, items, now, cost):
    assert next_save(every, items, now, cost) == (items + every, math.inf)


@given(st.timedeltas(timedelta(microseconds=1)), SECONDS, SECONDS)
def test_after_so_much_time_however_many_items(every, now, cost):
    assert next_save(every, 0, now, cost) == (math.inf, now + every.total_seconds())


@given(SECONDS, SECONDS, SECONDS, SECONDS)
def test_the_interval_of_young_and_daly_is_bounded_by_what_may_be_repeated(mtbf, most, now, cost):
    every = young_daly(mtbf=mtbf, max_replay=most)
    interval = min(math.sqrt(2 * cost * mtbf), most)
    assert every.interval(cost) == pytest.approx(interval)
    assert next_save(every, 0, now, cost) == (math.inf, now + every.interval(cost))


def test_the_interval_of_young_and_daly_is_theirs():
    every = young_daly(mtbf=timedelta(hours=24), max_replay=timedelta(hours=1))
    assert every.interval(0.00025) == pytest.approx(6.57, abs=0.01)
    assert every.interval(2.0) == pytest.approx(588, abs=1)


@given(SECONDS, SECONDS)
def test_a_cost_is_smoothed_between_what_it_was_and_what_was_measured(cost, measured):
    assert smoothed(0, measured) == measured
    low, high = sorted((cost, measured))
    assert low * 0.999 <= smoothed(cost, measured) <= high * 1.001


@given(st.integers(0, 10**6), st.floats(0, 3600))
def test_polls_are_never_closer_than_20_ms_nor_further_apart_than_1_s(polls, left):
    assert 0.02 <= poll_wait(polls, left) <= 1.0


# The digest of a function.


def test_layout_comments_docstrings_annotations_and_decorators_do_not_count():
    def one(x):
        y = x + 1
        return [y]

    def two(x: int) -> list[int]:
        """A docstring."""
        y: int = x + 1  # a comment

        return [
            y,
        ]

    two.__name__ = "one"
    assert digest_of(one) == digest_of(functools.partial(one))
    assert digest_of(one) != ""
    assert renamed(one, "one") == renamed(two, "two")


def renamed(fn, name):
    """The digest of a function with its name taken out of the source."""
    source = textwrap.dedent(inspect.getsource(fn)).replace(f"def {name}", "def fn")
    fresh = functools.partial(fn)
    with mock.patch("inspect.getsource", return_value=source):
        digest_of.cache_clear()
        return digest_of(fresh)


def test_names_constants_and_structure_count():

    def one(x):
        return x + 1

    def two(x):
        return x + 1.0

    assert digest_of(one) != digest_of(two)


def test_what_has_no_source_has_no_digest():
    assert digest_of(len) == ""
    assert digest_of(eval("lambda x: x")) == ""  # noqa: S307 - that is what has no source


# Bad input at decoration.


BAD = {
    "every": [(0, ValueError), (True, TypeError), (1.5, TypeError), (timedelta(0), ValueError)],
    "version": [(2, TypeError)],
    "on_busy": [("ignore", ValueError), (None, ValueError)],
    "on_complete": [("wait", ValueError)],
    "on_code_change": [("migrate", ValueError), (3, ValueError)],
    "lease": [(0, ValueError), (math.inf, ValueError), ("30", TypeError)],
    "max_crashes": [(0, ValueError), (1.5, TypeError)],
    "keep": [(0, ValueError), ((1,), TypeError), ("all", TypeError), (timedelta(0), ValueError)],
    "allow_pickle": [("yes", TypeError)],
    "name": [("", ValueError), (3, TypeError)],
    "metrics": [(3, TypeError)],
    "store": [(3, TypeError), ("nowhere", ValueError)],
}


@pytest.mark.parametrize(
    ("parameter", "value", "error"), [(p, v, e) for p, cases in BAD.items() for v, e in cases]
)
def test_a_wrong_parameter_is_refused_by_name(parameter, value, error):
    options = {"store": MemoryStore(), parameter: value}
    with pytest.raises(error, match=f"`{parameter}`"):
        checkpointed(**options)
    if parameter != "name":
        with pytest.raises(error, match=f"`{parameter}`"):
            checkpoint_run("key", **options)


@pytest.mark.parametrize("value", [{"mtbf": 0}, {"mtbf": 1, "max_replay": 0}, {"mtbf": -1}])
def test_young_and_daly_need_times_above_0(value):
    with pytest.raises(ValueError, match="above 0"):
        young_daly(**value)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("import-{customer}", "names 'customer', which is no parameter"),
        ("import-{}", "names '', which is no parameter"),
        ("import", "names no parameter of"),
        ("", "names no parameter of"),
    ],
)
def test_a_key_template_that_names_no_parameter_is_refused_at_decoration(key, message):
    with pytest.raises(ValueError, match=message):
        checkpointed(store=MemoryStore(), key=key)(lambda cp, tenant: None)


def test_a_key_template_without_fields_is_right_where_there_are_no_parameters():
    assert checkpointed(store=MemoryStore(), key="nightly").call(lambda cp: cp.key) == "nightly"


@pytest.mark.parametrize(
    ("key", "error"),
    [(lambda tenant: 3, TypeError), (lambda tenant: "", ValueError)],
)
def test_a_key_function_must_give_a_str(key, error):
    with pytest.raises(error, match="`key` must"):
        checkpointed(store=MemoryStore(), key=key).call(lambda cp, tenant: None, "acme")


@pytest.mark.parametrize("key", [3, b"x"])
def test_a_key_that_is_no_key_is_refused(key):
    with pytest.raises(TypeError, match="`key` must"):
        checkpointed(store=MemoryStore(), key=key)(lambda cp: None)
    with pytest.raises(TypeError, match="`key` must"):
        checkpoint_run(key, store=MemoryStore())


def generator(cp):
    yield cp


async def async_generator(cp):
    yield cp


@pytest.mark.parametrize(
    "fn", [3, generator, async_generator, lambda: None, lambda *, cp: None, lambda self: None]
)
def test_what_cannot_be_checkpointed_is_refused(fn):
    with pytest.raises(TypeError):
        checkpointed(store=MemoryStore())(fn)


def test_arguments_that_do_not_fit_are_refused_before_anything_is_saved():
    store = MemoryStore()
    with pytest.raises(TypeError, match="unexpected keyword"):
        checkpointed(store=store)(lambda cp: None)(x=1)
    assert store.list() == []


def test_a_plain_function_that_returns_a_coroutine_is_refused():
    async def work():
        pass

    store = MemoryStore()
    with pytest.raises(TypeError, match="decorate the async function itself"):
        checkpointed(store=store).call(lambda cp: work())
    assert store.list()[0][1] == "interrupted"


def test_async_functions_need_asyncio():
    async def work(cp):
        pass

    with pytest.raises(UnsupportedLoopError):
        checkpointed(store=MemoryStore()).call(work).send(None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((3,), "`source` must be an iterable"),
        ((lambda last: [], None), "`key` is needed with a callable source"),
        (([1], "id"), "`key` must be a function"),
    ],
)
def test_an_iteration_that_cannot_be_is_refused_when_it_is_asked_for(arguments, message):
    with (
        checkpoint_run("key", store=MemoryStore()) as cp,
        pytest.raises(TypeError, match=message),
    ):
        cp.iterate(*arguments)


def test_names_and_functions_of_steps_are_checked():
    async def rows():
        yield 1

    with checkpoint_run("key", store=MemoryStore()) as cp:
        for name, fn in [("", int), (3, int), ("a", 3)]:
            with pytest.raises(TypeError, match="step"):
                cp.step(name, fn)
        with pytest.raises(TypeError, match="`name` must be"):
            cp.iterate([1], name="")
        with pytest.raises(TypeError, match="`source` is async"):
            cp.iterate(rows())


# Off the event loop.


def test_a_cancellation_waits_for_the_save_under_way():
    started, go_on, ended = threading.Event(), threading.Event(), []

    def save_slowly():
        started.set()
        go_on.wait(10)
        ended.append(True)

    async def scenario():
        task = asyncio.create_task(off_loop(save_slowly))
        await asyncio.to_thread(started.wait, 10)
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()
        assert not ended
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert ended == [True]

    asyncio.run(scenario())


# Signals.


def test_sigterm_is_watched_in_the_main_thread_over_the_default_handler_only():
    with checkpoint_run("key", store=MemoryStore()):
        assert signal.getsignal(signal.SIGTERM) is signals._on_sigterm
        with checkpoint_run("inner", store=MemoryStore()):
            pass
        assert signal.getsignal(signal.SIGTERM) is signals._on_sigterm
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    own = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        mine = signal.getsignal(signal.SIGTERM)
        with checkpoint_run("key", store=MemoryStore()):
            assert signal.getsignal(signal.SIGTERM) is mine
    finally:
        signal.signal(signal.SIGTERM, own)


def test_a_run_in_another_thread_leaves_sigterm_alone():
    seen = []

    def work():
        with checkpoint_run("key", store=MemoryStore()):
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.SIG_DFL]


# Forks, full disks, clocks.


def test_a_child_forked_in_the_middle_can_neither_save_nor_release(url):
    with checkpoint_run("key", store=url) as cp:
        for item in cp.iterate(range(3)):
            if item == 1:
                child = os.fork()
                if child == 0:
                    try:
                        cp._run.write(cp._run._capture())
                    except CheckpointError as error:
                        cp._run.release("error")
                        os._exit(0 if "forked child" in str(error) else 1)
                    os._exit(2)
                assert os.waitpid(child, 0)[1] == 0
    store = SQLiteStore(url.removeprefix("sqlite:///"))
    assert [state for _, state in store.list()] == ["done"]
    store.close()


FULL_DISK = """
import resource, signal, sys
from mainstay import checkpoint_run
from mainstay.errors import StoreUnavailableError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with checkpoint_run("key", store=sys.argv[1]) as cp:
    state = cp.state({"text": ""})
    try:
        for item in cp.iterate(range(10)):
            if item == 3:
                size = 200_000
                resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
                import random
                state["text"] = "".join(chr(random.randrange(32, 1000)) for _ in range(300_000))
    except StoreUnavailableError as error:
        print("refused", error.store)
        raise SystemExit(0)
"""


def test_a_full_disk_is_an_error_and_what_was_saved_stays(url):
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, url], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.returncode) == (f"refused {url}\n", 0), done.stderr
    store = SQLiteStore(url.removeprefix("sqlite:///"))
    assert opened(store.load(RunId("run", "key")).latest).items == 3
    store.close()


def test_a_wall_clock_that_is_stepped_back_changes_nothing(url, monkeypatch):
    store = SQLiteStore(url.removeprefix("sqlite:///"))
    lease = acquired(store)
    monkeypatch.setattr("mainstay.stores.sqlite.wall_time", lambda: -1e9)
    save(store, lease, b"one")
    assert store.list()[0][1] == "running"
    store.close()


def test_a_damaged_argument_is_no_reason_to_run_with_another(url):
    store = SQLiteStore(url.removeprefix("sqlite:///"))

    @checkpointed(store=store, key="{x}", name="recovered", recoverable=True)
    def job(cp, x: int):
        raise KeyError(x)

    with pytest.raises(KeyError):
        job(1)
    with store._connections.use() as db:
        db.execute("UPDATE run SET arguments = x'00'")
    [outcome] = [each for each in recover(store) if each.name == "recovered"]
    assert (outcome.outcome, outcome.reason) == ("failed", "it raised CorruptCheckpointError")
    store.close()


def test_runs_of_another_store_and_poisoned_runs_are_left_alone():
    store, other = MemoryStore(), MemoryStore()

    @checkpointed(store=other, key=lambda: "key", name="elsewhere", recoverable=True)
    def job(cp):
        pass

    acquired(store, RunId("elsewhere", "key"), owner=DEAD)
    acquired(store, RunId("dying", "key"), owner=DEAD)
    store.acquire(RunId("dying", "key"), request(owner=DEAD, max_crashes=1))
    reasons = {each.name: each.reason for each in recover(store)}
    assert reasons["elsewhere"].startswith("the function keeps its runs in memory://")
    assert reasons["dying"] == "it died 1 time(s) in a row without progress"
    acquired(other, RunId("elsewhere", "key"), owner=DEAD)
    assert [each.reason for each in recover(other)] == [
        "it was begun without recoverable=True, so its arguments are not known"
    ]


def test_an_error_keeps_its_own_face_where_the_run_cannot_be_released(monkeypatch):
    store = MemoryStore()

    def unreachable(*_args):
        raise StoreUnavailableError("memory://", "down")

    def job(cp):
        monkeypatch.setattr(store, "release", unreachable)
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine") as raised:
        checkpointed(store=store, name="job").call(job)
    assert raised.value.__notes__ == ["mainstay.checkpoint job: memory:// is not available: down"]


# The collector and the gauges.


def test_the_collector_counts_runs_by_name_and_state(caplog, monkeypatch):
    store = MemoryStore()
    acquired(store)
    acquired(store, RunId("import", "dead"), owner=DEAD)
    save(store, acquired(store, RunId("nightly", "1")), b"end", finished=True)
    registry = CollectorRegistry()
    registry.register(StoreCollector(store))

    def runs(name, state):
        labels = {"component": name, "state": state}
        return registry.get_sample_value("mainstay_checkpoint_runs", labels)

    assert [runs("import", state) for state in ("running", "interrupted", "done")] == [1, 1, 0]
    assert [runs("nightly", state) for state in ("running", "poisoned", "done")] == [0, 0, 1]
    monkeypatch.setattr("mainstay.stores.collector.MOST_COMPONENTS", 1)
    assert runs("_other", "done") == 1

    def unreachable(_name=None):
        raise StoreUnavailableError("memory://", "down")

    monkeypatch.setattr(store, "list", unreachable)
    assert runs("import", "running") is None
    assert "runs are not counted" in caplog.text


def test_gauges_of_worker_processes_are_those_of_the_last_save(tmp_path, monkeypatch, url):
    directory = tmp_path / "metrics"
    directory.mkdir()
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(directory))
    program = (
        "import sys; from datetime import timedelta; from mainstay import checkpoint_run\n"
        "with checkpoint_run(sys.argv[2], store=sys.argv[1], every=timedelta(seconds=7)) as cp:\n"
        "    list(cp.iterate('ab'))\n"
    )
    for key in "xy":
        subprocess.run([sys.executable, "-c", program, url, key], check=True)
    registry = CollectorRegistry()
    MultiProcessCollector(registry, str(directory))

    def value(name):
        return registry.get_sample_value(f"mainstay_checkpoint_{name}", {"component": "run"})

    assert value("interval_seconds") == 7.0
    assert value("last_save_timestamp_seconds") > 1.6e9
    saves = {"component": "run", "outcome": "ok"}
    assert registry.get_sample_value("mainstay_checkpoint_saves_total", saves) == 4.0


def test_gauges_are_absent_until_they_are_known():
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    checkpointed(store=MemoryStore(), name="job", metrics=metrics)
    labels = {"component": "job"}
    assert registry.get_sample_value("mainstay_checkpoint_interval_seconds", labels) is None
    checkpointed(store=MemoryStore(), name="job", metrics=metrics).call(lambda cp: None)
    name = "mainstay_checkpoint_last_save_timestamp_seconds"
    assert registry.get_sample_value(name, labels) > 1.6e9


# Progress for people.


class Terminal:
    def __init__(self):
        self.written = ""

    def isatty(self):
        return True

    def write(self, text):
        self.written += text

    def flush(self):
        pass


@pytest.mark.parametrize("with_tqdm", [True, False])
def test_a_terminal_shows_how_far_it_is_and_where_it_was_resumed(monkeypatch, with_tqdm):
    terminal, store = Terminal(), MemoryStore()
    monkeypatch.setattr("sys.stderr", terminal)
    if with_tqdm:
        pytest.importorskip("tqdm")
    else:
        monkeypatch.setitem(sys.modules, "tqdm", None)

    def job(fail):
        with checkpoint_run("key", store=store) as cp:
            for item in cp.iterate(range(4), name="rows", progress=True):
                if fail and item == 2:
                    raise KeyError

    with pytest.raises(KeyError):
        job(fail=True)
    terminal.written = ""
    job(fail=False)
    expected = (
        ["rows", "4/4", "resumed_at=2"] if with_tqdm else ["rows: 4 done, 0 left, resumed at 2"]
    )
    assert [each for each in expected if each not in terminal.written] == []


def test_async_iterations_show_progress_too(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setitem(sys.modules, "tqdm", None)

    async def job(cp):
        return [item async for item in cp.iterate(iter("abc"), progress=True)]

    assert asyncio.run(checkpointed(store=MemoryStore()).call(job)) == [*"abc"]
    assert "items: 3 done\x1b" in terminal.written


def test_what_is_no_terminal_shows_nothing(capsys):
    with checkpoint_run("key", store=MemoryStore()) as cp:
        list(cp.iterate("abc", progress=True))
    assert capsys.readouterr() == ("", "")
    assert progressbar._REDRAW_SECONDS == 0.1


# The command line.


def command(capsys, *arguments):
    try:
        code = main(["checkpoints", *arguments])
    except SystemExit as end:
        code = end.code
    out, err = capsys.readouterr()
    return code, out, err


@pytest.fixture
def kept(url):
    def job(cp, fail):
        cp.step("fetch", int)
        for item in cp.iterate(range(5)):
            if fail and item == 3:
                raise ValueError

    policy = checkpointed(store=url, key="{fail}", name="job")
    policy.call(job, fail=False)
    with pytest.raises(ValueError):  # noqa: PT011 - the one above
        policy.call(job, fail=True)
    return url


def test_list_prints_a_line_for_each_run(capsys, kept):
    code, out, err = command(capsys, "list", "--store", kept)
    assert (code, err) == (0, "")
    lines = [line.split() for line in out.splitlines()]
    assert [(line[0], line[-2], line[-1]) for line in lines] == [
        ("done", "job", "False"),
        ("interrupted", "job", "True"),
    ]


def test_show_prints_what_is_known_as_json(capsys, kept):
    code, out, _ = command(capsys, "show", "job", "True", "--store", kept)
    shown = json.loads(out)
    assert (code, shown["state"], shown["error"], shown["steps"]) == (
        0, "interrupted", "ValueError: ", ["fetch"],
    )  # fmt: skip
    assert shown["saved"]["items"] == 3


def test_forget_removes_a_run(capsys, kept):
    assert command(capsys, "forget", "job", "True", "--store", kept)[0] == 0
    assert command(capsys, "forget", "job", "True", "--store", kept) == (
        2, "", f"python -m mainstay: there is no run 'True' of job in {kept}\n",
    )  # fmt: skip


def test_verify_finds_what_is_damaged(capsys, kept):
    assert command(capsys, "verify", "--store", kept) == (0, "2 run(s), 0 damaged part(s)\n", "")
    store = SQLiteStore(kept.removeprefix("sqlite:///"))
    with store._connections.use() as db:
        db.execute("UPDATE run SET latest = x'00' WHERE key = 'True'")
        db.execute("UPDATE result SET value = x'00'")
    store.close()
    code, out, _ = command(capsys, "verify", "--store", kept)
    assert code == 1
    assert "run 'True' of job: the last save: it does not begin as what mainstay saves does" in out
    assert "step 'fetch'" in out
    shown = json.loads(command(capsys, "show", "job", "True", "--store", kept)[1])
    assert shown["saved"].startswith("damaged")


def test_show_says_that_nothing_was_saved(capsys, url):
    with pytest.raises(ValueError), checkpoint_run("key", store=url):  # noqa: PT011 - this one
        raise ValueError
    assert json.loads(command(capsys, "show", "run", "key", "--store", url)[1])["saved"] is None


def test_bad_usage_is_one_line_and_exit_code_2(capsys, tmp_path, monkeypatch):
    monkeypatch.delenv("MAINSTAY_STORE", raising=False)
    (tmp_path / "text.db").write_text("no database at all\n" * 100)
    for arguments in (
        [],
        ["destroy"],
        ["show", "--store", "memory://"],
        ["list"],
        ["list", "--store", "nowhere"],
        ["list", "--store", f"sqlite:///{tmp_path / 'missing.db'}"],
        ["list", "--store", f"sqlite:///{tmp_path / 'text.db'}"],
    ):
        code, out, err = command(capsys, *arguments)
        assert (code, out, err.count("\n")) == (2, "", 1), arguments
    assert not (tmp_path / "missing.db").exists()


def test_the_command_line_is_a_program(kept):
    done = subprocess.run(
        [sys.executable, "-m", "mainstay", "checkpoints", "verify"],
        env=os.environ | {"MAINSTAY_STORE": kept}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "2 run(s), 0 damaged part(s)\n")


# The fixture for users.


def total(cp, numbers):
    state = cp.state({"sum": 0})
    for number in cp.iterate(numbers):
        state["sum"] += number
    return cp.step("double", lambda: state["sum"] * 2)


def test_a_job_killed_at_every_save_comes_to_the_same(crash_at_every_save):
    crashes = crash_at_every_save(lambda store: checkpointed(store=store)(total)([1, 2, 3]))
    assert {(crash.result, crash.error) for crash in crashes} == {(12, None)}
    saves = [(crash.save, crash.when) for crash in crashes]
    assert saves == [(save, when) for save in range(1, 6) for when in ("before", "after")]


def test_a_job_that_does_not_survive_is_found_out(crash_at_every_save):
    def careless(cp, directory):
        path = directory / "count"
        for number in cp.iterate([1, 2]):
            path.write_text(str(int(path.read_text() or 0) + number if path.exists() else number))
        return int(path.read_text())

    def fresh(store):
        return checkpointed(store=store, key=lambda _: "key")(careless)(
            Path(store.removeprefix("sqlite:///")).parent
        )

    crashes = crash_at_every_save(fresh)
    assert {crash.result for crash in crashes} > {3}


def test_a_job_that_fails_or_answers_nothing_is_told(crash_at_every_save):
    def failing(cp):
        if cp.resumed:
            raise KeyError("second time")
        return cp.step("a", int)

    crashes = crash_at_every_save(lambda store: checkpointed(store=store)(failing)())
    assert repr(crashes[0].error) == "KeyError('second time')"
    with pytest.raises(RuntimeError, match="without an answer"):
        crash_at_every_save(lambda _store: os._exit(0))
    assert crash_at_every_save(lambda _store: threading.Lock()) == []


# What peers got wrong (field notes, section 4).


def test_safe_state_an_item_that_kills_the_process_does_not_do_so_for_ever():
    """The attempt is counted before the function runs, and durably."""
    store = MemoryStore()
    assert acquired(store, owner=DEAD, max_crashes=2).token == 1
    assert store.list()[0][0].attempt == 1


def test_safe_state_a_new_head_of_the_source_is_not_passed_over_in_silence():
    store = MemoryStore()

    def job(rows):
        with checkpoint_run("key", store=store) as cp:
            for row in cp.iterate(rows):
                if row == "c":
                    raise KeyError

    with pytest.raises(KeyError):
        job(["a", "b", "c"])
    with pytest.raises(SourceChangedError):
        job(["new", "a", "b", "c"])


def test_pytorch_what_changes_after_a_save_is_not_in_it():
    store = MemoryStore()
    with checkpoint_run("key", store=store) as cp:
        state = cp.state({"x": 1})
        cp.save()
        state["x"] = 2
        saved = opened(store.load(RunId("run", "key")).latest)
        assert saved.state == {"x": 1}


def test_dbos_an_id_that_is_used_again_does_not_find_old_results():
    store = MemoryStore()
    for expected in (1, 2):
        with checkpoint_run("key", store=store) as cp:
            assert cp.step("count", lambda: expected) == expected  # noqa: B023 - called at once
        store.forget(RunId("run", "key"))


def test_langgraph_a_save_is_durable_before_the_next_item_is_given_out(url):
    with checkpoint_run("key", store=url) as cp:
        for number, _ in enumerate(cp.iterate("abc")):
            other = SQLiteStore(url.removeprefix("sqlite:///"))
            latest = other.load(RunId("run", "key")).latest
            assert (opened(latest).items if latest else 0) == number
            other.close()


def test_diskcache_a_lock_whose_holder_was_killed_is_free():
    store = MemoryStore()
    acquired(store, owner=attrs.evolve(DEAD))
    assert acquired(store).token == 2
    assert store.list()[0][0].run == RUN
