"""The health of a member: what the table of its module says, for any sequence of results."""

import operator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainstay import Detect
from mainstay._core.detector import DECAY, Detector, HealthChange, Phase, gain_for
from mainstay._core.events import Cause

DETECT = Detect()
H = DETECT.threshold
GAIN = gain_for(DETECT.normal, DETECT.bad)


def fail(health: Detector, times: int = 1, *, now: float = 0.0) -> HealthChange | None:
    change = None
    for _ in range(times):
        change = health.failed(health.generation, now, 1.0)
    return change


def succeed(health: Detector, times: int = 1, *, now: float = 0.0) -> HealthChange | None:
    change = None
    for _ in range(times):
        change = health.succeeded(health.generation, now)
    return change


def ejected(cause: Cause = "consecutive", *, now: float = 0.0, chance: float = 1.0) -> Detector:
    health = Detector(DETECT)
    health.eject(cause, now, chance)
    return health


@pytest.mark.parametrize("ended", ["failed", "silent"])
def test_each_trial_has_to_succeed_one_after_the_other(ended):
    health = Detector(Detect(trials=3))
    health.eject("consecutive", 0.0, 1.0)
    now, level = 5.0, health.level
    for begun_anew in (True, False):
        for _ in range(2):
            health.begin_trial(now)
            assert succeed(health, now=now) is HealthChange.TRIAL_PASSED
            assert health.trial_due(now)
            assert health.level == level
        health.begin_trial(now)
        if begun_anew and ended == "failed":
            assert fail(health, now=now) is HealthChange.TRIAL_FAILED
        elif begun_anew:
            assert health.expire(health.until, 1.0)
        assert health.passed == (0 if begun_anew else 2)
        now, level = (health.until, health.level) if begun_anew else (now, level)
    assert succeed(health, now=now) is HealthChange.READMITTED
    assert health.passed == 0


def readmitted(cause: Cause = "consecutive") -> Detector:
    health = ejected(cause)
    health.begin_trial(5.0)
    assert succeed(health, now=5.0) is HealthChange.READMITTED
    return health


def test_the_defaults_are_the_lattice_that_was_measured() -> None:
    assert (DETECT.consecutive, GAIN, DETECT.threshold) == (4, 14, 84)


@pytest.mark.parametrize(
    ("normal", "bad", "gain"), [(0.02, 0.20, 11), (0.02, 0.15, 14), (0.03, 0.15, 12), (0.4, 0.5, 1)]
)
def test_the_gain_is_the_ratio_of_the_log_likelihood_steps(
    normal: float, bad: float, gain: int
) -> None:
    assert gain_for(normal, bad) == gain


def test_failures_in_a_row_overstep() -> None:
    health = Detector(DETECT)
    assert fail(health, 3) is None
    assert fail(health) is HealthChange.THRESHOLD_CROSSED
    assert health.cause == "consecutive"


def test_a_success_ends_the_run_but_not_the_score() -> None:
    health = Detector(DETECT)
    fail(health, 3)
    succeed(health)
    assert health.score == 41
    assert fail(health, 2) is None
    succeed(health)
    assert fail(health) is None
    assert fail(health) is HealthChange.THRESHOLD_CROSSED
    assert health.cause == "rate"


def test_every_fourth_call_failing_is_found_although_there_is_no_run() -> None:
    health = Detector(DETECT)
    calls = 0
    while True:
        calls += 1
        change = fail(health) if calls % 4 == 0 else succeed(health)
        if change:
            break
    assert (health.cause, calls) == ("rate", 32)


def test_slow_answers_are_measured_apart_from_failures() -> None:
    health = Detector(DETECT)
    for _ in range(3):
        assert health.succeeded(0, 0.0, slow=True) is None
    assert health.score == 0
    assert health.succeeded(0, 0.0, slow=True) is HealthChange.THRESHOLD_CROSSED
    assert health.cause == "slow"


def test_a_result_of_an_earlier_generation_changes_nothing() -> None:
    health = ejected()
    before = (health.phase, health.until, health.level, health.score)
    assert health.failed(0, 1.0, 1.0) is None
    assert health.succeeded(0, 1.0) is None
    assert health.dissented(0, 1.0, 1.0) is None
    assert not health.release(0, 1.0)
    assert (health.phase, health.until, health.level, health.score) == before


