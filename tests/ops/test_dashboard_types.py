"""The dashboard against Grafana's own types: its schema package, and the compiler of TypeScript.

The types refuse unknown keys and values of the wrong type; a few dashboards with one mistake each,
compiled beside the whole one, show that they do.
"""

import copy
import json
import subprocess

import pytest

from mainstay import ops
from support.processes import require_node_package, require_tool
from support.source import ROOT

pytestmark = pytest.mark.process

TYPES = ROOT / "tests" / "grafana" / "imported.ts"
WHOLE = "whole"


def panel(kind):
    """Find the first panel of a kind."""
    return lambda dashboard: next(p for p in dashboard["panels"] if p["type"] == kind)


def at(find, *path):
    """Give what replaces a value somewhere: one that is None disappears."""

    def change(dashboard, value):
        *above, last = path
        place = find(dashboard)
        for key in above:
            place = place[key]
        if value is None:
            del place[last]
        else:
            place[last] = value

    return change


def whole(dashboard):
    return dashboard


def first_override(dashboard):
    return panel("stat")(dashboard)["fieldConfig"]["overrides"][0]["properties"][0]


STAT, GRAPH, TIMELINE = (panel(kind) for kind in ("stat", "timeseries", "state-timeline"))
MISTAKES = {
    "unknown key of the dashboard": (at(whole, "tittle"), "mainstay"),
    "unknown kind of panel": (at(STAT, "type"), "stats"),
    "unknown key of a panel": (at(STAT, "gridpos"), {}),
    "place without a width": (at(STAT, "gridPos", "w"), None),
    "option of another kind of panel": (at(STAT, "options", "mergeValues"), True),
    "missing option": (at(STAT, "options", "wideLayout"), None),
    "option of the wrong type": (at(TIMELINE, "options", "mergeValues"), "yes"),
    "value that is not in a list": (at(STAT, "options", "colorMode"), "backgrounds"),
    "unknown look of a graph": (at(GRAPH, "fieldConfig", "defaults", "custom", "colour"), "red"),
    "unknown style of a graph": (
        at(GRAPH, "fieldConfig", "defaults", "custom", "drawStyle"),
        "bar",
    ),
    "unit that is no text": (at(GRAPH, "fieldConfig", "defaults", "unit"), 1),
    "threshold without a number": (
        at(GRAPH, "fieldConfig", "defaults", "thresholds", "steps", 0, "value"),
        None,
    ),
    "unknown property of an override": (at(first_override, "id"), "colour"),
    "query that is no text": (at(GRAPH, "targets", 0, "expr"), 1),
    "unknown key of a query": (at(GRAPH, "targets", 0, "legend"), "x"),
    "number that stands for nothing": (at(whole, "graphTooltip"), 7),
    "unknown key of a variable": (at(whole, "templating", "list", 0, "labels"), "x"),
    "unknown key of an annotation": (at(whole, "annotations", "list", 0, "color"), "red"),
    "version that is missing": (at(whole, "schemaVersion"), None),
}  # fmt: skip


def small():
    """Give a dashboard with a panel of each kind."""
    dashboard = json.loads(ops.dashboard())
    return dashboard | {"panels": [find(dashboard) for find in (STAT, GRAPH, TIMELINE)]}


@pytest.fixture(scope="module")
def errors(tmp_path_factory):
    """Compile all of them at once, and give what the compiler says of each."""
    node = require_tool("node", package="nodejs")
    compiler = require_node_package("typescript") / "bin" / "tsc"
    types = require_node_package("@grafana/schema") / "dist" / "types"
    folder = tmp_path_factory.mktemp("grafana")
    (folder / "imported.ts").write_text(TYPES.read_text())
    dashboards = {WHOLE: json.loads(ops.dashboard())}
    for name, (change, value) in MISTAKES.items():
        dashboards[name] = copy.deepcopy(small())
        change(dashboards[name], value)
    files = {name: f"dashboard{place}.ts" for place, name in enumerate(dashboards)}
    for name, dashboard in dashboards.items():
        (folder / files[name]).write_text(
            'import type { Imported } from "./imported";\n'
            f"export const dashboard: Imported = {json.dumps(dashboard)};\n"
        )
    options = {
        "strict": True,
        "exactOptionalPropertyTypes": True,
        "noEmit": True,
        "target": "ES2022",
        "module": "ESNext",
        "moduleResolution": "Bundler",
        "skipLibCheck": True,
        "types": [],
        "paths": {"@grafana/schema": [f"{types}/index.d.ts"], "grafana/*": [f"{types}/*"]},
    }
    settings = {"compilerOptions": options, "files": list(files.values())}
    (folder / "tsconfig.json").write_text(json.dumps(settings))
    done = subprocess.run([node, compiler], cwd=folder, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert not [line for line in lines if not line.startswith((" ", "dashboard"))], done.stdout
    return {
        name: [line for line in lines if line.startswith(f"{file}(")]
        for name, file in files.items()
    }


def test_grafana_s_types_take_the_dashboard(errors):
    assert errors[WHOLE] == []


def test_grafana_s_types_refuse_what_is_wrong(errors):
    assert [name for name in MISTAKES if not errors[name]] == []
