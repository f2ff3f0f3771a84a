"""requests: an adapter with retries, a breaker and a limit for each host, and the time left.

Needs `mainstay[requests]`.
"""

import inspect
import math
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3
from requests.adapters import BaseAdapter, HTTPAdapter
from urllib3 import __version__ as _urllib3_version  # type: ignore[attr-defined]  # in no `__all__`

from mainstay._core.budget import RetryBudget
from mainstay._core.clock import monotonic
from mainstay._core.detector import Detect
from mainstay._limits.adaptive import Adaptive
from mainstay._limits.bulkhead_calls import BulkheadCall
from mainstay._metrics.collector import Metrics
from mainstay._retry.policy import Retry
from mainstay._wire import deadline_headers
from mainstay.errors import DeadlineExpiredError, MainstayError
from mainstay.integrations._calls import answer, attempt, end_of
from mainstay.integrations._errors import as_clients, base_for
from mainstay.integrations._hosts import Host, Hosts, Policies, counts, policies_of
from mainstay.integrations._time import has_deadline, is_over, time_left
from mainstay.integrations._versions import check_version
from mainstay.integrations._watchdog import Watch

__all__ = ["Adapter"]

check_version("requests", requests.__version__, since="2.32", before="3")
check_version("urllib3", _urllib3_version, since="2", before="3")

_FIRST_JUDGED = 400
_USUAL_PORTS = {"http": 80, "https": 443}


