"""`crash_at_every_save`, the fixture for users' tests."""

import asyncio
import os
import pickle
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mainstay import checkpointed
from mainstay._checkpoint.document import opened
from mainstay._checkpoint.run import Run
from mainstay.stores import store_of
from mainstay.stores.base import RunId
from mainstay.testing import _crashes as crashes

# Forking beside other threads is what some tests are about; Python 3.12 and newer warn of it.
pytestmark = [
    pytest.mark.process,
    pytest.mark.filterwarnings("ignore:This process .* multi-threaded:DeprecationWarning"),
]


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


async def async_total(cp, numbers):
    state = cp.state({"sum": 0})
    async for number in cp.iterate(numbers):
        state["sum"] += number
    return await cp.step("double", lambda: state["sum"] * 2)


def mapped_total(cp, numbers):
    state = cp.state({"sum": 0})
    with ThreadPoolExecutor(2) as pool:
        for number in cp.map(int, numbers, executor=pool, ordered=False):
            state["sum"] += number
    return cp.step("double", lambda: state["sum"] * 2)


def test_async_jobs_and_items_side_by_side_are_killed_at_every_save_too(crash_at_every_save):
    in_tasks = crash_at_every_save(
        lambda store: asyncio.run(checkpointed(store=store)(async_total)([1, 2, 3]))
    )
    in_threads = crash_at_every_save(
        lambda store: checkpointed(store=store)(mapped_total)([1, 2, 3])
    )
    for rounds in (in_tasks, in_threads):
        assert {(crash.result, crash.error) for crash in rounds} == {(12, None)}
        assert len(rounds) == 10


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
    with pytest.raises(RuntimeError, match="cannot be pickled"):
        crash_at_every_save(lambda _store: threading.Lock())
    assert crash_at_every_save(lambda _store: 42) == []


def test_a_job_that_fails_before_anything_is_killed_is_told_and_does_not_pass(crash_at_every_save):
    def mistaken(_store):
        raise KeyError("tenant")

    with pytest.raises(RuntimeError, match=r"KeyError\('tenant'\)") as told:
        crash_at_every_save(mistaken)
    assert isinstance(told.value.__cause__, KeyError)


def test_a_job_that_kills_itself_is_told_and_not_tried_for_ever(crash_at_every_save):
    def dies(cp):
        cp.step("a", int)
        if cp.resumed:
            os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(RuntimeError, match="died by signal 9"):
        crash_at_every_save(lambda _store: os.kill(os.getpid(), signal.SIGKILL))
    crashes = crash_at_every_save(lambda store: checkpointed(store=store)(dies)())
    assert repr(crashes[0].error) == "RuntimeError('the child process died by signal 9')"


# In this process, with a signal that does not kill.


class KilledError(BaseException):
    """In place of the end of the process."""


@pytest.fixture
def unkilled(monkeypatch):
    def kill(pid, number):
        assert (pid, number) == (os.getpid(), signal.SIGKILL)
        raise KilledError

    monkeypatch.setattr("mainstay.testing._crashes.os.kill", kill)
    monkeypatch.setattr(Run, "write", Run.write)  # to be restored


@pytest.mark.parametrize(("when", "done"), [("before", 1), ("after", 2)])
def test_a_process_dies_just_before_or_just_after_a_save(unkilled, url, tmp_path, when, done):
    def job(store):
        return checkpointed(store=store, name="job", key=lambda *_: "key")(total)([1, 2, 3])

    with pytest.raises(KilledError):
        crashes._until(job, url, 2, when, tmp_path / "killed")
    assert opened(store_of(url).load(RunId("job", "key")).latest).items == done


def test_what_a_call_came_to_is_handed_to_the_parent_whatever_it_is():
    def outcome(call):
        result, error = pickle.loads(crashes._outcome(call))  # noqa: S301 - ours
        return result, repr(error)

    def failing():
        raise KeyError(1)

    assert outcome(lambda: 42) == (42, "None")
    assert outcome(failing) == (None, "KeyError(1)")
    assert "cannot be pickled" in outcome(threading.Lock)[1]
