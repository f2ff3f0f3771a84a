"""What users write at first: decorators without parentheses, parameters of other libraries."""

import asyncio

import pytest

from mainstay import (
    CircuitBreaker,
    FailoverPool,
    Member,
    checkpointed,
    priority,
    redundant,
    retry,
    timeout,
)


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


BLOCKS = {
    "retry": (lambda: retry(on=OSError), "`for attempt in policy:`"),
    "timeout": (lambda: timeout(1.0), "`async with deadline(...):`"),
    "breaker": (lambda: CircuitBreaker("db", on=OSError), "write `with breaker:`"),
    "priority": (lambda: priority("low"), "write `with priority(...):`"),
    "attempt": (
        lambda: next(iter(FailoverPool("db", [Member("a", 1)], on=OSError))),
        "write `with attempt as resource:`",
    ),
}


@pytest.mark.parametrize(("make", "instead"), BLOCKS.values(), ids=BLOCKS.keys())
def test_async_with_says_what_to_write_where_it_is_not_the_form(make, instead):
    async def main():
        async with make():
            """Do what needs the policy."""

    with pytest.raises(TypeError) as caught:
        asyncio.run(main())
    assert instead in str(caught.value)


@pytest.mark.parametrize("name", ["retry", "timeout"])
def test_with_says_what_to_write_where_it_is_not_the_form(name):
    make, instead = BLOCKS[name]
    with pytest.raises(TypeError) as caught, make():
        """Do what needs the policy."""
    assert instead in str(caught.value)
