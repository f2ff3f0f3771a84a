"""What a pipeline does and counts, sync and async, on a clock of the test's own."""

import asyncio
import copy
import pickle

import pytest

from mainstay import (
    Bulkhead,
    BulkheadFullError,
    CircuitBreaker,
    CircuitOpenError,
    Detect,
    FailoverPool,
    Member,
    RateLimit,
    RateLimitedError,
    RejectedError,
    TimedOutError,
    deadline,
    failover,
    fallback,
    pipeline,
    redundant,
    retry,
    timeout,
)
from mainstay._metrics.pipeline import PipelineTally
from mainstay._metrics.schema import GIVE_UP_REASONS
from mainstay.testing import Faults, recorded
from support.callers import FUNCTIONS, awaitable


@pytest.fixture(params=FUNCTIONS.values(), ids=[*FUNCTIONS])
def caller(request):
    """Runs a plain function through a policy: `caller(policy, fn, *args)`."""
    return request.param


def is_low(value):
    return value < 2


def breaker_of(name="shop", **options):
    return CircuitBreaker(name, on=OSError, **options)


def again(attempts=3, on=OSError, **options):
    return retry(on=on, attempts=attempts, wait=0.1, **options)


def of_pipeline(metrics, name, **labels):
    return metrics(name, component="orders", policy="pipeline", **labels)


def counts(metrics):
    """What the pipeline counts: calls, seconds, calls with several attempts, errors, give-ups."""
    return tuple(
        of_pipeline(metrics, name)
        for name in (
            "calls_total",
            "call_duration_seconds_count",
            "call_attempts_count",
            "errors_total",
            "give_ups_total",
        )
    )


def test_a_healthy_call_is_one_call_whatever_is_around_it(caller, metrics, context):
    policy = pipeline(
        "orders",
        fallback(default=None, on=RejectedError),
        again(),
        breaker_of(),
        RateLimit("rate", 1000.0, burst=10),
        Bulkhead("places", 5),
        timeout(5.0),
    )
    assert caller(policy, Faults(then="order")) == "order"
    assert counts(metrics) == (1, 1, 0, 0, 0)
    assert of_pipeline(metrics, "calls_total", outcome="success") == 1
    for policy_of_layer in ("retry", "fallback", "timeout"):
        assert metrics("calls_total", policy=policy_of_layer) == 0
    for name in ("shop", "rate", "places"):
        assert metrics("calls_total", component=name, outcome="success") == 1
        assert metrics("call_duration_seconds_count", component=name) == 0


def test_a_failed_attempt_is_one_error_under_two_layers_that_see_it(caller, metrics, clock):
    """T43: a breaker and a retry count the same failure, which is one."""
    policy = pipeline("orders", again(), breaker_of(detect=Detect(consecutive=9)), timeout(5.0))
    assert caller(policy, Faults([OSError("a"), OSError("b"), "order"])) == "order"
    assert counts(metrics) == (1, 1, 1, 2, 0)
    assert of_pipeline(metrics, "call_attempts_sum") == 3
    assert of_pipeline(metrics, "calls_total", outcome="recovered") == 1
    assert metrics.errors() == {"OSError": 2}
    assert metrics("wait_seconds_total", component="orders") == pytest.approx(0.2)
    assert metrics("call_duration_seconds_sum", component="orders") == pytest.approx(0.2)
    assert metrics("calls_total", component="shop") == 3


def test_a_call_that_fails_has_duration_attempts_and_one_reason(caller, metrics, clock):
    """T45: calls that fail are counted as fully as those that do not."""
    policy = pipeline("orders", fallback(default=0, on=ValueError), again(), breaker_of())
    with pytest.raises(OSError, match="c"):
        caller(policy, Faults([OSError("a"), OSError("b"), OSError("c")]))
    assert counts(metrics) == (1, 1, 1, 3, 1)
    assert of_pipeline(metrics, "calls_total", outcome="error") == 1
    assert of_pipeline(metrics, "give_ups_total", reason="attempts") == 1


def test_two_functions_are_told_apart_by_the_name_of_the_pipeline_only(metrics):
    """T44: no argument, path or number is ever a label."""
    policy = pipeline("orders", again())

    @policy
    def get(path):
        return path

    for number in range(50):
        get(f"/users/{number}")
    assert of_pipeline(metrics, "calls_total") == metrics("calls_total") == 50


