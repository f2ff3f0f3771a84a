"""`on=transient` in each policy: may it be sent again, and is what was called failing?"""

import asyncio
import email.utils
import urllib.error
from email.message import Message

import pytest

from mainstay import (
    CircuitBreaker,
    Detect,
    FailoverPool,
    Member,
    hedge,
    redundant,
    retry,
    transient,
)
from mainstay.testing import Faults


class Failing:
    """A predicate of a user's own that has the second question."""

    def __init__(self, *, again, failing):
        self._again, self._failing = again, failing

    def __call__(self, error):
        return self._again

    def failing(self, error):
        return self._failing


class PostTimedOut(Exception):
    """What may have been processed, and says that the server fails."""


def answer_of(again, failing):
    return Failing(again=again, failing=failing)


class TestRetry:
    def test_what_passes_is_sent_again_and_nothing_else(self, caller, metrics, clock):
        policy = retry(on=transient, name="fetch")
        assert caller(policy, Faults([ConnectionResetError(), "page"])) == "page"
        with pytest.raises(FileNotFoundError):
            caller(policy, Faults([FileNotFoundError()]))
        assert metrics("give_ups_total", reason="not_retryable") == 1

    def test_the_wait_that_a_server_asks_for_is_kept(self, caller, metrics, clock):
        policy = retry(on=answer_of(2.0, True), name="fetch")
        caller(policy, Faults([PostTimedOut(), "page"]))
        assert 2.0 <= metrics("wait_seconds_total") <= 2.2

    @pytest.mark.parametrize("unit", ["date", "seconds since 1970"])
    def test_the_time_that_a_server_names_is_one_of_the_callers_clock(
        self, caller, metrics, clock, unit
    ):
        clock.advance(86_400)
        then = int(clock.wall()) + 30
        headers = Message()
        if unit == "date":
            headers["Retry-After"] = email.utils.formatdate(then, usegmt=True)
        else:
            headers["x-ratelimit-reset"] = str(then)
        error = urllib.error.HTTPError("http://a.example", 429, "said", headers, None)
        caller(retry(on=transient, name="fetch"), Faults([error, "page"]))
        assert 29.0 <= metrics("wait_seconds_total") <= 33.0

    def test_what_fails_and_may_not_be_sent_again_counts_as_an_error(self, caller, metrics, clock):
        """Not as an exception outside `on`, which the rules subtract."""
        policy = retry(on=answer_of(False, True), name="fetch")
        with pytest.raises(PostTimedOut) as caught:
            caller(policy, Faults([PostTimedOut()]))
        assert metrics("give_ups_total", reason="attempts") == 1
        assert metrics("give_ups_total", reason="not_retryable") == 0
        note = "mainstay.retry fetch: gave up after 1 attempt in 0.000 s: not safe to repeat"
        assert caught.value.__notes__ == [note]


@pytest.mark.parametrize(
    ("again", "failing", "state"),
    [
        (True, True, "open"),
        (2.0, True, "open"),
        (False, True, "open"),
        (True, False, "closed"),
        (False, False, "closed"),
    ],
)
def test_a_breaker_opens_by_the_second_question(
    breaker_caller, metrics, clock, again, failing, state
):
    breaker = CircuitBreaker("mail", on=answer_of(again, failing), detect=Detect(consecutive=1))
    with pytest.raises(PostTimedOut):
        breaker_caller(breaker, Faults([PostTimedOut()]))
    assert breaker.state == state


@pytest.mark.parametrize(
    ("again", "failing", "ejected", "moves_on"),
    [
        (True, True, True, True),
        (0.0, True, True, True),
        (True, False, False, True),
        (False, True, True, False),
        (False, False, False, False),
    ],
)
@pytest.mark.parametrize("way", ["pool", "copies"])
def test_a_pool_asks_both_questions(metrics, clock, way, again, failing, ejected, moves_on):
    members = [Member("a", "a"), Member("b", "b")]
    pool = FailoverPool("db", members, on=answer_of(again, failing), detect=Detect(consecutive=1))
    policy = pool
    if way == "copies":
        policy = redundant(
            pool=pool, on=answer_of(again, failing), start=hedge.after(60), budget=None
        )

    def ask(member):
        if member == "a":
            raise PostTimedOut
        return member

    if moves_on:
        assert policy.call(ask) == "b"
    else:
        with pytest.raises(PostTimedOut):
            policy.call(ask)
    assert (pool.status().members[0].state == "ejected") is ejected


def test_a_group_is_judged_by_both_questions_of_its_leaves(metrics, clock):
    breaker = CircuitBreaker("mail", on=transient, detect=Detect(consecutive=1))

    async def fetch():
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(fail())

    async def fail():
        raise ConnectionResetError

    with pytest.raises(ExceptionGroup):
        asyncio.run(breaker(fetch)())
    assert breaker.state == "open"


def test_policies_and_the_log_call_it_by_its_name(caplog, metrics):
    assert repr(retry(on=transient)) == "<Retry: on transient>"
    with caplog.at_level("INFO", "mainstay.retry"), pytest.raises(KeyError):
        retry(on=transient, name="fetch").call({}.__getitem__, 1)
    assert "fetch: `on` does not match KeyError (transient)" in caplog.text
