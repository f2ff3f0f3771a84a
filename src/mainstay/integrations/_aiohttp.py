"""One request of aiohttp: how an attempt is sent, and when its answer is out."""

import math
from types import SimpleNamespace
from typing import Any

import aiohttp

from mainstay._core.clock import monotonic
from mainstay._core.context import current_context
from mainstay._limits.bulkhead_calls import BulkheadCall
from mainstay._wire import deadline_headers
from mainstay.errors import DeadlineExpiredError
from mainstay.integrations._calls import end_of
from mainstay.integrations._errors import as_clients
from mainstay.integrations._hosts import Host, Policies, counts
from mainstay.integrations._time import has_deadline, is_over, until_deadline
from mainstay.integrations._versions import check_version

# Before anything below names what older versions lack.
check_version("aiohttp", aiohttp.__version__, since="3.12.15", before="4")

_SWITCHING = 101
_KEY = "Idempotency-Key"
_BROKEN = (aiohttp.ClientPayloadError, OSError)
"""What ends a body before its time; that the caller has closed it is none of them."""


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
        self._own = request.headers.copy()  # whose names are those of HTTP, in any case
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
    if left == math.inf:
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
