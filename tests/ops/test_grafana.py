"""The parts that a dashboard is put together from, each by itself."""

import pytest

from mainstay.ops._dashboard.questions import legend, worst_first
from mainstay.ops._grafana import color
from mainstay.ops._grafana.graph import bars, graph
from mainstay.ops._grafana.query import Query
from mainstay.ops._grafana.row import Row, low, placed
from mainstay.ops._grafana.stat import stat
from mainstay.ops._grafana.thresholds import above, below
from mainstay.ops._grafana.unit import SECONDS, counted
from mainstay.ops._grafana.variable import number_variable
from mainstay.ops._grafana.word import Word, mappings

UP = Query("up", "{{instance}}")


def tile(title="A"):
    return stat(title, "What it shows.", UP)


def places(*rows):
    return [(each["title"], *each["gridPos"].values()) for each in placed(rows)]


def test_panels_of_a_line_share_its_width():
    assert places(Row("", [tile("A"), tile("B"), tile("C")])) == [
        ("A", 0, 0, 8, 8),
        ("B", 8, 0, 8, 8),
        ("C", 16, 0, 8, 8),
    ]


def test_a_line_is_below_the_one_before_and_a_row_below_its_heading():
    wide = tile("A").sized(16, 4)
    assert places(Row("First", [wide, tile("B").sized(8, 3)], low(tile("C"))), Row("Next")) == [
        ("First", 0, 0, 24, 1),
        ("A", 0, 1, 16, 4),
        ("B", 16, 1, 8, 3),
        ("C", 0, 5, 24, 5),
        ("Next", 0, 10, 24, 1),
    ]


def test_a_collapsed_row_holds_its_panels_and_takes_the_room_of_its_heading():
    first, second = placed([Row("First", [tile()], is_collapsed=True), Row("Next")])
    assert [panel["title"] for panel in first["panels"]] == ["A"]
    assert first["panels"][0]["gridPos"]["y"] == 1
    assert (first["collapsed"], second["gridPos"]["y"]) == (True, 1)
    assert [first["id"], first["panels"][0]["id"], second["id"]] == [1, 2, 3]


def test_numbers_that_are_bad_when_they_are_large_turn_amber_and_then_red():
    assert above(degraded=1, failing=2).json()["steps"] == [
        {"color": color.WELL, "value": None},
        {"color": color.DEGRADED, "value": 1},
        {"color": color.FAILING, "value": 2},
    ]


def test_numbers_that_are_bad_when_they_are_small_turn_the_other_way():
    assert below(degraded=0.25, failing=0).json()["steps"] == [
        {"color": color.FAILING, "value": None},
        {"color": color.DEGRADED, "value": 0},
        {"color": color.WELL, "value": 0.25},
    ]


def test_words_stand_for_numbers_and_for_all_below_one():
    words = (Word(1, "open", color.FAILING), Word(0, "spent", is_below=True))
    assert mappings(words) == [
        {
            "type": "value",
            "options": {"1": {"text": "open", "index": 0, "color": color.FAILING}},
        },
        {
            "type": "range",
            "options": {"from": None, "to": 0, "result": {"text": "spent", "index": 1}},
        },
    ]


def test_a_query_that_looks_like_the_others_changes_nothing():
    assert UP.override("A") is None


def test_a_query_changes_how_its_own_answers_look():
    query = Query("up", "up", color=color.WELL, unit=counted("wait"), is_dashed=True)
    override = query.override("B")
    assert override["matcher"] == {"id": "byFrameRefID", "options": "B"}
    assert {each["id"]: each["value"] for each in override["properties"]} == {
        "color": {"mode": "fixed", "fixedColor": color.WELL},
        "unit": "suffix: wait",
        "decimals": 0,
        "custom.lineStyle": {"fill": "dash", "dash": [10, 10]},
        "custom.fillOpacity": 0,
    }


def test_a_logarithmic_axis_does_not_begin_at_0():
    field = graph("A", "B.", UP, unit=SECONDS, is_logarithmic=True).field
    assert field["custom"]["scaleDistribution"] == {"type": "log", "log": 10}
    assert "min" not in field
    assert bars("A", "B.", UP).field["min"] == 0


def test_a_panel_over_time_asks_for_a_range_and_a_tile_for_now():
    (over_time,) = graph("A", "B.", UP).json(1, 0, 0, 8)["targets"]
    (now,) = tile().json(1, 0, 0, 8)["targets"]
    assert (over_time["range"], over_time["instant"]) == (True, False)
    assert (now["range"], now["instant"]) == (False, True)


@pytest.mark.parametrize(
    ("labels", "name"),
    [
        ((), "{{component}}"),
        (("member",), "{{component}} / {{member}}"),
        (("reason",), "{{component}}: {{reason}}"),
        (("member", "outcome"), "{{component}} / {{member}}: {{outcome}}"),
        (("policy", "reason"), "{{component}}: {{policy}}, {{reason}}"),
    ],
)
def test_names_say_whose_part_something_is_and_how_it_was(labels, name):
    assert legend(*labels) == name


def test_a_heading_reads_the_first_number_of_an_answer():
    variable = number_variable("pools", "count(x) or vector(0)")
    assert variable["query"]["query"] == "query_result(count(x) or vector(0))"
    assert (variable["hide"], variable["regex"]) == (2, r"/\{\} (\d+)/")


def test_what_is_bad_comes_first_whatever_the_order_of_names():
    query = worst_first("state", "job", ["state > 1", "state > 0"], "known")
    ranks = [line for line in query.splitlines() if '"bad"' in line]
    assert ranks == [
        ')[15s:15s] @ end()), "bad", "0", "", "")',
        ')[15s:15s] @ end()), "bad", "1", "", "")',
        'or on (job) label_replace(0 * (known), "bad", "2", "", "")',
    ]
