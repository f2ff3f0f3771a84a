"""OpenTelemetry's SDK: spans of the attempts after the first."""

import asyncio

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from mainstay import FailoverPool, Member, pipeline, redundant, retry, timeout
from mainstay._core.events import forget_firsts
from mainstay._core.watching import watchers
from mainstay.integrations.opentelemetry import trace_attempts
from mainstay.testing import Faults


class Traces:
    """What a program with a tracer has exported."""

    def __init__(self):
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracer = self.provider.get_tracer("test")

    def of(self, name):
        """The spans with this name, in the order in which they ended."""
        return [span for span in self.exporter.get_finished_spans() if span.name == name]

    def names(self):
        return [span.name for span in self.exporter.get_finished_spans()]


@pytest.fixture
def traces():
    traces = Traces()
    stop = trace_attempts(traces.provider)
    yield traces
    stop()
    assert watchers == []


def work(*script, **more):
    return retry(on=OSError, wait=0, attempts=5, name="work", **more), Faults([*script])


def test_a_call_that_succeeds_at_once_has_no_span(traces, caller):
    policy, fn = work("answer")
    assert caller(policy, fn) == "answer"
    assert traces.names() == []


def test_each_attempt_after_the_first_is_a_span(traces, caller):
    policy, fn = work(OSError("a"), ConnectionError("b"), "answer")
    with traces.tracer.start_as_current_span("request") as request:
        assert caller(policy, fn) == "answer"
    second, third = traces.of("work attempt")
    assert dict(second.attributes) == {
        "mainstay.policy": "retry",
        "mainstay.component": "work",
        "mainstay.attempt": 2,
        "error.type": "ConnectionError",
    }
    assert dict(third.attributes) == {
        "mainstay.policy": "retry",
        "mainstay.component": "work",
        "mainstay.attempt": 3,
    }
    codes = trace.StatusCode.ERROR, trace.StatusCode.UNSET
    assert (second.status.status_code, third.status.status_code) == codes
    assert (second.status.description, [*second.events]) == (None, [])
    assert {span.parent.span_id for span in (second, third)} == {request.get_span_context().span_id}
    assert second.end_time <= third.start_time


def test_what_an_attempt_traces_is_below_its_span(traces):
    policy, _ = work()
    results = iter([OSError("a"), "answer"])

    @policy
    def fetch():
        with traces.tracer.start_as_current_span("GET"):
            result = next(results)
            if isinstance(result, OSError):
                raise result
            return result

    with traces.tracer.start_as_current_span("request"):
        fetch()
        assert trace.get_current_span().name == "request"
    first, second = traces.of("GET")
    (request,), (attempt,) = traces.of("request"), traces.of("work attempt")
    assert first.parent.span_id == request.context.span_id
    assert second.parent.span_id == attempt.context.span_id


def test_a_call_that_gives_up_has_a_span_of_its_last_attempt(traces, caller):
    policy, fn = work(OSError("a"), KeyError("b"))
    with pytest.raises(KeyError):
        caller(policy, fn)
    assert [span.attributes["error.type"] for span in traces.of("work attempt")] == ["KeyError"]


def test_the_attempts_of_a_block(traces):
    results = iter([OSError("a"), OSError("b"), None])
    for attempt in work()[0]:
        with attempt:
            error = next(results)
            if error is not None:
                raise error
    assert [span.attributes["mainstay.attempt"] for span in traces.of("work attempt")] == [2, 3]
    assert trace.get_current_span() is trace.INVALID_SPAN


def test_a_block_that_is_left_between_attempts_leaves_nothing_behind(traces):
    for attempt in work()[0]:
        if attempt.number > 1:
            break
        with attempt:
            raise OSError("a")
    assert traces.names() == []
    assert trace.get_current_span() is trace.INVALID_SPAN


