"""Numbers as people read them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainstay._top import words


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0, "0 %"),
        (1e-9, "0.1 %"),
        (0.006, "0.6 %"),
        (0.0994, "9.9 %"),
        (0.0996, "10 %"),
        (0.19, "19 %"),
        (0.9999, "99 %"),
        (1, "100 %"),
    ],
)
def test_a_share_is_never_rounded_to_nothing_or_to_all(share, text):
    assert words.percent(share) == text


@pytest.mark.parametrize(
    ("rate", "text"),
    [
        (0, "0.0"),
        (0.01, "<0.1"),
        (0.05, "0.1"),
        (8.34, "8.3"),
        (9.96, "10"),
        (22.4, "22"),
        (1204, "1,204"),
        (123_456, "123k"),
    ],
)
def test_a_rate_has_two_figures_or_more(rate, text):
    assert words.rate(rate) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0002, "<1 ms"), (0.0246, "25 ms"), (0.9996, "1.0 s"), (7.25, "7.2 s"), (300, "300 s")],
)
def test_a_duration_has_its_unit(seconds, text):
    assert words.took(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0s"),
        (8.9, "8s"),
        (60, "1m00s"),
        (114, "1m54s"),
        (3_600, "1h00m"),
        (7_400, "2h03m"),
        (86_400, "1d00h"),
        (277_200, "3d05h"),
    ],
)
def test_an_age_has_two_units(seconds, text):
    assert words.age(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.5, "0.5s"), (2, "2s"), (59.9, "59.9s"), (60, "1m00s")]
)
def test_an_interval_has_no_figures_for_nothing(seconds, text):
    assert words.interval(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 items"), (1, "1 item"), (18_349, "18,349 items")]
)
def test_a_number_has_its_noun(count, text):
    assert words.counted(count, "item") == text


@pytest.mark.parametrize(
    ("them", "text"),
    [(["a"], "a"), (["a", "b", "c"], "a, b, c"), (["a", "b", "c", "d"], "a, b +2")],
)
def test_of_many_names_two_are_told(them, text):
    assert words.names(them) == text


@given(st.floats(0, 1e9))
def test_all_of_them_are_short(number):
    texts = words.rate(number), words.took(number), words.age(number), words.percent(number % 1)
    assert max(map(len, texts)) <= 15
