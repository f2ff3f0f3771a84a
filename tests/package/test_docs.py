"""What the pages say about commands, names and metrics is what there is."""

import importlib.util
import re
from pathlib import Path

import pytest

import mainstay
from mainstay import errors, hedge, ops, stores, testing, vote
from mainstay._metrics.schema import EVERY
from support.source import modules

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(DOCS.rglob("*.md"))]
PROGRAMS = sorted((DOCS / "examples").glob("*.py"))
COMMANDS = [
    "python -m pip install . && python docs/examples/quickstart.py",
    "python -m pip install '.[test]' && python -m pytest",
]
PUBLIC = {each.__name__: each for each in (mainstay, errors, hedge, ops, stores, testing, vote)}
IMPORT = re.compile(r"from (mainstay[\w.]*) import (\([^)]*\)|.*)")
LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")


def named(path):
    return str(path.relative_to(ROOT))


def tables():
    """The script that writes the tables of the pages."""
    folder = DOCS / "_tables"
    spec = importlib.util.spec_from_file_location("write", folder / "write.py")
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        spec.loader.exec_module(module)
    return module


def blocks(text):
    """The blocks of a page that show commands."""
    return re.findall(r"^```(?:console|bash)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_readme_is_alone_on_its_line_and_is_what_ci_runs(command):
    readme = (ROOT / "README.md").read_text()
    lines = [line for block in blocks(readme) for line in block.splitlines()]
    assert lines.count(command) == 1
    assert readme.index("python -m venv") < readme.index(command)
    assert command in (ROOT / ".ci" / "run").read_text()


@pytest.mark.parametrize("family", EVERY, ids=lambda family: family.name)
def test_the_page_about_metrics_has_a_row_for_every_metric(family):
    page = (DOCS / "reference" / "metrics.md").read_text()
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in page.splitlines()
        if line.startswith(f"| `mainstay_{family.name}` | {family.kind}")
    ]
    assert len(rows) == 1
    _, kind_and_unit, labels, meaning, policies = rows[0]
    kind, _, unit = kind_and_unit.partition(", ")
    assert kind == family.kind
    assert re.findall(r"`(\w+)`", labels) == [*family.labels]
    assert ("seconds" in unit) == (unit != "Unix time" and "_seconds" in family.name)
    assert meaning == family.help
    assert policies


def test_the_tables_in_the_pages_are_those_that_the_code_gives():
    there = tables().pages()
    assert len(there) > 0
    stale = [named(page) for page, current in there.items() if page.read_text() != current]
    assert stale == [], "write them again: python docs/_tables/write.py"


def test_a_table_that_nobody_writes_is_an_error():
    with pytest.raises(KeyError, match="planets"):
        tables().with_tables("<!-- table of planets -->\n<!-- end of table -->")


@pytest.mark.parametrize("path", [*PAGES, *PROGRAMS], ids=named)
def test_what_a_page_imports_from_mainstay_is_public(path):
    for module, names in IMPORT.findall(path.read_text()):
        wanted = set(re.findall(r"\w+", re.split("[#;]", names)[0]))
        there = PUBLIC[module].__all__ if module in PUBLIC else modules()[module].exports()
        assert wanted - {*there} == set()


@pytest.mark.parametrize("path", PAGES, ids=named)
def test_links_to_files_lead_to_files(path):
    text = re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    missing = [link for link in LINK.findall(text) if not (path.parent / link).is_file()]
    assert missing == []


@pytest.mark.parametrize("page", sorted((DOCS / "policies").glob("*.md")), ids=named)
def test_the_page_of_a_policy_leads_to_what_its_time_limits_end(page):
    assert "(../explanation/time-limits.md)" in page.read_text()


@pytest.mark.parametrize("page", [ROOT / "README.md", DOCS / "tutorial.md"], ids=named)
def test_a_component_whose_metrics_a_page_shows_is_on_no_other_page(page):
    """All pages record into one registry, in any order."""
    shown = set(re.findall(r'^mainstay_.*component="(\w+)"', page.read_text(), re.MULTILINE))
    others = [path for path in (*PAGES, *(ROOT / "src").rglob("*.py")) if path != page]
    assert [
        (component, named(path))
        for component in shown
        for path in others
        if f'"{component}"' in path.read_text()
    ] == []
    assert shown
