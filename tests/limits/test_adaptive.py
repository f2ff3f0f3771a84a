"""The adaptive limit: what the table of its module says, and what it does about overload."""

import math
import random

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mainstay._limits.adaptive import (
    MOST_SAMPLES,
    PERIOD,
    Adaptive,
    AdaptiveLimit,
    error_of_median,
    is_certain,
    overload_judge_of,
)
from support.examples import examples
from support.source import ROOT

BASE = 0.1
WALL = 1_000_000 * PERIOD + 1.0  # one second after a common instant


class Told:
    """A decision that is told of windows, one after the other."""

    def __init__(self, *, at=500.0, wall=WALL, **given):
        self.decision = AdaptiveLimit(Adaptive(**given))
        self.now = at
        self.offset = wall - at
        self.hand_over([])

    @property
    def wall(self):
        return self.now + self.offset

    def hand_over(self, samples):
        self.decision.answered(samples, self.now, self.wall)

    def answers(self, seconds, in_flight, count=20, *, began=None):
        began = self.now if began is None else began
        self.hand_over([(began, seconds, in_flight)] * count)

    def window(self, seconds, in_flight=0, count=20):
        """Hand over a window whose median is certain, 0.25 s after the last."""
        self.now += 0.25
        self.answers(seconds, in_flight, max(count, math.ceil(self.decision._level)))

    def drop(self, times=1, *, began=None):
        for _ in range(times):
            self.decision.dropped(self.now if began is None else began, self.now, self.wall)

    def probe(self, seconds):
        """Answer a probe that has just begun; twenty seconds after it the next may begin."""
        assert self.decision.probing
        self.now = self.decision._probe_from
        self.answers(seconds, 1, 8)
        assert not self.decision.probing


def settled(level=20, base=BASE, **given):
    """One that has a baseline, has closed a window, and has *level*."""
    told = Told(initial=level, **given)
    told.window(base)
    assert (told.decision._level, told.decision.baseline) == (level, base)
    return told


# Windows.


def test_it_begins_with_the_limit_that_was_set_and_without_a_baseline():
    decision = AdaptiveLimit(Adaptive(initial=7))
    assert (decision.limit, decision.baseline, decision.probing) == (7, None, False)
    decision.tick(-1000.0, WALL)  # a monotonic clock may begin anywhere
    assert decision.next_tick == -1000.0 + 29.0


@pytest.mark.parametrize(("initial", "least"), [(1, 8), (8, 8), (9, 9), (20, 20), (700, 500)])
def test_a_window_has_as_many_samples_as_the_limit_and_eight_at_least(initial, least):
    told = Told(initial=initial)
    told.now += 0.25
    told.answers(BASE, 0, least - 1)
    assert told.decision.baseline is None
    told.answers(BASE, 0, 1)
    assert told.decision.baseline == BASE


def test_a_window_is_a_quarter_of_a_second_old():
    told = Told()
    told.now += 0.2499
    told.answers(BASE, 0)
    assert told.decision.baseline is None
    told.now += 0.0001
    told.answers(BASE, 0, 0)
    assert told.decision.baseline == BASE


def test_the_age_of_a_window_counts_from_the_last_one():
    told = settled()
    told.now += 0.2
    told.answers(BASE / 2, 0)
    assert told.decision.baseline == BASE
    told.now += 0.05
    told.answers(BASE / 2, 0)
    assert told.decision.baseline < BASE


def test_seconds_that_differ_wait_until_the_window_is_a_second_old():
    told = Told()
    told.now += 0.9
    told.hand_over([(told.now, seconds, 0) for seconds in [0.01] * 10 + [1.0] * 10])
    assert told.decision.baseline is None
    told.now += 0.1
    told.answers(BASE, 0, 0)
    assert told.decision.baseline == pytest.approx(0.505)


def test_the_error_of_a_median_is_that_of_lognormal_samples():
    numbers = random.Random(1)
    samples = [numbers.lognormvariate(0, 0.8) for _ in range(20_000)]
    assert error_of_median(samples) == pytest.approx(1.25 * 0.8 / math.sqrt(20_000), rel=0.02)
    assert error_of_median([1.0] * 8) == 0.0


def test_a_median_is_certain_up_to_an_error_of_a_fifth():
    """Of 25 samples whose quartiles are a factor apart, 1.25 / 1.35 x its logarithm / 5."""
    factor = math.exp(0.2 * 5 * 1.35 / 1.25)
    within, beyond = ([1.0] * 12 + [1.0] + [factor**share] * 12 for share in (0.999, 1.001))
    assert (is_certain(within, 25, 0.3), is_certain(beyond, 25, 0.3)) == (True, False)
    assert (is_certain(beyond, 25, 1.0), is_certain(beyond, 26, 1.0)) == (True, False)


