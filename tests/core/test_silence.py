"""How long a member has been silent, and when that counts."""

import math
from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainstay._core.detector import Detect, Detector, HealthChange, Phase
from mainstay._core.silence import FLOOR, Silence, longest_silence

TIMES = st.floats(0, 100, allow_nan=False)
SPANS = st.tuples(TIMES, TIMES).map(sorted).map(tuple)


def covered(spans):
    """Return the length of the union of spans, by sweeping over them."""
    total, end = 0.0, -math.inf
    for began, ended in sorted(spans):
        total += max(0.0, ended - max(began, end))
        end = max(end, ended)
    return total


@given(st.lists(SPANS, min_size=1, max_size=30))
def test_the_silence_is_the_time_covered_overlaps_counted_once(spans):
    silence = Silence()
    for span in spans:
        found = silence.add(*span)
    assert found == pytest.approx(covered(spans))


def test_an_answer_ends_the_silence():
    silence = Silence()
    silence.add(0.0, 5.0)
    silence.end()
    assert not silence
    assert silence.add(6.0, 7.0) == 1.0


def test_its_memory_does_not_grow():
    silence = Silence()
    for each in range(1000):
        silence.add(2.0 * each, 2.0 * each + 1)
    assert len(silence._spans) == 64
    assert silence.seconds == 64.0


@pytest.mark.parametrize(
    ("last", "attempt", "counts"),
    [
        ((0.0, 1.0), (0.5, 1.9), False),
        ((0.0, 1.0), (0.5, 2.0), True),  # as long after it as is normal
        ((0.0, 1.0), (1.0, 1.5), True),  # it follows
        ((0.0, 1.0), (1.0, 1.0), False),  # it has no length of its own
        ((5.0, 6.0), (4.0, 5.0), False),  # it is told late
        ((5.0, 6.0), (4.0, 4.9), True),
    ],
)
def test_attempts_that_overlap_count_once(last, attempt, counts):
    silence = Silence()
    assert silence.counts(*last, 1.0)
    assert silence.counts(*attempt, 1.0) == counts


@pytest.mark.parametrize(
    ("slow", "answers", "expected"),
    [
        (None, [], FLOOR),
        (None, [0.01, 0.02], FLOOR),
        (None, [0.3, 0.02], 0.3),
        (2.0, [5.0], 2.0),
        (math.inf, [], math.inf),
    ],
)
def test_the_longest_silence_is_what_was_set_or_what_answers_show(slow, answers, expected):
    assert longest_silence(slow, deque(answers)) == expected


def cancel(detector, began, now, longest=0.1):
    return detector.cancelled(detector.generation, began, now, 1.0, longest=longest)


def test_cancellations_in_a_row_eject_as_answers_that_are_too_late():
    detector = Detector(Detect(consecutive=4))
    changes = [cancel(detector, float(i), i + 0.15) for i in range(4)]
    assert changes == [None, None, None, HealthChange.THRESHOLD_CROSSED]
    assert detector.cause == "slow"
    assert detector.score == 0


def test_a_silence_as_long_as_is_normal_is_not_too_long():
    detector = Detector(Detect(consecutive=1))
    assert cancel(detector, 0.0, 0.5, longest=0.5) is None
    assert cancel(detector, 1.0, 1.25, longest=0.5) is HealthChange.THRESHOLD_CROSSED


def test_an_error_ends_the_silence():
    detector = Detector(Detect(consecutive=2))
    cancel(detector, 0.0, 5.0)
    assert detector.failed(0, 6.0, 1.0) is None
    assert detector.silence == 0.0
    assert cancel(detector, 7.0, 7.05) is None


def test_short_cancellations_count_once_they_add_up():
    detector = Detector(Detect(consecutive=1))
    assert [cancel(detector, float(i), i + 0.04) for i in range(3)] == [
        None,
        None,
        HealthChange.THRESHOLD_CROSSED,
    ]


def test_attempts_side_by_side_are_one_finding():
    detector = Detector(Detect(consecutive=2))
    assert [cancel(detector, 0.0, 5.0 + i / 1000) for i in range(10)] == [None] * 10
    assert cancel(detector, 5.5, 6.0) is HealthChange.THRESHOLD_CROSSED


def test_an_answer_in_time_makes_up_for_all_of_them():
    detector = Detector(Detect(consecutive=2))
    cancel(detector, 0.0, 1.0)
    assert not detector.pristine
    detector.succeeded(0, 2.0)
    assert detector.pristine
    assert cancel(detector, 3.0, 4.0) is None


def test_a_late_answer_ends_the_silence_and_adds_to_the_run():
    detector = Detector(Detect(consecutive=3, slow=0.5))
    cancel(detector, 0.0, 1.0, longest=0.5)
    detector.succeeded(0, 2.0, slow=True)
    assert cancel(detector, 3.0, 3.2, longest=0.5) is None
    assert detector.failed(0, 4.0, 1.0) is None
    assert cancel(detector, 5.0, 6.0, longest=0.5) is HealthChange.THRESHOLD_CROSSED


def test_a_late_cancelled_trial_has_failed_and_another_one_says_nothing():
    detector = Detector(Detect(consecutive=1))
    detector.eject("slow", 0.0, 1.0)
    detector.begin_trial(10.0)
    assert cancel(detector, 10.0, 10.05) is None
    assert detector.phase is Phase.TRIAL
    assert cancel(detector, 10.0, 10.5) is HealthChange.TRIAL_FAILED
    assert detector.phase is Phase.EJECTED


def test_the_silence_goes_on_through_an_ejection():
    detector = Detector(Detect(consecutive=1))
    cancel(detector, 0.0, 0.09)
    detector.eject("consecutive", 1.0, 1.0)
    detector.begin_trial(10.0)
    assert cancel(detector, 10.0, 10.02) is HealthChange.TRIAL_FAILED


def test_results_of_an_earlier_generation_do_not_count():
    detector = Detector(Detect(consecutive=1))
    detector.eject("consecutive", 0.0, 1.0)
    assert detector.cancelled(0, 0.0, 5.0, 1.0, longest=0.1) is None


def test_one_that_comes_late_from_another_thread_does_not_let_the_last_one_count_twice():
    detector = Detector(Detect(consecutive=9))
    assert cancel(detector, 10.0, 20.0) is None
    assert cancel(detector, 0.0, 5.0) is None
    assert cancel(detector, 11.0, 20.05) is None
    assert detector._delays.run == 2


def test_never_is_never():
    detector = Detector(Detect(consecutive=1, slow=math.inf))
    assert cancel(detector, 0.0, 1e9, longest=math.inf) is None
    assert detector.too_slow == math.inf
