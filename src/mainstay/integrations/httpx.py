"""httpx: transports with retries, a breaker and a limit for each host, and the time left.

Needs `mainstay[httpx]`.
"""

import math
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import Any, Self

import httpx

from mainstay._core.budget import RetryBudget
from mainstay._core.clock import monotonic
from mainstay._core.detector import Detect
from mainstay._limits.adaptive import Adaptive
from mainstay._limits.bulkhead_calls import BulkheadCall
from mainstay._metrics.collector import Metrics
from mainstay._retry.policy import Retry
from mainstay._wire import deadline_headers
from mainstay.errors import DeadlineExpiredError, MainstayError
from mainstay.integrations._calls import aanswer, aattempt, answer, attempt, end_of
from mainstay.integrations._errors import as_clients, base_for
from mainstay.integrations._hosts import Host, Hosts, Policies, counts, policies_of
from mainstay.integrations._time import has_deadline, is_over, time_left, until_deadline
from mainstay.integrations._versions import check_version
from mainstay.integrations._watchdog import Watch

__all__ = ["AsyncTransport", "Transport"]

check_version("httpx", httpx.__version__, since="0.27", before="1")

_LIMITS = ("connect", "read", "write", "pool")
_FIRST_JUDGED = 400


class Transport(httpx.BaseTransport):
    """Send what failed again, and leave alone what keeps failing: a transport around another.

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
    the headers outlasts it.

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
        self._hosts = Hosts(self._policies, attempt)
        self._transport = httpx.HTTPTransport() if transport is None else transport

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request, as a client asks for it."""
        host = self._hosts.find(request.url.netloc, monotonic())
        exchange = _Exchange(request, host, self._policies, self._transport.handle_request)
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
        self._transport = httpx.AsyncHTTPTransport() if transport is None else transport

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request, as a client asks for it."""
        host = self._hosts.find(request.url.netloc, monotonic())
        exchange = _Exchange(request, host, self._policies, self._transport.handle_async_request)
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


class _Exchange:
    """One request, and how it is sent: `SyncExchange` and `AsyncExchange` of httpx.

    Args:
        request: The request.
        host: What it goes through.
        policies: What a failure is.
        handle: Sends it, or returns what is to be awaited.
    """

    __slots__ = ("_body", "_handle", "_policies", "_request", "host", "refusal", "response")

    def __init__(
        self, request: httpx.Request, host: Host, policies: Policies, handle: Callable[..., Any]
    ) -> None:
        self._request = request
        self._handle = handle
        self._policies = policies
        self.host = host
        self.response: httpx.Response | None = None
        self.refusal: Exception | None = None
        self._body: _BodySentOnce | None = None
        stream: Any = request.stream
        if type(stream) is not httpx.ByteStream and not _can_be_read_again(stream):
            if not isinstance(stream, _BodySentOnce):
                request.stream = stream = _BodySentOnce(stream)
            self._body = stream

    def used_up(self) -> str | None:
        """Return that the body is used up, where an attempt has read from it."""
        return None if self._body is None else self._body.used_up

    # An attempt.

    def send(self) -> httpx.Response:
        """Make an attempt; raise for an answer that is a failure."""
        if not has_deadline():
            return self._checked(self._handle(self._request))
        with _Within(self._request, self._component) as within:
            response: httpx.Response = self._handle(self._request)
            if within.left < math.inf:
                response.stream = _Body(response, self._request, self._component)
        return self._checked(response)

    async def asend(self) -> httpx.Response:
        """As `send`, interrupted when the time is over."""
        if not has_deadline():
            return self._checked(await self._handle(self._request))
        with _Within(self._request, self._component) as within:
            response: httpx.Response = await until_deadline(
                self._handle(self._request), self._component
            )
            if within.left < math.inf:
                response.stream = _Body(response, self._request, self._component)
        return self._checked(response)

    @property
    def _component(self) -> str:
        return self.host.retry.component

    def _checked(self, response: httpx.Response) -> httpx.Response:
        self.response = response
        if response.status_code >= _FIRST_JUDGED:
            text = f"status {response.status_code}"
            error = httpx.HTTPStatusError(text, request=self._request, response=response)
            if counts(self.host, self._policies, error, response.headers):
                self.refusal = error
                raise error
        return response

    # What becomes of the answer.

    def hold(self, place: BulkheadCall) -> None:
        """Give *place* back once the body of the answer is out."""
        response: Any = self.response
        if not isinstance(response.stream, _Body):
            response.stream = _Body(response, self._request, self._component)
        response.stream.place = place

    def discard(self) -> None:
        """Close the answer of an attempt that another one follows."""
        response, self.response, self.refusal = self.response, None, None
        if response is not None:
            response.close()

    async def adiscard(self) -> None:
        """As `discard`."""
        response, self.response, self.refusal = self.response, None, None
        if response is not None:
            await response.aclose()


class _Within:
    """One attempt within the time left: the request has limits and headers that say so meanwhile.

    Attributes:
        left: Seconds; infinity without a deadline.
    """

    __slots__ = ("_added", "_component", "_extensions", "_request", "left")

    def __init__(self, request: httpx.Request, component: str) -> None:
        self._request = request
        self._component = component
        self._extensions = request.extensions
        self._added: list[str] = []
        self.left = time_left(component)

    def __enter__(self) -> Self:
        if self.left < math.inf:
            request, given = self._request, self._extensions.get("timeout") or {}
            limits = {each: _shorter(given.get(each), self.left) for each in _LIMITS}
            # Another mapping, since the client's own outlives the deadline.
            request.extensions = {**self._extensions, "timeout": limits}
            for name, value in deadline_headers().items():
                if name not in request.headers:
                    request.headers[name] = value
                    self._added.append(name)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._request.extensions = self._extensions
        for name in self._added:
            del self._request.headers[name]
        if isinstance(error, httpx.TimeoutException) and is_over():
            expired = DeadlineExpiredError(self._component)
            raise as_clients(expired, type(error), request=self._request) from error


def _shorter(limit: float | None, left: float) -> float:
    return left if limit is None else min(limit, left)


# Bodies.


def _can_be_read_again(stream: object) -> bool:
    """True if the body of a request can be sent any number of times."""
    if isinstance(stream, httpx.ByteStream):
        return True
    fields = getattr(stream, "fields", None) if type(stream).__name__ == "MultipartStream" else None
    return fields is not None and all(_is_rewound(getattr(each, "file", "")) for each in fields)


def _is_rewound(file: Any) -> bool:
    """True if a form's file is sent from its start each time."""
    return isinstance(file, str | bytes) or (hasattr(file, "seekable") and file.seekable())


