"""The dashboard: whole, from the schema, and every panel shows something on a real server."""

import itertools
import json

import pytest

from mainstay import ops
from mainstay._metrics import schema, verdict
from mainstay.ops._dashboard import contents, states
from mainstay.ops._grafana import color
from support.queries import all_rules, every_panel, exported_names, expressions, names_in, panels

SCREEN = 24  # rows of the grid on a screen of 1080 lines, below Grafana's own
UNITS = {"none", "short", "percentunit", "s", "ops", "hertz", "bytes"}


def titled(title):
    (found,) = [panel for panel in panels() if panel["title"] == title]
    return found


def overlaps(board):
    """Give the titles of panels that share a cell of the grid, or stand beside the grid."""
    groups = [[each for each in board["panels"] if not each.get("collapsed")]]
    groups += [row["panels"] for row in board["panels"] if row.get("collapsed")]
    wrong = []
    for group in groups:
        for each in group:
            place = each["gridPos"]
            if min(place.values()) < 0 or place["x"] + place["w"] > 24 or not place["w"]:
                wrong.append((each["title"],))
        wrong += [
            (one["title"], other["title"])
            for one, other in itertools.combinations(group, 2)
            if all(
                one["gridPos"][start] < other["gridPos"][start] + other["gridPos"][size]
                and other["gridPos"][start] < one["gridPos"][start] + one["gridPos"][size]
                for start, size in (("x", "w"), ("y", "h"))
            )
        ]
    return wrong


def test_every_panel_has_a_title_a_unit_a_description_and_a_query():
    wanting = [
        panel["title"]
        for panel in panels()
        if not panel["description"].endswith(".")
        or panel["fieldConfig"]["defaults"]["unit"] not in UNITS
        or not panel["targets"]
        or not all(target["expr"] and target["legendFormat"] for target in panel["targets"])
    ]
    assert wanting == []
    print(f"panels with a unit, a description and a query: {len(panels())} of {len(panels())}")


def test_panels_do_not_overlap():
    assert overlaps(json.loads(ops.dashboard())) == []


def test_panels_that_overlap_are_named():
    board = json.loads(ops.dashboard())
    first, second = board["panels"][:2]
    second["gridPos"] = first["gridPos"] | {"x": first["gridPos"]["w"] - 1}
    assert (first["title"], second["title"]) in overlaps(board)
    second["gridPos"]["x"] = 23
    assert (second["title"],) in overlaps(board)


def test_panels_and_rows_have_titles_and_numbers_of_their_own():
    numbers = [each["id"] for each in every_panel()]
    titles = [each["title"] for each in every_panel()]
    assert len(numbers) == len(set(numbers))
    assert sorted(titles) == sorted(set(titles))


def test_every_name_in_the_panels_is_in_the_schema():
    used = set().union(*map(names_in, expressions()))
    assert used - exported_names() == {"up"}


def test_every_metric_of_the_schema_is_used_by_a_rule_or_a_panel():
    used = set().union(*map(names_in, expressions()))
    used |= set().union(*(names_in(rule["expr"]) for rule in all_rules()))
    unused = {
        family.name
        for family in schema.EVERY
        if not used & {f"mainstay_{family.name}{suffix}" for suffix in ("", "_bucket", "_sum")}
    }
    assert unused == set()


def test_the_panels_can_be_had_before_they_are_json():
    assert [(each.title, each.unit.name) for each in contents.panels(slo=0.9)] == [
        (each["title"], each["fieldConfig"]["defaults"]["unit"]) for each in panels(slo=0.9)
    ]


# For the eye.


def test_the_first_screen_answers_what_is_asked_first():
    first = [
        panel for panel in json.loads(ops.dashboard())["panels"] if panel["gridPos"]["y"] < SCREEN
    ]
    assert [panel["title"] for panel in first] == [
        "Failing now",
        "Degraded now",
        "Availability",
        "Error budget left",
        "Calls by outcome",
        "Time of a call, p95",
        "Components",
        "Members and breakers",
    ]
    assert max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in first) <= SCREEN


def test_rows_of_policies_are_collapsed_and_say_how_many_use_them():
    board = json.loads(ops.dashboard())
    rows = {each["title"]: each for each in board["panels"] if each["type"] == "row"}
    assert [title for title, row in rows.items() if not row["collapsed"]] == ["Calls", "Attempts"]
    hidden = {each["name"] for each in board["templating"]["list"] if each.get("hide")}
    said = {title.split("$")[1].rstrip(")") for title in rows if "$" in title}
    assert said == hidden
    assert [title for title in rows if "$" not in title] == ["Calls", "Attempts", "mainstay itself"]


