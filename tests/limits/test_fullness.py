"""For how long a bulkhead has been full, by the looks that found it so."""

import pytest

from mainstay._limits.fullness import FULL_AFTER, LONGEST_GAP, Fullness


def looked(*times, made=0.0):
    fullness = Fullness(made)
    for now in times:
        fullness.found(now)
    return fullness


def test_nothing_is_full_that_nobody_found_full():
    assert looked().full_since(1e9) is None
    assert looked(made=3.0).well_since() == 3.0


def test_it_is_full_once_looks_went_on_for_long_enough():
    assert looked(100.0, 109.9).full_since(109.9) is None
    assert looked(100.0, 110.0).full_since(110.0) == 100.0


def test_looks_that_are_too_far_apart_begin_anew():
    gap = LONGEST_GAP
    assert looked(100.0, 100.0 + gap).full_since(100.0 + gap) == 100.0
    assert looked(100.0, 100.1 + gap).full_since(100.1 + gap) is None


def test_it_is_full_no_longer_when_nobody_has_found_it_so_for_a_while():
    fullness = looked(100.0, 110.0)
    assert fullness.full_since(110.0 + LONGEST_GAP) == 100.0
    assert fullness.full_since(110.1 + LONGEST_GAP) is None


def test_one_that_waited_has_looked_all_the_time():
    fullness = looked(100.0)
    fullness.found(140.0, since=101.0)
    assert fullness.full_since(140.0) == 100.0
    fullness.found(200.0, since=180.0)
    assert fullness.full_since(200.0) == 180.0


def test_looks_that_come_late_change_nothing():
    fullness = looked(100.0, 112.0, 111.0)
    assert fullness.full_since(112.0) == 100.0
    assert fullness.well_since() == 112.0


@pytest.mark.parametrize(("last", "since"), [(100.0 + FULL_AFTER, 110.0), (109.9, 3.0)])
def test_it_is_well_since_the_last_look_if_it_was_full_then(last, since):
    assert looked(100.0, last, made=3.0).well_since() == since
    assert looked(100.0, last, 500.0, made=3.0).well_since() == since
