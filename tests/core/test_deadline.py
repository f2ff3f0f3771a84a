"""The time left: `deadline` and `remaining`."""

import asyncio
import contextvars
import math
import threading
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainstay import DeadlineExpiredError, deadline, remaining, retry
from mainstay.testing import FakeClock, recorded


def test_without_a_deadline_there_is_no_time_left_to_tell():
    assert remaining() is None


@pytest.mark.parametrize("default", [5, 5.0, timedelta(seconds=5)])
def test_without_a_deadline_the_default_is_told(default):
    assert remaining(default) == 5.0
    assert remaining(default=0) == 0.0


def test_a_deadline_counts_down_and_never_below_zero(clock):
    with deadline(2.0):
        assert remaining() == 2.0
        clock.advance(1.5)
        assert remaining() == 0.5
        clock.advance(0.5)
        assert remaining() == 0.0
        clock.advance(100)
        assert remaining() == 0.0
    assert remaining() is None


@pytest.mark.parametrize("seconds", [2, 2.0, timedelta(seconds=2)])
def test_a_deadline_takes_seconds_or_a_timedelta(clock, seconds):
    with deadline(seconds):
        assert remaining() == 2.0


@pytest.mark.parametrize(("default", "expected"), [(1, 1.0), (5, 2.0), (timedelta(seconds=1), 1.0)])
def test_the_smaller_of_deadline_and_default_is_told(clock, default, expected):
    with deadline(2.0):
        assert remaining(default) == expected


def test_a_nested_deadline_can_shorten_the_outer_one(clock):
    with deadline(10):
        with deadline(3):
            assert remaining() == 3.0
        assert remaining() == 10.0


def test_a_nested_deadline_cannot_lengthen_the_outer_one(clock):
    with deadline(3):
        with deadline(10):
            assert remaining() == 3.0
            clock.advance(1)
            assert remaining() == 2.0
        assert remaining() == 2.0


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=8))
def test_the_shortest_of_all_deadlines_counts(seconds):
    def inside(rest):
        if not rest:
            return remaining()
        with deadline(rest[0]):
            return inside(rest[1:])

    with FakeClock():
        assert inside(seconds) == min(seconds)
        assert remaining() is None


def test_a_deadline_object_starts_anew_at_each_entry(clock):
    limit = deadline(5)
    with limit:
        clock.advance(4)
        with limit:
            assert remaining() == 1.0
    with limit:
        assert remaining() == 5.0


def test_a_deadline_ends_when_its_block_raises(clock):
    with pytest.raises(KeyError), deadline(5):
        raise KeyError
    assert remaining() is None


def test_a_deadline_never_interrupts(clock):
    with deadline(1):
        clock.advance(100)
        reached = True
    assert reached


def test_other_threads_have_no_deadline_of_ours(clock):
    found = []
    with deadline(5):
        thread = threading.Thread(target=lambda: found.append(remaining()))
        thread.start()
        thread.join()
    assert found == [None]


def test_a_thread_in_a_copy_of_the_context_has_the_deadline(clock):
    """Known fault 15: redress, pyresilience and interlock lose the context in threads."""
    found = []

    def work():
        found.append(remaining())
        with deadline(2):
            found.append(remaining())
        found.append(remaining())

    with deadline(5):
        thread = threading.Thread(target=contextvars.copy_context().run, args=(work,))
        thread.start()
        thread.join()
        found.append(remaining())
    assert found == [5.0, 2.0, 5.0, 5.0]


def test_to_thread_carries_the_deadline(clock):
    async def main():
        with deadline(5):
            return await asyncio.to_thread(remaining)

    assert asyncio.run(main()) == 5.0


def test_tasks_have_the_deadline_of_the_block_that_made_them_while_it_is_open(clock):
    async def work(shorter):
        with deadline(shorter):
            await asyncio.sleep(0)
            return remaining()

    async def main():
        with deadline(5):
            first = asyncio.create_task(work(3))
            second = asyncio.create_task(work(30))
            late = asyncio.create_task(work(30))
            inside = [await first, await second]
        outside = asyncio.create_task(work(30))
        return [*inside, await late, await outside, remaining()]

    assert asyncio.run(main()) == [3.0, 5.0, 5.0, 30.0, None]