@pytest.mark.parametrize(("chance", "span"), [(0.0, 2.5), (0.5, 3.75), (1.0, 5.0)])
def test_an_ejection_lasts_between_half_and_the_whole(chance: float, span: float) -> None:
    assert ejected(now=100.0, chance=chance).until == 100.0 + span


def test_each_failed_trial_doubles_the_ejection_up_to_the_longest() -> None:
    health = ejected()
    spans = []
    for _ in range(8):
        start = health.until
        health.begin_trial(start)
        assert fail(health, now=start) is HealthChange.TRIAL_FAILED
        spans.append(health.until - start)
    assert spans == [10.0, 20.0, 40.0, 80.0, 160.0, 300.0, 300.0, 300.0]


def test_the_level_falls_with_time_in_rotation_and_not_with_a_success() -> None:
    health = readmitted()
    succeed(health, 10, now=5.0)
    health.eject("rate", 5.0 + DECAY - 1, 1.0)
    assert health.until - (5.0 + DECAY - 1) == 10.0
    health = readmitted()
    health.eject("rate", 5.0 + DECAY, 1.0)
    assert health.until - (5.0 + DECAY) == 5.0


def test_a_readmitted_member_is_one_failure_away_from_the_next_ejection() -> None:
    health = readmitted()
    assert health.score == H - 1
    assert fail(health) is HealthChange.THRESHOLD_CROSSED


def test_enough_successes_make_up_for_the_past() -> None:
    health = readmitted()
    succeed(health, H - 2)
    assert not health.pristine
    succeed(health)
    assert health.pristine


def test_a_member_that_was_slow_is_one_slow_answer_away() -> None:
    assert readmitted("slow").succeeded(2, 6.0, slow=True) is HealthChange.THRESHOLD_CROSSED
    assert readmitted("rate").succeeded(2, 6.0, slow=True) is None


def test_a_trial_that_answers_too_late_has_failed() -> None:
    health = ejected()
    health.begin_trial(5.0)
    assert health.succeeded(health.generation, 5.0, 1.0, slow=True) is HealthChange.TRIAL_FAILED


def test_a_released_trial_is_due_again_at_once() -> None:
    health = ejected()
    health.begin_trial(5.0)
    assert health.release(health.generation, 6.0)
    assert health.trial_due(6.0)


def test_a_hung_trial_frees_its_place_when_its_lease_is_over() -> None:
    health = ejected()
    health.begin_trial(5.0)
    assert not health.expire(9.9, 1.0)
    assert health.expire(10.0, 1.0)
    assert (health.phase, health.until) == (Phase.EJECTED, 20.0)


def test_the_late_answer_of_a_hung_trial_counts_until_the_next_one_begins() -> None:
    health = ejected()
    health.begin_trial(5.0)
    first = health.generation
    health.expire(10.0, 1.0)
    assert health.succeeded(first, 12.0) is HealthChange.READMITTED
    health = ejected()
    health.begin_trial(5.0)
    first = health.generation
    health.expire(10.0, 1.0)
    health.begin_trial(20.0)
    assert health.succeeded(first, 21.0) is None
    assert health.phase is Phase.TRIAL


def test_a_failed_trial_before_its_time_is_no_strike() -> None:
    health = ejected()
    level = health.level
    health.begin_trial(1.0)
    fail(health, now=1.0)
    assert health.level == level


def test_a_failing_member_is_well_after_as_many_successes_in_a_row() -> None:
    health = Detector(DETECT)
    fail(health, 4)
    health.keep_failing(health.cause)
    succeed(health, 3)
    assert fail(health) is HealthChange.THRESHOLD_CROSSED
    assert succeed(health, 3) is None
    assert succeed(health) is HealthChange.WELL_AGAIN
    assert health.score == H - 1


def test_the_time_to_detect_begins_with_the_first_failure_of_the_episode() -> None:
    health = Detector(DETECT)
    fail(health, now=1.0)
    succeed(health, 14, now=2.0)
    fail(health, 4, now=10.0)
    assert health.eject("consecutive", 12.0, 1.0) == 2.0


def test_an_episode_is_over_when_successes_have_made_up_for_it() -> None:
    health = Detector(DETECT)
    fail(health, now=1.0)
    succeed(health, GAIN - 1, now=2.0)
    assert health.failing_since == 1.0
    succeed(health, now=2.0)
    assert health.failing_since is None
    health.succeeded(0, 3.0, slow=True)
    succeed(health, GAIN, now=3.0)
    assert health.failing_since is None
    assert fail(health, 4, now=4.0) is HealthChange.THRESHOLD_CROSSED
    assert health.eject(health.cause, 9.0, 1.0) == 5.0
    assert health.failing_since is None


