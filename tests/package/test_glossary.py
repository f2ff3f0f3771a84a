"""The glossary: every term once and in order, and no word where the glossary has another for it."""

import io
import re
import tokenize
from pathlib import Path

import pytest

from support.source import ROOT, docstrings, modules, modules_of, parts

GLOSSARY = ROOT / "docs" / "reference" / "glossary.md"
PAGES = sorted(
    {*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")} - {GLOSSARY, ROOT / "CHANGELOG.md"}
)
TEXT = GLOSSARY.read_text()


def terms() -> list[str]:
    (block,) = re.findall(r"^```\{glossary\}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    return [line for line in block.splitlines() if line and not line.startswith(" ")]


def banned() -> list[tuple[str, str, str]]:
    rows = re.findall(r"^\| (.+?) \| (.+?) \| (.+?) \|$", TEXT, re.MULTILINE)
    return [row for row in rows if row[0] not in ("Not used", "---")]


def words(where: str) -> list[str]:
    return [word for word, _, place in banned() if place == where]


def test_every_term_stands_once_and_in_alphabetical_order() -> None:
    assert terms() == sorted(set(terms()), key=str.lower)


def test_no_term_is_a_word_that_is_not_used() -> None:
    assert {word for word, _, place in banned() if place != "first words"} & {*terms()} == set()


def test_every_word_that_is_not_used_has_another_and_a_known_place() -> None:
    places = {place for _, _, place in banned()}
    assert places == {"anywhere", "source", "names", "first words"}
    assert [word for word, other, _ in banned() if not other.strip()] == []


def found_in(text: str, those: list[str]) -> set[str]:
    """Return those of the words that stand in *text*, in one of its names or on their own."""
    text = re.sub(r"\b__\w+__\b", "", text)  # Python's own names
    single = {word.lower() for word in re.findall(r"[A-Z]?[a-z]+", text)}
    plain = " ".join(text.lower().split())
    return {
        word for word in those if (word in plain if " " in word else {word, f"{word}s"} & single)
    }


def test_a_word_is_found_in_names_and_in_text_and_not_as_a_part_of_another() -> None:
    those = ["book", "in vain", "post", "seat"]
    assert found_in("class _BookOfSeats: ...", those) == {"book", "seat"}
    assert found_in("self._seats = 1  # tried in\n  vain", those) == {"in vain", "seat"}
    assert found_in("def __attrs_post_init__(self): POST bookkeeping", those) == set()


@pytest.mark.parametrize("part", parts())
def test_the_source_uses_the_words_of_the_glossary(part: str) -> None:
    those = words("anywhere") + words("source")
    used = {
        module.name: found_in(f"{module.name} {module.text}", those) for module in modules_of(part)
    }
    assert {name: sorted(found) for name, found in used.items() if found} == {}


@pytest.mark.parametrize("part", parts())
def test_names_are_words_of_the_glossary(part: str) -> None:
    those = words("names")
    used = {
        module.name: found_in(names_in(module.text), those)
        for module in modules_of(part)
        if found_in(module.text, those)  # which takes a tenth of the time
    }
    assert {name: sorted(found) for name, found in used.items() if found} == {}


def names_in(text: str) -> str:
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return " ".join(token.string for token in tokens if token.type == tokenize.NAME)


@pytest.mark.parametrize("part", parts())
def test_docstrings_begin_with_a_word_of_the_trade(part: str) -> None:
    start = re.compile(rf"(?:{'|'.join(words('first words'))})s?\b")
    wrong = [
        f"{module.name}.{getattr(node, 'name', '')}: {text.splitlines()[0]}"
        for module in modules_of(part)
        for node, text in docstrings(module)
        if start.match(text)
    ]
    assert wrong == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_pages_use_the_words_of_the_glossary(page: Path) -> None:
    assert found_in(page.read_text(), words("anywhere")) == set()


def test_every_module_is_looked_at() -> None:
    assert sum(len(modules_of(part)) for part in parts()) == len(modules())
