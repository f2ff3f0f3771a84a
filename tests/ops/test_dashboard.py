"""The dashboard: whole, from the schema, and every panel shows something on a real server."""

import json

import pytest

from mainstay import ops
from mainstay._metrics import schema
from support.queries import all_rules, exported_names, expressions, names_in, panels


def test_every_panel_has_a_title_a_unit_a_description_and_a_query():
    for panel in panels():
        assert panel["title"]
        assert panel["description"].endswith(".")
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert all(target["expr"] and target["legendFormat"] for target in panel["targets"])
        assert panel["targets"]


def test_panels_have_titles_and_numbers_of_their_own_and_do_not_overlap():
    dashboard = json.loads(ops.dashboard())
    numbers = [panel["id"] for panel in dashboard["panels"]]
    assert len(numbers) == len(set(numbers))
    taken = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken
        assert max(x for x, _ in cells) < 24
        taken |= cells


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


def test_recovered_calls_stand_out():
    (panel,) = [each for each in panels() if each["title"] == "Calls by outcome"]
    (override,) = panel["fieldConfig"]["overrides"]
    assert override["matcher"]["options"] == ".*: recovered$"


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
