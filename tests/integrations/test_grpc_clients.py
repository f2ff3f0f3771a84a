"""gRPC clients: attempts, breakers, limits and the time left, through real channels and servers."""

import asyncio
import contextlib
import functools
import importlib
import inspect
import pickle
import sys
import threading
import time

import pytest
from integrations.rpc import (
    METHOD,
    NO_RETRIES,
    AsyncClient,
    Service,
    SyncClient,
    handler_of,
    serving,
)

from mainstay import (
    CircuitOpenError,
    DeadlineExpiredError,
    Detect,
    RetryBudget,
    deadline,
    retry,
    transient,
)
from mainstay._core.watching import watch_attempts

pytestmark = pytest.mark.process


@pytest.fixture
def grpc(library):
    return library("grpc")


@pytest.fixture(params=["sync", "async"])
def client(request, grpc, metrics):
    """Makes clients of a service: `client(service, **interceptor)`; ends them and their servers."""
    import grpc.aio  # noqa: PLC0415 - there if grpc is

    from mainstay.integrations import grpc as ours  # noqa: PLC0415 - as above

    made, kind = {
        "sync": (SyncClient, ours.ClientInterceptor),
        "async": (AsyncClient, ours.AsyncClientInterceptor),
    }[request.param]
    with contextlib.ExitStack() as stack:

        def connect(service, **interceptor):
            address = stack.enter_context(serving(grpc, service.handler(grpc)))
            client = made(grpc, address, kind(**interceptor))
            stack.callback(client.close)
            return client

        yield connect


SOON = {"retry": retry(on=transient, attempts=3, wait=0)}
ONCE = {"retry": retry(on=transient, attempts=1)}


def test_a_healthy_call_is_one_attempt(client, metrics):
    service = Service(b"order 7")
    assert client(service).call() == b"order 7"
    assert [request for request, *_ in service.calls] == [b"7"]
    labels = {"component": "shop.Orders", "policy": "retry", "outcome": "success"}
    assert metrics("calls_total", **labels) == 1


@pytest.mark.parametrize("code", ["UNAVAILABLE", "RESOURCE_EXHAUSTED"])
def test_what_passes_is_called_again(client, metrics, code):
    service = Service(code, code, b"order 7")
    assert client(service, **SOON).call() == b"order 7"
    assert len(service.calls) == 3
    labels = {"component": "shop.Orders", "policy": "retry"}
    assert metrics("calls_total", **labels, outcome="recovered") == 1
    assert metrics("give_ups_total", **labels, reason="attempts") == 0


def test_the_last_error_is_grpcs_own_with_a_note(client, grpc):
    service = Service("UNAVAILABLE")
    with pytest.raises(grpc.RpcError) as caught:
        client(service, **SOON).call()
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert caught.value.details() == "it says UNAVAILABLE"
    assert len(service.calls) == 3
    (note,) = caught.value.__notes__
    assert "gave up after 3 attempts" in note


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("NOT_FOUND", "not_retryable"),
        ("ABORTED", "not_retryable"),
        ("INTERNAL", "attempts"),  # a failure of the server, which may not be repeated
        ("DEADLINE_EXCEEDED", "attempts"),
    ],
)
def test_what_does_not_pass_is_raised_at_once(client, grpc, metrics, code, reason):
    service = Service(code)
    with pytest.raises(grpc.RpcError) as caught:
        client(service, **SOON).call()
    assert (caught.value.code().name, len(service.calls)) == (code, 1)
    labels = {"component": "shop.Orders", "policy": "retry", "reason": reason}
    assert metrics("give_ups_total", **labels) == 1


def test_a_server_says_when_to_come_again(client, clock):
    service = Service(("UNAVAILABLE", ("grpc-retry-pushback-ms", "1500")), b"order 7")
    began = clock.now()
    client(service).call()
    assert 1.5 <= clock.now() - began <= 1.65


def test_a_server_may_forbid_another_attempt(client, grpc):
    service = Service(("UNAVAILABLE", ("grpc-retry-pushback-ms", "-1")))
    with pytest.raises(grpc.RpcError):
        client(service, **SOON).call()
    assert len(service.calls) == 1


def test_without_a_deadline_the_server_is_told_none(client):
    service = Service(b"order 7")
    client(service).call()
    assert service.calls[0][1] > 1e6


