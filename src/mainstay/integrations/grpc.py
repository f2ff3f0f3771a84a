"""gRPC: attempts, breakers and the time left in clients, and the time left in servers.

Interceptors for `grpc` and for `grpc.aio`. Clients: unary calls. Servers: every kind of handler.
Needs `mainstay[grpc]`.
"""

import functools
import math
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

import attrs
import grpc
import grpc.aio

from mainstay._core.arguments import Duration, to_seconds
from mainstay._core.budget import RetryBudget
from mainstay._core.clock import monotonic
from mainstay._core.context import current_context
from mainstay._core.deadline import deadline
from mainstay._core.detector import Detect
from mainstay._core.functions import Kind, kind_of
from mainstay._limits.adaptive import Adaptive
from mainstay._limits.bulkhead_calls import BulkheadCall
from mainstay._metrics.collector import Metrics
from mainstay._retry.call import BoundRetry
from mainstay._retry.loops import WRAPPERS
from mainstay._retry.policy import Retry, check_kind
from mainstay.errors import (
    DeadlineExpiredError,
    MainstayError,
    ResultRefusedError,
)
from mainstay.integrations._calls import aattempt, attempt, end_of
from mainstay.integrations._errors import as_clients
from mainstay.integrations._hosts import Host, Hosts, Policies, policies_of
from mainstay.integrations._statuses import pushback_of, status_of
from mainstay.integrations._time import has_deadline, time_left
from mainstay.integrations._versions import check_version

__all__ = [
    "AsyncClientInterceptor",
    "AsyncServerInterceptor",
    "ClientInterceptor",
    "ServerInterceptor",
]

check_version("grpcio", grpc.__version__, since="1.60", before="2")

_MOST_TIMEOUTS = 1_000
_ENDLESS = 1e9  # seconds: what the C core has for a call without a deadline
_END = object()
_LATE = grpc.StatusCode.DEADLINE_EXCEEDED


