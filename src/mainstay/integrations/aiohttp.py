"""aiohttp: a client middleware with retries, a breaker and a limit for each host.

Needs `mainstay[aiohttp]`.
"""

from types import SimpleNamespace
from typing import Any

import aiohttp

from mainstay._core.budget import RetryBudget
from mainstay._core.clock import monotonic
from mainstay._core.context import current_context
from mainstay._core.detector import Detect
from mainstay._limits.adaptive import Adaptive
from mainstay._limits.bulkhead_calls import BulkheadCall
from mainstay._metrics.collector import Metrics
from mainstay._retry.policy import Retry
from mainstay._wire import deadline_headers
from mainstay.errors import DeadlineExpiredError, MainstayError
from mainstay.integrations._calls import aanswer, aattempt, end_of
from mainstay.integrations._errors import as_clients, base_for
from mainstay.integrations._hosts import Host, Hosts, Policies, counts, policies_of
from mainstay.integrations._time import has_deadline, is_over, until_deadline
from mainstay.integrations._versions import check_version

__all__ = ["Middleware"]

check_version("aiohttp", aiohttp.__version__, since="3.12.15", before="4")

_SWITCHING = 101
_KEY = "Idempotency-Key"
_BROKEN = (aiohttp.ClientPayloadError, OSError)
"""What ends a body before its time; that the caller has closed it is none of them."""


class Middleware:
    """Send what failed again, and leave alone what keeps failing: a client middleware.

    Give it to a session: ``aiohttp.ClientSession(middlewares=[Middleware()])``. Each host has a
    component of its own in the metrics, and a breaker and a limit where they are asked for. What
    cannot be sent again is not: a body that is an async generator or a file that cannot seek, once
    an attempt has read from it; and what *retry* says, which by default is `transient`.

    **Answers are answers.** One whose status is a failure is closed before the next attempt; the
    last one is returned, as aiohttp itself would. Exceptions are those of aiohttp. Where ours end a
    request (a breaker is open, there is no place, no time is left), they are those of aiohttp as
    well: ``except aiohttp.ClientError`` is enough.

    **The time left is the client's limit.** Within a `deadline` an attempt is interrupted at its
    end, and so is the body of an answer, dripping or not; the headers of `deadline_headers` are
    sent. A websocket goes on, since it is no answer that ends.

    What is raised while the body is read, after the answer has come, is not repeated: put `retry`
    around the function for that.

    Args:
        retry: A `retry(...)`. None for ``retry(on=transient, attempts=3)``.
        breaker: When to leave a host alone: a `Detect`. None for no breakers.
        limit: How many requests of a host run at a time: a number, or an `Adaptive`. A request has
            its place until its answer is read or closed, a websocket until it is. None for no
            limit.
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
        >>> import aiohttp
        >>> from mainstay.integrations.aiohttp import Middleware
        >>> async def fetch(url: str) -> str:
        ...     async with aiohttp.ClientSession(middlewares=[Middleware(limit=20)]) as session:
        ...         async with session.get(url) as response:
        ...             return await response.text()
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
        self._policies = policies_of(retry, breaker, limit, budget, name, metrics)
        self._hosts = Hosts(self._policies, aattempt)

    async def __call__(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """Send a request, as a session asks for it."""
        url = request.url
        key = url.host or "", None if url.is_default_port() else url.port
        host = self._hosts.find(key, monotonic())
        exchange = AiohttpExchange(request, host, self._policies, handler)
        try:
            response: aiohttp.ClientResponse = await aanswer(exchange)
        except MainstayError as error:
            base = base_for(error, aiohttp.ClientConnectionError, aiohttp.ServerTimeoutError)
            raise as_clients(error, base) from error.__cause__
        return response


class AiohttpExchange:
    """One request, and how it is sent: an `AsyncExchange`.

    Args:
        request: The request.
        host: What it goes through.
        policies: What a failure is.
        handler: Sends it.
    """

    def __init__(
        self,
        request: aiohttp.ClientRequest,
        host: Host,
        policies: Policies,
        handler: aiohttp.ClientHandlerType,
    ) -> None:
        self._request = request
        self._handler = handler
        self._policies = policies
        self._own = frozenset(request.headers)
        self.host = host
        self.started: float = monotonic()
        self.response: aiohttp.ClientResponse | None = None
        self.refusal: Exception | None = None

    def used_up(self) -> str | None:
        """Return that the body is used up, where an attempt has read from it."""
        if getattr(self._request.body, "consumed", False):
            return "the body of the request is used up; pass bytes, or a file that can seek"
        return None

    # An attempt.

    async def asend(self) -> aiohttp.ClientResponse:
        """Make an attempt; raise for an answer that is a failure."""
        try:
            response = await self._answered()
        except aiohttp.ClientConnectionError as error:
            _tell_request(error, self._request)
            raise
        self.response = response
        if response.status >= self._policies.first_judged:
            self.refusal = aiohttp.ClientResponseError(
                response.request_info,
                response.history,
                status=response.status,
                message=response.reason or "",
                headers=response.headers,
            )
            if counts(self.host, self._policies, self.refusal, response.headers):
                raise self.refusal
            self.refusal = None
        return response

    async def _answered(self) -> aiohttp.ClientResponse:
        if has_deadline():
            for name, text in deadline_headers().items():
                if name not in self._own:
                    self._request.headers[name] = text
            component = self.host.retry.component
            response = await until_deadline(self._handler(self._request), component)
            if response.status != _SWITCHING:
                _end_with_deadline(response, component)
            return response
        return await self._handler(self._request)

    # What becomes of the answer.

    def hold(self, place: BulkheadCall) -> None:
        """Free *place* once the body of the answer is out."""
        response: Any = self.response

        def end() -> None:
            error = response.content.exception()
            end_of(place, error if isinstance(error, _BROKEN) else None)

        _when_out(response, end)

    async def adiscard(self) -> None:
        """Close the answer of an attempt that another one follows."""
        response, self.response, self.refusal = self.response, None, None
        if response is not None:
            response.close()


def _tell_request(error: Any, request: aiohttp.ClientRequest) -> None:
    """Tell an exception what `transient` asks of it: whether the same may be sent again."""
    headers = {_KEY: key} if (key := request.headers.get(_KEY)) else {}  # and no secrets
    error.request = SimpleNamespace(method=request.method, headers=headers)


def _end_with_deadline(response: aiohttp.ClientResponse, component: str) -> None:
    """End the body of an answer with the deadline, if that is in force by then."""
    context = current_context()
    left = context.left()
    if left == float("inf"):
        return

    def end() -> None:  # in the context of the request, where a deadline that was left is over
        if not response.closed and is_over():
            expired = DeadlineExpiredError(component)
            response.content.set_exception(as_clients(expired, aiohttp.SocketTimeoutError))
            response.close()

    timer = context.clock.call_later(max(0.0, left), end)
    _when_out(response, timer.cancel)


def _when_out(response: aiohttp.ClientResponse, then: Any) -> None:
    """Call *then* once the body of an answer is out, or closed."""
    connection = response.connection
    if connection is None:
        then()
    else:
        connection.add_callback(then)