def test_a_limit_inside_the_retry_counts_every_attempt(caller, metrics, clock):
    """T31: with the limit inside, no attempt gets past it."""
    fn = Faults([OSError("1"), OSError("2"), OSError("3")])
    policy = pipeline("orders", again(attempts=6), RateLimit("rate", 2, per=60.0, burst=2))
    with pytest.raises(RateLimitedError):
        caller(policy, fn)
    assert len(fn.calls) == 2
    assert counts(metrics) == (1, 1, 1, 2, 1)
    assert of_pipeline(metrics, "give_ups_total", reason="rate") == 1


def test_a_refused_call_has_no_duration_and_the_reason_of_who_refused(caller, metrics, clock):
    breaker = breaker_of()
    breaker.open()
    policy = pipeline("orders", again(), breaker)
    fn = Faults(then="order")
    with pytest.raises(CircuitOpenError):
        caller(policy, fn)
    assert not fn.calls
    assert counts(metrics) == (1, 0, 0, 0, 1)
    assert of_pipeline(metrics, "calls_total", outcome="rejected") == 1
    assert of_pipeline(metrics, "give_ups_total", reason="open") == 1
    assert metrics("calls_total", component="shop", outcome="rejected") == 1
    assert metrics("give_ups_total", component="shop", reason="open") == 1


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_refusal_in_the_function_is_no_error_of_its_own(caller, metrics, clock, wrapped):
    refusal = CircuitOpenError("inner", 1.0)
    error = ExceptionGroup("tasks", [refusal]) if wrapped else refusal
    policy = pipeline("orders", timeout(9.0))
    with pytest.raises(type(error)):
        caller(policy, Faults([error]))
    assert metrics("errors_total", component="orders", policy="pipeline") == 0


def test_a_fallback_answers_and_nothing_has_given_up(caller, metrics, clock):
    policy = pipeline("orders", fallback(default="none", on=OSError), again(attempts=2))
    assert caller(policy, Faults([OSError("a"), OSError("b")])) == "none"
    assert counts(metrics) == (1, 1, 1, 2, 0)
    assert of_pipeline(metrics, "calls_total", outcome="recovered") == 1
    assert metrics("fallbacks_total", component="orders", source="value") == 1


def test_a_refused_result_is_a_failed_attempt(caller, metrics, clock):
    policy = pipeline("orders", again(on_result=is_low), timeout(9.0))
    assert caller(policy, Faults([0, 1, 2])) == 2
    assert counts(metrics) == (1, 1, 1, 2, 0)
    assert metrics.errors() == {"ResultRefusedError": 2}


def test_a_result_that_several_layers_refuse_is_one_failed_attempt(caller, metrics, clock):
    layers = again(on_result=is_low), breaker_of(on_result=is_low, detect=Detect(consecutive=9))
    assert caller(pipeline("orders", *layers), Faults([0, 0, 2])) == 2
    assert counts(metrics) == (1, 1, 1, 2, 0)
    assert metrics.errors() == {"ResultRefusedError": 2}


def test_an_answer_of_a_fallback_that_a_retry_refuses_is_no_attempt(caller, metrics, clock):
    """The attempt has failed already, and was counted."""
    layers = again(on_result=is_low), fallback(default=0, on=ValueError)
    assert caller(pipeline("orders", *layers), Faults([ValueError("a"), 2])) == 2
    assert metrics.errors() == {"ValueError": 1}


def test_an_attempt_that_is_cancelled_at_its_limit_is_one_error_each(metrics, clock):
    @pipeline("orders", again(attempts=2), breaker_of(), timeout(1.0))
    async def fetch():
        await clock.asleep(60.0)

    with pytest.raises(TimedOutError):
        asyncio.run(fetch())
    assert metrics.errors() == {"TimedOutError": 2}
    assert counts(metrics) == (1, 1, 1, 2, 1)


def test_attempts_that_raise_the_same_object_are_one_error_each(caller, metrics, clock):
    """As those of a `unittest.mock.Mock(side_effect=OSError())`."""
    error = OSError("always this one")
    with pytest.raises(OSError, match="always"):
        caller(pipeline("orders", again(), breaker_of()), Faults([error, error, error]))
    assert counts(metrics) == (1, 1, 1, 3, 1)


def test_the_end_of_a_wait_for_a_limit_is_no_failed_attempt(metrics, clock):
    rate = RateLimit("rate", 0.1, max_wait=60.0)
    policy = pipeline("orders", again(attempts=2, on=TimeoutError, attempt_timeout=1.0), rate)

    async def main():
        assert await policy.call(awaitable(Faults(then="order"))) == "order"
        with pytest.raises(TimedOutError):
            await policy.call(awaitable(Faults(then="order")))

    asyncio.run(main())
    assert counts(metrics) == (2, 2, 0, 0, 1)


