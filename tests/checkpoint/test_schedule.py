"""When a save is due, and what is saved then."""

import itertools
import math
import threading
from datetime import timedelta
from time import monotonic

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainstay import Metrics, checkpoint_run, young_daly
from mainstay._checkpoint.code import Code
from mainstay._checkpoint.document import Document, opened
from mainstay._checkpoint.iteration import CHUNK
from mainstay._checkpoint.schedule import Schedule, next_save, save_at, smoothed
from mainstay._core.clock import SYSTEM
from mainstay._core.context import current_context
from mainstay._metrics.collector import recorders_of
from mainstay.testing import FakeClock, recorded

SECONDS = st.floats(1e-6, 1e9)


@given(st.integers(1, 10**6), SECONDS, SECONDS)
def test_after_so_many_items_whatever_the_time(every, now, cost):
    assert next_save(every, now, cost) == (every, math.inf)


@given(st.timedeltas(timedelta(microseconds=1)), SECONDS, SECONDS)
def test_after_so_much_time_however_many_items(every, now, cost):
    assert next_save(every, now, cost) == (math.inf, now + every.total_seconds())


@given(SECONDS, SECONDS, SECONDS, SECONDS)
def test_the_interval_of_young_and_daly_is_bounded_by_what_may_be_repeated(mtbf, most, now, cost):
    every = young_daly(mtbf=mtbf, max_replay=most)
    interval = min(math.sqrt(2 * cost * mtbf), most)
    assert every.interval(cost) == pytest.approx(interval)
    assert next_save(every, now, cost) == (math.inf, now + every.interval(cost))


def test_the_interval_of_young_and_daly_is_theirs():
    every = young_daly(mtbf=timedelta(hours=24), max_replay=timedelta(hours=1))
    assert every.interval(0.00025) == pytest.approx(6.57, abs=0.01)
    assert every.interval(2.0) == pytest.approx(588, abs=1)


@given(SECONDS, SECONDS)
def test_a_cost_is_smoothed_between_what_it_was_and_what_was_measured(cost, measured):
    assert smoothed(0, measured) == measured
    low, high = sorted((cost, measured))
    assert low * 0.999 <= smoothed(cost, measured) <= high * 1.001


def test_a_measurement_counts_for_a_fifth():
    assert smoothed(1.0, 2.0) == pytest.approx(1.2)


def test_the_interval_of_young_and_daly_needs_times_above_0():
    assert young_daly(mtbf=1.0).max_replay == 30.0
    for times in ({"mtbf": 0}, {"mtbf": 1, "max_replay": 0}):
        with pytest.raises(ValueError, match=f"`{[*times][-1]}` must be"):
            young_daly(**times)


def scheduled(every, clock=SYSTEM):
    schedule = Schedule(every, clock, recorders_of(Metrics(None)).checkpoint("job"))
    schedule.begin()
    return schedule


def test_what_a_save_costs_is_measured_from_the_first_one_on():
    schedule = scheduled(1)
    schedule.saved(0.5)
    assert schedule.cost == 0.5


@pytest.mark.parametrize(
    ("every", "unsaved", "items"),
    [(10, 0, 10), (10, 7, 3), (10, 10, 1), (10, 12, 1), (10**6, 0, CHUNK), (10**6, 10**6 - 1, 1)],
)
def test_an_iteration_asks_after_as_many_items_as_are_due_at_most(every, unsaved, items):
    assert scheduled(every).items_to_boundary(unsaved) == items


@pytest.mark.parametrize(("seconds", "items"), [(0.049, 1), (0.05, CHUNK), (3600, CHUNK)])
def test_a_time_that_is_too_near_for_another_thread_is_asked_for_in_the_loops(seconds, items):
    schedule = scheduled(timedelta(seconds=seconds))
    assert schedule.items_to_boundary(0) == items
    assert (schedule.due_at == math.inf) == (items == 1)


def test_the_loops_ask_while_nobody_watches_or_the_clock_is_another_one():
    schedule = scheduled(timedelta(hours=1))
    schedule.ask_in_loops(True)
    schedule.begin()
    assert schedule.items_to_boundary(0) == 1
    schedule.ask_in_loops(False)
    assert schedule.items_to_boundary(0) == CHUNK
    with FakeClock():
        clock = current_context().clock
        assert scheduled(timedelta(hours=1), clock).items_to_boundary(0) == 1


