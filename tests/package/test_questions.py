"""The design page: every question has one home that is there, and the layers are those checked."""

import importlib
import re
import tomllib
from functools import reduce

import pytest

from support.source import ROOT

PAGE = (ROOT / "docs" / "explanation" / "design.md").read_text()
ROW = re.compile(r"^\| (.+?\?) \| `([\w/]+\.py)` \| `([\w.]+)` \|$", re.MULTILINE)
QUESTIONS = {question: (file, name) for question, file, name in ROW.findall(PAGE)}


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_question_leads_to_a_function_or_class_of_that_file(question: str) -> None:
    file, name = QUESTIONS[question]
    module = "mainstay." + file.removesuffix(".py").replace("/", ".")
    home = reduce(getattr, name.split("."), importlib.import_module(module))
    assert getattr(home, "__module__", module) == module


def test_every_row_of_the_table_is_a_question_with_a_home_of_its_own() -> None:
    table = PAGE.split("| Question | File | Name |\n| --- | --- | --- |\n")[1].split("\n\n")[0]
    assert len(QUESTIONS) == len(table.strip().splitlines())
    assert len({*QUESTIONS.values()}) == len(QUESTIONS)


def test_the_layers_of_the_page_are_those_that_the_linter_checks() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    (layers,) = [each["layers"] for each in settings["contracts"] if each["type"] == "layers"]
    (block,) = re.findall(r"^ *```text\n( *__main__.*?)^ *```$", PAGE, re.MULTILINE | re.DOTALL)
    assert [line.strip() for line in block.strip().splitlines()] == layers


@pytest.mark.parametrize(
    "name",
    [
        "is_kept",  # when a member is ejected
        "assign",  # who serves
        "plan",  # who is started and stopped
        "last_resort",  # what happens when all members are down
        "save_at",  # when a save is due
        "Progress.capture",  # what is written in one save
        "forbids_hedge",  # when a hedge is started
        "Round",  # which copy wins
        "Cells",  # how a count is exact under fork
    ],
)
def test_what_was_hard_to_find_once_has_a_home(name: str) -> None:
    assert name in [home for _, home in QUESTIONS.values()]
