"""gRPC servers: the caller's deadline in every kind of handler, and our errors as statuses."""

import asyncio
import contextlib
import threading

import pytest
from integrations.rpc import METHOD, handler_of, serving, serving_async

from mainstay import (
    BulkheadFullError,
    CircuitOpenError,
    DeadlineExpiredError,
    RateLimitedError,
    RejectedError,
    TimedOutError,
    remaining,
    transient,
)
from mainstay.errors import CheckpointError

pytestmark = pytest.mark.process

SHAPES = ["unary_unary", "unary_stream", "stream_unary", "stream_stream"]


@pytest.fixture
def grpc(library):
    return library("grpc")


@pytest.fixture(params=["sync", "async", "plain function in async"])
def serve(request, grpc):
    """Serves one function behind our interceptor: `serve(fn, shape)` gives a call of it.

    The function takes the request, or all requests; in a stream it returns an iterable.
    """
    import grpc.aio  # noqa: PLC0415 - there if grpc is

    from mainstay.integrations import grpc as ours  # noqa: PLC0415 - as above

    in_async = request.param != "sync"
    interceptor = ours.AsyncServerInterceptor if in_async else ours.ServerInterceptor
    server = serving_async if in_async else serving
    with contextlib.ExitStack() as stack:

        def start(fn, shape="unary_unary", **more):
            behavior = (async_behavior if request.param == "async" else plain_behavior)(fn, shape)
            handler = handler_of(grpc, behavior, shape)
            address = stack.enter_context(server(grpc, handler, interceptors=[interceptor(**more)]))
            channel = stack.enter_context(grpc.insecure_channel(address))
            return caller(channel, shape)

        yield start


def plain_behavior(fn, shape):
    def unary(request, _context):
        return fn(request)

    def stream(request, _context):
        yield from fn(request)

    return stream if shape.endswith("stream") else unary


def async_behavior(fn, shape):
    async def given(request):
        return [each async for each in request] if shape.startswith("stream") else request

    async def unary(request, _context):
        result = fn(await given(request))
        return await result if asyncio.iscoroutine(result) else result

    async def stream(request, _context):
        for each in fn(await given(request)):
            yield await each if asyncio.iscoroutine(each) else each

    return stream if shape.endswith("stream") else unary


def caller(channel, shape):
    method = getattr(channel, shape)(METHOD)

    def call(**more):
        given = iter([b"7", b"8"]) if shape.startswith("stream") else b"7"
        answer = method(given, **more)
        return [*answer] if shape.endswith("stream") else answer

    return call


def left(_request=None):
    return repr(remaining()).encode()


@pytest.mark.parametrize("shape", SHAPES)
def test_what_the_caller_has_left_is_the_deadline_in_the_handler(serve, shape):
    fn = left if shape.endswith("unary") else lambda _: (left() for _ in range(2))
    answer = serve(fn, shape)(timeout=5.0)
    answers = answer if isinstance(answer, list) else [answer]
    assert len(answers) == (2 if shape.endswith("stream") else 1)
    assert all(4.0 < float(each) <= 5.1 for each in answers)


@pytest.mark.parametrize("shape", SHAPES)
def test_without_one_there_is_none(serve, shape):
    fn = left if shape.endswith("unary") else lambda _: (left() for _ in range(2))
    answer = serve(fn, shape)()
    assert answer in (b"None", [b"None", b"None"])


def test_a_caller_may_ask_for_at_most_so_much(serve):
    assert float(serve(left, at_most=2.0)(timeout=1000.0)) <= 2.0
    assert float(serve(left)(timeout=1000.0)) > 900.0


def raising(error, shape):
    def fails(_request):
        raise error

    def fails_later(_request):
        yield b"one"
        raise error

    return fails if shape.endswith("unary") else fails_later