def test_only_what_fails_is_filled():
    filled = [
        panel["title"]
        for panel in panels()
        if panel["type"] == "stat" and panel["options"]["colorMode"] != "value"
    ]
    assert filled == ["Failing now"]


def test_nothing_is_said_where_nothing_fails():
    for title in ("Failing now", "Degraded now"):
        defaults = titled(title)["fieldConfig"]["defaults"]
        assert defaults["noValue"] == "nothing"
        (base,) = defaults["thresholds"]["steps"]
        assert base["color"] == color.dim(color.WELL)


def test_what_is_spent_is_said_in_a_word():
    (spent,) = titled("Error budget left")["fieldConfig"]["defaults"]["mappings"]
    assert spent == {
        "type": "range",
        "options": {
            "from": None,
            "to": 0,
            "result": {"text": "spent", "index": 0, "color": color.FAILING},
        },
    }


def test_errors_are_at_the_bottom_of_the_stack():
    panel = titled("Calls by outcome")
    assert [target["legendFormat"] for target in panel["targets"]] == [
        *("error", "timeout", "rejected", "cancelled", "recovered", "success")
    ]
    assert {target["legendFormat"] for target in panel["targets"]} == {*schema.OUTCOMES}
    assert panel["fieldConfig"]["defaults"]["custom"]["stacking"]["mode"] == "normal"
    assert len(panel["fieldConfig"]["overrides"]) == len(panel["targets"])


def test_every_state_has_a_word_and_the_worst_the_largest_number():
    words = {word.value: word for word in states.WORDS}
    assert [*states.MEMBERS] == [*reversed(verdict.WORST_STATES)]
    assert [*states.MEMBERS.values()] == sorted(states.MEMBERS.values())
    assert {*states.MEMBERS} == {*schema.MEMBER_STATES}
    assert {*states.BREAKERS} == {*schema.BREAKER_STATES}
    numbers = {*states.MEMBERS.values(), *states.BREAKERS.values()}
    for state in states.OUT:
        numbers.add(states.MEMBERS[state] + states.DESERTED)
    assert {*words} == numbers
    assert words[states.MEMBERS["ejected"]].color == color.dark(color.DEGRADED)
    assert words[states.MEMBERS["ejected"] + states.DESERTED].color == color.FAILING


def test_counts_are_whole_numbers():
    for panel in panels():
        defaults = panel["fieldConfig"]["defaults"]
        assert defaults["unit"] != "none" or "decimals" in defaults, panel["title"]


def test_a_name_leads_to_its_component_alone():
    for panel in panels():
        names = [target["legendFormat"] for target in panel["targets"]]
        links = panel["fieldConfig"]["defaults"].get("links", [])
        assert bool(links) == any("{{component}}" in name for name in names), panel["title"]
        for link in links:
            assert link["url"].endswith("&var-component=${__field.labels.component}")
    (back,) = json.loads(ops.dashboard())["links"]
    assert back["url"].endswith("&var-component=$__all")


def test_moments_are_marked_in_their_colors():
    marks = json.loads(ops.dashboard())["annotations"]["list"]
    assert {mark["name"]: mark["iconColor"] for mark in marks} == {
        "Failovers": color.STANDBY,
        "Ejections": color.DEGRADED,
        "Breaker openings": color.FAILING,
    }


def test_what_would_have_failed_is_asked_of_policies_that_save_calls():
    """Breakers and limits end calls, and redundant calls recover what was slow, too."""
    (target,) = titled("Would have failed without it")["targets"]
    policies = target["expr"].split('policy=~"')[1].split('"')[0].split("|")
    assert {*policies} == verdict.SAVING
    assert not verdict.SAVING & {"redundant", "breaker", "timeout", "bulkhead", "rate_limit"}


def test_the_namespace_and_the_selector_are_in_every_query():
    for expression in expressions(namespace="shop", selector='env="x"'):
        assert "mainstay_" not in expression
        assert 'env="x"' in expression


@pytest.mark.parametrize(
    ("options", "error"),
    [({"slo": 1}, ValueError), ({"selector": "="}, ValueError), ({"namespace": 1}, TypeError)],
)
def test_bad_input_is_refused(options, error):
    with pytest.raises(error):
        ops.dashboard(**options)