def test_the_server_is_told_the_time_left(client):
    service = Service(b"order 7")
    caller = client(service)
    caller.call()  # connects
    with deadline(5.0):
        caller.call()
    assert 4.0 < service.calls[1][1] <= 5.1  # in the clock of the server


def test_a_timeout_of_the_call_that_is_shorter_stays(client):
    service = Service(b"order 7")
    with deadline(50.0):
        client(service).call(timeout=5.0)
    assert 4.0 < service.calls[0][1] <= 5.1  # in the clock of the server


def test_a_hanging_server_is_left_at_the_end_of_the_deadline(client, grpc, metrics):
    over = threading.Event()
    service = Service(lambda *_: over.wait(3) and b"late")
    began = time.monotonic()
    with deadline(0.3), pytest.raises(DeadlineExpiredError) as caught:
        client(service, **SOON).call()
    seconds = time.monotonic() - began
    over.set()
    assert isinstance(caught.value, grpc.RpcError)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert 0.3 <= seconds < 2.0
    assert len(service.calls) == 1
    labels = {"component": "shop.Orders", "policy": "retry"}
    assert metrics("calls_total", **labels, outcome="timeout") == 1


def test_a_deadline_that_is_over_calls_nothing(client, grpc):
    service = Service(b"order 7")
    caller = client(service)
    with deadline(0.0), pytest.raises(DeadlineExpiredError) as caught:
        caller.call()
    assert isinstance(caught.value, grpc.RpcError)
    assert service.calls == []


def test_a_timeout_is_for_all_attempts_together(client, grpc, clock):
    """As gRPC has it for its own retries: each attempt gets what those before have left."""
    service = Service("UNAVAILABLE")
    policy = retry(on=transient, attempts=None, timeout=None, wait=2.0)
    began = clock.now()
    with pytest.raises(grpc.RpcError) as caught:
        client(service, retry=policy).call(timeout=5.0)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert [round(left) for _, left, _ in service.calls] == [5, 3, 1]
    assert clock.now() - began == 4.0


def test_a_call_that_its_own_timeout_ends_opens_the_breaker(client, grpc):
    """A server that hangs is failing, whatever the caller's patience."""
    over = threading.Event()
    service = Service(lambda *_: over.wait(3) and b"late")
    caller = client(service, **ONCE, breaker=Detect(consecutive=2))
    for _ in range(2):
        with pytest.raises(grpc.RpcError) as caught:
            caller.call(timeout=0.2)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    with pytest.raises(CircuitOpenError):
        caller.call(timeout=0.2)
    over.set()


def test_an_open_breaker_refuses_with_an_error_that_is_grpcs_too(client, grpc):
    service = Service("INTERNAL")
    caller = client(service, **ONCE, breaker=Detect(consecutive=2))
    for _ in range(2):
        with pytest.raises(grpc.RpcError):
            caller.call()
    with pytest.raises(grpc.RpcError) as caught:
        caller.call()
    error = caught.value
    assert isinstance(error, CircuitOpenError)
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert "shop.Orders" in error.details()
    assert error.retry_after > 0
    assert len(service.calls) == 2


def test_each_service_has_a_breaker_of_its_own(client, grpc):
    service = Service("INTERNAL", "INTERNAL")
    caller = client(service, **ONCE, breaker=Detect(consecutive=1))
    with pytest.raises(grpc.RpcError):
        caller.call()
    with pytest.raises(CircuitOpenError):
        caller.call()
    with pytest.raises(grpc.RpcError) as caught:
        caller.call(method="/shop.Stock/Get")
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_a_name_makes_one_component_of_the_channel(client, grpc, metrics):
    service = Service("INTERNAL")
    caller = client(service, name="orders", **ONCE, breaker=Detect(consecutive=1))
    with pytest.raises(grpc.RpcError):
        caller.call()
    with pytest.raises(CircuitOpenError, match="orders"):
        caller.call(method="/shop.Stock/Get")
    labels = {"component": "orders", "policy": "retry", "outcome": "error"}
    assert metrics("calls_total", **labels) == 2


def test_a_place_is_given_back_after_each_call(client, grpc):
    service = Service(b"order 7", "NOT_FOUND", b"order 7")
    caller = client(service, limit=1)
    assert caller.call() == b"order 7"
    with pytest.raises(grpc.RpcError):
        caller.call()
    assert caller.call() == b"order 7"


