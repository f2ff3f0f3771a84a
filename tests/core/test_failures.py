"""What counts as a failure when it is one of our own exception groups."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from mainstay import (
    Bulkhead,
    CircuitBreaker,
    FailoverPool,
    MainstayError,
    Member,
    NoMemberError,
    RateLimit,
    checkpointed,
    fallback,
    pipeline,
    redundant,
    retry,
    timeout,
)
from mainstay._core.failures import judge_of
from mainstay.stores import MemoryStore


class AllFailed(MainstayError, ExceptionGroup):
    """A group of ours, as pools and redundant calls raise."""


def group(*leaves):
    return AllFailed("all failed", leaves)


def again(error, *_):
    raise error


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


class EndWithoutClass(BaseException):
    """Such a one that ends a program."""

    @property
    def __class__(self):
        raise ValueError("no class")


class WithoutNotes(Exception):
    """An exception that raises when it is asked for its notes."""

    @property
    def __notes__(self):
        raise ValueError("no notes")


class OddNotes(Exception):
    """An exception whose notes are none."""

    __notes__ = 5


class Fixed(Exception):
    """An exception of which nothing can be set."""

    def __setattr__(self, *_):
        raise ValueError("fixed")


class Speechless(Exception):
    """An exception without words."""

    def __str__(self):
        raise ValueError("no words")

    __repr__ = __str__


@dataclass(frozen=True)
class Frozen(Exception):
    """An exception that is a dataclass, of which nothing can be set."""

    code: int = 5


class Closed(Exception):
    """An exception that has no attributes for anybody."""

    def __getattribute__(self, _):
        raise ValueError("closed")


class Empty(Exception):
    """An exception that is false."""

    def __len__(self):
        return 0


class Sealed(ExceptionGroup):
    """A group that does not tell what it holds."""

    def __new__(cls):
        return super().__new__(cls, "sealed", [ValueError()])

    @property
    def exceptions(self):
        raise ValueError("no exceptions")


ODD = [
    WithoutClass, EndWithoutClass, WithoutNotes, OddNotes, Fixed, Speechless, Frozen, Closed, Empty,
    Sealed,
]  # fmt: skip


@pytest.mark.parametrize("on", [OSError, Exception, lost, lambda _: True])
@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize(
    "policy",
    [
        lambda on: retry(on=on, attempts=2, wait=0, name="it"),
        lambda on: CircuitBreaker("it", on=on),
        lambda on: FailoverPool("it", [Member("a", 1), Member("b", 2)], on=on),
        lambda on: redundant(copies=2, on=on, name="it"),
        lambda _: checkpointed(store=MemoryStore(), key=lambda: "it", name="it"),
        lambda _: timeout(60.0, name="it"),
        lambda _: timeout(60.0, in_thread=True, name="it"),
        lambda _: Bulkhead("it"),
        lambda _: RateLimit("it", 1000.0),
        lambda on: fallback(on=on, call=again, name="it"),
        lambda on: pipeline("it", retry(on=on, attempts=2, wait=0), timeout(60.0)),
        lambda on: pipeline("it", CircuitBreaker("inner", on=on)),
        lambda on: pipeline("it", fallback(on=on, call=again), Bulkhead("inner")),
    ],
    ids=[
        "retry",
        "breaker",
        "pool",
        "redundant",
        "checkpointed",
        "timeout",
        "timeout-thread",
        "bulkhead",
        "rate limit",
        "fallback",
        "pipeline of a retry",
        "pipeline of a breaker",
        "pipeline of a fallback",
    ],
)
def test_an_exception_of_an_odd_class_comes_through(policy, odd, on):
    """Sync only: asyncio itself cannot hand one on that raises when asked for its class."""

    def fail(*_):
        raise odd

    with pytest.raises(BaseException) as caught:  # noqa: PT011 - which one is what is asked
        policy(on).call(fail)
    assert type(caught.value) is odd


@pytest.mark.parametrize("odd", ODD)
def test_an_exception_of_an_odd_class_comes_out_of_a_fallback(odd):
    def fail(*_):
        raise odd

    with pytest.raises(BaseException) as caught:  # noqa: PT011 - which one is what is asked
        fallback(on=OSError, call=fail, name="it").call(again, OSError("down"))
    assert type(caught.value) is odd
    assert type(BaseException.__dict__["__context__"].__get__(caught.value)) is OSError


@pytest.mark.parametrize("odd", ODD)
def test_an_exception_of_an_odd_class_comes_out_of_cp_map(odd):
    def fail(_):
        raise odd

    @checkpointed(store=MemoryStore(), key=lambda: "it", name="it")
    def job(cp):
        with ThreadPoolExecutor(1) as executor:
            return [*cp.map(fail, [1], key=str, executor=executor)]

    with pytest.raises(BaseException) as caught:  # noqa: PT011 - which one is what is asked
        job()
    assert type(caught.value) is odd


def test_a_member_that_cannot_be_opened_tells_why_also_by_a_false_exception(sync_and_async):
    def fail():
        raise Empty

    pool = FailoverPool("it", [Member("a", open=fail)], on=OSError)
    with pytest.raises(NoMemberError) as caught:
        sync_and_async.called(pool, lambda _: None)
    assert [type(each) for each in caught.value.exceptions] == [Empty]


@pytest.mark.parametrize("odd", [*ODD, StopIteration, StopAsyncIteration])
def test_an_exception_of_an_odd_class_comes_through_a_block(odd):
    pool = FailoverPool("it", [Member("a", 1)], on=OSError)
    blocks = (
        next(iter(retry(on=OSError, wait=0, name="it"))),
        next(iter(pool)),
        pool.lease(),
        CircuitBreaker("it", on=OSError),
        Bulkhead("it"),
        RateLimit("it", 1000.0),
    )
    for block in blocks:
        with pytest.raises(BaseException) as caught, block:  # noqa: PT011 - which one is what is asked
            raise odd
        assert type(caught.value) is odd
