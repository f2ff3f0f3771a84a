"""gRPC: attempts, breakers and the time left in clients, and the time left in servers.

Interceptors for `grpc` and for `grpc.aio`. Clients: unary calls. Servers: every kind of handler.
Needs `mainstay[grpc]`.
"""

from collections.abc import Callable
from typing import Any

try:
    import grpc
    import grpc.aio
except ModuleNotFoundError as _error:
    _error.add_note("pip install 'mainstay[grpc]'")
    raise

from mainstay._core.arguments import Duration
from mainstay._core.budget import RetryBudget
from mainstay._core.detector import Detect
from mainstay._core.functions import Kind
from mainstay._limits.adaptive import Adaptive
from mainstay._metrics.collector import Metrics
from mainstay._retry.policy import Retry, check_kind
from mainstay.errors import MainstayError, ResultRefusedError
from mainstay.integrations._calls import aattempt, attempt
from mainstay.integrations._grpc_calls import RpcCalls, UnaryCall, in_time
from mainstay.integrations._grpc_errors import LocalAioError, LocalError, as_grpc
from mainstay.integrations._grpc_handlers import checked_at_most, in_time_left
from mainstay.integrations._hosts import policies_of

__all__ = [
    "AsyncClientInterceptor",
    "AsyncServerInterceptor",
    "ClientInterceptor",
    "ServerInterceptor",
]


