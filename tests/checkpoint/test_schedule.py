"""When a save is due, and the digest that goes with it."""

import itertools
import math
import threading
from datetime import timedelta
from time import monotonic

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainstay import checkpoint_run, young_daly
from mainstay._checkpoint.decision import Code, next_save, poll_wait, smoothed
from mainstay._checkpoint.document import Document, opened
from mainstay._checkpoint.order import Order
from mainstay.testing import FakeClock, recorded

SECONDS = st.floats(1e-6, 1e9)


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


def test_a_save_is_due_when_its_time_has_come_however_fast_items_are(store):
    with recorded() as metrics:
        every = timedelta(seconds=0.02)
        began = monotonic()
        with checkpoint_run("key", store=store, every=every) as cp:
            for _ in cp.iterate(itertools.count()):
                saves = metrics.value("checkpoint_saves_total", outcome="ok")
                if saves == 3 or monotonic() - began > 60:
                    break
        assert saves == 3
        assert monotonic() - began >= 0.06


def rings(run):
    """Whether the watcher says that a save is due, while the run's own thread is busy."""
    waiting, ends = threading.Event(), monotonic() + 60
    while not run.schedule.due and monotonic() < ends:
        waiting.wait(0.01)
    return run.schedule.due


def test_a_slow_item_is_followed_by_a_save(store):
    with recorded() as metrics:
        with checkpoint_run("key", store=store, every=timedelta(seconds=0.02)) as cp:
            for number in cp.iterate(range(3)):
                assert metrics.value("checkpoint_saves_total") == number
                assert rings(cp._run)
                assert monotonic() >= cp._run.schedule.at_time
        assert metrics.value("checkpoint_saves_total") == 4


def test_an_interval_that_has_become_shorter_counts_at_once(store):
    with checkpoint_run("key", store=store, every=young_daly(mtbf=3600, max_replay=600)) as cp:
        run = cp._run
        for cost in (10.0, 1e-5):
            run.schedule.cost = cost
            run.schedule.begin()
        assert rings(run)


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


# The digest of the order.

KEYS = st.one_of(
    st.integers(), st.integers(-(2**65), 2**65), st.text(max_size=5), st.booleans(), st.none(),
    st.floats(allow_nan=False), st.binary(max_size=3), st.tuples(st.integers(), st.text()),
    st.sampled_from([-(2**63), 2**63 - 1, 2**63, "", "\x00", "1", "i", 1, 1.0, True, "\ud800"]),
)  # fmt: skip


def digest_of_keys(keys, cuts=()):
    order = Order()
    bounds = [0, *sorted(min(cut, len(keys)) for cut in cuts), len(keys)]
    for start, end in itertools.pairwise(bounds):
        chunk = keys[start:end]
        if chunk:
            order.add(chunk, {*map(type, chunk)})
    return order.digest()


@given(st.lists(KEYS), st.lists(st.integers(0, 20)))
def test_the_digest_does_not_depend_on_how_keys_are_cut(keys, cuts):
    assert digest_of_keys(keys, cuts) == digest_of_keys(keys)


@given(st.lists(KEYS, max_size=6), st.lists(KEYS, max_size=6))
def test_keys_that_differ_have_another_digest(one, other):
    same = repr(one) == repr(other)
    assert (digest_of_keys(one) == digest_of_keys(other)) == same


@given(st.lists(KEYS, min_size=2, max_size=6, unique_by=repr), st.randoms())
def test_keys_in_another_order_have_another_digest(keys, random):
    shuffled = random.sample(keys, len(keys))
    assert (digest_of_keys(keys) == digest_of_keys(shuffled)) == (repr(keys) == repr(shuffled))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (["ab", "c"], ["a", "bc"]),
        ([1], ["1"]),
        ([1], [1.0]),
        ([1], [True]),
        ([1, 2], [1, 2, 2]),
        ([2**63], [str(2**63)]),
        ([], [""]),
    ],
)
def test_keys_that_look_alike_have_another_digest(one, other):
    assert digest_of_keys(one) != digest_of_keys(other)


def test_the_seconds_that_a_save_stands_for_are_kept_to_the_millisecond():
    saved = Document(code=Code("1", ""), seconds=2.0625).sealed()
    assert opened(saved).seconds == pytest.approx(2.0625, abs=0.001)