def test_a_save_that_is_asked_for_is_due_once_and_always_if_the_run_has_to_end():
    schedule = scheduled(1000)
    schedule.save_soon()
    assert schedule.due
    assert schedule.is_due(0)
    assert not schedule.due
    schedule.begin()
    assert not schedule.is_due(0)
    schedule.save_soon(always=True)
    schedule.save_soon()
    schedule.begin()
    assert schedule.due
    assert schedule.is_due(0)


def test_nothing_is_due_and_nothing_waits_unless_said():
    assert save_at("item", unsaved=1, in_item=False) == "nothing"
    assert save_at("item", unsaved=1, in_item=False, due=True) == "everything"


@given(st.integers(0, 10), st.booleans(), st.booleans())
def test_the_result_of_a_step_goes_alone_where_no_state_has_to_go_with_it(unsaved, due, in_item):
    saved = save_at("step", unsaved=unsaved, due=due, in_item=in_item)
    assert saved == ("everything" if unsaved and not in_item else "result")


@given(st.integers(0, 10), st.booleans())
def test_a_save_that_is_asked_for_waits_for_the_end_of_an_item(unsaved, due):
    assert save_at("asked", unsaved=unsaved, due=due, in_item=False) == "everything"
    assert save_at("asked", unsaved=unsaved, due=due, in_item=True) == "later"


@given(st.integers(0, 10), st.booleans())
def test_the_end_of_an_iteration_outside_items_saves_what_is_not_saved(unsaved, due):
    saved = save_at("iteration", unsaved=unsaved, due=due, in_item=False)
    assert saved == ("everything" if unsaved else "nothing")


@given(st.sampled_from(["item", "iteration"]), st.integers(0, 10), st.booleans())
def test_the_end_of_an_item_saves_if_that_is_due_and_nothing_has_to_wait(moment, unsaved, waits):
    assert save_at(moment, unsaved=unsaved, due=False, in_item=True, waits=waits) == "nothing"
    saved = save_at(moment, unsaved=unsaved, due=True, in_item=True, waits=waits)
    assert saved == ("later" if waits else "everything")


EVERY = timedelta(seconds=0.06)  # as long as the watcher, and not the loop, tells the time


def test_a_save_is_due_when_its_time_has_come_however_fast_items_are(store):
    with recorded() as metrics:
        began = monotonic()
        with checkpoint_run("key", store=store, every=EVERY) as cp:
            for _ in cp.iterate(itertools.count()):
                saves = metrics.value("checkpoint_saves_total", outcome="ok")
                if saves == 3 or monotonic() - began > 60:
                    break
        assert saves == 3
        assert monotonic() - began >= 3 * EVERY.total_seconds()


def is_told(run):
    """True if the watcher says that a save is due, while the run's own thread is busy."""
    waiting, ends = threading.Event(), monotonic() + 60
    while not run.schedule.due and monotonic() < ends:
        waiting.wait(0.002)
    return run.schedule.due


def test_a_slow_item_is_followed_by_a_save(store):
    with recorded() as metrics:
        with checkpoint_run("key", store=store, every=EVERY) as cp:
            for number in cp.iterate(range(3)):
                assert metrics.value("checkpoint_saves_total") == number
                assert is_told(cp._run)
                assert monotonic() >= cp._run.schedule.due_at
        assert metrics.value("checkpoint_saves_total") == 4


def test_an_interval_that_has_become_shorter_counts_at_once(store):
    with checkpoint_run("key", store=store, every=young_daly(mtbf=3600, max_replay=600)) as cp:
        run = cp._run
        for cost in (10.0, 1e-6):  # a save every 85 ms
            run.schedule.cost = cost
            run.schedule.begin()
        assert is_told(run)


def test_an_iteration_inside_a_changed_item_saves_when_that_item_ends(store):
    with FakeClock() as clock, recorded() as metrics:
        with checkpoint_run("key", store=store, every=timedelta(seconds=10)) as cp:
            state = cp.state([])
            for outer in cp.iterate(range(3)):
                state.append(outer)
                for _ in cp.iterate(range(3)):
                    clock.advance(4)
                assert metrics.value("checkpoint_saves_total") == outer
        assert metrics.value("checkpoint_saves_total") == 4


def test_the_seconds_that_a_save_stands_for_are_kept_to_the_millisecond():
    saved = Document(code=Code("1", ""), seconds=2.0625).sealed()
    assert opened(saved).seconds == pytest.approx(2.0625, abs=0.001)