def test_a_budget_limits_attempts_after_the_first(client, grpc):
    service = Service("UNAVAILABLE")
    budget = RetryBudget(ratio=0.0, floor=0.0)
    with pytest.raises(grpc.RpcError):
        client(service, budget=budget).call()
    assert len(service.calls) == 1


def test_a_result_that_is_refused_is_asked_for_again(client):
    service = Service(b"pending", b"order 7")
    policy = retry(on=transient, wait=0, on_result=lambda response: response == b"pending")
    assert client(service, retry=policy).call() == b"order 7"


def test_the_last_response_is_returned_even_if_it_is_refused(client):
    service = Service(b"pending")
    policy = retry(on=transient, wait=0, attempts=2, on_result=lambda _: True)
    assert client(service, retry=policy).call() == b"pending"
    assert len(service.calls) == 2


def test_metadata_goes_with_every_attempt(client):
    service = Service("UNAVAILABLE", b"order 7")
    with deadline(30.0):
        client(service, **SOON).call(metadata=(("tenant", "acme"),))
    assert [("tenant", "acme") in [*map(tuple, sent)] for *_, sent in service.calls] == [True, True]


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"retry": 3}, "`retry` must be a Retry"),
        ({"breaker": True}, "`breaker` must be a Detect"),
        ({"limit": 0}, "`limit`"),
        ({"name": ""}, "`name`"),
        ({"metrics": "mine"}, "`metrics`"),
    ],
)
def test_wrong_arguments_are_refused(client, wrong, match):
    with pytest.raises((TypeError, ValueError), match=match):
        client(Service(b""), **wrong)


def test_an_error_of_ours_comes_back_whole_from_pickle(client, grpc):
    caller = client(Service("INTERNAL"), **ONCE, breaker=Detect(consecutive=1))
    with pytest.raises(grpc.RpcError):
        caller.call()
    with pytest.raises(CircuitOpenError) as caught:
        caller.call()
    error = pickle.loads(pickle.dumps(caught.value))  # noqa: S301 - pickled right here
    assert isinstance(error, grpc.RpcError)
    assert isinstance(error, CircuitOpenError)
    assert (str(error), error.code()) == (str(caught.value), caught.value.code())


def test_transient_waits_as_long_as_a_breaker_says(client, grpc):
    caller = client(Service("INTERNAL"), **ONCE, breaker=Detect(consecutive=1))
    with pytest.raises(grpc.RpcError):
        caller.call()
    with pytest.raises(CircuitOpenError) as caught:
        caller.call()
    assert transient(caught.value) == caught.value.retry_after
    trailers = dict(iter(caught.value.trailing_metadata()))
    assert 0 < int(trailers["grpc-retry-pushback-ms"]) <= 5_000


def test_a_request_that_cannot_be_encoded_is_the_callers_error(client, grpc, metrics):
    service = Service(b"order 7")
    with pytest.raises((TypeError, grpc.RpcError)):
        client(service, **SOON).call(request=object())
    assert (service.calls, metrics.outcomes()) == ([], {"error": 1})


def test_both_interceptors_know_the_same_arguments(grpc):
    from mainstay.integrations import grpc as ours  # noqa: PLC0415 - needs grpc

    sync, asynchronous = map(
        inspect.signature, (ours.ClientInterceptor, ours.AsyncClientInterceptor)
    )
    assert sync == asynchronous


def test_an_attempt_timeout_ends_an_attempt_in_async_code(grpc, metrics):
    from mainstay.integrations.grpc import AsyncClientInterceptor  # noqa: PLC0415 - needs grpc

    over = threading.Event()
    service = Service(lambda *_: over.wait(3) and b"late", b"order 7")
    interceptor = AsyncClientInterceptor(retry=retry(on=transient, wait=0, attempt_timeout=0.2))
    with serving(grpc, service.handler(grpc)) as address:
        caller = AsyncClient(grpc, address, interceptor)
        assert caller.call() == b"order 7"
        over.set()
        caller.close()
    assert metrics.errors() == {"TimedOutError": 1}


