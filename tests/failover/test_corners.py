"""Corners of pools and breakers: rules that only odd circumstances reach."""

import asyncio
import contextlib
import threading

import pytest

from mainstay import (
    CircuitBreaker,
    CircuitOpenError,
    Detect,
    Failback,
    FailoverPool,
    Member,
    Probe,
    failover,
    on_event,
)
from mainstay.errors import NoMemberError
from support.pools import Lost


def use(resource):
    if resource.startswith("bad"):
        raise Lost(resource)
    return resource


async def ause(resource):
    return use(resource)


def test_representations_say_what_it_is(clock):
    pool = FailoverPool("db", [Member("a", "x"), Member("b", "y")], on=Lost)
    assert repr(pool) == "<FailoverPool 'db' of a, b>"
    assert repr(CircuitBreaker("mail", on=Lost)) == "<CircuitBreaker 'mail': closed>"


def test_every_event_is_a_line_with_names_and_without_messages(clock):
    lines = []
    stop = on_event(lambda event: lines.append((event.kind, event.level, str(event))))
    try:
        members = [Member("a", "bad secret"), Member("b", "good", standby="hot")]
        pool = FailoverPool("db", members, on=Lost, failback=Failback("grace", grace=0.0))
        for _ in range(4):
            pool.call(use)
        alone = FailoverPool("alone", [Member("a", "bad secret")], on=Lost)
        for _ in range(4):
            with pytest.raises(Lost):
                alone.call(use)
        breaker = CircuitBreaker("mail", on=Lost)
        for _ in range(4):
            with pytest.raises(Lost):
                breaker.call(use, "bad secret")
        clock.advance(5.0)
        breaker.call(use, "good")
    finally:
        stop()
    kinds = [kind for kind, _, _ in lines]
    assert kinds == ["member_ejected", "pool_switched", "pool_gave_up", "pool_gave_up",
                     "pool_gave_up", "member_failing", "pool_gave_up", "breaker_changed",
                     "breaker_changed", "breaker_changed"]  # fmt: skip
    assert not any("secret" in line for _, _, line in lines)
    assert "mail: closed -> open (consecutive)" in [line for _, _, line in lines]


def test_a_builtin_is_given_the_resource_first():
    pool = FailoverPool("db", [Member("a", "text")], on=Lost)
    assert failover(pool)(len)() == 4
    assert failover(pool)(min)("b") == "b"


def test_async_failures_take_the_path_without_a_context_too():
    pool = FailoverPool("db", [Member("a", "bad"), Member("b", "good")], on=Lost)
    call = failover(pool)(ause)
    assert [asyncio.run(call()) for _ in range(6)] == ["good"] * 6
    lone = FailoverPool("db", [Member("a", "bad")], on=Lost)
    for _ in range(5):
        with pytest.raises(Lost):
            asyncio.run(failover(lone)(ause)())


def test_a_forced_member_that_cannot_be_opened_is_told(clock):
    def refuse():
        raise Lost("refused")

    pool = FailoverPool("db", [Member("a", "x"), Member("b", open=refuse)], on=Lost)
    pool.force("b")
    with pytest.raises(ExceptionGroup) as caught:
        pool.call(use)
    assert "refused" in str(caught.value.exceptions)


def test_all_drained_is_told(clock):
    pool = FailoverPool("db", [Member("a", "x")], on=Lost)
    pool.drain("a")
    with pytest.raises(NoMemberError) as caught:
        pool.call(use)
    assert [str(error) for error in caught.value.exceptions] == ["drained"]
    assert caught.value.retry_after is None


def test_a_lease_is_for_one_block():
    pool = FailoverPool("db", [Member("a", "x")], on=Lost)
    lease = pool.lease()
    with lease, pytest.raises(RuntimeError, match="for one block"):
        lease.__enter__()


def test_a_sync_pool_can_be_entered_and_closed_in_async_code():
    closed = []
    member = Member("a", open=lambda: "x", close=closed.append)

    async def main():
        async with FailoverPool("db", [member], on=Lost) as pool:
            return await failover(pool)(ause)()

    assert asyncio.run(main()) == "x"
    assert closed == ["x"]


def test_a_hook_of_a_sync_pool_that_returns_a_coroutine_is_refused(clock):
    async def connect():
        """Never awaited."""

    pool = FailoverPool("db", [Member("a", open=lambda: connect())], on=Lost)  # noqa: PLW0108 - it hides that it is async
    with pytest.raises(ExceptionGroup) as caught:
        pool.call(use)
    assert isinstance(caught.value.exceptions[0], TypeError)


@pytest.mark.parametrize("is_async", [False, True])
def test_a_cold_standby_whose_warm_up_fails_is_closed_and_not_used(clock, is_async):
    closed = []

    async def aprobe(_resource):
        return False

    probe = Probe(aprobe if is_async else lambda _resource: False, every=1_000.0)
    members = [
        Member("a", "bad"),
        Member("c", open=lambda: "cold", close=closed.append, standby="cold"),
    ]
    pool = FailoverPool("db", members, on=Lost, probe=probe, when_all_down="raise")

    async def main():
        for _ in range(6):
            with contextlib.suppress(Lost, ExceptionGroup):
                await failover(pool)(ause)()
        await pool.close()

    if is_async:
        asyncio.run(main())
    else:
        for _ in range(6):
            with contextlib.suppress(Lost, ExceptionGroup):
                pool.call(use)
        pool.close()
    assert closed == ["cold"]


def test_a_breaker_opened_by_hand_ignores_a_trial_on_its_way(clock):
    breaker = CircuitBreaker("mail", on=Lost, detect=Detect(consecutive=1))
    with pytest.raises(Lost):
        breaker.call(use, "bad")
    clock.advance(5.0)

    def during_trial():
        breaker.open()
        return "ok"

    assert breaker.call(during_trial) == "ok"
    with pytest.raises(CircuitOpenError):
        breaker.call(use, "good")
    breaker.close()
    assert breaker.state == "closed"


def test_waiting_calls_are_woken_when_a_trial_succeeds():
    pool = FailoverPool("db", [Member("a", "x")], on=Lost, when_all_down="wait",
                        detect=Detect(eject_for=0.01, max_eject=0.02))  # fmt: skip
    state = {"broken": True}

    def work(_resource):
        if state["broken"]:
            raise Lost
        return "ok"

    for _ in range(4):
        with pytest.raises(Lost):
            pool.call(work)
    state["broken"] = False
    answers = []
    threads = [
        threading.Thread(target=lambda: answers.append(pool.call(work)), daemon=True)
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert answers == ["ok"] * 8