class Adapter(BaseAdapter):
    """Send what failed again, and leave alone what keeps failing: an adapter around another.

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
        exchange = _Exchange(request, host, self._policies, self._adapter, timeout, options)
        try:
            response: requests.Response = answer(exchange)
        except MainstayError as error:
            base = base_for(error, requests.ConnectionError, requests.ReadTimeout)
            raise as_clients(error, base, request=request) from error.__cause__
        return response

    def close(self) -> None:
        """Close the adapter inside."""
        self._adapter.close()


def _host_of(request: requests.PreparedRequest) -> str:
    """Return the host of a request, with the port unless that is the usual one."""
    parts = urlsplit(request.url or "")
    name = str(parts.hostname or "")
    if ":" in name:
        name = f"[{name}]"
    if parts.port is None or parts.port == _USUAL_PORTS.get(str(parts.scheme)):
        return name
    return f"{name}:{parts.port}"


class _Exchange:
    """One request, and how it is sent: a `SyncExchange`.

    Args:
        request: The request.
        host: What it goes through.
        policies: What a failure is.
        adapter: What sends it.
        timeout: The limits that were asked for.
        options: What else it is sent with.
    """

    def __init__(
        self,
        request: requests.PreparedRequest,
        host: Host,
        policies: Policies,
        adapter: BaseAdapter,
        timeout: Any,
        options: dict[str, Any],
    ) -> None:
        self._request = request
        self._adapter = adapter
        self._policies = policies
        self._timeout = timeout
        self._options = options
        self._body: _Body | None = None
        self.host = host
        self.response: requests.Response | None = None
        self.refusal: Exception | None = None
        if request.body is not None and type(request.body) not in (bytes, str):
            self._body = _Body(request.body)

    def used_up(self) -> str | None:
        """Return that the body is used up, where an attempt has read from it."""
        return None if self._body is None else self._body.used_up()

    # An attempt.

    def send(self) -> requests.Response:
        """Make an attempt; raise for an answer that is a failure."""
        if self._body is not None:
            self._body.rewind()
        if has_deadline():
            response = self._send_in_time(time_left(self._component))
        else:
            response = self._adapter.send(self._request, timeout=self._timeout, **self._options)
        self.response = response
        if response.status_code >= _FIRST_JUDGED:
            text = f"status {response.status_code}"
            error = requests.HTTPError(text, request=self._request, response=response)
            if counts(self.host, self._policies, error, response.headers):
                self.refusal = error
                raise error
        return response

    def _send_in_time(self, left: float) -> requests.Response:
        """Send it with limits and headers that tell the time left."""
        if left == math.inf:
            return self._adapter.send(self._request, timeout=self._timeout, **self._options)
        headers = self._request.headers
        added = {name: text for name, text in deadline_headers().items() if name not in headers}
        headers.update(added)
        timeout: Any = _shorter(self._timeout, left)  # which the stubs know only in HTTPAdapter
        try:
            response = self._adapter.send(self._request, timeout=timeout, **self._options)
        except requests.Timeout as error:
            if is_over():
                expired = DeadlineExpiredError(self._component)
                raise as_clients(expired, type(error), request=self._request) from error
            raise
        finally:
            for name in added:
                del headers[name]
        response.raw = _Raw(response.raw, self._component)
        return response

    @property
    def _component(self) -> str:
        return self.host.retry.component

    # What becomes of the answer.

    def hold(self, place: BulkheadCall) -> None:
        """Give *place* back once the body of the answer is out."""
        response: Any = self.response
        if not isinstance(response.raw, _Raw):
            response.raw = _Raw(response.raw, self._component)
        response.raw.place = place

    def discard(self) -> None:
        """Close the answer of an attempt that another one follows."""
        response, self.response, self.refusal = self.response, None, None
        if response is not None:
            response.close()


def _shorter(timeout: Any, left: float) -> urllib3.Timeout:
    """Return the limits of a request, none of them longer than the time left."""
    if isinstance(timeout, urllib3.Timeout):
        limits = timeout.clone()
        total = limits.total
        limits.total = left if not isinstance(total, int | float) else min(total, left)
        return limits
    connect, read = timeout if isinstance(timeout, tuple) else (timeout, timeout)
    return urllib3.Timeout(total=left, connect=connect, read=read)


# Bodies.


class _Body:
    """The body of a request that is more than bytes: a file, a generator, or what can be read."""

    def __init__(self, body: Any) -> None:
        self._body = body
        self._begun = False
        self._start: int | None = None
        with suppress(Exception):  # a class of the user's may raise anything
            if body.seekable():
                self._start = body.tell()

    def rewind(self) -> None:
        """Make it ready for an attempt."""
        if self._begun and self._start is not None:
            self._body.seek(self._start)
        self._begun = True

    def used_up(self) -> str | None:
        """Return in words that no other attempt may send it, or None."""
        body = self._body
        if self._start is not None or (not hasattr(body, "read") and iter(body) is not body):
            return None
        if inspect.isgenerator(body) and inspect.getgeneratorstate(body) == inspect.GEN_CREATED:
            return None
        return "the body of the request is used up; pass bytes, or a file that can seek"


_END = object()


class _Raw:
    """The body of an answer, which ends with the time left and gives back the place of its request.

    Attributes:
        place: The place, if there is one that is still held.
    """

    def __init__(self, raw: Any, component: str) -> None:
        self._raw = raw
        self._component = component
        self._watch: Watch | None = None
        self._error: BaseException | None = None
        self.place: BulkheadCall | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._raw, name)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._raw)

    def stream(self, *args: Any, **kwargs: Any) -> Iterator[bytes]:
        """Yield the pieces of the body."""
        pieces = self._raw.stream(*args, **kwargs)
        while (piece := self._in_time(next, pieces, _END)) is not _END:
            yield piece
        self._end()

    def read(self, *args: Any, **kwargs: Any) -> Any:
        """Return a piece of the body, or all of it."""
        piece = self._in_time(self._raw.read, *args, **kwargs)
        if not piece or self._raw.closed:
            self._end()
        return piece

    def _in_time(self, read: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            if not has_deadline():
                return read(*args, **kwargs)
            with self._watched(time_left(self._component)):
                return read(*args, **kwargs)
        except Exception as error:
            self._error = error
            if has_deadline() and is_over():
                expired = DeadlineExpiredError(self._component)
                raise as_clients(expired, requests.ReadTimeout) from error
            raise

    def _watched(self, left: float) -> AbstractContextManager[None]:
        if left < math.inf and self._watch is None:
            with suppress(OSError, ValueError, AttributeError):  # read already, or no connection
                self._watch = Watch(self._raw.fileno())
        if left == math.inf or self._watch is None:
            return nullcontext()
        return self._watch.reading(left, self._component)

    def close(self) -> None:
        """Close the body, and give the place back."""
        try:
            self._raw.close()
        finally:
            self._end()

    def release_conn(self) -> None:
        """Give the connection back, and the place."""
        try:
            self._raw.release_conn()
        finally:
            self._end()

    def _end(self) -> None:
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.close()
        place, self.place = self.place, None
        if place is not None:
            end_of(place, self._error)
