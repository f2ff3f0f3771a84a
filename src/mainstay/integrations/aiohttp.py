"""aiohttp: a client middleware with retries, a breaker and a limit for each host.

Needs `mainstay[aiohttp]`.
"""

try:
    import aiohttp
except ModuleNotFoundError as _error:
    _error.add_note("pip install 'mainstay[aiohttp]'")
    raise

from mainstay._core.budget import RetryBudget
from mainstay._core.clock import monotonic
from mainstay._core.detector import Detect
from mainstay._limits.adaptive import Adaptive
from mainstay._metrics.collector import Metrics
from mainstay._retry.policy import Retry
from mainstay.errors import MainstayError
from mainstay.integrations._aiohttp import AiohttpExchange
from mainstay.integrations._calls import aanswer, aattempt
from mainstay.integrations._errors import as_clients, base_for
from mainstay.integrations._hosts import Hosts, policies_of

__all__ = ["Middleware"]


class Middleware:
    """Retries, a breaker and a limit for each host, and metrics: a client middleware.

    Pass it to a session: ``aiohttp.ClientSession(middlewares=[Middleware()])``. In the metrics each
    host is a component, with its own breaker and limit if these are set. Requests are retried as
    *retry* says, by default as `transient` decides. A request is never repeated if its body cannot
    be sent again: an async generator, or a file that cannot seek, from which an attempt has read.

    **Responses stay responses.** If the status of a response counts as a failure, the response is
    closed before the next attempt; the last response is returned, as by aiohttp itself. Exceptions
    are those of aiohttp. If mainstay ends a request (the breaker is open, no place is free, no time
    is left), the exception is also an ``aiohttp.ClientError``, so ``except aiohttp.ClientError`` is
    enough.

    **The deadline limits each request.** At the end of a surrounding `deadline` an attempt is
    interrupted, and so is the reading of a body. The headers of `deadline_headers` are sent. A
    websocket is not interrupted.

    An exception while the body is read, after the response has arrived, is not retried; for that,
    put `retry` around the function.

    Args:
        retry: A `retry(...)`. None for ``retry(on=transient, attempts=3)``.
        breaker: When a host gets no requests for a while: a `Detect`. None for no breakers.
        limit: The number of requests to a host that may run at a time, or an `Adaptive`. A request
            keeps its place until its response is read or closed, a websocket until it is closed.
            None for no limit.
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
