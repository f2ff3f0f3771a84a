"""The testing kit: time, metrics and failures under the control of whoever enters the block."""

import asyncio
import contextvars
import itertools
import threading
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from mainstay import (
    DeadlineExpiredError,
    Metrics,
    RetryBudget,
    deadline,
    default_metrics,
    remaining,
    retry,
)
from mainstay.testing import FakeClock, Faults, no_waits, recorded

KINDS = ["def", "async def"]


def call(kind: str, policy: Any, faults: Faults) -> Any:
    """Call *faults* through *policy* as either kind."""
    if kind == "def":
        return policy.call(faults)
    return asyncio.run(policy.call(faults.acall))


def in_thread(target: Callable[[], object]) -> list[Any]:
    """Run *target* in a thread with a context of its own; give what it returned, in a list."""
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(target()))
    thread.start()
    thread.join()
    return answers


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Take the place of the system's sleep, and tell how long it was asked for."""
    seconds: list[float] = []
    monkeypatch.setattr(time, "sleep", seconds.append)
    return seconds


# FakeClock: time.


def test_a_clock_starts_at_0_and_moves_only_when_told() -> None:
    with FakeClock() as clock:
        assert clock.now() == 0
        clock.advance(2)
        clock.advance(timedelta(milliseconds=500))
        clock.advance(0)
    assert clock.now() == 2.5


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf"), timedelta(seconds=-1)])
def test_a_clock_moves_forward_by_finite_times_only(seconds: Any) -> None:
    clock = FakeClock()
    with pytest.raises(ValueError, match="`seconds` must be finite and at least 0 seconds"):
        clock.advance(seconds)
    assert clock.now() == 0


def test_a_clock_moves_by_seconds_or_a_timedelta_only() -> None:
    with pytest.raises(TypeError, match="`seconds` must be seconds"):
        FakeClock().advance("1")  # type: ignore[arg-type]  # the error under test


@pytest.mark.parametrize("kind", KINDS)
def test_a_waiting_policy_moves_the_clock_at_once(kind: str) -> None:
    with FakeClock() as clock:
        policy = retry(on=ConnectionError, wait=20, timeout=None)
        assert (
            call(kind, policy, Faults([ConnectionError(), ConnectionError(), "value"])) == "value"
        )
    assert clock.now() == 40


@pytest.mark.parametrize("kind", KINDS)
def test_the_timeout_of_a_policy_runs_on_the_clock(kind: str) -> None:
    faults = Faults(then=ConnectionError)
    with FakeClock() as clock, pytest.raises(ConnectionError):
        call(kind, retry(on=ConnectionError, attempts=None, wait=20, timeout=50), faults)
    assert (len(faults.calls), clock.now()) == (3, 40)


def test_faults_take_arguments_of_any_name():
    faults = Faults(then="value")
    assert faults(self=1, args=2) == "value"
    assert asyncio.run(faults.acall(self=1, kwargs=2)) == "value"
    assert faults.calls == [((), {"self": 1, "args": 2}), ((), {"self": 1, "kwargs": 2})]


@pytest.mark.parametrize("kind", KINDS)
def test_delays_of_the_function_count_in_the_duration(kind: str) -> None:
    with FakeClock(), recorded() as metrics:
        call(kind, retry(on=ConnectionError, name="work"), Faults([Faults.delay(7, "value")]))
    assert metrics.value("call_duration_seconds_sum") == 7


def test_a_deadline_runs_on_the_clock() -> None:
    with FakeClock() as clock, deadline(5):
        clock.advance(3)
        assert remaining() == 2
        clock.advance(3)
        assert remaining() == 0
        with pytest.raises(DeadlineExpiredError):
            retry(on=ConnectionError).call(int)


def test_a_deadline_from_outside_is_carried_over() -> None:
    with deadline(100):
        with FakeClock() as clock:
            left = remaining()
            assert left is not None
            assert 99 < left <= 100
            clock.advance(60)
            assert remaining() == pytest.approx(left - 60)
        left = remaining()
        assert left is not None
        assert left > 99