def test_a_window_takes_in_500_samples_and_no_more():
    told = Told(initial=900)
    told.now += 0.1
    told.answers(BASE, 0, MOST_SAMPLES)
    told.answers(10 * BASE, 899, 10 * MOST_SAMPLES)
    told.now += 0.15
    told.answers(10 * BASE, 899, 1)
    assert (told.decision.baseline, told.decision.limit) == (BASE, 900)


# The baseline and the limit.


@pytest.mark.parametrize(
    ("ratio", "gradient"), [(1.0, 1.0), (1.4, 1.0), (2.0, 0.7), (2.5, 0.56), (10.0, 0.5)]
)
def test_the_limit_follows_how_much_longer_calls_take_than_without_a_queue(ratio, gradient):
    told = settled(level=30)
    told.window(ratio * BASE, 15)
    expected = (30 + gradient * 30 + math.sqrt(30)) / 2
    assert told.decision._level == pytest.approx(expected)
    assert told.decision.limit == int(expected)
    assert told.decision.baseline == BASE


def test_t23_a_limit_of_which_less_than_half_is_used_stays():
    """Known fault T23: with one call at a time, the limit of a peer rose from 10 to 60."""
    told = settled(level=31)
    for _ in range(200):
        told.window(BASE, 15)
    assert told.decision.limit == 31


def test_how_much_of_the_limit_is_used_is_asked_of_each_window_by_itself():
    told = settled(level=30)
    told.window(BASE, 30)
    level = told.decision._level
    told.window(BASE, 1)
    assert told.decision._level == level


def test_a_faster_window_lowers_the_baseline_by_three_tenths_of_the_difference():
    told = settled()
    told.window(0.05)
    assert told.decision.baseline == pytest.approx(0.085)


def test_t21_the_baseline_of_a_limit_in_use_never_rises_by_itself():
    """Known fault T21: averages learn the overload, and the limit ends where nothing is left."""
    told = settled()
    for _ in range(4):
        told.window(5 * BASE, 20)
    assert told.decision.baseline == BASE


def test_five_idle_windows_are_the_new_baseline():
    told = settled()
    told.now += 1.0
    for seconds in (0.14, 0.13, 0.15):
        told.window(seconds)
    told.now += 29.0
    told.window(0.16)  # more than 30 s after the first one, which had BASE
    assert told.decision.baseline == BASE
    told.window(0.17)  # 30 s after the second one
    assert told.decision.baseline == pytest.approx(0.13)


def test_idle_windows_of_more_than_30_seconds_ago_are_forgotten():
    told = settled()
    for _ in range(20):
        told.now += 10
        told.window(0.2)
    assert told.decision.baseline == BASE


def test_what_idle_times_took_is_forgotten_once_a_probe_has_measured():
    """Found by the simulation: the latency of before came back, and the limit fell once more."""
    told = settled()
    for _ in range(4):
        told.window(BASE)
    for _ in range(5):
        told.window(3 * BASE, 20)
    told.probe(3 * BASE)
    told.window(3 * BASE, 1)
    assert told.decision.baseline == pytest.approx(3 * BASE)


def test_an_answer_in_no_time_at_all_does_no_harm():
    told = Told()
    told.window(0.0, 20)
    told.probe(0.0)
    told.window(0.0, 20)
    assert told.decision.baseline == 1e-6
    assert told.decision.limit > 20


# Probes.


def test_the_first_window_is_followed_by_a_probe_if_the_limit_was_reached():
    told = Told()
    told.window(2 * BASE, 20)
    assert (told.decision.probing, told.decision.limit) == (True, 11)  # half of 20 + sqrt(20) / 2
    told.probe(BASE)
    assert (told.decision.baseline, told.decision.limit) == (BASE, 22)


def test_the_first_window_is_followed_by_none_if_the_limit_was_not_reached():
    told = Told()
    told.window(BASE, 19)
    told.window(BASE, 20)
    assert not told.decision.probing


def test_a_latency_that_has_moved_for_good_is_measured():
    told = settled(level=200)
    for seconds in (*[2.6 * BASE] * 4, 2.5 * BASE, *[2.6 * BASE] * 4):
        told.window(seconds, 200)
        assert not told.decision.probing
    told.window(2.6 * BASE, 200)
    told.probe(3 * BASE)
    assert told.decision.baseline == pytest.approx(3 * BASE)
    for _ in range(4):
        told.window(8 * BASE, 200)
        assert not told.decision.probing


