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

    Mount it in a session: ``session.mount("https://", Adapter())``. In the metrics each host is a
    component, with its own breaker and limit if these are set. Requests are retried as *retry*
    says, by default as `transient` decides: a POST only if nothing was sent, or the server asks for
    a retry. A request is never repeated if its body cannot be sent again: a generator, or a file
    that cannot seek, from which an attempt has read.

    **Responses stay responses.** If the status of a response counts as a failure, the response is
    closed before the next attempt; the last response is returned, as by requests itself. Exceptions
    are those of requests. If mainstay ends a request (the breaker is open, no place is free, no
    time is left), the exception is also a ``requests.RequestException``, so
    ``except requests.RequestException`` is enough.

    **The deadline limits each request.** Inside a `deadline` the timeouts of a request are no
    longer than the time left, the headers of `deadline_headers` are sent, and the reading of a body
    ends with the deadline, even if bytes keep coming. A server that sends its headers byte by byte
    can exceed the deadline.

    An exception while the body is read, after the response has arrived, is not retried; for that,
    put `retry` around the function.

    Args:
        transport: The adapter that sends the requests. None for
            ``requests.adapters.HTTPAdapter()``, which does not retry by itself.
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
        >>> import requests
        >>> from mainstay.integrations.requests import Adapter
        >>> session = requests.Session()
        >>> session.mount("https://", Adapter(limit=20))
        >>> session.mount("http://", Adapter(limit=20))
    """

    def __init__(
        self,
        transport: BaseAdapter | None = None,
        *,
        retry: Retry | None = None,
        breaker: Detect | None = None,
        limit: int | Adaptive | None = None,
        budget: RetryBudget | float | None = None,
        name: str | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        super().__init__()
        given: object = transport
        if not isinstance(given, BaseAdapter | None):
            raise TypeError(f"`transport` must be a BaseAdapter of requests or None, not {given!r}")
        self._policies = policies_of(retry, breaker, limit, budget, name, metrics)
        check_kind(self._policies.retry, Kind.SYNC, type(self))
        self._hosts = Hosts(self._policies, attempt)
        self._adapter = HTTPAdapter() if transport is None else transport

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
