"""What the log says of a run: how it was ended, where it went on, and that it saved too often."""

import logging
import signal
from datetime import timedelta

import pytest

from mainstay._checkpoint.state import State
from mainstay.stores import MemoryStore
from mainstay.testing import FakeClock
from support.checkpoints import CrashError, OopsError, add_up


@pytest.fixture
def said(caplog):
    """The lines of level INFO or above, with their levels."""
    caplog.set_level(logging.INFO, "mainstay.checkpoint")
    return lambda: [(each.levelname, each.getMessage()) for each in caplog.records]


def test_an_error_of_a_run_is_said(runner, store, said):
    job = runner.job(add_up, store=store)
    with pytest.raises(OopsError):
        job([1, 2, 3], 3)
    assert said() == [
        ("INFO", ("job: attempt 1 ended with OopsError; 2 items are saved, and another attempt "
                 "goes on from there")),
    ]  # fmt: skip


def die_at_3(row):
    if row == 3:
        raise CrashError
    return row


def test_where_it_goes_on_is_said_with_what_ended_it(runner, store, said, crashing):
    job = runner.job(add_up, store=store)
    with pytest.raises(CrashError):
        job([1, 2, 3], None, None, die_at_3)
    assert job([1, 2, 3]) == 6
    assert ("INFO", "job: attempt 2 goes on after crash; 2 items done") in said()


def test_an_interruption_is_said_by_its_class_alone(runner, store, said):
    async def body(cp):
        raise KeyboardInterrupt("secret")

    with pytest.raises(KeyboardInterrupt):
        runner.job(body, store=store)()
    assert said() == [
        ("INFO", ("job: attempt 1 ended with KeyboardInterrupt; 0 items are saved, and another "
                 "attempt goes on from there")),
    ]  # fmt: skip


class EndError(BaseException):
    """In place of the end of the process."""


def test_sigterm_is_said(runner, store, said, monkeypatch):
    from mainstay._checkpoint import signals  # noqa: PLC0415 - to stay alive

    def end(*_args):
        raise EndError

    async def body(cp):
        async for item in cp.iterate([1, 2, 3]):
            if item == 2:
                signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(signals, "_end", end)
    try:
        with pytest.raises(EndError):
            runner.job(body, store=store)()
    finally:
        signals._requested = False
        signals._watched.clear()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    assert said() == [
        ("INFO", ("job: attempt 1 ended with SIGTERM; 2 items are saved, and another attempt goes "
                 "on from there")),
    ]  # fmt: skip


def test_nothing_is_said_of_a_run_that_ends_well(runner, store, said):
    assert runner.job(add_up, store=store)([1, 2, 3]) == 6
    assert said() == []


# Saving too often.


class SlowStore(MemoryStore):
    """A store whose saves take half a second, of a clock under control."""

    def commit(self, lease, change):
        if change.document is not None:
            self.clock.advance(0.5)
        super().commit(lease, change)


def slow(runner, rows, seconds, fails=False, **options):  # noqa: FBT002 - short in the tests
    async def body(cp):
        async for _ in cp.iterate(range(rows)):
            clock.advance(seconds)
        if fails:
            raise OopsError

    with FakeClock() as clock:
        store = SlowStore()
        store.clock = clock
        runner.job(body, store=store, **options)()


@pytest.mark.parametrize("fails", [False, True])
def test_a_run_that_saved_most_of_its_time_is_said(runner, said, fails):
    try:
        slow(runner, 20, 0.1, fails=fails)
    except OopsError:
        assert fails
    [line] = [line for line in said() if "saves" in line[1]]
    saves = 20 if fails else 21
    spent = f"{saves * 0.5:.1f} of the {saves * 0.5 + 2:.1f} s of attempt 1 went into {saves} saves"
    advice = "a larger `every`, or a timedelta, would repeat more after a crash and save less often"
    assert line == ("INFO", f"job: {spent}; {advice}")


def test_the_time_that_encoding_takes_is_a_part_of_it(runner, said, monkeypatch):
    def encoded(self):
        clock.advance(0.5)
        return encode(self)

    async def body(cp):
        async for _ in cp.iterate(range(20)):
            clock.advance(0.1)

    with FakeClock() as clock:
        encode = State.encoded
        monkeypatch.setattr(State, "encoded", encoded)
        runner.job(body, store=MemoryStore(), every=1)()
    assert [line for line in said() if "21 saves; a larger `every`" in line[1]]


def test_where_steps_were_saved_it_is_they_that_should_be_larger(runner, said):
    async def body(cp):
        for number in range(20):
            await cp.step(f"step {number}", int)

    class SlowSteps(MemoryStore):
        def commit(self, lease, change):
            clock.advance(0.5)
            super().commit(lease, change)

    with FakeClock() as clock:
        runner.job(body, store=SlowSteps())()
    [line] = [line for line in said() if "saves" in line[1]]
    assert "went into 21 saves; steps that do more would repeat more after a crash" in line[1]


@pytest.mark.parametrize(
    ("rows", "seconds", "every"),
    [(20, 0.6, 1), (2, 0.1, 1), (20, 0.1, 20), (100, 0.1, timedelta(seconds=5))],
)
def test_nothing_is_said_of_a_run_that_worked_or_was_short(runner, said, rows, seconds, every):
    slow(runner, rows, seconds, every=every)
    assert said() == []
