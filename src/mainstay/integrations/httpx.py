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

    Give it to a client: ``httpx.Client(transport=Transport())``. Each host has a component of its
    own in the metrics, and a breaker and a limit where they are asked for. What cannot be sent
    again is not: a body that is a generator or a file, once an attempt has read from it; and what
    *retry* says, which by default is `transient`, and so a POST only where nothing was sent or the
    server asks for it.

    **Answers are answers.** One whose status is a failure is closed before the next attempt; the
    last one is returned, as the client itself would. Exceptions are httpx's own. Where ours end a
    request (a breaker is open, there is no place, no time is left), they are httpx's as well:
    ``except httpx.TransportError`` is enough.

    **The time left is the client's limit.** Within a `deadline` the limits of a request are no
    longer than what it leaves, the headers of `deadline_headers` are sent, and a body that drips
    ends with it. The body of an answer over HTTP/2 is looked at by pieces; and a server that drips
    the headers, or takes the request in drop by drop, outlasts it.

    What is raised while the body is read, after the answer has come, is not repeated: put `retry`
    around the function for that.

    Args:
        transport: What sends the requests. None for ``httpx.HTTPTransport()``.
        retry: A `retry(...)`. None for ``retry(on=transient, attempts=3)``.
        breaker: When to leave a host alone: a `Detect`. None for no breakers.
        limit: How many requests of a host run at a time: a number, or an `Adaptive`. A request has
            its place until its answer is read or closed. None for no limit.
        budget: What retries are charged to: a `RetryBudget`, or a share of the requests of each
            host, 0 to 1. None for no such limit.
        name: The `component` label. None for the host, with its port unless that is the usual one.
        metrics: Where to record. None for `default_metrics()`.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If one is out of range, or *budget* is given twice.

    Metrics:
        Those of `retry`, of `CircuitBreaker` and of `Bulkhead`. At most 1,000 hosts are known at a
        time; the one that was used least recently goes.

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

    At the end of a `deadline` an attempt is interrupted, and so is a body, whichever protocol
    brings it. Waits suspend the task only.

    Args:
        transport: What sends the requests. None for ``httpx.AsyncHTTPTransport()``.
        retry: As for `Transport`; it may have an `attempt_timeout`, and an async `on`.
        breaker: As for `Transport`.
        limit: As for `Transport`.
        budget: As for `Transport`.
        name: As for `Transport`.
        metrics: As for `Transport`.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If one is out of range, or *budget* is given twice.

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
