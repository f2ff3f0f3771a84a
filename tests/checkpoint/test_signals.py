"""SIGTERM, in this process: the last signal, which would end it, is caught."""

import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mainstay import checkpoint_run
from mainstay._checkpoint import signals
from mainstay._checkpoint.document import opened
from mainstay.stores import MemoryStore, store_of
from mainstay.stores.base import RunId
from support.checkpoints import RUN, add_up


class KilledError(BaseException):
    """In place of the end of the process."""


@pytest.fixture
def killed(monkeypatch):
    """What the process would have been killed by; the signal that it sends itself raises."""
    sent = []

    def kill(pid, number):
        assert pid == os.getpid()
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        sent.append(number)
        raise KilledError

    monkeypatch.setattr(signals, "_requested", False)
    monkeypatch.setattr("mainstay._checkpoint.signals.os.kill", kill)
    yield sent
    signals._watched.clear()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def terminate():
    signal.raise_signal(signal.SIGTERM)


def record_of(store, run=RUN):
    [record] = [record for record, _ in store.list() if record.run == run]
    return record


async def items(cp, seen):
    async for item in cp.iterate("abcd"):
        if item == "b" and cp.attempt == 1:
            terminate()
        seen.append(item)


async def nested(cp, seen):
    async for outer in cp.iterate("ab", name="outer"):
        async for inner in cp.iterate("xy", name="inner"):
            if outer + inner == "bx" and cp.attempt == 1:
                terminate()
            seen.append(outer + inner)


async def step(cp, seen):
    async for item in cp.iterate("ab"):
        seen.append(item)
    if cp.attempt == 1:
        terminate()
    await cp.step("publish", lambda: seen.append("published"))
    seen.append("end")


async def saved(cp, seen):
    seen.append("begin")
    if cp.attempt == 1:
        terminate()
    await cp.save()
    seen.append("end")


BOUNDARIES = {
    "of an item": (items, ["a", "b"], ["c", "d"], 2),
    "of an inner item": (nested, ["ax", "ay", "bx"], ["by"], 4),
    "after a step": (step, ["a", "b", "published"], ["end"], 2),
    "after a save": (saved, ["begin"], ["begin", "end"], 0),
}


@pytest.mark.parametrize("every", [1, 100])
@pytest.mark.parametrize("boundary", BOUNDARIES.values(), ids=BOUNDARIES)
def test_sigterm_saves_at_the_next_boundary_releases_and_ends(
    runner, store, killed, boundary, every
):
    """Known fault 17: a save on SIGTERM that fired in 0 of 6 cases (goodfire-ai/spd)."""
    body, first, second, done = boundary
    seen = []
    job = runner.job(body, store=store, every=every)
    with pytest.raises(KilledError):
        job(seen)
    assert seen == first
    assert set(killed) == {signal.SIGTERM}
    record = record_of(store)
    assert (record.status, record.exit) == ("interrupted", "sigterm")
    latest = store.load(RUN).latest
    assert (opened(latest).items if latest else 0) == done
    signals._requested = False
    seen.clear()
    job(seen)
    assert seen == second


@pytest.fixture
def ended(monkeypatch):
    """How a process ended that its own signal does not end: process 1 of a container."""
    codes = []

    def leave(code):
        codes.append(code)
        raise KilledError

    monkeypatch.setattr(signals, "_requested", False)
    monkeypatch.setattr("mainstay._checkpoint.signals.os.kill", lambda _pid, _number: None)
    monkeypatch.setattr("mainstay._checkpoint.signals.os._exit", leave)
    yield codes
    signals._watched.clear()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


@pytest.mark.parametrize("body", [items, saved])
def test_process_1_of_a_container_ends_as_by_sigterm(runner, store, ended, body):
    seen = []
    with pytest.raises(KilledError):
        runner.job(body, store=store)(seen)
    assert ended[:1] == [143]
    assert record_of(store).exit == "sigterm"
    assert len(seen) < 4


def test_process_1_of_a_container_ends_at_a_second_sigterm(runner, store, ended):
    async def body(cp):
        async for _ in cp.iterate("ab"):
            terminate()
            terminate()

    with pytest.raises(KilledError):
        runner.job(body, store=store)()
    assert ended[:1] == [143]


FIRST_PROCESS = """
import signal, sys, time
from mainstay import checkpoint_run
with checkpoint_run("k", store=sys.argv[1]) as cp:
    for item in cp.iterate(range(200)):
        print("item", item, flush=True)
        time.sleep(0.05)
"""