def test_a_fallback_that_raises_is_not_one_more_failed_attempt(caller, metrics, clock):
    def other(error):
        raise LookupError from error

    layers = again(on=LookupError), fallback(call=other, on=OSError)
    assert caller(pipeline("orders", *layers), Faults([OSError("a"), "order"])) == "order"
    assert metrics.errors() == {"OSError": 1}


def test_a_cancelled_call_is_counted_as_such(metrics):
    @pipeline("orders", again(), breaker_of())
    async def fetch():
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(fetch())
    assert counts(metrics) == (1, 1, 0, 0, 0)
    assert of_pipeline(metrics, "calls_total", outcome="cancelled") == 1


def test_a_call_without_time_calls_nothing(caller, metrics, clock):
    fn = Faults(then="order")
    policy = pipeline("orders", again(), breaker_of())
    with deadline(1.0):
        clock.advance(2.0)
        with pytest.raises(TimeoutError):
            caller(policy, fn)
    assert not fn.calls
    assert of_pipeline(metrics, "calls_total", outcome="timeout") == 1
    assert of_pipeline(metrics, "give_ups_total", reason="timeout") == 1


def test_a_pool_puts_the_resource_in_first(caller, metrics, context):
    pool = FailoverPool("db", [Member("a", "A"), Member("b", "B")], on=OSError)
    seen = []

    def query(resource, number):
        seen.append(resource)
        if len(seen) == 1:
            raise OSError(resource)
        return resource, number

    policy = pipeline("orders", again(attempts=2), pool, timeout(5.0))
    assert caller(policy, query, 7) == (seen[1], 7)
    assert sorted(seen) == ["A", "B"]
    assert counts(metrics) == (1, 1, 1, 1, 0)
    assert metrics("member_attempts_total", component="db") == 2
    assert metrics("calls_total", component="db", outcome="recovered") == 1
    assert metrics("call_attempts_count", component="db") == 0


def test_failover_that_must_not_run_again_is_a_layer_too(metrics):
    pool = FailoverPool("db", [Member("a", "A"), Member("b", "B")], on=OSError)
    policy = pipeline("orders", failover(pool, rerun=False))
    with pytest.raises(OSError, match="A"):
        policy.call(lambda resource: Faults([OSError(resource)])())
    assert counts(metrics) == (1, 1, 0, 1, 1)


def test_copies_count_as_attempts_of_one_call(metrics):
    calls = []

    @pipeline("orders", redundant(copies=2), breaker_of(detect=Detect(consecutive=9)))
    def read():
        calls.append(None)
        if len(calls) == 1:
            raise OSError("a")
        return "page"

    assert read() == "page"
    assert counts(metrics) == (1, 1, 1, 1, 0)
    assert metrics("hedges_total", component="orders", reason="failed") == 1


def test_methods_class_methods_and_static_methods(metrics):
    policy = pipeline("orders", again(), FailoverPool("db", [Member("a", "A")], on=OSError))

    class Shop:
        @policy
        def own(self, resource, number):
            return type(self), resource, number

        @policy
        @classmethod
        def of_class(cls, resource):
            return cls, resource

        @pipeline("static", again())
        @staticmethod
        def alone(number):
            return number

    assert Shop().own(1) == (Shop, "A", 1)
    assert Shop.of_class() == (Shop, "A")
    assert Shop.alone(3) == 3
    assert of_pipeline(metrics, "calls_total") == 2


def test_a_pipeline_in_the_function_of_another_counts_for_itself(metrics, clock):
    inner = pipeline("inner", again(attempts=2))
    outer = pipeline("orders", again(attempts=2))
    fn = inner(Faults([OSError("a"), OSError("b"), "order"]))
    assert outer.call(fn) == "order"
    assert metrics("errors_total", component="inner") == 2
    assert metrics("errors_total", component="orders") == 1
    assert metrics("calls_total", component="inner") == 2


def test_it_records_where_its_context_says():
    policy = pipeline("orders", again(), breaker_of(), timeout(1.0))
    with recorded() as metrics:
        policy.call(Faults([OSError("a"), "order"]))
        assert metrics.value("calls_total", component="orders", policy="pipeline") == 1