class _BodySentOnce(httpx.SyncByteStream, httpx.AsyncByteStream):
    """The body of a request that can be read once.

    Attributes:
        used_up: That it has been, in words; None before.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.used_up: str | None = None

    def __iter__(self) -> Iterator[bytes]:
        self.used_up = _USED_UP
        for piece in self._stream:
            yield piece
            time_left("the body of a request")

    async def __aiter__(self) -> AsyncIterator[bytes]:
        self.used_up = _USED_UP
        async for piece in self._stream:
            yield piece

    def close(self) -> None:
        self._stream.close()

    async def aclose(self) -> None:
        await self._stream.aclose()


_USED_UP = "the body of the request is used up; pass bytes, or a file that can seek in `files=`"


class _Body(httpx.SyncByteStream, httpx.AsyncByteStream):
    """The body of an answer, which ends with the time left and gives back the place of its request.

    Attributes:
        place: The place, if there is one that is still held.
    """

    def __init__(self, response: httpx.Response, request: httpx.Request, component: str) -> None:
        self._stream: Any = response.stream
        self._extensions = response.extensions
        self._request = request
        self._component = component
        self._watch: Watch | None = None
        self._error: BaseException | None = None
        self.place: BulkheadCall | None = None

    def __iter__(self) -> Iterator[bytes]:
        pieces = iter(self._stream)
        try:
            while (piece := self._next(pieces)) is not None:
                yield piece
        except Exception as error:
            self._error = error
            raise

    def _next(self, pieces: Iterator[bytes]) -> bytes | None:
        """Return the next piece; None at the end."""
        if not has_deadline():
            return next(pieces, None)
        try:
            with self._watched(time_left(self._component)):
                return next(pieces, None)
        except (httpx.TransportError, DeadlineExpiredError) as error:
            if is_over():
                raise self._late() from error
            raise

    def _watched(self, left: float) -> AbstractContextManager[None]:
        if left == math.inf or self._extensions.get("http_version") == b"HTTP/2":
            return nullcontext()  # the connection has other requests, too
        if self._watch is None:
            stream = self._extensions.get("network_stream")
            connection = stream and stream.get_extra_info("socket")
            if connection is None:
                return nullcontext()
            self._watch = Watch(connection.fileno())
        return self._watch.reading(left, self._component)

    def _late(self) -> httpx.ReadTimeout:
        """Return what a read raises that the time left has ended."""
        expired = DeadlineExpiredError(self._component)
        return as_clients(expired, httpx.ReadTimeout, request=self._request)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        pieces = aiter(self._stream)
        try:
            while (piece := await self._anext(pieces)) is not None:
                yield piece
        except Exception as error:
            self._error = error
            raise

    async def _anext(self, pieces: AsyncIterator[bytes]) -> bytes | None:
        if not has_deadline():
            return await anext(pieces, None)
        try:
            return await until_deadline(anext(pieces, None), self._component)
        except (httpx.TransportError, DeadlineExpiredError) as error:
            if is_over():
                raise self._late() from error
            raise

    def close(self) -> None:
        """Close the body, and give the place back."""
        try:
            self._stream.close()
        finally:
            self._end()

    async def aclose(self) -> None:
        """As `close`."""
        try:
            await self._stream.aclose()
        finally:
            self._end()

    def _end(self) -> None:
        if self._watch is not None:
            self._watch.close()
        place, self.place = self.place, None
        if place is not None:
            end_of(place, self._error)