def test_a_caller_who_leaves_ends_the_call(grpc, metrics):
    from mainstay.integrations.grpc import AsyncClientInterceptor  # noqa: PLC0415 - needs grpc

    begun, over = threading.Event(), threading.Event()
    gone = threading.Event()

    def hangs(_request, context):
        context.add_callback(gone.set)
        begun.set()
        over.wait(3)
        return b"late"

    async def leaves(address):
        interceptors = [AsyncClientInterceptor()]
        async with grpc.aio.insecure_channel(address, interceptors=interceptors) as channel:
            call = asyncio.ensure_future(asked(channel))
            await asyncio.to_thread(begun.wait, 5)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call

    async def asked(channel):
        return await channel.unary_unary(METHOD)(b"7")

    with serving(grpc, Service(hangs).handler(grpc)) as address:
        asyncio.run(leaves(address))
        assert gone.wait(5)
        over.set()
    assert metrics.outcomes() == {"cancelled": 1}


class Outer:
    """An interceptor of the program's own around ours, which looks at each call."""

    def __init__(self):
        self.seen = []

    def intercept_unary_unary(self, continuation, client_call_details, request):
        call = continuation(client_call_details, request)
        self.seen.append((call.code().name, call.details(), call.done(), call.exception()))
        return call


def test_ours_is_a_call_to_an_interceptor_around_it(grpc):
    """gRPC hands an outer interceptor what an inner one raises, as the call that it was."""
    from mainstay.integrations.grpc import ClientInterceptor  # noqa: PLC0415 - needs grpc

    class Around(Outer, grpc.UnaryUnaryClientInterceptor):
        pass

    outer = Around()
    ours = ClientInterceptor(**ONCE, breaker=Detect(consecutive=1))
    with (
        serving(grpc, Service("INTERNAL").handler(grpc)) as address,
        grpc.insecure_channel(address) as bare,
    ):
        method = grpc.intercept_channel(bare, outer, ours).unary_unary(METHOD)
        with pytest.raises(grpc.RpcError):
            method(b"7")
        with pytest.raises(CircuitOpenError) as caught:
            method(b"7")
        assert method.future(b"7").code() is grpc.StatusCode.INTERNAL
    assert outer.seen[1] == ("UNAVAILABLE", str(caught.value), True, caught.value)


def test_the_details_of_another_interceptor_are_kept(grpc):
    """Under grpc.aio they need be no more than an object with the attributes."""
    from mainstay.integrations.grpc import AsyncClientInterceptor  # noqa: PLC0415 - needs grpc

    class Details(grpc.ClientCallDetails):
        def __init__(self, details):
            self.method, self.timeout = details.method, details.timeout
            self.metadata, self.credentials = grpc.aio.Metadata(("tenant", "acme")), None
            self.wait_for_ready = None

    class AddsTenant(grpc.aio.UnaryUnaryClientInterceptor):
        async def intercept_unary_unary(self, continuation, client_call_details, request):
            return await continuation(Details(client_call_details), request)

    async def call(address):
        interceptors = [AddsTenant(), AsyncClientInterceptor()]
        async with grpc.aio.insecure_channel(address, interceptors=interceptors) as channel:
            return await channel.unary_unary(METHOD)(b"7")

    service = Service(b"order 7")
    with serving(grpc, service.handler(grpc)) as address, deadline(5.0):
        assert asyncio.run(call(address)) == b"order 7"
    _, left, metadata = service.calls[0]
    assert 4.0 < left <= 5.1
    assert ("tenant", "acme") in [*map(tuple, metadata)]


def test_calls_with_ever_new_timeouts_are_not_kept_for_ever(client, monkeypatch):
    monkeypatch.setattr("mainstay.integrations._grpc_calls._MOST_TIMEOUTS", 2)
    caller = client(Service(b"order 7"))
    for timeout in (5.0, 6.0, 7.0, 5.0):
        assert caller.call(timeout=timeout) == b"order 7"


def test_what_is_refused_is_a_call_that_is_over(grpc):
    from mainstay.integrations._grpc_errors import (  # noqa: PLC0415 - needs grpc
        LocalError,
        as_grpc,
    )

    error = as_grpc(CircuitOpenError("db", 2.0), LocalError)
    told = []
    error.add_done_callback(told.append)
    assert (told, error.done(), error.running(), error.cancelled()) == ([error], True, False, False)
    assert (error.is_active(), error.cancel(), error.add_callback(print)) == (False, False, False)
    assert (error.time_remaining(), [*error.initial_metadata()]) == (0.0, [])
    assert error.exception() is error
    assert error.traceback() is None
    with pytest.raises(CircuitOpenError):
        error.result()


