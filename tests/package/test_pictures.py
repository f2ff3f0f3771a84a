"""The pictures in the docs show what there is, and every page that needs one has one."""

import functools
import importlib.util
import re
import sys
import xml.etree.ElementTree as ET

import pytest

from mainstay._metrics.schema import BREAKER_STATES, FAMILIES, MEMBER_STATES
from support.source import ROOT

DOCS = ROOT / "docs"
SCRIPTS = DOCS / "_pictures"
PICTURES = sorted((DOCS / "_static").glob("*.svg"))
PAGES = [
    *sorted((DOCS / "policies").glob("*.md")),
    *(DOCS / name for name in ("index.md", "which-policy.md", "tutorial.md")),
    *(DOCS / "operations" / name for name in ("dashboard.md", "top.md")),
]
PAGE_WIDTH = 736.0
"""Pixels that the text of a page is wide, as the theme has it."""
LETTER = 7.3
"""Pixels that a letter takes at most, on average: those of `mono` do, the others less."""
SVG = "{http://www.w3.org/2000/svg}"
IMAGE = re.compile(r"!\[([^\]]*)\]\(([^)]+\.svg)\)")


def drawing():
    """The names of the scripts that draw the same each time: those with a function `draw`."""
    return [
        path.stem
        for path in sorted(SCRIPTS.glob("*.py"))
        if "\ndef draw() -> str:" in path.read_text()
    ]


@functools.cache
def loaded(name):
    spec = importlib.util.spec_from_file_location(f"picture_{name}", SCRIPTS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", drawing())
def test_a_picture_is_what_its_script_draws(name, monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    committed = (DOCS / "_static" / f"{name}.svg").read_text()
    assert loaded(name).draw() == committed, "draw them again: python docs/_pictures"


@pytest.mark.parametrize(
    ("name", "states"), [("breaker", BREAKER_STATES), ("member", MEMBER_STATES)]
)
def test_states_are_not_drawn_with_an_arrow_too_few_or_too_many(name, states, monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    picture = loaded(name)
    seen = set(picture.changes(picture.start))
    at_once = getattr(picture, "AT_ONCE", ())
    drawn = set(picture.FROM_TO)
    picture.check(drawn, seen, states, at_once)
    never = ("trial", "draining") if name == "member" else ("closed", "half_open")
    for wrong in (drawn | {never}, *(drawn - {change} for change in drawn)):
        with pytest.raises(ValueError, match="does not show what is"):
            picture.check(wrong, seen, states, at_once)
    with pytest.raises(ValueError, match="without an arrow"):
        picture.check(drawn, seen, (*states, "asleep"), at_once)


def test_the_guide_is_not_drawn_without_a_policy(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    guide = loaded("guide")
    monkeypatch.setattr(guide, "HELPS", guide.HELPS[:-1])
    with pytest.raises(ValueError, match="checkpoint"):
        guide.draw()


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="each Python reads code as it does")
def test_the_picture_of_the_dashboard_is_not_older_than_what_it_shows(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    shown = f"<!-- shows {loaded('answers').digest()} -->"
    committed = (DOCS / "_static" / "dashboard.svg").read_text()
    assert shown in committed, "draw it again: python docs/_pictures/dashboard.py"


@pytest.mark.parametrize("path", PICTURES, ids=lambda path: path.stem)
def test_a_picture_is_small_and_needs_nothing_from_elsewhere(path):
    text = path.read_text()
    assert len(text) < 40_000
    assert text.replace("http://www.w3.org/2000/svg", "").count("http") == 0


@pytest.mark.parametrize("path", PICTURES, ids=lambda path: path.stem)
def test_a_picture_can_be_read_in_the_column_of_a_page(path):
    text = path.read_text()
    width = float(re.search(r'viewBox="0 0 ([\d.]+) ', text)[1])
    sizes = re.findall(r"font(?:-size)?: ?([\d.]+)px", text)
    assert min(map(float, sizes)) * min(1.0, PAGE_WIDTH / width) >= 11


@pytest.mark.parametrize("path", PICTURES, ids=lambda path: path.stem)
def test_a_picture_says_what_it_shows_to_who_cannot_see_it(path):
    root = ET.fromstring(path.read_text())  # noqa: S314 - our own
    title, description = root.find(f"{SVG}title"), root.find(f"{SVG}desc")
    assert root.get("role") == "img"
    assert title.text
    assert len(description.text) > len(title.text)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_a_page_that_says_what_there_is_has_a_picture(path):
    assert IMAGE.search(path.read_text())


@pytest.mark.parametrize("name", drawing())
def test_a_picture_counts_with_the_names_of_metrics(name):
    root = ET.fromstring((DOCS / "_static" / f"{name}.svg").read_text())  # noqa: S314 - our own
    counted = [
        text.text
        for text in root.iter(f"{SVG}text")
        if text.get("class") == "card-text mono" and "_" in text.text and text.text[0] != "{"
    ]
    names = {re.match(r"[a-z_]+", each)[0] for each in counted}
    assert names - {family.name for family in FAMILIES} == set()


@pytest.mark.parametrize("name", drawing())
def test_no_text_leaves_its_card(name):
    root = ET.fromstring((DOCS / "_static" / f"{name}.svg").read_text())  # noqa: S314 - our own
    _, _, width, height = map(float, root.get("viewBox").split())
    for text in root.iter(f"{SVG}text"):
        wide = LETTER * len(text.text)
        before = {"start": 0.0, "middle": wide / 2, "end": wide}[text.get("text-anchor", "start")]
        left = float(text.get("x")) - before
        assert left >= 0, text.text
        assert left + wide <= width, text.text
        assert 0 < float(text.get("y")) < height, text.text


@pytest.mark.parametrize("path", PICTURES, ids=lambda path: path.stem)
def test_a_picture_is_shown_by_a_page_with_words_in_its_place(path):
    pages = [ROOT / "README.md", *DOCS.rglob("*.md")]
    words = [
        alt
        for page in pages
        for alt, link in IMAGE.findall(page.read_text())
        if (page.parent / link).resolve() == path
    ]
    assert words
    assert all(len(alt) > 20 for alt in words)
