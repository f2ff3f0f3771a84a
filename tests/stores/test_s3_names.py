"""What objects are called: in the order of runs, and back again."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainstay.stores._s3.decisions import is_litter
from mainstay.stores._s3.names import Names, escaped, new_part, token_of, unescaped
from mainstay.stores.base import RunId

TEXTS = st.text(st.characters(codec=None) | st.sampled_from("/.-_!~A@Z`z\0\x7f"), max_size=8)
RUNS = st.builds(RunId, TEXTS, TEXTS)
SAFE = frozenset(string.ascii_letters + string.digits + "!~._-")
NAMES = Names("a/b/")


@given(TEXTS)
def test_any_text_comes_back_in_letters_that_every_server_takes(text):
    assert unescaped(escaped(text)) == text
    assert {*escaped(text)} <= SAFE


@given(TEXTS, TEXTS)
def test_texts_are_sorted_as_their_names_are(one, two):
    assert (one < two) == (escaped(one).encode() < escaped(two).encode())


@given(RUNS, RUNS)
def test_runs_are_sorted_as_their_objects_are(one, two):
    assert (one < two) == (NAMES.run(one).encode() < NAMES.run(two).encode())
    assert NAMES.run_of(NAMES.run(one)) == one
    assert NAMES.run(one).startswith(NAMES.runs_of(one.name) + "/")


@given(RUNS)
def test_no_folder_is_empty_or_leads_elsewhere(run):
    assert not {"", ".", ".."} & {*NAMES.part(run, "1").split("/")}


def test_names_of_people_can_be_read_in_the_bucket():
    assert NAMES.run(RunId("nightly_job", "2026-11-30")) == "a/b/runs/nightly__job!/2026-11-30!"
    assert NAMES.run(RunId("jobs.Import", "50%")) == "a/b/runs/jobs.-Import!/50!25!"


@pytest.mark.parametrize(
    "name",
    ["a/b/runs/x", "a/b/runs/x!/y", "a/b/runs/x!/y!/z!", "a/b/runs/!/~zz!", "a/b/runs/A!/y!",
     "a/b/runs/x!/.!", "a/b/clock", "a/b/runs/~ff!/!", "a/b/runs/!5a!/!"],
)  # fmt: skip
def test_what_no_mainstay_named_is_of_no_run(name):
    assert NAMES.run_of(name) is None


def test_what_is_too_long_for_the_name_of_an_object_is_refused():
    longest = 1024 - len("a/b/runs/n!/!") - len("parts/") - 41
    assert len(NAMES.part(RunId("n", "k" * longest), new_part(2**50, "0" * 16, 99))) <= 1024
    with pytest.raises(ValueError, match="must be short enough for the name of an object"):
        NAMES.run(RunId("n", "k" * (longest + 1)))
    with pytest.raises(ValueError, match="every byte but ASCII letters and digits takes up to"):
        NAMES.run(RunId("n", "ü" * 300))


def test_the_name_of_a_part_tells_whose_it_is():
    run = RunId("n", "k")
    part = new_part(7, "ab" * 8, 3)
    assert token_of(NAMES.part(run, part)) == 7
    assert token_of(NAMES.part(run, "x-y")) is token_of("notes") is token_of("²-1") is None
    assert is_litter(part, 7, 8, frozenset())
    assert not is_litter(part, 7, 8, frozenset({part}))
    assert not is_litter(part, 7, 7, frozenset())
    assert not is_litter("notes", None, 8, frozenset())