def test_an_episode_is_over_when_a_failing_member_is_well_again() -> None:
    health = Detector(DETECT)
    fail(health, 4, now=1.0)
    health.keep_failing("slow")
    assert health.cause == "slow"
    assert succeed(health, 4, now=2.0) is HealthChange.WELL_AGAIN
    assert health.failing_since is None


def test_successes_before_it_was_ejected_do_not_make_a_member_well() -> None:
    health = Detector(DETECT)
    for _ in range(2):
        health.keep_failing("consecutive")
        assert succeed(health, 3) is None
        health.eject("consecutive", 1.0, 1.0)


def test_one_that_did_not_answer_late_has_no_late_answers_to_make_up_for() -> None:
    health = Detector(Detect(consecutive=10, threshold=GAIN + 1))
    health.eject("consecutive", 0.0, 1.0)
    health.readmit(5.0)
    assert health.succeeded(1, 6.0, slow=True) is None
    assert health.succeeded(1, 6.0, slow=True) is HealthChange.THRESHOLD_CROSSED


def test_the_outage_is_the_time_from_ejection_to_readmission() -> None:
    health = ejected(now=2.0)
    health.begin_trial(8.0)
    fail(health, now=8.0)
    health.begin_trial(20.0)
    succeed(health, now=21.0)
    assert health.outage == 19.0


def test_no_time_is_below_zero_whichever_thread_read_the_clock_first() -> None:
    health = Detector(DETECT)
    fail(health, now=7.0)
    assert health.eject("consecutive", 6.5, 1.0) == 0.0
    health.begin_trial(12.0)
    assert succeed(health, now=6.0) is HealthChange.READMITTED
    assert health.outage == 5.0  # from 7.0 to 12.0, the newest reading


# Readings of the clock that come late: a thread reads it, and gets the lock after another one.


def test_a_late_reading_makes_no_ejection_end_earlier() -> None:
    health = Detector(DETECT)
    for now in (11.0, 12.0, 13.0):
        fail(health, now=now)
    assert fail(health, now=2.0) is HealthChange.THRESHOLD_CROSSED
    assert health.eject("consecutive", 2.0, 1.0) == 2.0
    assert health.until == 13.0 + DETECT.eject_for
    assert health.ejected_at == 13.0


def test_a_late_reading_makes_no_lease_of_a_trial_shorter() -> None:
    health = ejected(now=100.0)
    health.begin_trial(99.0)
    assert health.until == 100.0 + DETECT.eject_for
    assert not health.expire(100.0, 1.0)


def test_a_trial_that_fails_by_a_late_reading_ends_no_earlier() -> None:
    health = ejected(now=100.0)
    health.begin_trial(105.0)
    assert fail(health, now=95.0) is HealthChange.TRIAL_FAILED
    assert health.until == 105.0 + 2 * DETECT.eject_for


def test_a_member_that_comes_back_by_a_late_reading_has_not_been_back_for_longer() -> None:
    health = ejected(now=100.0)
    health.begin_trial(105.0)
    assert succeed(health, now=50.0) is HealthChange.READMITTED
    assert (health.since, health.outage) == (105.0, 5.0)


def test_the_next_outage_begins_with_readings_of_its_own() -> None:
    health = ejected(now=100.0)
    health.begin_trial(105.0)
    succeed(health, now=105.0)
    health.eject("probe", 7.0, 1.0)  # by a clock of another test
    assert health.until <= 7.0 + 2 * DETECT.eject_for


