"""What counts as a failure when it is one of our own exception groups."""

import asyncio

import pytest

from mainstay import CircuitBreaker, FailoverPool, MainstayError, Member, redundant, retry
from mainstay._core.failures import judge_of


class AllFailed(MainstayError, ExceptionGroup):
    """A group of ours, as pools and redundant calls raise."""


def group(*leaves):
    return AllFailed("all failed", leaves)


def lost(error):
    return isinstance(error, ConnectionError)


def busy(error):
    return 2.5 if isinstance(error, ConnectionError) else True


async def lost_async(error):
    return lost(error)


def verdict(on, error):
    judged = judge_of(on)(error)
    return asyncio.run(judged) if asyncio.iscoroutine(judged) else judged


@pytest.mark.parametrize("on", [ConnectionError, (ConnectionError, KeyError), lost, lost_async])
def test_a_group_of_ours_is_a_failure_if_every_leaf_is(on):
    assert verdict(on, group(ConnectionError(), ConnectionResetError())) is True
    assert verdict(on, group(ConnectionError(), group(BrokenPipeError()))) is True
    assert verdict(on, group(ConnectionError(), ValueError())) is False
    assert verdict(on, group(ConnectionError(), group(ValueError()))) is False


@pytest.mark.parametrize("on", [ConnectionError, lost, lost_async])
def test_a_group_of_somebody_else_is_an_exception_like_any_other(on):
    assert verdict(on, ExceptionGroup("theirs", [ConnectionError()])) is False


def test_a_class_matches_the_group_itself_too():
    assert verdict(AllFailed, group(ValueError())) is True


def test_a_delay_for_one_leaf_is_the_delay_for_the_group():
    assert verdict(busy, group(ValueError(), ConnectionError())) == 2.5
    assert verdict(busy, group(ValueError(), ValueError())) is True


class WithoutClass(Exception):
    """An exception that does not tell its class to those who ask it."""

    @property
    def __class__(self):
        raise ValueError("no class")


@pytest.mark.parametrize("on", [OSError, WithoutClass, lost, lambda _: True])
@pytest.mark.parametrize(
    "policy",
    [
        lambda on: retry(on=on, attempts=2, wait=0, name="it"),
        lambda on: CircuitBreaker("it", on=on),
        lambda on: FailoverPool("it", [Member("a", 1), Member("b", 2)], on=on),
        lambda on: redundant(copies=2, on=on, name="it"),
    ],
    ids=["retry", "breaker", "pool", "redundant"],
)
def test_an_exception_that_raises_when_it_is_asked_for_its_class_comes_through(policy, on):
    """Sync only: asyncio itself cannot hand such an exception on."""

    def fail(*_):
        raise WithoutClass

    with pytest.raises(Exception) as caught:  # noqa: PT011 - which one is what is asked
        policy(on).call(fail)
    assert type(caught.value) is WithoutClass