def test_common_probes_begin_at_multiples_of_30_seconds_of_wall_time():
    told = settled()
    told.window(BASE, 30)
    level, limit = told.decision._level, told.decision.limit
    assert told.decision.next_tick == pytest.approx(500.0 + 29.0)
    told.now = 500.0 + 28.999
    told.decision.tick(told.now, told.wall)
    assert (told.decision.probing, told.decision.limit) == (False, limit)
    told.now = 500.0 + 29.0
    told.decision.tick(told.now, told.wall)
    assert (told.decision.probing, told.decision.limit) == (True, int(level / 2))


def test_t21_processes_whose_monotonic_clocks_differ_probe_together():
    """Known fault T21: each of 8 processes measured the queue that the other seven made."""
    first, second = Told(at=10.0, wall=WALL + 3.0), Told(at=7e6, wall=WALL + 3.0)
    for told in (first, second):
        told.window(BASE)
        told.window(BASE, 30)
        told.now = told.decision.next_tick
        told.decision.tick(told.now, told.wall)
        assert told.decision.probing
    assert first.wall == pytest.approx(second.wall) == WALL + 29.0


@pytest.mark.parametrize(("in_flight", "probes"), [(19, False), (20, True)])
def test_a_limit_that_was_not_reached_since_the_last_common_probe_is_not_probed(in_flight, probes):
    told = settled()
    told.hand_over([(told.now, BASE, in_flight)])
    told.now += 30
    told.decision.tick(told.now, told.wall)
    assert told.decision.probing is probes
    if probes:
        told.probe(BASE)
        told.now += 30
        told.decision.tick(told.now, told.wall)
        assert not told.decision.probing


def test_common_probes_do_not_follow_each_other_faster_than_slow_calls_allow():
    told = settled(base=4.0)
    began = []
    for _ in range(6):
        told.hand_over([(told.now, 4.0, 20)])
        told.now += 30
        told.decision.tick(told.now, told.wall)
        if told.decision.probing:
            began.append(told.now - 500.25)
            told.probe(4.0)
    assert began == pytest.approx([30.0, 94.0, 158.0])


def test_calls_of_three_seconds_are_probed_every_30_seconds():
    told = settled(base=3.0)
    for _ in range(3):
        told.hand_over([(told.now, 3.0, 20)])
        told.now = told.decision.next_tick
        told.decision.tick(told.now, told.wall)
        told.probe(3.0)


def test_before_the_first_window_there_is_nothing_to_probe_with():
    told = Told()
    told.answers(BASE, 20, 8)
    told.now += 30
    told.decision.tick(told.now, told.wall)
    assert not told.decision.probing
    told.answers(BASE, 1, 12)
    assert told.decision.probing  # it was reached before the first window was full


def test_a_probe_listens_to_calls_that_began_when_the_queue_before_it_was_gone():
    told = Told()
    told.window(2 * BASE, 20)
    told.answers(5 * BASE, 20, 50, began=told.now + 2 * BASE - 0.001)
    assert told.decision.probing
    told.answers(BASE, 10, 7, began=told.now + 2 * BASE)
    assert told.decision.probing
    told.answers(BASE, 10, 1, began=told.now + 2 * BASE)
    assert (told.decision.probing, told.decision.baseline) == (False, BASE)


def test_a_probe_takes_in_500_answers_and_no_more():
    told = Told()
    told.window(2 * BASE, 20)
    told.now += 2 * BASE
    half = MOST_SAMPLES // 2
    seconds = [BASE] * half + [1.1 * BASE] * half + [1.1 * BASE]
    told.hand_over([(told.now, each, 10) for each in seconds])
    assert told.decision.baseline == pytest.approx(1.05 * BASE)


def test_answers_of_a_probe_that_came_to_nothing_are_forgotten():
    told = Told()
    told.window(BASE, 20)
    told.now += BASE
    told.answers(BASE / 2, 10, 7)
    told.now += 29.0
    told.decision.tick(told.now, told.wall)  # it ends, and another one begins
    assert told.decision.probing
    told.now += BASE
    told.answers(BASE, 10, 7)
    assert told.decision.probing
    told.answers(BASE, 10, 1)
    assert told.decision.baseline == BASE