@given(
    steps=st.lists(st.tuples(st.sampled_from("ffffetpsr"), st.floats(0, 9), st.floats(0, 9))),
    chance=st.floats(0, 1),
)
def test_late_readings_count_as_the_newest_one_of_the_outage(
    steps: list[tuple[str, float, float]], chance: float
) -> None:
    late, punctual, now, newest = Detector(DETECT), Detector(DETECT), 0.0, 0.0
    for step, later, lateness in steps:
        now += later
        well, tried = late.phase is Phase.WELL, late.phase is Phase.TRIAL
        if not {"f": True, "s": True, "e": well, "r": tried}.get(step, not well and not tried):
            continue
        calm = well and late.failing_since is None
        newest = now - lateness if calm else max(newest, now - lateness)
        for health, reading in ((late, now - lateness), (punctual, newest)):
            if step == "f" and fail(health, now=reading) is HealthChange.THRESHOLD_CROSSED:
                health.eject("consecutive", reading, chance)
            elif step == "e":
                health.eject("probe", reading, chance)
            elif step == "s":
                succeed(health, now=reading)
            elif step == "t":
                health.begin_trial(reading)
            elif step == "r":
                health.release(health.generation, reading)
            elif step == "p":
                health.lengthen(reading, chance)
        times = operator.attrgetter("phase", "until", "level", "since", "ejected_at")
        assert times(late) == times(punctual)


def test_dissent_is_a_failure_by_another_name() -> None:
    health = Detector(DETECT)
    for _ in range(4):
        change = health.dissented(0, 0.0, 1.0)
    assert (change, health.cause) == (HealthChange.THRESHOLD_CROSSED, "dissent")


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["good", "bad", "slow", "stale", "trial", "release", "expire", "wait"]),
        st.floats(0.0, 100.0),
        st.floats(0.0, 1.0),
    ),
    max_size=200,
)


@given(steps=STEPS)
def test_the_invariants_hold_for_any_history(  # noqa: C901 - one branch for each kind of step
    steps: list[tuple[str, float, float]],
) -> None:
    health = Detector(DETECT)
    now, generations = 0.0, [0]
    for step, seconds, chance in steps:
        change = None
        if step == "good":
            change = health.succeeded(health.generation, now, chance)
        elif step == "bad":
            change = health.failed(health.generation, now, chance)
        elif step == "slow":
            change = health.succeeded(health.generation, now, chance, slow=True)
        elif step == "stale" and health.generation:
            assert health.failed(health.generation - 1, now, chance) is None
        elif step == "trial" and health.trial_due(now):
            health.begin_trial(now)
        elif step == "release":
            health.release(health.generation, now)
        elif step == "expire":
            health.expire(now, chance)
        elif step == "wait":
            now += seconds
        if change is HealthChange.THRESHOLD_CROSSED:
            health.eject(health.cause, now, chance)
            span = health.until - now
            assert 0 < span <= DETECT.max_eject
        assert 0 <= health.score <= H
        assert health.level >= 0
        assert health.generation >= generations[-1]
        assert (health.phase is Phase.WELL) == (health.ejected_at is None)
        assert not health.pristine or health.phase is Phase.WELL
        generations.append(health.generation)


def average_run_length(error_rate: float) -> float:
    """Calls until the score oversteps, on average: the Markov chain of the lattice, solved."""
    gain, limit = GAIN, DETECT.threshold
    rows = []
    for s in range(limit):
        row = [0.0] * limit + [1.0]
        row[s] += 1.0
        row[max(0, s - 1)] -= 1 - error_rate
        if s + gain < limit:
            row[s + gain] -= error_rate
        rows.append(row)
    for i in range(limit):
        pivot = max(range(i, limit), key=lambda r: abs(rows[r][i]))
        rows[i], rows[pivot] = rows[pivot], rows[i]
        for r in range(i + 1, limit):
            factor = rows[r][i] / rows[i][i]
            rows[r] = [a - factor * b for a, b in zip(rows[r], rows[i], strict=True)]
    solution = [0.0] * limit
    for i in reversed(range(limit)):
        known = sum(rows[i][j] * solution[j] for j in range(i + 1, limit))
        solution[i] = (rows[i][limit] - known) / rows[i][i]
    return solution[0]


def test_fifteen_percent_of_errors_are_found_within_seventy_calls_on_average() -> None:
    assert average_run_length(0.15) < 70


@pytest.mark.parametrize("share", [1 / 3, 1.0])
def test_false_ejections_at_one_percent_are_rarer_than_one_in_ten_days(share: float) -> None:
    """For a member of three, and alone, at 50 calls a second; `benchmarks/` simulates the same."""
    calls_a_day = 50 * share * 86_400
    by_rate = calls_a_day / average_run_length(0.01)
    in_a_row = calls_a_day * 0.01**4
    again_after_a_return = 1.2  # ejections for each of these, as one error soon after is enough
    assert (by_rate + in_a_row) * again_after_a_return < 0.1
