"""One request of requests: how an attempt is sent, and what its bodies are."""

import inspect
import math
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any

import requests
import urllib3
from requests.adapters import BaseAdapter
from urllib3 import __version__ as _urllib3_version  # type: ignore[attr-defined]  # in no `__all__`

from mainstay._core.clock import monotonic
from mainstay._limits.bulkhead_calls import BulkheadCall
from mainstay._wire import deadline_headers
from mainstay.errors import DeadlineExpiredError
from mainstay.integrations._calls import end_of
from mainstay.integrations._errors import as_clients
from mainstay.integrations._hosts import Host, Policies, counts
from mainstay.integrations._open_answer import OpenAnswer
from mainstay.integrations._time import has_deadline, is_over, time_left
from mainstay.integrations._versions import check_version

# Before anything below names what older versions lack.
check_version("requests", requests.__version__, since="2.32.2", before="3")
check_version("urllib3", _urllib3_version, since="2.0.2", before="3")


class RequestsExchange:
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
        self._body: RequestsBody | None = None
        self.host = host
        self.started: float = monotonic()
        self.response: requests.Response | None = None
        self.refusal: Exception | None = None
        if request.body is not None and type(request.body) not in (bytes, str):
            self._body = RequestsBody(request.body)

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
        if response.status_code >= self._policies.first_judged:
            text = f"status {response.status_code}"
            self.refusal = requests.HTTPError(text, request=self._request, response=response)
            if counts(self.host, self._policies, self.refusal, response.headers):
                raise self.refusal
            self.refusal = None
        return response

    def _send_in_time(self, left: float) -> requests.Response:
        """Send it with limits and headers that tell the time left."""
        if left == math.inf:
            return self._adapter.send(self._request, timeout=self._timeout, **self._options)
        headers = self._request.headers
        added = {name: text for name, text in deadline_headers().items() if name not in headers}
        headers.update(added)
        timeout: Any = _shorter(self._timeout, left)  # which the stubs know only in HTTPAdapter
        body: Any = self._request.body
        if self._body is not None and not hasattr(body, "read"):
            self._request.body = PiecesInTime(body, self._component)  # type: ignore[assignment]
        try:
            response = self._adapter.send(self._request, timeout=timeout, **self._options)
        except (requests.Timeout, requests.ConnectionError) as error:
            if is_over():
                late = type(error) if isinstance(error, requests.Timeout) else requests.ReadTimeout
                expired = DeadlineExpiredError(self._component)
                raise as_clients(expired, late, request=self._request) from error
            raise
        finally:
            self._request.body = body
            for name in added:
                del headers[name]
        if response.raw is not None:
            response.raw = RequestsAnswerBody(response.raw, self._component)
        return response

    @property
    def _component(self) -> str:
        return self.host.retry.component

    # What becomes of the answer.

    def hold(self, place: BulkheadCall) -> None:
        """Free *place* once the body of the answer is out."""
        response: Any = self.response
        if response.raw is None:  # an adapter of the user's own may answer without a connection
            end_of(place, None)
            return
        if not isinstance(response.raw, RequestsAnswerBody):
            response.raw = RequestsAnswerBody(response.raw, self._component)
        response.raw.answer.hold(place)

    def discard(self) -> None:
        """Close the answer of an attempt that another one follows."""
        response, self.response, self.refusal = self.response, None, None
        if response is not None:
            with suppress(Exception):  # what cannot be closed keeps nobody from another attempt
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


class RequestsBody:
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


class PiecesInTime:
    """The pieces of a request's body, which end with the time left."""

    def __init__(self, pieces: Iterable[bytes], component: str) -> None:
        self._pieces = pieces
        self._component = component

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._pieces:
            time_left(self._component)  # urllib3 makes of what that raises what it makes of resets
            yield piece


_END = object()


class RequestsAnswerBody:
    """The body of an answer, which ends with the time left and gives back the place of its request.

    Attributes:
        answer: What the body needs until nobody reads it any more.
    """

    def __init__(self, raw: Any, component: str) -> None:
        self._raw = raw
        self._component = component
        self.answer = OpenAnswer(component)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._raw, name)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._raw)

    def stream(self, *args: Any, **kwargs: Any) -> Iterator[bytes]:
        """Yield the pieces of the body."""
        pieces = self._raw.stream(*args, **kwargs)
        while (piece := self._in_time(next, pieces, _END)) is not _END:
            yield piece
        self.answer.end()

    def read(self, amt: int | None = None, *args: Any, **kwargs: Any) -> Any:
        """Return at most *amt* bytes of the body, or all of it."""
        piece = self._in_time(self._raw.read, amt, *args, **kwargs)
        if amt is None or not piece:
            self.answer.end()
        return piece

    def _in_time(self, read: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            if not has_deadline():
                return read(*args, **kwargs)
            with self.answer.reading(time_left(self._component), lambda: self._raw):
                return read(*args, **kwargs)
        except BaseException as error:
            self.answer.error = error
            # requests itself leaves that to its caller, and urllib3 knows only of its own errors.
            self.close()
            self.release_conn()
            if has_deadline() and is_over():
                expired = DeadlineExpiredError(self._component)
                raise as_clients(expired, requests.ReadTimeout) from error
            raise

    def close(self) -> None:
        """Close the body, and give the place back."""
        try:
            self._raw.close()
        finally:
            self.answer.end()

    def release_conn(self) -> None:
        """Return the connection to its pool, and free the place."""
        try:
            release = getattr(self._raw, "release_conn", None)
            if release is not None:
                release()
        finally:
            self.answer.end()

    def __del__(self) -> None:  # of an answer that nobody has closed
        self.answer.end()