@pytest.mark.process
def test_a_real_process_1_saves_and_ends_with_143(url):
    unshare = shutil.which("unshare")
    alone = [unshare or "true", "--fork", "--pid", "--mount-proc"]
    if not unshare or subprocess.run([*alone, "true"], check=False, capture_output=True).returncode:
        pytest.skip("only root may make a process a container's first, and not everywhere")
    with subprocess.Popen(
        [*alone, sys.executable, "-c", FIRST_PROCESS, url], stdout=subprocess.PIPE, text=True
    ) as outer:
        assert outer.stdout.readline() == "item 0\n"
        [inner] = children_of(outer.pid)
        os.kill(inner, signal.SIGTERM)
        last = outer.stdout.read().splitlines()[-1:]
    assert outer.returncode == 143
    store = store_of(url)
    done = opened(store.load(RunId("run", "k")).latest).items
    store.close()
    assert [f"item {done - 1}"] == (last or ["item 0"])


def children_of(pid):
    path = Path(f"/proc/{pid}/task/{pid}/children")
    while not (children := path.read_text().split()):
        pass
    return [*map(int, children)]


def test_a_second_sigterm_acts_at_once(runner, store, killed):
    async def body(cp):
        async for _ in cp.iterate("ab"):
            terminate()
            assert killed == []
            terminate()

    with pytest.raises(KilledError):
        runner.job(body, store=store)()
    assert killed[0] == signal.SIGTERM


def test_a_run_that_ends_before_its_next_boundary_keeps_its_result(runner, store, killed):
    async def body(cp):
        terminate()
        return "result"

    with pytest.raises(KilledError):
        runner.job(body, store=store)()
    assert record_of(store).status == "done"
    assert killed == [signal.SIGTERM]


class PressedStore(MemoryStore):
    """Ctrl-C is pressed while a run is released in it for the first time."""

    pressed = False

    def release(self, lease, how, error="", drop=()):
        super().release(lease, how, error, drop)
        if not self.pressed:
            self.pressed = True
            raise KeyboardInterrupt


def test_ctrl_c_during_a_release_leaves_sigterm_as_it_was(runner, metrics):
    """Known fault: the run was watched for good, and the first SIGTERM did nothing."""
    with pytest.raises(KeyboardInterrupt):
        runner.job(add_up, store=PressedStore())([1, 2], fail_at=2)
    assert signals._watched == []
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert metrics("calls_total", outcome="error") == 1


def test_a_run_that_nobody_has_any_more_keeps_no_sigterm_from_the_process(killed):
    checkpoint_run("dropped", store=MemoryStore()).__enter__()
    with pytest.raises(KilledError):
        terminate()
    assert killed == [signal.SIGTERM]


def test_all_runs_of_the_main_thread_are_released(store, killed):
    with pytest.raises(KilledError), checkpoint_run("outer", store=store):
        inner(store)
    assert {record.run.key: record.exit for record, _ in store.list()} == {
        "outer": "sigterm", "inner": "sigterm",
    }  # fmt: skip


def inner(store):
    with checkpoint_run("inner", store=store) as cp:
        for _ in cp.iterate("ab"):
            terminate()


def test_a_forked_child_ends_by_sigterm_as_if_there_were_no_run(killed):
    with checkpoint_run("key", store=MemoryStore()):
        signals._after_fork_in_child()
        assert signals._watched == []
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


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


def close_in_a_thread(generator):
    thread = threading.Thread(target=generator.close)
    thread.start()
    thread.join()


def run_in_a_generator(store):
    with checkpoint_run("key", store=store):
        yield


def test_a_run_that_another_thread_ends_is_released_and_keeps_no_sigterm(store, killed):
    """Generators are closed by whichever thread drops or collects them."""
    generator = run_in_a_generator(store)
    next(generator)
    close_in_a_thread(generator)
    [(record, _)] = store.list()
    assert (record.status, record.exit) == ("interrupted", "error")
    with pytest.raises(KilledError):
        terminate()


def test_the_next_run_restores_what_was_before_one_that_another_thread_ended(store):
    generator = run_in_a_generator(store)
    next(generator)
    close_in_a_thread(generator)
    with checkpoint_run("next", store=store):
        pass
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_sigterm_during_a_run_that_another_thread_ends_ends_the_process(store, monkeypatch):
    sent = []
    monkeypatch.setattr(signals, "_requested", False)
    monkeypatch.setattr("mainstay._checkpoint.signals.os.kill", lambda *args: sent.append(args))
    generator = run_in_a_generator(store)
    next(generator)
    terminate()
    close_in_a_thread(generator)
    assert sent == [(os.getpid(), signal.SIGTERM)]
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
