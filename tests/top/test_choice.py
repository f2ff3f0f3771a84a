"""Keys: what each does, and that the others do nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainstay._top.choice import Choice, keys_in

COMPONENTS = ["payments", "prices", "search"]


def after(text, choice=None, components=COMPONENTS):
    choice = choice or Choice()
    for key in keys_in(text):
        choice = choice.after(key, components)
    return choice


def test_q_ends():
    assert after("q") == Choice(is_over=True)


def test_s_goes_through_the_orders():
    assert [after("s" * count).order for count in range(4)] == ["worst", "name", "rate", "worst"]


def test_p_pauses_and_goes_on():
    assert after("p") == Choice(is_paused=True)
    assert after("pp") == Choice()


def test_question_mark_shows_the_help_and_hides_it():
    assert after("?") == Choice(has_help=True)
    assert after("??") == after("?\x1b") == Choice()


@pytest.mark.parametrize(
    ("typed", "wanted"),
    [
        ("/pay\r", "pay"),
        ("/payx\x7f\n", "pay"),
        ("/qsp?/\r", "qsp?/"),
        ("/pay\x1b", ""),
        ("/\x7f\r", ""),
    ],
)
def test_a_filter_takes_all_keys_until_it_ends(typed, wanted):
    assert after(typed) == Choice(wanted=wanted)


def test_a_filter_has_an_end():
    assert len(after("/" + "x" * 1_000).wanted) == 40


def test_esc_clears_a_filter_that_was_typed():
    assert after("\x1b", Choice(wanted="pay")) == Choice()


def test_enter_shows_one_component_and_arrows_the_others():
    assert after("\r").component == "payments"
    assert after("\r\x1b[B").component == "prices"
    assert after("\r\x1bOA").component == "search"
    assert after("\r\r").component == "payments"
    assert after("\r\x1b") == Choice()


def test_one_that_is_gone_is_replaced_by_the_first():
    assert after("\r", Choice(component="gone")).component == "payments"
    assert after("\x1b[B", Choice(component="gone")).component == "gone"


def test_without_components_there_is_none_to_show():
    assert after("\r", components=[]) == Choice()


@pytest.mark.parametrize("sent", ["x", "\t", "\x1b[C", "\x1b[15~", "\x1b[200~", "é", "\x1b["])
def test_other_keys_do_nothing(sent):
    assert after(sent) == Choice()


@given(st.text(alphabet="qs/p?\r\x1b\x7f[ABO~x1"))
def test_whatever_is_typed_leaves_a_choice(text):
    choice = after(text)
    assert choice.order in ("worst", "name", "rate")
    assert choice.component in {None, *COMPONENTS}
    assert not (choice.is_typing and choice.component)