def test_a_generator_has_spans_until_its_first_item_is_out(traces):
    policy, fn = work(OSError("a"), OSError("b"), "answer")

    @policy
    def items():
        yield fn()
        yield trace.get_current_span()

    assert [*items()] == ["answer", trace.INVALID_SPAN]
    assert [span.attributes["mainstay.attempt"] for span in traces.of("work attempt")] == [2, 3]


def test_an_async_generator_does_too(traces):
    policy, fn = work(OSError("a"), "answer")

    @policy
    async def items():
        yield fn()
        yield trace.get_current_span()

    async def collect():
        return [item async for item in items()]

    assert asyncio.run(collect()) == ["answer", trace.INVALID_SPAN]
    assert [span.attributes["mainstay.attempt"] for span in traces.of("work attempt")] == [2]


def test_the_attempts_of_a_pipeline_have_its_name(traces, function_caller):
    policy = pipeline("orders", retry(on=OSError, wait=0), timeout(60.0))
    fn = Faults([OSError("a"), "answer"])
    assert function_caller(policy, fn) == "answer"
    (span,) = traces.of("orders attempt")
    assert (span.attributes["mainstay.policy"], span.attributes["mainstay.attempt"]) == ("retry", 2)


def test_another_member_is_named(traces, pool_caller):
    pool = FailoverPool("db", [Member("a", resource=1), Member("b", resource=2)], on=OSError)
    assert pool_caller(pool, Faults([OSError("a"), "answer"])) == "answer"
    (span,) = traces.of("db attempt")
    assert dict(span.attributes) == {
        "mainstay.policy": "failover",
        "mainstay.component": "db",
        "mainstay.attempt": 2,
        "mainstay.member": "b",
    }


def test_a_copy_beside_the_primary_is_a_span(traces, function_caller):
    policy = redundant(copies=2, on=OSError, budget=None, name="lookup")
    assert function_caller(policy, Faults([OSError("a"), "answer"])) == "answer"
    (span,) = traces.of("lookup attempt")
    assert (span.attributes["mainstay.policy"], span.attributes["mainstay.attempt"]) == (
        "redundant",
        2,
    )


def test_a_cancelled_attempt_is_no_error(traces):
    policy, fn = work(OSError("a"), "begun")

    async def cancelled():
        begun = asyncio.Event()

        async def hangs():
            fn()
            begun.set()
            await asyncio.Event().wait()

        task = asyncio.create_task(policy.call(hangs))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    (span,) = traces.of("work attempt")
    assert span.attributes["error.type"] == "CancelledError"
    assert span.status.status_code is trace.StatusCode.UNSET


class BrokenProcessor(SpanProcessor):
    def __init__(self, when):
        self.when = when

    def on_start(self, span, parent_context=None):
        if self.when == "start":
            raise RuntimeError("broken")

    def on_end(self, span):
        if self.when == "end":
            raise RuntimeError("broken")


@pytest.mark.parametrize("when", ["start", "end"])
def test_a_broken_tracer_breaks_no_call_and_is_logged_once(traces, when, caplog):
    forget_firsts()
    traces.provider.add_span_processor(BrokenProcessor(when))
    policy, fn = work(OSError("a"), OSError("b"), "answer")
    assert policy.call(fn) == "answer"
    lines = [r.getMessage() for r in caplog.records if r.name == "mainstay.opentelemetry"]
    assert lines == ["the tracer raised RuntimeError, so attempts lack spans"]
    assert trace.get_current_span() is trace.INVALID_SPAN


def test_it_can_be_ended_twice(traces):
    stop = trace_attempts(traces.provider)
    stop()
    stop()
    policy, fn = work(OSError("a"), "answer")
    policy.call(fn)
    assert traces.names() == ["work attempt"]


@pytest.mark.parametrize("wrong", [0, "provider", TracerProvider])
def test_only_a_provider_is_taken(wrong):
    with pytest.raises(TypeError, match="`tracer_provider` must be a TracerProvider or None"):
        trace_attempts(wrong)