class ClientInterceptor(grpc.UnaryUnaryClientInterceptor):
    """Retries, a breaker, a limit and the time left for the unary calls of a channel.

    Make one interceptor for each channel. Without a *name*, each service of the channel is a
    component with its own breaker and limit, up to 1,000 services.

    - A call is retried as *retry* says, by default up to two times as `transient` decides:
      UNAVAILABLE and RESOURCE_EXHAUSTED, after the wait that the server asks for.
    - The ``timeout=`` of a call is for all its attempts together, as in gRPC itself.
    - Inside a `deadline`, each attempt has at most the time left, and gRPC tells the server. A call
      that the deadline ends raises an exception that is both a `DeadlineExpiredError` and a
      `grpc.RpcError`, with the code DEADLINE_EXCEEDED.
    - A call that an open breaker or a full bulkhead rejects raises an exception that is both a
      `RejectedError` and a `grpc.RpcError`, with the code UNAVAILABLE or RESOURCE_EXHAUSTED.

    Calls by ``.future`` get only the time left: no retries, no metrics. Turn off the retries of
    gRPC itself, or the two multiply: ``options=[("grpc.enable_retries", 0)]``.

    Args:
        retry: A `retry(...)`. None for ``retry(on=transient, attempts=3)``.
        breaker: When a service gets no calls for a while: a `Detect`. None for no breakers.
        limit: The number of calls to a service that may run at a time, or an `Adaptive`. None for
            no limit.
        budget: The limit on retries: a `RetryBudget`, or a share of the calls to each service, 0 to
            1. None for no such limit.
        name: The `component` of all calls, which then share breaker and limit. None for the name
            of the service, such as "shop.Orders".
        metrics: Where to record. None for `default_metrics()`.

    Raises:
        ImportError: When the module is imported, if grpcio is missing or of an unknown version.
        TypeError: If an argument has the wrong type, or *retry* has an option for async code only.
        ValueError: If an argument is out of its range, or *budget* is given twice.

    Metrics:
        Those of `retry`; with *breaker* those of `CircuitBreaker`, with *limit* of `Bulkhead`.

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
        self._calls = RpcCalls(policies, attempt, Kind.SYNC)

    def intercept_unary_unary(
        self, continuation: Callable[..., Any], client_call_details: Any, request: Any
    ) -> Any:
        """Make a call, as the channel asks for it."""
        # Another interceptor may have put anything around gRPC's own function.
        if "future" in getattr(continuation, "__qualname__", "").split("."):
            return continuation(in_time(client_call_details), request)
        host, call = self._calls.find(client_call_details)
        exchange = UnaryCall(host, continuation, client_call_details, request, LocalError)
        try:
            call(exchange)
        except ResultRefusedError:  # the value is the caller's business after the last attempt
            return exchange.call
        except MainstayError as error:
            raise as_grpc(error, LocalError) from error.__cause__
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
        ValueError: If an argument is out of its range, or *budget* is given twice.

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
        self._calls = RpcCalls(policies, aattempt, Kind.ASYNC)

    async def intercept_unary_unary(
        self, continuation: Callable[..., Any], client_call_details: Any, request: Any
    ) -> Any:
        """Make a call, as the channel asks for it."""
        host, call = self._calls.find(client_call_details)
        exchange = UnaryCall(host, continuation, client_call_details, request, LocalAioError)
        try:
            await call(exchange)
        except ResultRefusedError:
            return exchange.call
        except MainstayError as error:
            raise as_grpc(error, LocalAioError) from error.__cause__
        return exchange.call


class ServerInterceptor(grpc.ServerInterceptor):
    """Put the caller's deadline around every handler of a server, and answer errors with statuses.

    The time that is left of a client's call is the `deadline` of its handler: policies in the
    handler give up in time, and `remaining` returns the time left. Nothing is interrupted. In a
    stream the deadline holds for each response.

    If a handler raises an error of mainstay, the client gets a status that it understands:

    | raised | status |
    | --- | --- |
    | `BulkheadFullError`, `RateLimitedError` | RESOURCE_EXHAUSTED |
    | any other `RejectedError` | UNAVAILABLE |
    | `DeadlineExpiredError`, `TimedOutError` | DEADLINE_EXCEEDED |

    If the error has a `retry_after`, the trailer ``grpc-retry-pushback-ms`` carries it; `transient`
    and gRPC's own retries read that trailer.

    Args:
        at_most: The longest time that a client may ask for: seconds or a `timedelta`, above 0.
            Calls that ask for no time have no limit. None for no such limit.

    Raises:
        ImportError: When the module is imported, if grpcio is missing or of an unknown version.
        TypeError: If *at_most* has the wrong type.
        ValueError: If *at_most* is out of its range.

    Example:
        >>> from concurrent.futures import ThreadPoolExecutor
        >>> import grpc
        >>> from mainstay.integrations.grpc import ServerInterceptor
        >>> server = grpc.server(ThreadPoolExecutor(4), interceptors=[ServerInterceptor()])
    """

    def __init__(self, *, at_most: Duration | None = None) -> None:
        self._at_most = checked_at_most(at_most)

    def intercept_service(self, continuation: Callable[..., Any], handler_call_details: Any) -> Any:
        """Return the handler of a call, as the server asks for it."""
        return in_time_left(continuation(handler_call_details), self._at_most)


class AsyncServerInterceptor(grpc.aio.ServerInterceptor):
    """As `ServerInterceptor`, for a server of `grpc.aio`.

    The end of the caller's time interrupts an async handler, as ``async with deadline`` does. A
    plain handler, which gRPC runs in a thread, is not interrupted.

    Args:
        at_most: As for `ServerInterceptor`.

    Raises:
        ImportError: As for `ServerInterceptor`.
        TypeError: If *at_most* has the wrong type.
        ValueError: If *at_most* is out of its range.

    Example:
        >>> import grpc
        >>> from mainstay.integrations.grpc import AsyncServerInterceptor
        >>> async def serve(*handlers: grpc.GenericRpcHandler) -> None:
        ...     server = grpc.aio.server(interceptors=[AsyncServerInterceptor()])
        ...     server.add_generic_rpc_handlers(handlers)
        ...     await server.start()
    """

    def __init__(self, *, at_most: Duration | None = None) -> None:
        self._at_most = checked_at_most(at_most)

    async def intercept_service(
        self, continuation: Callable[..., Any], handler_call_details: Any
    ) -> Any:
        """Return the handler of a call, as the server asks for it."""
        return in_time_left(await continuation(handler_call_details), self._at_most)