def test_a_budget_runs_on_the_clock() -> None:
    budget = RetryBudget(ratio=0, floor=0.1, window=10)
    policy = retry(on=ConnectionError, attempts=2, wait=0, budget=budget)
    with FakeClock() as clock:
        counts = []
        for _ in range(2):
            for _ in range(2):
                faults = Faults(then=ConnectionError)
                with pytest.raises(ConnectionError):
                    policy.call(faults)
                counts.append(len(faults.calls))
            clock.advance(20)
    assert counts == [2, 1, 2, 1]


def test_clocks_nest_and_the_outer_one_comes_back() -> None:
    with FakeClock() as outer:
        outer.advance(1)
        with FakeClock() as inner:
            retry(on=ConnectionError, wait=5).call(Faults([ConnectionError(), 1]))
        retry(on=ConnectionError, wait=7).call(Faults([ConnectionError(), 1]))
    assert (outer.now(), inner.now()) == (8, 5)


def test_a_clock_can_be_entered_again_and_goes_on() -> None:
    clock = FakeClock()
    for _ in range(2):
        with clock:
            retry(on=ConnectionError, wait=5).call(Faults([ConnectionError(), 1]))
    assert clock.now() == 10


def test_the_system_clock_comes_back_even_after_an_error(slept: list[float]) -> None:
    with pytest.raises(KeyError), FakeClock():
        raise KeyError
    retry(on=ConnectionError, wait=3).call(Faults([ConnectionError(), 1]))
    assert slept == [3]


def test_a_sleep_that_nothing_could_end_is_an_error() -> None:
    with FakeClock(), pytest.raises(RuntimeError, match="sleep for ever"):
        Faults([Faults.HANG])()


# FakeClock: several sleepers.


def test_tasks_wake_in_the_order_of_their_times() -> None:
    async def main() -> list[tuple[int, float]]:
        woken = []

        async def sleep(seconds: int) -> None:
            await clock.asleep(seconds)
            woken.append((seconds, clock.now()))

        async with asyncio.TaskGroup() as group:
            for seconds in (30, 10, 20, 10):
                group.create_task(sleep(seconds))
        return woken

    with FakeClock() as clock:
        assert asyncio.run(main()) == [(10, 10), (10, 10), (20, 20), (30, 30)]


def test_retries_of_several_tasks_happen_in_the_order_of_real_time() -> None:
    async def main() -> list[tuple[str, float]]:
        attempts = []

        async def retried(name: str, wait: float) -> None:
            faults = Faults([ConnectionError(), ConnectionError(), 1])

            async def attempt() -> None:
                attempts.append((name, clock.now()))
                await faults.acall()

            await retry(on=ConnectionError, wait=wait).call(attempt)

        async with asyncio.TaskGroup() as group:
            group.create_task(retried("slow", 5))
            group.create_task(retried("fast", 2))
        return attempts

    with FakeClock() as clock:
        attempts = asyncio.run(main())
    assert attempts == [
        ("slow", 0), ("fast", 0), ("fast", 2), ("fast", 4), ("slow", 5), ("slow", 10),
    ]  # fmt: skip


def test_a_cancelled_sleeper_holds_up_nobody() -> None:
    async def main() -> float:
        sleeper = asyncio.create_task(clock.asleep(5))
        await asyncio.sleep(0)
        sleeper.cancel()
        await clock.asleep(100)
        assert sleeper.cancelled()
        return clock.now()

    with FakeClock() as clock:
        assert asyncio.run(main()) == 100


