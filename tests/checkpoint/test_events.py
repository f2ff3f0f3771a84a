"""What checkpointed functions tell: the key of a run is an attribute of events, and in no line."""

import logging

import pytest

from mainstay import on_event
from mainstay.errors import LeaseLostError, PoisonedRunError, RunBusyError
from mainstay.stores.base import RunId
from support.checkpoints import RUN, CrashError, OopsError, add_up

KEY = "tenant-4711"


@pytest.fixture
def told(caplog):
    """Events, and that the log has their lines and nothing that tells the key."""
    caplog.set_level(logging.DEBUG, "mainstay")
    events = []
    stop = on_event(events.append)
    yield events
    stop()
    lines = [record.getMessage() for record in caplog.get_records("call")]
    of_events = [line for line in lines if " ended with " not in line]
    assert of_events == [str(event) for event in events]
    assert [line for line in lines if KEY in line] == []
    assert [event.key for event in events] == [KEY] * len(events)


def job_of(runner, body, **options):
    return runner.job(body, key=lambda *_args: KEY, **options)


def test_a_resume_is_told_by_name_and_attempt(runner, store, told):
    job = job_of(runner, add_up, store=store)
    with pytest.raises(OopsError):
        job([1, 2], 2)
    job([1, 2])
    [event] = told
    assert str(event) == "job: attempt 2 goes on after error; 1 item done"
    assert event.attempt == 2


def test_a_poisoned_run_is_told_by_name_and_attempt(runner, store, told, crashing):
    job = job_of(runner, add_up, store=store, max_crashes=1)
    with pytest.raises(CrashError):
        job([CrashError()], None, None, crash)
    with pytest.raises(PoisonedRunError):
        job([1])
    assert [event.kind for event in told] == ["run_poisoned"]


def test_a_lost_lease_is_told_by_name_and_attempt(runner, store, told):
    async def body(cp):
        store._runs.clear()
        await cp.save()

    with pytest.raises(LeaseLostError):
        job_of(runner, body, store=store)()
    assert [str(event) for event in told] == [
        "job: attempt 1 was taken over and saves nothing more"
    ]


def test_damage_and_changed_code_are_told_by_name_and_attempt(runner, store, told):
    with pytest.raises(OopsError):
        job_of(runner, add_up, store=store)([1, 2, 3], 3)
    store._runs[RunId("job", KEY)].latest = b"no save at all"
    job_of(runner, add_up, store=store, version="2")([1, 2, 3])
    assert [(event.kind, event.attempt) for event in told] == [
        ("checkpoint_damaged", 2),
        ("code_changed", 2),
        ("run_resumed", 2),
    ]


def test_an_old_run_that_was_begun_anew_meanwhile_is_left_alone_without_a_word(
    runner, store, monkeypatch, told
):
    async def body(cp):
        pass

    def busy(run):
        raise RunBusyError(run.name, run.key, "process 1", 1.0)

    job = job_of(runner, body, store=store, keep=1)
    monkeypatch.setattr(store, "forget", busy)
    runner.job(body, store=store)()
    job()
    assert {record.run for record, _ in store.list()} == {RUN, RunId("job", KEY)}


def crash(item):
    raise item
