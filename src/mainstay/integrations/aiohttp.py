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
