"""What the comparison with other libraries says is in the files of results that it names."""

import re

import pytest

from support.source import ROOT

PAGE = ROOT / "docs" / "explanation" / "comparison.md"
RESULTS = ROOT / "benchmarks" / "results"
SOURCE = re.compile(r"`(\w+\.py)` in `([\w.-]+\.md)`")
FIGURE = re.compile(r"(?<![\w.])\d[\d,]*(?:\.\d+)?(?: s|x)?(?![\w.]\w)")
QUOTES = [line for line in PAGE.read_text().splitlines() if SOURCE.search(line)]


def figures(line: str) -> list[str]:
    """The figures that a line quotes: of a row those of the two columns in the middle."""
    if line.startswith("|"):
        _, _, ours, others, _, _ = line.split("|")
        line = f"{ours} {others}"
    else:
        line = SOURCE.sub("", line)
    return FIGURE.findall(line)


def section(name: str, script: str) -> str:
    """What a file of results has of a script."""
    text = (RESULTS / name).read_text()
    return text.partition(f"\n## {script}\n")[2].partition("\n## ")[0]


def goals(name: str) -> str:
    """The table at the head of a file of results."""
    return (RESULTS / name).read_text().partition("\n## ")[0]


def has(text: str, figure: str) -> bool:
    return re.search(rf"(?<![\w.,]){re.escape(figure)}(?![\w.,]*\w)", text) is not None


def test_a_figure_is_found_as_a_whole() -> None:
    assert figures("| what | 0.336x | tenacity 9.11x, none, 64 | `a.py` in `b.md` |") == [
        "0.336x",
        "9.11x",
        "64",
    ]
    assert has("| mainstay | 0.503 s | 64 |", "0.503 s")
    assert not has("| mainstay | 10.503 s | 640 |", "0.503 s")
    assert not has("| mainstay | 640 |", "64")


@pytest.mark.parametrize("line", QUOTES)
def test_each_figure_is_in_the_file_that_is_named_beside_it(line: str) -> None:
    ((script, name),) = SOURCE.findall(line)
    text = goals(name) + section(name, script)
    quoted = figures(line)
    assert quoted
    assert [figure for figure in quoted if not has(text, figure)] == []


@pytest.mark.parametrize("line", QUOTES)
def test_no_later_day_has_other_figures(line: str) -> None:
    ((script, name),) = SOURCE.findall(line)
    days = [path.name[:10] for path in RESULTS.glob("*.md") if section(path.name, script)]
    assert name[:10] == max(days)


def test_the_page_has_figures() -> None:
    assert len(QUOTES) > 10
