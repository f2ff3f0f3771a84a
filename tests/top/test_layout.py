"""What gives way in a low terminal: what is well, and only as much as needed."""

from hypothesis import given
from hypothesis import strategies as st

from mainstay._top.layout import Size, fitted

SIZES = st.lists(
    st.builds(Size, bad=st.integers(0, 5), well=st.integers(0, 20), folded=st.integers(0, 1)),
    max_size=7,
)


def test_nothing_is_folded_where_there_is_room():
    sizes = [Size(bad=2, well=7, folded=1), Size(bad=0, well=3, folded=0)]
    assert fitted(sizes, 16) == (7, 3)


def test_the_section_that_gains_most_is_folded_first():
    sizes = [Size(bad=0, well=3, folded=0), Size(bad=2, well=7, folded=1)]
    assert fitted(sizes, 10) == (3, 0)


def test_no_more_is_folded_than_needed():
    sizes = [Size(bad=0, well=3, folded=0), Size(bad=2, well=400, folded=1)]
    assert fitted(sizes, 30) == (3, 20)
    assert fitted(sizes, 9) == (2, 0)


def test_one_row_is_not_folded_into_one_line():
    assert fitted([Size(bad=3, well=1, folded=1)], 2) == (1,)


@given(SIZES, st.integers(0, 100))
def test_it_fits_exactly_or_all_that_gains_something_is_folded(sizes, room):
    counts = fitted(sizes, room)
    used = sum(size.lines(count) for size, count in zip(sizes, counts, strict=True))
    if counts == tuple(size.well for size in sizes):
        assert used <= room or counts == tuple(size.least for size in sizes)
    else:
        assert used == room or counts == tuple(size.least for size in sizes)
