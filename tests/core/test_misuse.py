"""What users write at first: decorators without parentheses, parameters of other libraries."""

import asyncio

import pytest

from mainstay import (
    Adaptive,
    Bulkhead,
    CircuitBreaker,
    Detect,
    FailoverPool,
    Member,
    Probe,
    RateLimit,
    RetryBudget,
    checkpointed,
    fallback,
    priority,
    redundant,
    retry,
    timeout,
    transient,
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


@pytest.mark.parametrize(
    ("make", "given", "instead"),
    [
        (CircuitBreaker, "failure_threshold", "`detect=Detect(consecutive=...)`"),
        (CircuitBreaker, "recovery_timeout", "`detect=Detect(eject_for=...)`"),
        (CircuitBreaker, "expected_exception", "`on=`"),
        (Bulkhead, "max_concurrent_calls", "`limit=`"),
        (RateLimit, "calls", "`rate=`"),
        (RateLimit, "period", "`per=`"),
        (FailoverPool, "replicas", "`members=`"),
        (FailoverPool, "health_check", "`probe=Probe(...)`"),
        (Probe, "interval", "`every=`"),
        (timeout, "use_signals", "`in_thread=`"),
        (Detect, "failure_threshold", "`consecutive=`"),
        (RetryBudget, "ttl", "`window=`"),
        (Adaptive, "max_limit", "`at_most=`"),
    ],
)
def test_a_parameter_of_another_library_is_named_with_that_of_a_class(make, given, instead):
    with pytest.raises(TypeError) as caught:
        make("db", **{given: 3})
    said = str(caught.value)
    assert f"`{make.__name__}` has no parameter `{given}`; here it is {instead}; write " in said


@pytest.mark.parametrize(
    ("make", "missing", "example"),
    [
        (CircuitBreaker, "name", "CircuitBreaker('db', on=...)"),
        (lambda: CircuitBreaker("db"), "on", "CircuitBreaker('db', on=...)"),
        (lambda: RateLimit(100), "rate", "RateLimit('api', 100, per=60)"),
        (Bulkhead, "name", "Bulkhead('db', limit=10)"),
        (lambda: FailoverPool([]), "members", "FailoverPool('db', [Member('a', ...)"),
        (Probe, "fn", "Probe(ping)"),
        (timeout, "seconds", "`@timeout(2.5)`"),
        (retry, "on", "`@retry(on=...)`"),
        (fallback, "on", "`@fallback(on=..., default=...)`"),
    ],
)
def test_a_parameter_that_is_missing_is_named_with_an_example(make, missing, example):
    with pytest.raises(TypeError) as caught:
        make()
    said = str(caught.value).replace("keyword-only ", "")  # which Python says since 3.12
    assert f"missing a required argument: '{missing}'; write {example}" in said


def test_a_type_error_of_the_arguments_themselves_stays_what_it_is():
    with pytest.raises(TypeError, match="`name` must be a str, not 10") as caught:
        Bulkhead(10)
    assert caught.value.__context__ is None


@pytest.mark.parametrize("given", ["httpx", OSError, (OSError,), None])
def test_transient_is_given_as_it_is(given):
    with pytest.raises(TypeError, match=r"`transient` takes an exception, .* write on=transient"):
        retry(on=transient(given))
    with pytest.raises(TypeError, match=r"`transient` takes an exception, .* write on=transient"):
        transient()


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
