"""Words for messages: they tell what a mistake is, and nothing of the user's can spoil them."""

import pytest

from mainstay._core.words import class_name, described, in_words, kind_in_words


class Hiding(type):
    """Makes classes that refuse to tell their name, and objects that tell nothing."""

    @property
    def __name__(cls):
        raise RuntimeError("not told")


class Hidden(Exception, metaclass=Hiding):
    def __repr__(self):
        raise RuntimeError("not told")

    __str__ = __repr__


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "None"),
        ("postgres://me:hunter2@db", "an object of type str"),
        (dict, "the class dict"),
        (Hidden, "the class Hidden"),
        (Hidden(), "an object of type Hidden"),
    ],
    ids=["none", "a text", "a class", "a hidden class", "a hidden object"],
)
def test_a_value_is_told_by_its_type_and_not_shown(value, said):
    assert kind_in_words(value) == said


def test_what_tells_nothing_of_itself_is_told_by_its_class():
    hidden = Hidden()
    assert (class_name(hidden), described(hidden), in_words(hidden)) == (
        "Hidden", "a Hidden", "Hidden",
    )  # fmt: skip