def test_a_task_that_outlives_the_block_is_free_of_its_deadline(clock):
    async def work():
        await asyncio.sleep(0)
        return remaining()

    async def main():
        with deadline(5):
            task = asyncio.create_task(work())
        return await task

    assert asyncio.run(main()) is None


def test_one_deadline_object_serves_threads_at_the_same_time():
    limit = deadline(1_000)
    inside = threading.Barrier(4)
    found = []

    def work():
        with limit:
            inside.wait(10)
            found.append(remaining() is not None)
            inside.wait(10)
        found.append(remaining() is None)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 8


def test_a_deadline_keeps_its_time_on_another_clock(clock):
    with deadline(5):
        clock.advance(2)
        with FakeClock() as other:
            assert remaining() == 3.0
            other.advance(1)
            assert remaining() == 2.0
        assert remaining() == 3.0


def test_a_deadline_of_zero_leaves_no_time(clock):
    with deadline(0):
        assert remaining() == 0.0


@pytest.mark.parametrize("value", [-1, -0.001, math.nan, math.inf, timedelta(seconds=-1), 10**400])
@pytest.mark.parametrize(("function", "parameter"), [(deadline, "seconds"), (remaining, "default")])
def test_senseless_seconds_are_refused(function, parameter, value):
    with pytest.raises(ValueError, match=f"`{parameter}` must be finite and at least 0 seconds"):
        function(value)


@pytest.mark.parametrize("value", ["2", True, [2]])
@pytest.mark.parametrize(("function", "parameter"), [(deadline, "seconds"), (remaining, "default")])
def test_what_is_no_duration_is_refused(function, parameter, value):
    with pytest.raises(TypeError, match=f"`{parameter}` must be seconds") as caught:
        function(value)
    assert repr(value) in str(caught.value)


def test_a_deadline_is_required_to_have_seconds():
    with pytest.raises(TypeError):
        deadline(None)


# By the system's clock, and on the short way that healthy calls take.


def test_an_outer_deadline_that_is_over_ends_calls_inside_a_longer_one():
    for inner in (deadline(1000.0), deadline(1000)):
        with deadline(0.0), inner, pytest.raises(DeadlineExpiredError):
            retry(on=OSError).call(int)


def test_so_does_one_around_a_block_that_was_left_meanwhile():
    with deadline(0.0):
        left = deadline(50.0)
        left.__enter__()
        inherited = contextvars.copy_context()
        left.__exit__(None, None, None)

        def call():
            with deadline(1000.0):
                retry(on=OSError).call(int)

        with pytest.raises(DeadlineExpiredError):
            inherited.run(call)


def test_calls_inside_a_deadline_record_where_the_block_around_it_says():
    with recorded() as metrics, deadline(1000.0):
        retry(on=OSError, name="it").call(int)
    assert metrics.value("calls_total", component="it") == 1


def test_a_deadline_that_is_left_after_the_one_around_it_is_over():
    outer, inner = deadline(1000.0), deadline(2000.0)
    outer.__enter__()
    inner.__enter__()
    outer.__exit__(None, None, None)
    assert remaining() > 1500
    inner.__exit__(None, None, None)
    assert remaining() is None


def test_a_deadline_that_is_entered_again_and_again_keeps_nothing():
    again = deadline(1000.0)
    for _ in range(3):
        with again:
            assert len(again._entries) == 1
    assert again._entries == []


def test_a_deadline_that_is_left_after_the_one_around_it_is_over_for_everybody():
    outer, inner = deadline(60), deadline(5)
    outer.__enter__()
    inner.__enter__()
    inherited = contextvars.copy_context()
    outer.__exit__(None, None, None)
    inner.__exit__(None, None, None)
    assert remaining() is None
    assert inherited.run(remaining) is None


def test_calls_inside_a_deadline_are_recorded_where_the_block_around_it_says():
    with recorded() as others:
        fetch = retry(on=OSError, name="fetch")(str)
    with recorded() as counted, deadline(60), deadline(60):
        fetch()
    assert counted.value("calls_total", component="fetch", outcome="success") == 1
    assert others.value("calls_total", component="fetch", outcome="success") == 0