def test_answers_of_a_probe_that_differ_wait_until_it_is_a_second_old():
    told = Told()
    told.window(BASE, 20)
    told.now += BASE
    told.hand_over([(told.now, seconds, 5) for seconds in (0.01, 1.0) * 4])
    told.now += 0.999
    told.answers(BASE, 5, 0)
    assert told.decision.probing
    told.now += 0.0011
    told.answers(BASE, 5, 0)
    assert told.decision.baseline == pytest.approx(0.505)


def test_the_window_begins_again_after_a_probe():
    told = settled()
    told.answers(BASE / 2, 20, 15)
    told.now += 30
    told.decision.tick(told.now, told.wall)
    told.probe(BASE)
    told.now += 0.25
    told.answers(BASE, 20, 19)
    assert told.decision._level == 20
    told.answers(BASE, 20, 1)
    assert told.decision._level == pytest.approx(20 + math.sqrt(20) / 2)


@pytest.mark.parametrize(("median", "longest"), [(BASE, 10.0), (3.0, 10.0), (20.0, 60.0)])
def test_a_probe_without_answers_ends_and_leaves_the_baseline(median, longest):
    told = Told()
    told.window(median, 20)
    began, end = told.now, told.now + median + longest
    told.now = end - 0.01
    told.decision.tick(told.now, told.wall)
    assert (told.decision.probing, told.decision._probed) == (True, began)
    told.now = end
    assert told.decision.next_tick <= told.now
    told.decision.tick(told.now, told.wall)
    assert (told.decision.probing, told.decision.baseline) == (False, median)
    assert told.decision.limit == 22


def test_a_probe_leaves_as_many_places_as_were_asked_for_at_least():
    told = Told(initial=20, at_least=15)
    told.window(BASE, 20)
    assert (told.decision.probing, told.decision.limit) == (True, 15)


def test_a_wall_clock_that_steps_back_begins_no_probe_and_the_next_one_is_aligned_again():
    told = settled()
    told.window(BASE, 30)
    told.offset -= 3600.0
    told.hand_over([])
    assert not told.decision.probing
    told.now = told.decision.next_tick
    assert told.wall % PERIOD == pytest.approx(0.0)
    told.decision.tick(told.now, told.wall)
    assert told.decision.probing


# Drops.


def test_single_drops_say_nothing_about_the_limit():
    told = settled()
    for _ in range(500):
        told.drop(2)
        told.answers(BASE, 1, 200)
    assert told.decision.limit == 20


def test_more_than_two_percent_of_drops_lower_the_limit_whatever_is_between_them():
    told, count = settled(), 0
    while told.decision.limit == 20:
        count += 1
        told.answers(BASE, 1, 1)
        told.drop()
    assert count == 11  # (1 - 0.998 ** 22) / 2 is above 0.02 for the first time
    assert (told.decision._level, told.decision.baseline) == (14.0, BASE)


@pytest.mark.parametrize(("answers", "limit"), [(39, 14), (59, 20)])
def test_what_counts_is_the_share_of_drops(answers, limit):
    """One of 40 is more than 2 %, one of 60 is less."""
    told = settled()
    for _ in range(60):
        told.answers(BASE, 1, answers)
        told.drop()
        if told.decision.limit != 20:
            break
    assert told.decision.limit == limit


def test_a_hand_over_of_nothing_is_no_success():
    told = settled()
    told.drop(2)
    told.hand_over([])
    told.drop()
    assert told.decision.limit == 14


def test_three_drops_in_a_row_lower_the_limit_whatever_was_before():
    told = settled()
    told.answers(BASE, 1, 400)
    told.drop(2)
    assert told.decision.limit == 20
    told.drop()
    assert told.decision.limit == 14


def test_calls_that_fail_together_lower_the_limit_once():
    told = settled(level=100)
    began = told.now - 1.0
    told.drop(50, began=began)
    assert told.decision.limit == 70
    told.answers(BASE, 1, 1)
    told.now += 1.0
    told.drop(3, began=told.now - 1.0)  # just when the limit fell
    assert told.decision.limit == 70
    told.now += 1.0
    told.drop(3, began=told.now - 1.0)
    assert told.decision.limit == 49


def test_a_limit_under_which_nothing_succeeds_falls_to_a_quarter():
    told = settled(level=100)
    told.drop(3)
    for limit in (17, 4, 1, 1):
        told.now += 1.0
        told.drop(30)
        assert told.decision.limit == limit
    assert told.decision.baseline == BASE


