"""The fixtures that pytest offers where mainstay is installed."""

import pytest

pytest_plugins = ["pytester"]

TESTS = """
    import pytest
    from mainstay import (
        Bulkhead, RateLimit, TimedOutError, default_metrics, fallback, retry, timeout,
    )
    from mainstay._core.context import block_context, process_contexts


    def test_clock(fake_clock, faults):
        assert retry(on=OSError, wait=20).call(faults([OSError(), "value"])) == "value"
        assert fake_clock.now() == 20


    def test_waits(no_waits, faults):
        assert retry(on=OSError, wait=20).call(faults([OSError(), "value"])) == "value"
        assert no_waits is None


    def test_metrics(recorded, no_waits, faults):
        retry(on=OSError, name="work", wait=20).call(faults([OSError(), "value"]))
        assert recorded.value("calls_total", component="work", outcome="recovered") == 1
        assert recorded.value("wait_seconds_total") == 20
        assert default_metrics() is recorded


    def test_limits(fake_clock, recorded, faults):
        mail = RateLimit("mail", 1, per=10, max_wait=30)
        send = fallback(on=OSError, last_good=60)(mail(faults(["sent", OSError(), OSError()])))
        assert [send(), send()] == ["sent", "sent"]
        assert fake_clock.now() == 10
        hang = timeout(5, in_thread=True, name="hang")(faults(then=faults.HANG))
        with Bulkhead("orders"), pytest.raises(TimedOutError):
            hang()
        assert fake_clock.now() == 15
        assert recorded.value("in_flight_seconds_total", component="orders") == 5


    @pytest.mark.parametrize("again", range(2))
    def test_each_test_has_its_own(again, recorded, fake_clock):
        assert recorded.value("calls_total") == 0
        assert fake_clock.now() == 0
        retry(on=OSError, name="work").call(fake_clock.advance, 1)


    @pytest.mark.xfail(raises=ZeroDivisionError, strict=True)
    def test_fails(recorded, fake_clock, no_waits):
        1 / 0


    def test_nothing_is_left_behind():
        assert block_context() is None
        assert process_contexts == []
"""


QUICK = [f"-pno:{each}" for each in ("randomly", "hypothesispytest", "timeout", "langsmith_plugin")]


def test_the_fixtures_are_there_without_an_import_and_leave_nothing_behind(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile(TESTS)
    result = pytester.runpytest_inprocess("-W", "error", *QUICK)
    result.assert_outcomes(passed=7, xfailed=1)


SHARED = """
    import asyncio
    import logging

    import pytest
    from mainstay import (
        Adaptive, Bulkhead, BulkheadFullError, CircuitBreaker, FailoverPool, Member, RateLimit,
        RateLimitedError, RetryBudget, fallback, hedge, redundant, retry,
    )

    closed = []
    pool = FailoverPool("db", [Member("a", "a"), Member("b", "b")], on=OSError)
    opened = FailoverPool("one", [Member("o", open=lambda: "o", close=closed.append)], on=OSError)
    breaker = CircuitBreaker("mail", on=OSError)
    budget = RetryBudget(ratio=0.0, floor=1.0)
    orders = Bulkhead("orders", limit=2)
    adaptive = Bulkhead("adaptive", limit=Adaptive(overload=OSError))
    mail = RateLimit("mail", 1, per=3600)
    refused = []
    policy = redundant(start=hedge.quantile(0.5, at_least=60.0), name="work")
    work = policy(lambda: None)


    async def open_later():
        return "a"


    async def use(resource=None):
        return resource


    @fallback(on=OSError, last_good=3600)
    def answer():
        if refused:
            raise OSError
        return "answer"


    asynchronous = FailoverPool("adb", [Member("a", open=open_later)], on=OSError)


    def fail(resource=None):
        if resource != "b":
            raise OSError


    def raise_key_error():
        raise KeyError


    @pytest.mark.parametrize("again", range(3))
    def test_it_is_as_if_just_made(again, reset_mainstay, caplog):
        assert [member.state for member in pool.status().members] == ["active", "active"]
        assert closed == ["o"] * again
        assert breaker.state == "closed"
        for _ in range(4):
            pool.call(fail)
            with pytest.raises(OSError):
                breaker.call(fail)
        assert pool.status().members[0].state == "ejected"
        assert breaker.state == "open"
        pool.drain("b")
        made = []
        with pytest.raises(OSError):
            retry(on=OSError, attempts=None, wait=0, budget=budget).call(
                lambda: made.append(1) or fail()
            )
        assert len(made) == 11  # ten are allowed at the start
        assert opened.call(str) == "o"
        assert asyncio.run(asynchronous.call(use)) == "a"
        with caplog.at_level(logging.INFO, "mainstay"), pytest.raises(KeyError):
            retry(on=OSError, name="work").call(raise_key_error)
        assert "`on` does not match KeyError" in caplog.text
        assert (orders.limit, orders.in_flight, adaptive.limit) == (2, 0, 20)
        orders.resize(1)
        orders.__enter__()
        with pytest.raises(BulkheadFullError):
            orders.call(str)
        for _ in range(5):
            with pytest.raises(OSError):
                adaptive.call(fail)
        assert adaptive.limit < 20
        mail.acquire()
        with pytest.raises(RateLimitedError):
            mail.acquire()
        refused[:] = [True]
        with pytest.raises(OSError):
            answer()
        refused.clear()
        assert answer() == "answer"
        assert policy._latencies["work"].delay is None
        for _ in range(30):
            work()
        assert policy._latencies["work"].delay == 60.0


    def test_without_it_nothing_is():
        pool.drain("a")
        breaker.open()
        orders.resize(1)
        mail.acquire()


    def test_what_others_have_left_behind_is_not_seen(reset_mainstay):
        assert [member.state for member in pool.status().members] == ["active", "active"]
        assert breaker.state == "closed"
        assert orders.limit == 2
        mail.acquire()
"""


def test_everything_that_remembers_calls_is_reset_before_a_test_and_after_it(
    pytester: pytest.Pytester,
) -> None:
    """Field faults, B8: health leaked from test to test."""
    pytester.makepyfile(SHARED)
    result = pytester.runpytest_inprocess("-W", "error", *QUICK)
    result.assert_outcomes(passed=5)


def test_pytest_tells_what_each_fixture_is_for(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    result = pytester.runpytest_inprocess("--fixtures", "-p", "mainstay._pytest_plugin")
    told = [line for line in result.outlines if "_pytest_plugin.py" in line]
    assert sorted(line.partition(" ")[0] for line in told) == [
        "crash_at_every_save", "fake_clock", "faults", "no_waits", "recorded", "reset_mainstay",
    ]  # fmt: skip
    result.stdout.no_fnmatch_line("*no docstring available*")
