"""httpx: transports with retries, a breaker and a limit for each host, and the time left.

Needs `mainstay[httpx]`.
"""

from types import TracebackType
from typing import Self

try:
    import httpx
except ModuleNotFoundError as _error:
    _error.add_note("pip install 'mainstay[httpx]'")
    raise

from mainstay._core.budget import RetryBudget
from mainstay._core.clock import monotonic
from mainstay._core.context import block_context, process_contexts
from mainstay._core.detector import Detect
from mainstay._core.functions import Kind
from mainstay._limits.adaptive import Adaptive
from mainstay._metrics.collector import Metrics
from mainstay._retry.policy import Retry, check_kind
from mainstay.errors import MainstayError
from mainstay.integrations._calls import aanswer, aattempt, answer, attempt
from mainstay.integrations._errors import as_clients, base_for
from mainstay.integrations._hosts import Hosts, policies_of
from mainstay.integrations._httpx import HttpxExchange

__all__ = ["AsyncTransport", "Transport"]

_Bytes = httpx.ByteStream


class Transport(httpx.BaseTransport):
    """Retries, a breaker and a limit for each host, and metrics: a transport around another.

    Pass it to a client: ``httpx.Client(transport=Transport())``. In the metrics each host is a
    component, with its own breaker and limit if these are set. Requests are retried as *retry*
    says, by default as `transient` decides: a POST only if nothing was sent, or the server asks for
    a retry. A request is never repeated if its body cannot be sent again: a generator or a file
    from which an attempt has read.

    **Responses stay responses.** If the status of a response counts as a failure, the response is
    closed before the next attempt; the last response is returned, as by the client itself.
    Exceptions are those of httpx. If mainstay ends a request (the breaker is open, no place is
    free, no time is left), the exception is also an ``httpx.TransportError``, so
    ``except httpx.TransportError`` is enough.

    **The deadline limits each request.** Inside a `deadline` the timeouts of a request are no
    longer than the time left, the headers of `deadline_headers` are sent, and the reading of a body
    ends with the deadline, even if bytes keep coming. With HTTP/2 that is checked after each piece
    of the body. A server that sends its headers byte by byte, or reads the request so slowly, can
    exceed the deadline.

    An exception while the body is read, after the response has arrived, is not retried; for that,
    put `retry` around the function.

    Args:
        transport: The transport that sends the requests. None for ``httpx.HTTPTransport()``.
        retry: A `retry(...)`. None for ``retry(on=transient, attempts=3)``.
        breaker: When a host gets no requests for a while: a `Detect`. None for no breakers.
        limit: The number of requests to a host that may run at a time, or an `Adaptive`. A request
            keeps its place until its response is read or closed. None for no limit.
        budget: The limit on retries: a `RetryBudget`, or a share of the requests to each host, 0 to
            1. None for no such limit.
        name: The `component` label. None for the host, with its port unless that is the default.
        metrics: Where to record. None for `default_metrics()`.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of its range, or *budget* is given twice.

    Metrics:
        Those of `retry`, `CircuitBreaker` and `Bulkhead`. At most 1,000 hosts are kept; the host
        that was used least recently is dropped.

    Example:
        >>> import httpx
        >>> from mainstay.integrations.httpx import Transport
        >>> statuses = iter([503, 200])
        >>> server = httpx.MockTransport(lambda request: httpx.Response(next(statuses)))
        >>> with httpx.Client(transport=Transport(server)) as client:
        ...     client.get("http://shop.example")
        <Response [200 OK]>
    """

    def __init__(
        self,
        transport: httpx.BaseTransport | None = None,
        *,
        retry: Retry | None = None,
        breaker: Detect | None = None,
        limit: int | Adaptive | None = None,
        budget: RetryBudget | float | None = None,
        name: str | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        given: object = transport
        if not isinstance(given, httpx.BaseTransport | None):
            raise TypeError(f"`transport` must be an httpx.BaseTransport or None, not {given!r}")
        self._policies = policies_of(retry, breaker, limit, budget, name, metrics)
        check_kind(self._policies.retry, Kind.SYNC, type(self))
        self._hosts = Hosts(self._policies, attempt)
        self._known = self._hosts.known
        self._first_judged = self._policies.first_judged
        self._transport = httpx.HTTPTransport() if transport is None else transport
        self._send = self._transport.handle_request

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request, as a client asks for it."""
        started = monotonic()
        url = request.url
        host = self._known.get((url.host, url.port)) or self._hosts.add((url.host, url.port))
        host.used = started
        send = self._send
        first: httpx.Response | BaseException | None = None
        if (
            host.straight
            and not process_contexts
            and block_context() is None
            and type(request.stream) is _Bytes
        ):
            # Written out, for the path of every healthy request; what follows a failure is below.
            try:
                first = send(request)
            except BaseException as error:  # noqa: BLE001 - it is raised below
                first = error
            else:
                if first.status_code < self._first_judged:
                    host.success(monotonic() - started)
                    return first
        exchange = HttpxExchange(request, host, self._policies, started, send, first)
        first = None  # an exception's traceback leads here
        try:
            response: httpx.Response = answer(exchange)
        except MainstayError as error:
            raise _as_httpx(error, request) from error.__cause__
        return response

    def close(self) -> None:
        """Close the transport inside."""
        self._transport.close()

    def __enter__(self) -> Self:
        self._transport.__enter__()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        self._transport.__exit__(exc_type, exc_value, traceback)


class AsyncTransport(httpx.AsyncBaseTransport):
    """As `Transport`, for ``httpx.AsyncClient``, on asyncio.

    At the end of a `deadline` an attempt is interrupted, and so is the reading of a body, with any
    protocol. Waits suspend only the task.

    Args:
        transport: The transport that sends the requests. None for ``httpx.AsyncHTTPTransport()``.
        retry: As for `Transport`; it may have an `attempt_timeout`, and an async `on`.
        breaker: As for `Transport`.
        limit: As for `Transport`.
        budget: As for `Transport`.
        name: As for `Transport`.
        metrics: As for `Transport`.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of its range, or *budget* is given twice.

    Metrics:
        As for `Transport`.

    Example:
        >>> import asyncio, httpx
        >>> from mainstay.integrations.httpx import AsyncTransport
        >>> statuses = iter([503, 200])
        >>> server = httpx.MockTransport(lambda request: httpx.Response(next(statuses)))
        >>> async def main() -> httpx.Response:
        ...     async with httpx.AsyncClient(transport=AsyncTransport(server)) as client:
        ...         return await client.get("http://shop.example")
        >>> asyncio.run(main())
        <Response [200 OK]>
    """

    def __init__(
        self,
        transport: httpx.AsyncBaseTransport | None = None,
        *,
        retry: Retry | None = None,
        breaker: Detect | None = None,
        limit: int | Adaptive | None = None,
        budget: RetryBudget | float | None = None,
        name: str | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        given: object = transport
        if not isinstance(given, httpx.AsyncBaseTransport | None):
            raise TypeError(
                f"`transport` must be an httpx.AsyncBaseTransport or None, not {given!r}"
            )
        self._policies = policies_of(retry, breaker, limit, budget, name, metrics)
        self._hosts = Hosts(self._policies, aattempt)
        self._known = self._hosts.known
        self._first_judged = self._policies.first_judged
        self._transport = httpx.AsyncHTTPTransport() if transport is None else transport
        self._send = self._transport.handle_async_request

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request, as a client asks for it."""
        started = monotonic()
        url = request.url
        host = self._known.get((url.host, url.port)) or self._hosts.add((url.host, url.port))
        host.used = started
        send = self._send
        first: httpx.Response | BaseException | None = None
        if (
            host.straight
            and host.on_asyncio
            and not process_contexts
            and block_context() is None
            and type(request.stream) is _Bytes
        ):
            try:
                first = await send(request)
            except BaseException as error:  # noqa: BLE001 - it is raised below
                first = error
            else:
                if first.status_code < self._first_judged:
                    host.success(monotonic() - started)
                    return first
        exchange = HttpxExchange(request, host, self._policies, started, send, first)
        first = None
        try:
            response: httpx.Response = await aanswer(exchange)
        except MainstayError as error:
            raise _as_httpx(error, request) from error.__cause__
        return response

    async def aclose(self) -> None:
        """Close the transport inside."""
        await self._transport.aclose()

    async def __aenter__(self) -> Self:
        await self._transport.__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        await self._transport.__aexit__(exc_type, exc_value, traceback)


def _as_httpx(error: MainstayError, request: httpx.Request) -> httpx.TransportError:
    base = base_for(error, httpx.TransportError, httpx.ReadTimeout)
    return as_clients(error, base, request=request)
