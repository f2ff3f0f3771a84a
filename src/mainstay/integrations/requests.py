"""requests: an adapter with retries, a breaker and a limit for each host, and the time left.

Needs `mainstay[requests]`.
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

try:
    import requests
    from requests.adapters import BaseAdapter, HTTPAdapter
except ModuleNotFoundError as _error:
    _error.add_note("pip install 'mainstay[requests]'")
    raise

from mainstay._core.budget import RetryBudget
from mainstay._core.clock import monotonic
from mainstay._core.detector import Detect
from mainstay._core.functions import Kind
from mainstay._limits.adaptive import Adaptive
from mainstay._metrics.collector import Metrics
from mainstay._retry.policy import Retry, check_kind
from mainstay.errors import MainstayError
from mainstay.integrations._calls import answer, attempt
from mainstay.integrations._errors import as_clients, base_for
from mainstay.integrations._hosts import HostKey, Hosts, policies_of
from mainstay.integrations._requests import RequestsExchange

__all__ = ["Adapter"]


_USUAL_PORTS = {"http": 80, "https": 443}


class Adapter(BaseAdapter):
    """Retries, a breaker and a limit for each host, and metrics: an adapter around another.

    Mount it in a session: ``session.mount("https://", Adapter())``. Each host has a component of
    its own in the metrics, and a breaker and a limit where they are asked for. What cannot be sent
    again is not: a body that is a generator, or a file that cannot seek, once an attempt has read
    from it; and what *retry* says, which by default is `transient`, and so a POST only where
    nothing was sent or the server asks for it.

    **Answers are answers.** One whose status is a failure is closed before the next attempt; the
    last one is returned, as requests itself would. Exceptions are those of requests. Where ours end
    a request (a breaker is open, there is no place, no time is left), they are those of requests
    as well: ``except requests.RequestException`` is enough.

    **The time left is the client's limit.** Within a `deadline` the timeouts of a request are no
    longer than what it leaves, the headers of `deadline_headers` are sent, and a body that drips
    ends with it. A server that drips the headers outlasts it.

    What is raised while the body is read, after the answer has come, is not repeated: put `retry`
    around the function for that.

    Args:
        adapter: What sends the requests. None for ``requests.adapters.HTTPAdapter()``, which does
            not retry by itself.
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
        >>> import requests
        >>> from mainstay.integrations.requests import Adapter
        >>> session = requests.Session()
        >>> session.mount("https://", Adapter(limit=20))
        >>> session.mount("http://", Adapter(limit=20))
    """

    def __init__(
        self,
        adapter: BaseAdapter | None = None,
        *,
        retry: Retry | None = None,
        breaker: Detect | None = None,
        limit: int | Adaptive | None = None,
        budget: RetryBudget | float | None = None,
        name: str | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        super().__init__()
        given: object = adapter
        if not isinstance(given, BaseAdapter | None):
            raise TypeError(f"`adapter` must be a BaseAdapter of requests or None, not {given!r}")
        self._policies = policies_of(retry, breaker, limit, budget, name, metrics)
        check_kind(self._policies.retry, Kind.SYNC, type(self))
        self._hosts = Hosts(self._policies, attempt)
        self._adapter = HTTPAdapter() if adapter is None else adapter

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,  # noqa: FBT001, FBT002 - as requests calls it
        timeout: Any = None,
        verify: bool | str = True,  # noqa: FBT001, FBT002 - as above
        cert: Any = None,
        proxies: Mapping[str, str] | None = None,
    ) -> requests.Response:
        """Send a request, as a session asks for it."""
        options = {"stream": stream, "verify": verify, "cert": cert, "proxies": proxies}
        host = self._hosts.find(_host_of(request), monotonic())
        exchange = RequestsExchange(request, host, self._policies, self._adapter, timeout, options)
        try:
            response: requests.Response = answer(exchange)
        except MainstayError as error:
            base = base_for(error, requests.ConnectionError, requests.ReadTimeout)
            raise as_clients(error, base, request=request) from error.__cause__
        # By it `HTTPDigestAuth` sends what follows a challenge.
        setattr(response, "connection", self)  # noqa: B010 - which the stubs know as another one
        return response

    def close(self) -> None:
        """Close the adapter inside."""
        self._adapter.close()


def _host_of(request: requests.PreparedRequest) -> HostKey:
    """Return the host of a request, with the port unless that is the usual one."""
    parts = urlsplit(str(request.url))
    usual = parts.port == _USUAL_PORTS.get(parts.scheme)
    return parts.hostname or "", None if usual else parts.port
