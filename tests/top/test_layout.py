"""What gives way in a low terminal: what is well, and only as much as needed."""

from hypothesis import given
from hypothesis import strategies as st

from mainstay._top.layout import Size, folded

SIZES = st.lists(
    st.builds(Size, bad=st.integers(0, 5), well=st.integers(0, 20), folded=st.integers(0, 1)),
    max_size=7,
)


def test_nothing_is_folded_where_there_is_room():
    sizes = [Size(bad=2, well=7, folded=1), Size(bad=0, well=3, folded=0)]
    assert folded(sizes, 16) == (False, False)


def test_the_section_that_gains_most_is_folded_first():
    sizes = [Size(bad=0, well=3, folded=0), Size(bad=2, well=7, folded=1)]
    assert folded(sizes, 15) == (False, True)


def test_one_row_is_not_folded_into_one_line():
    assert folded([Size(bad=3, well=1, folded=1)], 2) == (False,)


@given(SIZES, st.integers(0, 100))
def test_it_fits_or_all_that_gains_something_is_folded(sizes, room):
    folds = folded(sizes, room)
    used = sum(size.lines(is_folded=fold) for size, fold in zip(sizes, folds, strict=True))
    rest = [
        size.lines(is_folded=False) - size.lines(is_folded=True)
        for size, fold in zip(sizes, folds, strict=True)
        if not fold
    ]
    assert used <= room or max(rest, default=0) <= 0
