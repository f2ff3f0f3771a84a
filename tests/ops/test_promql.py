"""The parts of PromQL: selectors, names of recorded series, windows."""

import pytest

from mainstay.ops._promql import Series, event_count, number, seconds_of, series_of

ESCAPES = r"\n\\\x41\101\u0041\U00000041"


def selector_of(text):
    return series_of("mainstay", text)("calls_total")


@pytest.mark.parametrize(
    ("text", "selector"),
    [
        ("", "mainstay_calls_total"),
        ('job="api"', 'mainstay_calls_total{job="api"}'),
        (' job = "api" , env !~ "te,st.*" ', 'mainstay_calls_total{job="api",env!~"te,st.*"}'),
        ("a='b',c!=`d`,e=~\"f\"", "mainstay_calls_total{a='b',c!=`d`,e=~\"f\"}"),
        ('job="api",', 'mainstay_calls_total{job="api"}'),
        (r'a="say \"so\"",b="2"', r'mainstay_calls_total{a="say \"so\"",b="2"}'),
        (r"a='it\'s',b='2'", r"mainstay_calls_total{a='it\'s',b='2'}"),
        (
            r'a="\n\\\x41\101\u0041\U00000041."',
            r'mainstay_calls_total{a="\n\\\x41\101\u0041\U00000041."}',
        ),
    ],
)
def test_a_selector_has_the_conditions_of_the_user(text, selector):
    assert selector_of(text) == selector


@pytest.mark.parametrize(
    "text",
    [
        "job",
        "job=api",
        'job="api" env="x"',
        'job="api",,',
        ',job="api"',
        'job="\\q"',
        '__name__="x"',
    ],
)
def test_what_is_no_list_of_conditions_is_refused(text):
    with pytest.raises(ValueError, match="`selector` must be conditions"):
        selector_of(text)


def test_conditions_of_a_query_come_after_those_of_the_user():
    series = series_of("mainstay", 'job="api"')
    assert series("x", 'a="b"', 'c="d"') == 'mainstay_x{job="api",a="b",c="d"}'
    assert Series("mainstay")("x", 'a="b"') == 'mainstay_x{a="b"}'


@pytest.mark.parametrize("label", ["component", "policy", "outcome", "reason", "member", "state"])
def test_targets_are_selected_by_what_targets_have(label):
    series = series_of("mainstay", f'{label}="x",job="api"')
    assert series.up() == 'up{job="api"}'
    assert series_of("mainstay", f'{label}="x"').up() == "up"


def test_a_recorded_series_has_level_metric_and_operation_in_its_name():
    assert Series("mine").recorded("component", "calls", "rate5m") == "component:mine_calls:rate5m"


def test_a_window_is_a_number_of_seconds():
    windows = ["45s", "5m", "2h", "30d", "4w"]
    assert [*map(seconds_of, windows)] == [45, 300, 7_200, 2_592_000, 2_419_200]


def test_events_are_those_since_the_series_appeared_or_else_what_it_grew_by():
    assert event_count("x_total", "5m") == (
        "max_over_time(x_total[5m])\n"
        "  unless x_total offset 5m\n"
        "  unless resets(x_total[5m]) > 0\n"
        "or round(increase(x_total[5m]))"
    )


def test_numbers_are_short():
    assert [number(value) for value in (14.4 * 0.001, 0.1 + 0.2, 5.0, 1e-3)] == [
        "0.0144",
        "0.3",
        "5",
        "0.001",
    ]