def test_a_limit_of_which_nothing_is_known_yet_falls_to_a_quarter():
    told = Told()
    told.drop(2)
    assert told.decision.limit == 20
    told.answers(BASE, 1, 7)
    told.drop(3)
    assert told.decision.limit == 5


def test_a_drop_ends_a_probe():
    told = Told()
    told.window(BASE, 20)
    assert told.decision.probing
    told.drop(3)
    assert (told.decision.probing, told.decision.limit) == (False, int(22.236 * 0.7))


# Whatever comes in.


def test_a_time_that_was_read_before_the_last_one_counts_as_that_one():
    told, late = settled(), settled()
    late.now -= 0.2
    late.answers(BASE, 20)
    late.drop(3, began=late.now)
    late.now += 0.2
    told.answers(BASE, 20)
    told.drop(3, began=told.now - 0.2)
    ours, other = (attrs.asdict(each.decision, recurse=False) for each in (told, late))
    assert {name for name in ours if ours[name] != other[name]} <= {"next_tick"}


EVENT = st.tuples(
    st.sampled_from(["answers", "drop", "tick"]),
    st.floats(-5, 60),  # how time goes on, or back
    st.floats(0, 100),  # seconds
    st.integers(1, 2000),  # in flight
    st.integers(0, 600),  # how many
    st.floats(-7200, 7200) | st.just(0.0),  # how far the wall clock steps
)


@settings(max_examples=examples(500))
@given(
    st.tuples(st.integers(1, 50), st.integers(0, 50), st.integers(0, 1000)),
    st.lists(EVENT, max_size=60),
)
def test_the_limit_stays_in_its_bounds_and_says_when_to_ask_again(bounds, events):
    least, more, most = bounds
    told = Told(at_least=least, initial=least + more, at_most=least + more + most)
    for kind, passed, seconds, in_flight, count, step in events:
        told.now += passed
        told.offset += step
        if kind == "answers":
            told.answers(seconds, in_flight, count, began=told.now - seconds)
        elif kind == "drop":
            told.drop(began=told.now - seconds)
        else:
            told.decision.tick(told.now, told.wall)
        decision = told.decision
        assert least <= decision.limit <= decision.settings.at_most
        assert least <= decision._level <= decision.settings.at_most
        assert decision.baseline is None or 1e-6 <= decision.baseline <= 100
        assert math.isfinite(decision.next_tick)
        assert decision.next_tick <= decision._now + PERIOD
        assert decision.probing == math.isfinite(decision._probe_until)
        assert max(len(decision._window), len(decision._answers)) <= MOST_SAMPLES


@given(st.lists(st.tuples(st.floats(0, 10), st.floats(0, 3)), max_size=100))
def test_drops_lower_the_limit_at_most_once_in_a_round_trip(drops):
    """No two decreases are due to calls of which the second began before the first."""
    told = Told(initial=1000)
    decreased = -math.inf
    for passed, took in drops:
        told.now += passed
        before = told.decision._level
        told.drop(began=told.now - took)
        if told.decision._level < before:
            assert told.now - took > decreased
            decreased = told.now


@given(st.floats(0, 29.9), st.lists(EVENT, max_size=20))
def test_before_the_time_that_it_says_a_tick_changes_nothing(passed, events):
    told = Told()
    for kind, _, seconds, in_flight, count, _ in events:
        told.now += seconds
        if kind == "answers":
            told.answers(seconds, in_flight, count)
    told.now = min(told.now + passed, math.nextafter(told.decision.next_tick, -math.inf))
    before = attrs.asdict(told.decision, recurse=False)
    told.decision.tick(told.now, told.wall)
    assert attrs.asdict(told.decision, recurse=False) == before


# What the user sets.


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"initial": 0}, ValueError, "`initial` must be at least 1, not 0"),
        ({"at_least": -1}, ValueError, "`at_least` must be at least 1, not -1"),
        ({"at_most": 0}, ValueError, "`at_most` must be at least 1, not 0"),
        ({"initial": True}, TypeError, "`initial` must be a whole number, not True"),
        ({"at_least": math.nan}, TypeError, "`at_least` must be a whole number, not nan"),
        ({"at_most": math.inf}, TypeError, "`at_most` must be a whole number, not inf"),
        ({"at_most": 20.0}, TypeError, "`at_most` must be a whole number, not 20.0"),
        (
            {"at_least": 9, "at_most": 8},
            ValueError,
            "`at_most` must be at least `at_least`, which is 9, not 8",
        ),
        (
            {"initial": 4, "at_least": 5},
            ValueError,
            "`initial` must be from `at_least` to `at_most`, 5 to 1000, not 4",
        ),
        (
            {"initial": 20, "at_most": 19},
            ValueError,
            "`initial` must be from `at_least` to `at_most`, 1 to 19, not 20",
        ),
        ({"overload": "503"}, TypeError, "`overload` must be an exception class"),
        ({"overload": ()}, TypeError, r"`overload` must name at least one exception class"),
        ({"overload": (OSError, 3)}, TypeError, "`overload` takes exception classes, not 3"),
        ({"overload": BaseException}, TypeError, "`overload` takes classes below Exception"),
    ],
)
def test_settings_out_of_range_are_refused_by_name(given, error, message):
    with pytest.raises(error, match=message):
        Adaptive(**given)