def test_a_thread_waits_for_a_task_that_is_to_wake_before_it() -> None:
    woken = []

    def sleep_in_thread() -> None:
        clock.sleep(5)
        woken.append(("thread", clock.now()))

    async def sleep_in_task() -> None:
        await clock.asleep(1)
        woken.append(("task", clock.now()))

    async def main() -> None:
        task = asyncio.create_task(sleep_in_task())
        await asyncio.sleep(0)
        thread = threading.Thread(target=sleep_in_thread)
        thread.start()
        while len(clock._timers) < 2:  # both are asleep then; this task lets no other run
            thread.join(0.001)
        await task
        await asyncio.to_thread(thread.join)

    clock = FakeClock()
    asyncio.run(main())
    assert woken == [("task", 1), ("thread", 5)]


def test_many_threads_sleep_no_shorter_than_asked_and_none_for_ever() -> None:
    clock = FakeClock()
    barrier = threading.Barrier(8)
    slept: list[bool] = []

    def sleep_often(seconds: int) -> None:
        barrier.wait()
        for _ in range(20):
            began = clock.now()
            clock.sleep(seconds)
            slept.append(clock.now() - began >= seconds)

    threads = [threading.Thread(target=sleep_often, args=(n + 1,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert slept == [True] * 160


def test_a_sync_sleep_in_a_task_does_not_wait_for_a_task_of_its_own_loop() -> None:
    async def main() -> list[tuple[str, float]]:
        woken = []

        async def sleep() -> None:
            await clock.asleep(1)
            woken.append(("task", clock.now()))

        task = asyncio.create_task(sleep())
        await asyncio.sleep(0)
        clock.sleep(5)  # blocks the loop, as it would without a fake
        woken.append(("blocking", clock.now()))
        await task
        return woken

    clock = FakeClock()
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(asyncio.run(main())), daemon=True)
    thread.start()
    thread.join(2)
    assert answers == [[("blocking", 5), ("task", 5)]]


# FakeClock: timers.


def test_timers_ring_in_order_at_their_times() -> None:
    async def main() -> list[tuple[str, float]]:
        rung: list[tuple[str, float]] = []
        clock.call_later(3, lambda: rung.append(("later", clock.now())))
        clock.call_later(1, lambda: rung.append(("first", clock.now())))
        clock.call_later(2, lambda: rung.append(("never", clock.now()))).cancel()
        clock.call_later(9, lambda: rung.append(("too late", clock.now())))
        for _ in range(3):
            clock.advance(1)
            await asyncio.sleep(0)
        return rung

    with FakeClock() as clock:
        assert asyncio.run(main()) == [("first", 1), ("later", 3)]


@pytest.mark.parametrize("attempts", [1, 3])
def test_an_attempt_that_hangs_is_ended_by_its_timeout(attempts: int) -> None:
    policy = retry(on=ConnectionError, attempts=attempts, attempt_timeout=2, wait=1, timeout=None)
    faults = Faults(then=Faults.HANG)
    with FakeClock() as clock, pytest.raises(TimeoutError, match=r"longer than 2\.000 s"):
        asyncio.run(policy.call(faults.acall))
    assert len(faults.calls) == attempts
    assert clock.now() == 2 * attempts + (attempts - 1)


def test_a_hanging_attempt_is_followed_by_one_that_works() -> None:
    faults = Faults([Faults.HANG, Faults.delay(1, "value")])
    with FakeClock() as clock:
        policy = retry(on=ConnectionError, attempt_timeout=2, wait=3)
        assert asyncio.run(policy.call(faults.acall)) == "value"
    assert clock.now() == 2 + 3 + 1


def test_an_attempt_that_waits_for_something_else_is_ended_when_the_clock_is_moved() -> None:
    async def main() -> None:
        called = asyncio.Event()

        async def hang() -> None:
            called.set()
            await asyncio.Event().wait()

        policy = retry(on=ConnectionError, attempts=1, attempt_timeout=2)
        task = asyncio.create_task(awaited(policy.call(hang)))
        await called.wait()
        clock.advance(1.5)
        await asyncio.sleep(0)
        assert not task.done()
        clock.advance(0.5)
        with pytest.raises(TimeoutError):
            await task

    async def awaited(awaitable: Awaitable[Any]) -> Any:
        return await awaitable

    with FakeClock() as clock:
        asyncio.run(main())


# Who is inside.


def test_a_clock_is_not_seen_by_other_threads() -> None:
    def left_after_50_fake_seconds() -> float | None:
        with deadline(100):
            clock.advance(50)
            return remaining()

    with FakeClock() as clock:
        (left,) = in_thread(left_after_50_fake_seconds)
    assert left > 90


def test_a_clock_is_seen_by_threads_that_run_in_the_context() -> None:
    with FakeClock() as clock:
        context = contextvars.copy_context()
        policy = retry(on=ConnectionError, wait=5)
        answers = in_thread(lambda: context.run(policy.call, Faults([ConnectionError(), "value"])))
    assert (answers, clock.now()) == (["value"], 5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_clock_for_everywhere_is_seen_by_all_threads(kind: str) -> None:
    policy = retry(on=ConnectionError, wait=5)
    with FakeClock(everywhere=True) as clock:
        answers = in_thread(lambda: call(kind, policy, Faults([ConnectionError(), "value"])))
        call(kind, policy, Faults([ConnectionError(), "value"]))
    assert (answers, clock.now()) == (["value"], 10)


def test_a_clock_for_everywhere_leaves_no_trace(slept: list[float]) -> None:
    with FakeClock(everywhere=True) as outer:
        with pytest.raises(KeyError), FakeClock(everywhere=True):
            raise KeyError
        in_thread(lambda: retry(on=ConnectionError, wait=5).call(Faults([ConnectionError(), 1])))
    assert outer.now() == 5
    in_thread(lambda: retry(on=ConnectionError, wait=3).call(Faults([ConnectionError(), 1])))
    assert slept == [3]


def test_a_clock_of_ones_own_wins_over_the_one_for_everywhere() -> None:
    def on_own_clock() -> float:
        with FakeClock() as own:
            retry(on=ConnectionError, wait=5).call(Faults([ConnectionError(), 1]))
        return own.now()

    with FakeClock(everywhere=True) as clock:
        assert in_thread(on_own_clock) == [5]
    assert clock.now() == 0


def test_waits_of_other_threads_stay(slept: list[float]) -> None:
    """Known fault 29: stamina's `set_testing` is process-global: it leaks into other threads."""
    policy = retry(on=ConnectionError, wait=3)
    with no_waits():
        in_thread(lambda: policy.call(Faults([ConnectionError(), 1])))
        policy.call(Faults([ConnectionError(), 1]))
    assert slept == [3]


def test_calls_of_other_threads_are_not_recorded() -> None:
    own = CollectorRegistry()
    policy = retry(on=ConnectionError, name="work", metrics=Metrics(own))
    with recorded() as metrics:
        in_thread(lambda: policy.call(int))
        policy.call(int)
    assert metrics.value("calls_total") == 1
    labels = {"component": "work", "policy": "retry", "outcome": "success"}
    assert own.get_sample_value("mainstay_calls_total", labels) == 1


def test_blocks_of_tasks_are_their_own() -> None:
    async def main() -> list[float]:
        entered = asyncio.Barrier(2)

        async def record(calls: int) -> float:
            with recorded() as metrics:
                await entered.wait()
                for _ in range(calls):
                    await retry(on=ConnectionError, name="work").call(value)
                await entered.wait()
            return metrics.value("calls_total")

        return await asyncio.gather(record(1), record(2))

    async def value() -> None:
        await asyncio.sleep(0)

    assert asyncio.run(main()) == [1, 2]


def test_blocks_nest_in_any_order() -> None:
    with recorded() as metrics, FakeClock() as clock, no_waits(), deadline(50):
        retry(on=ConnectionError, name="work", wait=20).call(Faults([ConnectionError(), 1]))
        clock.advance(1)
        assert remaining() == 49
    assert metrics.value("wait_seconds_total") == 20
    assert clock.now() == 1
    assert remaining() is None


# no_waits.


@pytest.mark.parametrize("kind", KINDS)
def test_without_waits_the_decisions_and_counts_stay(kind: str, slept: list[float]) -> None:
    with no_waits(), recorded() as metrics:
        call(
            kind,
            retry(on=ConnectionError, wait=20),
            Faults([ConnectionError(), ConnectionError(), 1]),
        )
        with pytest.raises(ConnectionError):
            call(kind, retry(on=ConnectionError, wait=70), Faults(then=ConnectionError))
    assert slept == []
    assert metrics.value("wait_seconds_total") == 40
    assert metrics.value("give_ups_total", reason="timeout") == 1


def test_without_waits_an_attempt_timeout_stays() -> None:
    async def hang() -> None:
        await asyncio.Event().wait()

    with no_waits(), pytest.raises(TimeoutError):
        asyncio.run(retry(on=ConnectionError, attempts=1, attempt_timeout=0.001).call(hang))


# recorded.


def test_policies_made_before_inside_and_called_after_are_recorded_where_they_should() -> None:
    own = Metrics(CollectorRegistry())
    before = retry(on=ConnectionError, name="before", metrics=own)(int)
    with recorded() as metrics:
        inside = retry(on=ConnectionError, name="inside")(int)
        before()
        inside()
        for attempt in retry(on=ConnectionError, name="block"):
            with attempt:
                pass
    before()
    inside()
    assert metrics.value("calls_total", component="before") == 1
    assert metrics.value("calls_total", component="block") == 1
    assert metrics.value("calls_total", component="inside") == 2


def test_the_default_inside_is_the_block_s() -> None:
    with recorded() as metrics:
        assert default_metrics() is metrics
    assert default_metrics() is not metrics


def test_recordings_nest_and_the_outer_one_comes_back() -> None:
    policy = retry(on=ConnectionError, name="work", metrics=Metrics(None))
    with recorded() as outer:
        with recorded() as inner:
            policy.call(int)
        policy.call(int)
        policy.call(int)
    assert (outer.value("calls_total"), inner.value("calls_total")) == (2, 1)


def test_values_are_added_up_over_the_labels_left_out() -> None:
    with recorded() as metrics, FakeClock() as clock:
        for name in ("a", "b"):
            policy = retry(on=ConnectionError, name=name, wait=0, attempts=2)
            policy.call(clock.advance, 0.3)
            with pytest.raises(ConnectionError):
                policy.call(Faults(then=ConnectionError))
    assert metrics.value("calls_total") == 4
    assert metrics.value("calls_total", outcome="error") == 2
    assert metrics.value("calls_total", component="a", outcome="error") == 1
    assert metrics.value("calls_total", component="nobody") == 0
    assert metrics.value("call_duration_seconds_sum") == pytest.approx(0.6)
    assert metrics.value("call_duration_seconds_bucket", component="a", le="0.25") == 1
    assert metrics.value("call_duration_seconds_bucket", component="a", le="0.5") == 2
    assert metrics.value("build_info") == 1


@pytest.mark.parametrize(
    "name", ["calls", "mainstay_calls_total", "call_duration_seconds", "calls_total_count", ""]
)
def test_names_that_are_no_sample_are_refused(name: str) -> None:
    with recorded() as metrics, pytest.raises(ValueError, match="`name` must be the name of a sam"):
        metrics.value(name)


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("calls_total", {"reason": "attempts"}),
        ("wait_seconds_total", {"policy": "retry"}),
        ("calls_total", {"le": "0.5"}),
        ("call_duration_seconds_count", {"le": "0.5"}),
        ("build_info", {"component": "work"}),
    ],
)
def test_labels_that_the_sample_lacks_are_refused(name: str, labels: dict[str, str]) -> None:
    with recorded() as metrics, pytest.raises(ValueError, match=f"{name} has the labels"):
        metrics.value(name, **labels)


def test_a_recording_is_a_metrics_in_no_registry() -> None:
    with recorded() as metrics:
        retry(on=ConnectionError, name="work").call(int)
    registry = CollectorRegistry()
    registry.register(metrics)
    labels = {"component": "work", "policy": "retry", "outcome": "success"}
    assert registry.get_sample_value("mainstay_calls_total", labels) == 1


# Faults.


@pytest.fixture(params=KINDS)
def take(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Take the next step of some faults, as either kind."""

    def take(faults: Faults, *args: Any, **kwargs: Any) -> Any:
        if request.param == "def":
            return faults(*args, **kwargs)
        return asyncio.run(faults.acall(*args, **kwargs))

    return take


def test_steps_are_raised_or_returned_in_order_and_then_the_last_word(take: Any) -> None:
    error = ConnectionError("refused")
    faults = Faults(["value", error, KeyError, None], then="ever after")
    assert take(faults) == "value"
    with pytest.raises(ConnectionError) as raised:
        take(faults)
    assert raised.value is error
    with pytest.raises(KeyError):
        take(faults)
    assert [take(faults) for _ in range(3)] == [None, "ever after", "ever after"]


def test_calls_are_kept_with_their_arguments(take: Any) -> None:
    faults = Faults([ConnectionError])
    with pytest.raises(ConnectionError):
        take(faults, 1, key="a")
    assert take(faults, 2) is None
    assert faults.calls == [((1,), {"key": "a"}), ((2,), {})]


def test_a_script_may_be_endless(take: Any) -> None:
    faults = Faults(itertools.count())
    assert [take(faults) for _ in range(3)] == [0, 1, 2]


def test_delays_sleep_on_the_clock_before_their_step(take: Any) -> None:
    faults = Faults(
        [
            Faults.delay(2, ConnectionError),
            Faults.delay(timedelta(seconds=3), Faults.delay(1, "value")),
        ]
    )
    with FakeClock() as clock:
        with pytest.raises(ConnectionError):
            take(faults)
        assert clock.now() == 2
        assert take(faults) == "value"
    assert clock.now() == 6


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf")])
def test_a_delay_is_a_finite_time(seconds: float) -> None:
    with pytest.raises(ValueError, match="`seconds` must be finite and at least 0 seconds"):
        Faults.delay(seconds)


def outcomes_of(faults: Faults, calls: int) -> list[bool]:
    return [fails(faults) for _ in range(calls)]


def fails(faults: Faults) -> bool:
    try:
        faults()
    except ConnectionError:
        return True
    return False


def test_the_same_seed_fails_in_the_same_places() -> None:
    one, again, other = (outcomes_of(Faults.seeded(seed, rate=0.3), 200) for seed in (7, 7, 8))
    assert one == again
    assert one != other
    assert 30 < sum(one) < 90


@pytest.mark.parametrize(("rate", "failures"), [(0, 0), (1, 50), (0.0, 0), (1.0, 50)])
def test_a_rate_of_0_never_fails_and_one_of_1_always(rate: float, failures: int) -> None:
    assert sum(outcomes_of(Faults.seeded(1, rate=rate), 50)) == failures


@pytest.mark.parametrize("rate", [-0.1, 1.1, float("nan"), float("inf")])
def test_a_rate_is_from_0_to_1(rate: float) -> None:
    with pytest.raises(ValueError, match="`rate` must be from 0 to 1"):
        Faults.seeded(1, rate=rate)


def test_seeded_faults_raise_and_return_what_they_are_told() -> None:
    with pytest.raises(KeyError):
        Faults.seeded(1, rate=1, error=KeyError)()
    assert Faults.seeded(1, rate=0, result="value")() == "value"


def test_threads_take_each_step_once() -> None:
    faults = Faults(range(4_000))
    taken: list[int] = []
    barrier = threading.Barrier(8)

    def take_some() -> None:
        barrier.wait()
        taken.extend([faults() for _ in range(500)])

    threads = [threading.Thread(target=take_some) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == list(range(4_000))
    assert len(faults.calls) == 4_000
