"""What users write at first: decorators without parentheses, parameters of other libraries."""

import pytest

from mainstay import checkpointed, redundant, retry


@pytest.mark.parametrize(
    ("decorator", "example"),
    [
        (retry, "@retry(on=...)"),
        (redundant, "@redundant()"),
        (checkpointed, "@checkpointed()"),
    ],
)
def test_a_decorator_without_parentheses_says_what_to_write(decorator, example):
    with pytest.raises(TypeError) as caught:

        @decorator
        def fetch():
            """Return a page."""

    assert f"`{decorator.__name__}` takes its parameters by name only" in str(caught.value)
    assert example in str(caught.value)


@pytest.mark.parametrize(
    ("decorator", "given", "instead"),
    [
        (redundant, "n", "`copies=`"),
        (redundant, "hedging_delay", "`start=hedge.after(...)`"),
        (redundant, "percentile", "`start=hedge.quantile(...)`"),
        (checkpointed, "interval", "`every=`"),
        (checkpointed, "workflow_id", "`key=`"),
        (checkpointed, "retries", "`mainstay.retry`"),
    ],
)
def test_a_parameter_of_another_library_is_named_with_ours(decorator, given, instead):
    with pytest.raises(TypeError) as caught:
        decorator(**{given: 3})
    assert f"`{decorator.__name__}` has no parameter `{given}`; here it is {instead}" in str(
        caught.value
    )


@pytest.mark.parametrize("decorator", [redundant, checkpointed])
def test_an_unknown_parameter_is_answered_with_those_there_are(decorator):
    with pytest.raises(TypeError, match=r"no parameter `colour`; it takes .*\bname\b"):
        decorator(colour="red")