OURS = {
    "BulkheadFullError": (BulkheadFullError("db", "full", 0.25), "RESOURCE_EXHAUSTED", "250"),
    "RateLimitedError": (RateLimitedError("db", 1.5), "RESOURCE_EXHAUSTED", "1500"),
    "CircuitOpenError": (CircuitOpenError("db", 2.0), "UNAVAILABLE", "2000"),
    "RejectedError": (RejectedError("db"), "UNAVAILABLE", None),
    "DeadlineExpiredError": (DeadlineExpiredError("db"), "DEADLINE_EXCEEDED", None),
    "TimedOutError": (TimedOutError("db", 1.0), "DEADLINE_EXCEEDED", None),
    "a group": (
        ExceptionGroup("tasks", [RateLimitedError("db", 1.5), RateLimitedError("mail", 3.0)]),
        "RESOURCE_EXHAUSTED",
        "3000",
    ),
    "a group of limits": (
        ExceptionGroup("tasks", [TimedOutError("db", 1.0)]),
        "DEADLINE_EXCEEDED",
        None,
    ),
    "a group of others": (
        ExceptionGroup("tasks", [RateLimitedError("db", 1.5), OSError()]),
        "UNKNOWN",
        None,
    ),
    "CheckpointError": (CheckpointError("db"), "UNKNOWN", None),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("error", "code", "pushback"), OURS.values(), ids=[*OURS])
def test_an_error_of_ours_is_a_status(serve, grpc, shape, error, code, pushback):
    with pytest.raises(grpc.RpcError) as caught:
        serve(raising(error, shape), shape)()
    assert caught.value.code().name == code
    trailers = dict(caught.value.trailing_metadata() or ())
    assert trailers.get("grpc-retry-pushback-ms") == pushback
    if code != "UNKNOWN":
        assert caught.value.details() == str(error)


def test_what_a_server_refuses_is_called_again_by_our_clients(serve, grpc):
    with pytest.raises(grpc.RpcError) as caught:
        serve(raising(CircuitOpenError("db", 2.0), "unary"))()
    assert transient(caught.value) == 2.0
    with pytest.raises(grpc.RpcError) as caught:
        serve(raising(BulkheadFullError("db", "full", 0.25), "unary"))()
    assert (transient(caught.value), transient.failing(caught.value)) == (0.25, False)


def test_an_exception_of_the_program_stays_what_it_is(serve, grpc):
    with pytest.raises(grpc.RpcError) as caught:
        serve(raising(ValueError("negative"), "unary"))()
    assert caught.value.code() is grpc.StatusCode.UNKNOWN


def test_a_method_that_nobody_serves_stays_unimplemented(grpc):
    from mainstay.integrations.grpc import ServerInterceptor  # noqa: PLC0415 - needs grpc

    with (
        serving(grpc, interceptors=[ServerInterceptor()]) as address,
        grpc.insecure_channel(address) as channel,
        pytest.raises(grpc.RpcError) as caught,
    ):
        channel.unary_unary(METHOD)(b"7")
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_an_async_handler_is_interrupted_when_the_callers_time_is_over(grpc):
    from mainstay.integrations.grpc import AsyncServerInterceptor  # noqa: PLC0415 - needs grpc

    ended = []
    over = threading.Event()

    async def hangs(_request, _context):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append("interrupted")
            over.set()
            raise

    handler = handler_of(grpc, hangs)
    with (
        serving_async(grpc, handler, interceptors=[AsyncServerInterceptor()]) as address,
        grpc.insecure_channel(address) as channel,
        pytest.raises(grpc.RpcError) as caught,
    ):
        channel.unary_unary(METHOD)(b"7", timeout=0.2)
    assert over.wait(5)
    assert ended == ["interrupted"]
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


def test_a_stream_that_its_client_leaves_is_closed(grpc):
    from mainstay.integrations.grpc import ServerInterceptor  # noqa: PLC0415 - needs grpc

    closed = threading.Event()

    def endless(_request, _context):
        try:
            while True:
                yield b"more"
        finally:
            closed.set()

    handler = handler_of(grpc, endless, "unary_stream")
    with (
        serving(grpc, handler, interceptors=[ServerInterceptor()]) as address,
        grpc.insecure_channel(address) as channel,
    ):
        answers = channel.unary_stream(METHOD)(b"7")
        assert next(answers) == b"more"
        answers.cancel()
        assert closed.wait(5)


@pytest.mark.parametrize("name", ["ServerInterceptor", "AsyncServerInterceptor"])
@pytest.mark.parametrize(("wrong", "kind"), [(0, ValueError), (-1.0, ValueError), ("1", TypeError)])
def test_a_wrong_at_most_is_refused(grpc, name, wrong, kind):
    from mainstay.integrations import grpc as ours  # noqa: PLC0415 - needs grpc

    with pytest.raises(kind, match="`at_most`"):
        getattr(ours, name)(at_most=wrong)