class ClientInterceptor(grpc.UnaryUnaryClientInterceptor):
    """Attempts, a breaker, a limit and the time left for the unary calls of a channel.

    Make one for each channel. Without a *name* each service of the channel is a component of its
    own, with a breaker and a limit of its own, at most 1,000 of them.

    - A call is repeated as *retry* says, by default up to two times where `transient` says so:
      UNAVAILABLE and RESOURCE_EXHAUSTED, after the wait that the server asks for.
    - The ``timeout=`` of a call is for all its attempts together, as gRPC has it.
    - Each attempt has the time that a `deadline` around the call leaves, if that is shorter, and
      gRPC tells the server. A call that the deadline ends raises an exception that is both
      `DeadlineExpiredError` and `grpc.RpcError`, with DEADLINE_EXCEEDED as its code.
    - What an open breaker or a full bulkhead refuses is an exception that is both ours and
      `grpc.RpcError`, with UNAVAILABLE or RESOURCE_EXHAUSTED as its code.

    Calls by ``.future`` get the time left and nothing else: no attempts, no metrics. gRPC's own
    retries are to be off, or the two multiply: ``options=[("grpc.enable_retries", 0)]``.

    Args:
        retry: When to try again. None for ``retry(on=transient, attempts=3)``.
        breaker: When a service has failed too much: it is then refused for a time. None for no
            breaker.
        limit: How many calls of a service run at a time. None for no limit.
        budget: What attempts after the first are charged to: a `RetryBudget`, or a share of the
            calls of each service, 0 to 1.
        name: The `component` of all calls, which then share breaker and limit. None for the name
            of the service, such as "shop.Orders".
        metrics: Where to record. None for `default_metrics()`.

    Raises:
        ImportError: When the module is imported, if grpcio is missing or of an unknown version.
        TypeError: If an argument has the wrong type, or *retry* has what only async code can do.
        ValueError: If an argument is out of range, or *budget* is given twice.

    Metrics:
        Those of `retry`, of `CircuitBreaker` with *breaker*, of `Bulkhead` with *limit*.

    Example:
        >>> import grpc
        >>> from mainstay import Detect
        >>> from mainstay.integrations.grpc import ClientInterceptor
        >>> channel = grpc.insecure_channel("localhost:50051")
        >>> channel = grpc.intercept_channel(channel, ClientInterceptor(breaker=Detect()))
        >>> channel.close()
    """

    def __init__(
        self,
        *,
        retry: Retry | None = None,
        breaker: Detect | None = None,
        limit: int | Adaptive | None = None,
        budget: RetryBudget | float | None = None,
        name: str | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        policies = policies_of(retry, breaker, limit, budget, name, metrics)
        check_kind(policies.retry, Kind.SYNC, type(self))
        self._calls = _Calls(policies, attempt, Kind.SYNC)

    def intercept_unary_unary(
        self, continuation: Callable[..., Any], client_call_details: Any, request: Any
    ) -> Any:
        """Make a call, as the channel asks for it."""
        if "future" in continuation.__qualname__.split("."):
            return continuation(_in_time(client_call_details), request)
        host, call = self._calls.find(client_call_details)
        exchange = _UnaryCall(host, continuation, client_call_details, request, _LocalError)
        try:
            call(exchange)
        except ResultRefusedError:  # the value is the caller's business after the last attempt
            return exchange.call
        except MainstayError as error:
            raise _as_grpc(error, _LocalError) from error.__cause__
        return exchange.call


class AsyncClientInterceptor(grpc.aio.UnaryUnaryClientInterceptor):
    """As `ClientInterceptor`, for a channel of `grpc.aio`.

    Args:
        retry: As for `ClientInterceptor`; it may have an `attempt_timeout`, and an async `on`.
        breaker: As for `ClientInterceptor`.
        limit: As for `ClientInterceptor`.
        budget: As for `ClientInterceptor`.
        name: As for `ClientInterceptor`.
        metrics: As for `ClientInterceptor`.

    Raises:
        ImportError: As for `ClientInterceptor`.
        TypeError: If an argument has the wrong type.
        ValueError: If one is out of range, or *budget* is given twice.

    Metrics:
        As for `ClientInterceptor`.

    Example:
        >>> import grpc
        >>> from mainstay.integrations.grpc import AsyncClientInterceptor
        >>> async def ask(address: str) -> bytes:
        ...     interceptors = [AsyncClientInterceptor(limit=20)]
        ...     async with grpc.aio.insecure_channel(address, interceptors=interceptors) as channel:
        ...         return await channel.unary_unary("/shop.Orders/Get")(b"7")
    """

    def __init__(
        self,
        *,
        retry: Retry | None = None,
        breaker: Detect | None = None,
        limit: int | Adaptive | None = None,
        budget: RetryBudget | float | None = None,
        name: str | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        policies = policies_of(retry, breaker, limit, budget, name, metrics)
        self._calls = _Calls(policies, aattempt, Kind.ASYNC)

    async def intercept_unary_unary(
        self, continuation: Callable[..., Any], client_call_details: Any, request: Any
    ) -> Any:
        """Make a call, as the channel asks for it."""
        host, call = self._calls.find(client_call_details)
        exchange = _UnaryCall(host, continuation, client_call_details, request, _LocalAioError)
        try:
            await call(exchange)
        except ResultRefusedError:
            return exchange.call
        except MainstayError as error:
            raise _as_grpc(error, _LocalAioError) from error.__cause__
        return exchange.call


class _Calls:
    """The policies of an interceptor, bound to each service and each timeout of its calls.

    Args:
        policies: What the interceptor was told.
        attempt: Makes one attempt.
        kind: Of what *attempt* is.
    """

    def __init__(self, policies: Policies, attempt: Callable[..., Any], kind: Kind) -> None:
        self._name = policies.name
        self._hosts = Hosts(policies, attempt)
        self._wrapper = WRAPPERS[kind]
        self._known: dict[tuple[Host, float | None], Callable[..., Any]] = {}

    def find(self, details: Any) -> tuple[Host, Callable[..., Any]]:
        """Return what a call goes through, and the function that makes it."""
        service = self._name or _service_of(details.method), None
        host = self._hosts.find(service, monotonic())
        key = host, details.timeout
        call = self._known.get(key)
        if call is None:
            if len(self._known) >= _MOST_TIMEOUTS:  # each call has computed one of its own
                self._known.clear()
            call = self._wrapper(_limited(host, details.timeout), host.attempt)
            self._known[key] = call
        return host, call


def _limited(host: Host, timeout: float | None) -> BoundRetry:
    """Return the retry of a host for calls that take at most *timeout* seconds altogether."""
    settings = host.retry.settings
    if timeout is None or (settings.timeout is not None and settings.timeout <= timeout):
        return host.retry
    return attrs.evolve(host.retry, settings=attrs.evolve(settings, timeout=timeout))


@functools.lru_cache(maxsize=1_000)
def _service_of(method: str | bytes) -> str:
    """Return the service of a method such as "/shop.Orders/Get"."""
    path = method.decode("latin-1") if isinstance(method, bytes) else method
    return path.rpartition("/")[0].lstrip("/") or path


class _UnaryCall:
    """One call, and how its attempts are made: in sync and in async code.

    Attributes:
        host: What it goes through.
        call: What the last attempt was, in the words of gRPC; None before it has ended.
        response: Its response.
        refusal: None, since each failure of gRPC is an exception.
    """

    __slots__ = (
        "_continuation",
        "_details",
        "_is_ours",
        "_local",
        "_request",
        "_until",
        "call",
        "host",
        "refusal",
        "response",
    )

    def __init__(
        self,
        host: Host,
        continuation: Callable[..., Any],
        details: Any,
        request: Any,
        local: "type[_LocalError | _LocalAioError]",
    ) -> None:
        self._continuation = continuation
        self._details = details
        self._request = request
        self._local = local
        self._is_ours = False
        self._until: float | None = None
        self.host = host
        self.call: Any = None
        self.response: Any = None
        self.refusal: Exception | None = None

    def send(self) -> Any:
        """Make an attempt."""
        self.call = call = self._continuation(self._details_now(), self._request)
        error = call.exception()
        if error is not None:
            self._raise(error)
        self.response = call.result()
        return self.response

    async def asend(self) -> Any:
        """Make an attempt."""
        self.call = call = await self._continuation(self._details_now(), self._request)
        try:
            self.response = await call
        except grpc.RpcError as error:
            self._raise(error)
        return self.response

    def hold(self, place: BulkheadCall) -> None:
        """Free *place*, since a unary call is over with its attempt."""
        end_of(place, None)

    def _details_now(self) -> Any:
        """Return the details of the next attempt, whose timeout is the time left.

        Raises:
            DeadlineExpiredError: If a deadline leaves none.
        """
        own: float | None = self._details.timeout
        if own is not None:
            now = current_context().clock.now()
            if self._until is None:
                self._until = now + own
            own = max(0.0, self._until - now)
        left = time_left(self.host.retry.component) if has_deadline() else math.inf
        self._is_ours = left < (math.inf if own is None else own)
        shortest = left if self._is_ours else own
        return self._details if shortest is None else _with_timeout(self._details, shortest)

    def _raise(self, error: BaseException) -> NoReturn:
        """Raise what an attempt has come to; as ours too if the deadline has ended it."""
        if self._is_ours and isinstance(error, grpc.RpcError) and _code_of(error) is _LATE:
            expired = DeadlineExpiredError(self.host.retry.component)
            raise as_clients(expired, self._local) from error
        raise error


def _code_of(error: Any) -> object:
    code = getattr(error, "code", None)
    return code() if callable(code) else None


def _in_time(details: Any) -> Any:
    """Return *details* with the time that a deadline leaves, if that is shorter.

    Raises:
        DeadlineExpiredError: If it leaves none.
    """
    left = time_left(_service_of(details.method)) if has_deadline() else math.inf
    own = details.timeout
    return details if left >= (math.inf if own is None else own) else _with_timeout(details, left)


def _with_timeout(details: Any, timeout: float) -> Any:
    replace = getattr(details, "_replace", None)  # of those of grpc.aio, and of gRPC's own
    return _Details(details, timeout) if replace is None else replace(timeout=timeout)


class _Details(grpc.ClientCallDetails):
    """The details of a call with another timeout."""

    def __init__(self, details: Any, timeout: float) -> None:
        self.method = details.method
        self.timeout = timeout
        self.metadata = details.metadata
        self.credentials = details.credentials
        self.wait_for_ready = getattr(details, "wait_for_ready", None)
        self.compression = getattr(details, "compression", None)


# Our errors as gRPC's own.


def _as_grpc(error: MainstayError, local: "type[_LocalError | _LocalAioError]") -> Exception:
    return error if status_of(error) is None else as_clients(error, local)


def _local_code(error: Exception) -> grpc.StatusCode:
    return grpc.StatusCode[status_of(error) or "UNKNOWN"]


if TYPE_CHECKING:
    _Future = grpc.Future[Any]
else:
    _Future = grpc.Future


class _LocalError(grpc.RpcError, grpc.Call, _Future):
    """An error of ours as the call that it was: what gRPC makes of each failure."""

    def code(self) -> grpc.StatusCode:
        return _local_code(self)

    def details(self) -> str:
        return str(self)

    def initial_metadata(self) -> Any:
        return ()

    def trailing_metadata(self) -> Any:
        return pushback_of(self)

    def is_active(self) -> bool:
        return False

    def time_remaining(self) -> float:
        return 0.0

    def add_callback(self, callback: object) -> bool:  # noqa: ARG002 - there is nothing to wait for
        return False

    def cancel(self) -> bool:
        return False

    def cancelled(self) -> bool:
        return False

    def running(self) -> bool:
        return False

    def done(self) -> bool:
        return True

    def result(self, timeout: float | None = None) -> NoReturn:  # noqa: ARG002 - as above
        raise self

    def exception(self, timeout: float | None = None) -> Exception:  # noqa: ARG002 - as above
        return self

    def traceback(self, timeout: float | None = None) -> Any:  # noqa: ARG002 - as above
        return self.__traceback__

    def add_done_callback(self, fn: Callable[[Any], Any]) -> None:
        fn(self)


class _LocalAioError(grpc.aio.AioRpcError):
    """An error of ours as an exception of `grpc.aio`."""

    def __init__(self, text: str) -> None:
        none = grpc.aio.Metadata()
        super().__init__(_local_code(self), none, none, text)

    __str__ = Exception.__str__
    __repr__ = Exception.__repr__

    def trailing_metadata(self) -> Any:
        return grpc.aio.Metadata(*pushback_of(self))


# Servers.


class ServerInterceptor(grpc.ServerInterceptor):
    """The caller's deadline in every handler of a server, and our errors as statuses.

    What is left of the time that a client gives its call is the `deadline` in the handler: what
    the handler calls gives up in time, and `remaining` tells how much there is. It interrupts
    nothing. In a stream it holds for each response.

    A handler that raises an error of ours answers with a status that clients understand:

    | raised | status |
    | --- | --- |
    | `BulkheadFullError`, `RateLimitedError` | RESOURCE_EXHAUSTED |
    | any other `RejectedError` | UNAVAILABLE |
    | `DeadlineExpiredError`, `TimedOutError` | DEADLINE_EXCEEDED |

    with the time after which to come again, where the error knows it, as the trailer
    ``grpc-retry-pushback-ms``, which `transient` reads, and gRPC's own retries.

    Args:
        at_most: The longest time that a client may ask for: seconds or a `timedelta`, above 0.
            It limits no call that asks for none.

    Raises:
        ImportError: When the module is imported, if grpcio is missing or of an unknown version.
        TypeError: If *at_most* has the wrong type.
        ValueError: If it is out of range.

    Example:
        >>> from concurrent.futures import ThreadPoolExecutor
        >>> import grpc
        >>> from mainstay.integrations.grpc import ServerInterceptor
        >>> server = grpc.server(ThreadPoolExecutor(4), interceptors=[ServerInterceptor()])
    """

    def __init__(self, *, at_most: Duration = 30.0) -> None:
        self._at_most = to_seconds(at_most, "at_most", zero=False)

    def intercept_service(self, continuation: Callable[..., Any], handler_call_details: Any) -> Any:
        """Return the handler of a call, as the server asks for it."""
        return _wrapped(continuation(handler_call_details), self._at_most)


class AsyncServerInterceptor(grpc.aio.ServerInterceptor):
    """As `ServerInterceptor`, for a server of `grpc.aio`.

    The end of the caller's time interrupts an async handler, as ``async with deadline`` does. A
    plain handler, which gRPC runs in a thread, is not interrupted.

    Args:
        at_most: As for `ServerInterceptor`.

    Raises:
        ImportError: As for `ServerInterceptor`.
        TypeError: If *at_most* has the wrong type.
        ValueError: If it is out of range.

    Example:
        >>> import grpc
        >>> from mainstay.integrations.grpc import AsyncServerInterceptor
        >>> async def serve(*handlers: grpc.GenericRpcHandler) -> None:
        ...     server = grpc.aio.server(interceptors=[AsyncServerInterceptor()])
        ...     server.add_generic_rpc_handlers(handlers)
        ...     await server.start()
    """

    def __init__(self, *, at_most: Duration = 30.0) -> None:
        self._at_most = to_seconds(at_most, "at_most", zero=False)

    async def intercept_service(
        self, continuation: Callable[..., Any], handler_call_details: Any
    ) -> Any:
        """Return the handler of a call, as the server asks for it."""
        return _wrapped(await continuation(handler_call_details), self._at_most)


_SHAPES: dict[tuple[bool, bool], tuple[str, Callable[..., Any]]] = {
    (False, False): ("unary_unary", grpc.unary_unary_rpc_method_handler),
    (False, True): ("unary_stream", grpc.unary_stream_rpc_method_handler),
    (True, False): ("stream_unary", grpc.stream_unary_rpc_method_handler),
    (True, True): ("stream_stream", grpc.stream_stream_rpc_method_handler),
}
"""By whether requests and responses are streams: a handler's function, and what makes another."""

Behavior: TypeAlias = Callable[[Any, Any], Any]


def _wrapped(handler: Any, at_most: float) -> Any:
    """Return a handler with the deadline in its function; None where nobody handles the call."""
    if handler is None:
        return None
    name, made = _SHAPES[handler.request_streaming, handler.response_streaming]
    behavior = getattr(handler, name)
    kind = kind_of(behavior)
    if kind is Kind.ASYNC_GENERATOR:
        inside: Behavior = _async_stream(behavior, at_most)
    elif kind is Kind.ASYNC:
        inside = _async_answer(behavior, at_most)
    elif handler.response_streaming:
        inside = _stream(behavior, at_most)
    else:
        inside = _answer(behavior, at_most)
    return made(inside, handler.request_deserializer, handler.response_serializer)


def _deadline_of(context: Any, at_most: float) -> Any:
    """Return the block with the time that the caller has left."""
    left = context.time_remaining()
    if left is None or left > _ENDLESS:
        return nullcontext()
    return deadline(min(max(0.0, left), at_most))


def _answer(behavior: Behavior, at_most: float) -> Behavior:
    def served(request: Any, context: Any) -> Any:
        try:
            with _deadline_of(context, at_most):
                return behavior(request, context)
        except MainstayError as error:
            _abort(context, error)

    return served


def _stream(behavior: Behavior, at_most: float) -> Behavior:
    def served(request: Any, context: Any) -> Iterator[Any]:
        responses: Any = ()
        try:
            with _deadline_of(context, at_most):
                responses = iter(behavior(request, context))
            while True:
                with _deadline_of(context, at_most):
                    response = next(responses, _END)
                if response is _END:
                    return
                yield response
        except MainstayError as error:
            # What `abort` does, which leaves a client of such a generator waiting under grpc.aio.
            context.set_code(_prepared(context, error))
            context.set_details(str(error))
        finally:
            close = getattr(responses, "close", None)
            if close is not None:
                close()

    return served


def _async_answer(behavior: Behavior, at_most: float) -> Behavior:
    async def served(request: Any, context: Any) -> Any:
        try:
            async with _deadline_of(context, at_most):
                return await behavior(request, context)
        except MainstayError as error:
            await _aabort(context, error)

    return served


def _async_stream(behavior: Behavior, at_most: float) -> Behavior:
    async def served(request: Any, context: Any) -> AsyncIterator[Any]:
        responses = behavior(request, context)
        try:
            while True:
                async with _deadline_of(context, at_most):
                    response = await anext(responses, _END)
                if response is _END:
                    return
                yield response
        except MainstayError as error:
            await _aabort(context, error)
        finally:
            await responses.aclose()

    return served


def _abort(context: Any, error: MainstayError) -> NoReturn:
    """End a call with the status that *error* is; one that is none goes on as it is."""
    status = _prepared(context, error)
    context.abort(status, str(error))
    raise error  # where abort has been replaced by what does not raise


async def _aabort(context: Any, error: MainstayError) -> NoReturn:
    """As `_abort`."""
    status = _prepared(context, error)
    await context.abort(status, str(error), context.trailing_metadata() or ())
    raise error


def _prepared(context: Any, error: MainstayError) -> grpc.StatusCode:
    """Add the trailers that *error* has to those of the call; return its status.

    Raises:
        MainstayError: *error* itself, if it is no status.
    """
    status = status_of(error)
    if status is None:
        raise error
    trailers = pushback_of(error)
    if trailers:
        known = getattr(context, "trailing_metadata", tuple)  # plain functions under grpc.aio: none
        context.set_trailing_metadata((*(known() or ()), *trailers))
    return grpc.StatusCode[status]
