"""What the pages say about commands, names and metrics is what there is."""

import importlib.util
import re
from pathlib import Path

import pytest

import mainstay
from mainstay import errors, hedge, ops, stores, testing, vote
from mainstay._metrics.schema import FAMILIES
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


def metrics_table():
    path = DOCS / "_extensions" / "metrics_table.py"
    spec = importlib.util.spec_from_file_location("metrics_table", path)
    module = importlib.util.module_from_spec(spec)
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


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_the_page_about_metrics_has_a_row_for_every_metric(family):
    page = (DOCS / "reference" / "metrics.md").read_text()
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in metrics_table().with_tables(page).splitlines()
        if line.startswith(f"| `mainstay_{family.name}` | {family.kind} |")
    ]
    assert len(rows) == 1
    _, _, labels, unit_and_buckets, counts = rows[0]
    assert labels == ", ".join(f"`{label}`" for label in family.labels)
    bounds = [f"{bound:.10g}" for bound in family.buckets]
    assert re.findall(r"[\d.]+", unit_and_buckets) == bounds
    assert counts == family.help


@pytest.mark.parametrize("path", [*PAGES, *PROGRAMS], ids=named)
def test_what_a_page_imports_from_mainstay_is_public(path):
    for module, names in IMPORT.findall(path.read_text()):
        wanted = set(re.findall(r"\w+", names.split("#")[0]))
        there = PUBLIC[module].__all__ if module in PUBLIC else modules()[module].exports()
        assert wanted - {*there} == set()


def test_every_public_name_is_in_the_reference():
    pages = [(DOCS / "reference" / name).read_text() for name in ("api.md", "errors.md")]
    documented = set(re.findall(r"^\.\. auto\w+:: ([\w.]+)", "\n".join(pages), re.MULTILINE))
    public = {f"{module}.{name}" for module in ("mainstay", "mainstay.testing")
              for name in PUBLIC[module].__all__}  # fmt: skip
    assert public - documented == set()


@pytest.mark.parametrize("path", PAGES, ids=named)
def test_links_to_files_lead_to_files(path):
    text = re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    missing = [link for link in LINK.findall(text) if not (path.parent / link).is_file()]
    assert missing == []


@pytest.mark.parametrize("page", sorted((DOCS / "policies").glob("*.md")), ids=named)
def test_the_page_of_a_policy_leads_to_what_its_time_limits_end(page):
    assert "(../explanation/time-limits.md)" in page.read_text()