def test_what_a_copy_does_that_was_left_behind_says_nothing_of_the_call():
    recorder = Noted()
    tally = PipelineTally(recorder)
    tally.attempt()
    tally.close(1.0, None)
    tally.failed(tally.attempt(), OSError("late"))
    assert recorder.calls == [("success", 1.0, 1)]


def test_a_call_between_two_attempts_that_was_refused_is_no_attempt(caller, metrics, clock):
    policy = pipeline("orders", again(on=(OSError, RejectedError)))
    assert caller(policy, Faults([BulkheadFullError("x", "full", None), "order"])) == "order"
    assert counts(metrics) == (1, 1, 0, 0, 0)


# What is wrong is said when it is made.


@pytest.mark.parametrize("name", ["", None, 3])
def test_the_name_is_checked(name):
    with pytest.raises((TypeError, ValueError), match="`name`"):
        pipeline(name, again())


def test_a_name_that_was_forgotten_is_asked_for():
    with pytest.raises(TypeError, match=r"begins with its `name`, as pipeline\('orders', \.\.\.\)"):
        pipeline(again(), breaker_of())


def test_a_pipeline_needs_a_policy():
    with pytest.raises(TypeError, match="at least one policy"):
        pipeline("orders")


@pytest.mark.parametrize("policy", [None, retry, CircuitBreaker, len, Detect()])
def test_what_is_no_policy_is_refused(policy):
    with pytest.raises(TypeError, match="cannot be a layer"):
        pipeline("orders", again(), policy)


def test_a_pipeline_is_no_layer():
    with pytest.raises(TypeError, match=r"`\*policy.policies`"):
        pipeline("orders", pipeline("inner", again()))


def test_the_same_shared_object_twice_is_refused():
    pool = FailoverPool("db", [Member("a", "A"), Member("b", "B")], on=OSError)
    for shared in (breaker_of(), RateLimit("rate", 1.0), Bulkhead("places", 5), pool):
        with pytest.raises(ValueError, match="twice"):
            pipeline("orders", shared, again(), shared)
    for other in (failover(pool), redundant(pool=pool)):
        with pytest.raises(ValueError, match=r"<FailoverPool 'db' of a, b> is in .* twice"):
            pipeline("orders", pool, other)
    pipeline("orders", breaker_of("a"), breaker_of("b"))
    layer = again()
    pipeline("orders", layer, layer)


def test_what_does_not_fit_the_function_is_refused_at_decoration():
    def plain():
        raise AssertionError("never called")

    with pytest.raises(TypeError, match="attempt_timeout"):
        pipeline("orders", again(attempt_timeout=1.0))(plain)
    with pytest.raises(TypeError, match="in_thread"):
        pipeline("orders", timeout(1.0, in_thread=True))(awaitable(plain))
    with pytest.raises(TypeError, match="generators"):
        pipeline("orders", again())(iter_nothing)
    with pytest.raises(TypeError, match="wraps callables"):
        pipeline("orders", again())(3)
    with pytest.raises(TypeError, match="last_good"):
        pipeline("orders", fallback(last_good=5.0, on=OSError)).call(plain)


def test_only_what_its_layers_can_give_is_shown_as_a_reason(metrics):
    pipeline("orders", breaker_of(), RateLimit("rate", 1.0))(len)
    shown = {
        sample.labels["reason"]
        for family in metrics.metrics.collect()
        for sample in family.samples
        if sample.name == "mainstay_give_ups_total" and sample.labels["policy"] == "pipeline"
    }
    assert shown == {*GIVE_UP_REASONS["breaker"], *GIVE_UP_REASONS["rate_limit"]}


def iter_nothing():
    yield


class Noted:
    def __init__(self):
        self.calls = []

    def call(self, *end):
        self.calls.append(end)


def test_copies_are_the_same_and_pickles_work_the_same(metrics):
    policy = pipeline("orders", fallback(default=7, on=OSError), retry(on=OSError, attempts=1))
    assert copy.copy(policy) is copy.deepcopy(policy) is policy
    again = pickle.loads(pickle.dumps(policy))  # noqa: S301 - its own
    assert again.call(Faults(then=OSError())) == 7


def test_one_with_a_shared_layer_pickles_as_little_as_that_layer():
    policy = pipeline("orders", breaker_of("db"))
    assert copy.deepcopy(policy) is policy
    with pytest.raises(TypeError, match="<CircuitBreaker 'db': closed> cannot be copied"):
        pickle.dumps(policy)
