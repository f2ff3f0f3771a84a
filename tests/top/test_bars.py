"""Bars and sparklines: nothing is left out, and steady looks steady."""

from hypothesis import example, given
from hypothesis import strategies as st

from mainstay._top.bars import bar, heights


def shares_of(weights):
    total = sum(weights)
    return [weight / total for weight in weights]


SHARES = st.lists(st.floats(0, 1), min_size=3, max_size=3).filter(lambda w: sum(w) > 0.01)


@given(SHARES.map(shares_of), st.integers(3, 40))
def test_a_bar_is_full_and_every_share_is_in_it(shares, width):
    cells = bar(shares, width)
    assert sum(cells) == width
    assert [share > 0 for share in shares] == [count > 0 for count in cells]


@given(SHARES.map(shares_of), st.integers(10, 40))
def test_a_share_of_a_bar_is_near_the_truth(shares, width):
    for share, count in zip(shares, bar(shares, width), strict=True):
        assert abs(count - share * width) <= len(shares)


def test_the_worst_share_has_its_cell_where_there_is_room_for_one():
    assert bar([0.98, 0.01, 0.01], 1) == (0, 0, 1)


def test_a_bar_without_faults_is_even():
    assert bar([1.0, 0.0, 0.0], 13) == (13, 0, 0)


def test_a_steady_rate_stands_in_the_middle():
    assert heights([5.0] * 6, 8) == (4,) * 6


def test_a_change_of_rate_looks_like_one():
    assert heights([5, 5, 5, 0, 1, 50], 8) == (4, 4, 4, 0, 1, 8)


@given(st.lists(st.floats(0, 1e9), max_size=30))
@example([1970.0, 4.4e-305, 4.4e-305])
@example([5e-324, 1e9, 1e9])
def test_only_nothing_has_no_height(rates):
    steps = heights(rates, 8)
    assert len(steps) == len(rates)
    assert [step > 0 for step in steps] == [rate > 0 for rate in rates]
    assert all(step <= 8 for step in steps)