def test_a_future_gets_the_time_left_and_nothing_else(grpc, metrics):
    from mainstay.integrations.grpc import ClientInterceptor  # noqa: PLC0415 - needs grpc

    over = threading.Event()
    service = Service(lambda *_: over.wait(5) and b"order 7")
    with (
        serving(grpc, service.handler(grpc)) as address,
        grpc.insecure_channel(address) as bare,
    ):
        method = grpc.intercept_channel(bare, ClientInterceptor(**SOON)).unary_unary(METHOD)
        with deadline(5.0):
            future = method.future(b"7")
        assert not future.done()
        over.set()
        assert future.result(5) == b"order 7"
        assert 4.0 < service.calls[0][1] <= 5.1
        with deadline(0.0):
            refused = method.future(b"7")
        assert isinstance(refused.exception(), DeadlineExpiredError)
    assert metrics.outcomes() == {}


def test_each_attempt_after_the_first_is_watched(client):
    numbers = []

    def watch(attempt):
        numbers.append((attempt.component, attempt.number))
        return contextlib.nullcontext()

    stop = watch_attempts(watch)
    client(Service("UNAVAILABLE", "UNAVAILABLE", b"order 7"), **SOON).call()
    stop()
    assert numbers == [("shop.Orders", 2), ("shop.Orders", 3)]


def test_the_last_service_stops_when_the_first_ones_caller_has_gone(grpc):
    """Three services in a chain, each of which asks the next one for as long as it has time."""
    from mainstay.integrations.grpc import (  # noqa: PLC0415 - needs grpc
        ClientInterceptor,
        ServerInterceptor,
    )

    began_at = []
    failing = ClientInterceptor(
        retry=retry(on=transient, attempts=None, timeout=None, wait=0.02), name="chain"
    )

    def last(_request, context):
        began_at.append(time.monotonic())
        context.abort(grpc.StatusCode.UNAVAILABLE, "not today")

    with contextlib.ExitStack() as stack:

        def serve(behavior):
            interceptors = [ServerInterceptor()]
            handler = handler_of(grpc, behavior)
            address = stack.enter_context(serving(grpc, handler, interceptors=interceptors))
            return stack.enter_context(grpc.insecure_channel(address, options=NO_RETRIES))

        third = grpc.intercept_channel(serve(last), failing).unary_unary(METHOD)
        second = grpc.intercept_channel(serve(lambda r, _: third(r)), ClientInterceptor())
        first = serve(lambda r, _: second.unary_unary(METHOD)(r)).unary_unary(METHOD)
        with pytest.raises(grpc.RpcError) as caught:
            first(b"7", timeout=0.5)
        left_at = time.monotonic()
    # By now the servers have ended, which wait for their handlers. The second one may have given
    # up a moment before the caller, with the last error of the third.
    assert caught.value.code().name in ("DEADLINE_EXCEEDED", "UNKNOWN")
    assert len(began_at) > 3
    assert max(began_at) <= left_at + 0.05  # it may have been on its way


def test_an_unknown_version_is_refused_when_the_module_is_imported(grpc, monkeypatch):
    for name in ("grpc", "_grpc_errors", "_grpc_calls"):
        monkeypatch.delitem(sys.modules, f"mainstay.integrations.{name}", raising=False)
    monkeypatch.setattr(grpc, "__version__", "2.0.0")
    with pytest.raises(ImportError, match=r"knows grpcio from 1\.60 to below 2, and 2\.0\.0"):
        importlib.import_module("mainstay.integrations.grpc")


def test_another_interceptor_may_hand_on_any_callable(grpc, metrics):
    """A partial of gRPC's own function has no name."""
    from mainstay.integrations.grpc import ClientInterceptor  # noqa: PLC0415 - needs grpc

    ours = ClientInterceptor(**SOON)

    class Around(grpc.UnaryUnaryClientInterceptor):
        def intercept_unary_unary(self, continuation, client_call_details, request):
            inside = functools.partial(continuation)
            return ours.intercept_unary_unary(inside, client_call_details, request)

    service = Service("UNAVAILABLE", b"order 7")
    with (
        serving(grpc, service.handler(grpc)) as address,
        grpc.insecure_channel(address, options=NO_RETRIES) as bare,
    ):
        method = grpc.intercept_channel(bare, Around()).unary_unary(METHOD)
        assert method(b"7") == b"order 7"
    assert len(service.calls) == 2