def test_an_async_predicate_for_overload_is_refused():
    async def busy(error):
        return True

    with pytest.raises(TypeError, match=r"`overload` must be a plain predicate, and .* is async"):
        Adaptive(overload=busy)


@pytest.mark.parametrize(
    ("given", "initial"), [({}, 20), ({"at_most": 8}, 8), ({"at_least": 30}, 30)]
)
def test_an_initial_limit_that_is_not_given_fits_the_bounds(given, initial):
    settings = Adaptive(**given)
    assert settings.initial == initial
    assert type(settings.initial) is int


def test_the_bounds_may_meet():
    settings = Adaptive(initial=3, at_least=3, at_most=3)
    assert (settings.initial, settings.at_least, settings.at_most) == (3, 3, 3)
    assert Adaptive(overload=OSError) == Adaptive(overload=OSError)


@pytest.mark.parametrize(
    ("overload", "expected"),
    [
        (ConnectionError, [True, False]),
        ((KeyError, ConnectionError), [True, False]),
        (lambda error: "busy" in str(error), [True, False]),
    ],
)
def test_overload_is_what_on_is_elsewhere(overload, expected):
    judge = overload_judge_of(Adaptive(overload=overload).overload)
    assert [judge(each) for each in (ConnectionResetError("busy"), ValueError())] == expected
    assert overload_judge_of(None) is None


# A share of `benchmarks/overload.py`, whose model and driver these are.


@pytest.fixture
def simulated(monkeypatch):
    """Simulates a scenario: steps of (since when, calls a second, workers, seconds of a call)."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import overload_model as model  # noqa: PLC0415 - found there only now
    from overload_peers import Ours  # noqa: PLC0415 - likewise

    def simulate(steps, end, *, initial=20, **given):
        scenario = model.Scenario([model.Step(*step) for step in steps], end, (0, end), **given)
        return model.simulate(scenario, lambda: Ours(Adaptive(initial=initial), 13.0), seed=1)

    return simulate


def test_t19_a_few_calls_a_second_are_enough_to_find_the_limit(simulated):
    """Known fault T19: windows that need ten or fifty samples a second never move the limit.

    Of 8 calls/s on a backend of 4/s they deliver less than half of what is possible.
    """
    outcome = simulated([(0, 8, 2, 0.5)], 100, patience=5.0)
    assert outcome.goodput(0, 100) > 0.9


def test_t20_t21_many_processes_share_what_is_small(simulated):
    """Known faults T20 and T21: nothing is left with a minimum of 20 each, nor with averages."""
    outcome = simulated([(0, 400, 10, 0.05)], 15, processes=8)
    assert outcome.goodput(5, 15) > 0.95


def test_t22_a_heavy_tail_is_not_taken_for_overload(simulated):
    """Known fault T22: Vegas per sample refuses 18 % of the calls at half of the load."""
    outcome = simulated([(0, 100, 10, 0.05)], 20, sigma=1.5)
    assert outcome.refused <= 0.01 * outcome.offered


def test_t24_an_overload_is_found_from_a_cold_start_without_a_long_queue(simulated):
    """Known fault T24: a limit that rises too slowly, or far beyond what is right."""
    outcome = simulated([(0, 400, 10, 0.05)], 10)
    assert outcome.goodput(0, 10) > 0.95
    assert outcome.p99(2, 10) < 1.6 * 0.141


def test_t26_what_gets_slower_behind_a_dependency_is_seen(simulated):
    """Known fault T26: a limit by the host's own load is blind to a slow dependency."""
    outcome = simulated([(0, 160, 10, 0.05), (5, 160, 5, 0.05)], 20)
    assert outcome.goodput(5, 20) > 0.95
