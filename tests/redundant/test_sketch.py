"""The live quantile: near the exact one, in constant memory, and forgetful."""

import math
import random
import sys

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mainstay import hedge
from mainstay._redundant.sketch import STEPS, Sketch

DURATIONS = st.floats(2e-6, 1e5)


@example([1.0, 1.0, 1.0, 2.0, 1.0], 0.8)  # 0.8 five times over is above 4 by a rounding
@given(st.lists(DURATIONS, min_size=1, max_size=300), st.floats(0.01, 0.999))
def test_the_quantile_is_within_a_bin_of_the_exact_one(durations, q):
    """Where its rank is a whole number but for a rounding, either neighbour is exact."""
    sketch = Sketch(q)
    for duration in durations:
        sketch.add([duration])
    ordered, rank = sorted(durations), q * len(durations)
    low, high = (ordered[min(math.ceil(rank + off), len(ordered)) - 1] for off in (-1e-9, 1e-9))
    assert low * (1 - 1.5 / STEPS) <= sketch.value() <= high * (1 + 1.5 / STEPS)


def test_nothing_is_known_before_the_first_call():
    sketch = Sketch(0.95)
    assert (sketch.value(), sketch.warm()) == (0.0, False)


@pytest.mark.parametrize(
    ("seconds", "value"),
    [
        (1.0, 1 + 0.5 / 32),
        (0.01, (1 + 8.5 / 32) / 128),  # 0.01 is 1.28 / 128
        (2.0**17.999, 2.0**18 * (1 - 0.25 / 32)),
        (2.0**18, 2.0**18 * (1 - 0.25 / 32)),
        (1e9, 2.0**18 * (1 - 0.25 / 32)),  # longer than three days, and as long
        (2.0**-20, 2.0**-20 * (1 + 0.5 / 32)),
        (0.0, 2.0**-20 * (1 + 0.5 / 32)),  # shorter than a microsecond, and as short
        (2.0**-20 * (1 + 1 / 32), 2.0**-20 * (1 + 1.5 / 32)),
    ],
)
def test_a_duration_is_known_to_a_32nd_of_a_power_of_two(seconds, value):
    sketch = Sketch(0.5)
    sketch.add([seconds])
    assert sketch.value() == value


def test_a_quantile_between_two_durations_is_the_end_of_the_shorter_one():
    for durations in ([1.0, 2.0], [2.0, 1.0]):
        sketch = Sketch(0.5)
        for seconds in durations:
            sketch.add([seconds])
        assert sketch.value() == 1 + 1 / 32


@pytest.mark.parametrize(
    ("q", "enough", "most"),
    [(0.5, 20, 4096), (0.9375, 80, 4096), (0.99609375, 1280, 10_240)],
)
def test_a_higher_quantile_takes_more_calls_to_know(q, enough, most):
    sketch = Sketch(q)
    assert sketch.most == most
    for _ in range(enough - 1):
        sketch.add([0.01])
    assert not sketch.warm()
    sketch.add([0.01])
    assert sketch.warm()


def test_what_is_old_fades_away():
    sketch = Sketch(0.95)
    for _ in range(20_000):
        sketch.add([0.01])
    for _ in range(3 * sketch.most):
        sketch.add([1.0])
    assert sketch.value() == pytest.approx(1.0, rel=1 / STEPS)


def test_counts_are_halved_when_there_are_so_many():
    sketch = Sketch(0.5)
    for _ in range(4095):
        sketch.add([1.0])
    assert sketch._total == 4095
    sketch.add([1.0])
    assert sketch._total == sum(sketch._counts) == 2048


def test_a_count_is_forgotten_when_it_has_been_halved_eleven_times():
    sketch = Sketch(0.25)
    sketch.add([0.001, 1.0, 1.0])
    for _ in range(10):
        sketch._fade()
    assert sketch.value() == pytest.approx(0.001, rel=1 / STEPS)
    sketch._fade()
    assert sketch.value() == 1 + 0.25 / 32
    sketch._fade()
    assert (sketch.value(), sketch._total) == (0.0, 0.0)


def test_the_pointer_never_loses_its_place_however_long_it_runs():
    sketch, numbers = Sketch(0.9), random.Random(7)
    for _ in range(20_000):
        sketch.add([numbers.choice([0.0, 1e-9, 1e9, numbers.lognormvariate(-4, 3)])])
    counts = sketch._counts
    assert sketch._total == sum(counts)
    below = sum(counts[: sketch._at])
    assert sketch._gap == pytest.approx(0.9 * sketch._total - below)
    assert below < 0.9 * sketch._total <= below + counts[sketch._at]


def test_its_memory_does_not_grow():
    sketch = Sketch(0.95)
    before = sys.getsizeof(sketch._counts), len(sketch._counts)
    assert before[0] < 10_500
    for number in range(50_000):
        sketch.add([number / 1e3])
    assert (sys.getsizeof(sketch._counts), len(sketch._counts)) == before


def test_a_delay_stays_between_floor_and_ceiling():
    delay = hedge.delay_of(hedge.quantile(0.9, at_least=0.01, at_most=0.5))
    assert [delay.limited(seconds) for seconds in (0.0, 0.1, 9.0)] == [0.01, 0.1, 0.5]
    constant = hedge.delay_of(hedge.quantile(0.9, at_least=0.1, at_most=0.1))
    assert [constant.limited(seconds) for seconds in (0.0, 0.1, 9.0)] == [0.1] * 3


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: hedge.quantile(0), ValueError, "`q` must be above 0 and below 1"),
        (lambda: hedge.quantile(1), ValueError, "`q` must be above 0 and below 1"),
        (lambda: hedge.quantile(float("nan")), ValueError, "`q` must be above 0"),
        (lambda: hedge.quantile("0.9"), TypeError, "`q` must be a number"),
        (lambda: hedge.quantile(True), TypeError, "`q` must be a number"),
        (lambda: hedge.quantile(0.9, at_least=2, at_most=1), ValueError, "must not be above"),
        (lambda: hedge.quantile(0.9, at_least=-1), ValueError, "`at_least`"),
        (lambda: hedge.after(0), ValueError, "`seconds` must be finite and above 0"),
        (lambda: hedge.after("1"), TypeError, "`seconds`"),
    ],
)
def test_times_to_start_are_checked_at_once(make, error, text):
    with pytest.raises(error, match=text):
        make()


def test_recording_from_the_primarys_start_keeps_hedges_at_their_share():
    """Known fault: to record only what the winner took turned a target of 5 % into 8 %."""
    numbers, sketch = random.Random(5), Sketch(0.95)
    hedged = calls = 0
    for _ in range(20_000):
        primary, second = (
            numbers.lognormvariate(-4.6, 0.5) * (10 if numbers.random() < 0.03 else 1)
            for _ in range(2)
        )
        took = primary
        if sketch.warm():
            calls += 1
            delay = sketch.value()
            if primary > delay:
                hedged += 1
                took = min(primary, delay + second)
        sketch.add([took])
    assert hedged / calls == pytest.approx(0.05, abs=0.005)
