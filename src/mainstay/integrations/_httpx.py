"""One request of httpx: how an attempt is sent, and what its bodies are.

The bodies are sync and async in one: a request reads them in one way only.
"""

import math
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from types import TracebackType
from typing import Any, Self

import httpx

from mainstay._limits.bulkhead_calls import BulkheadCall
from mainstay._wire import deadline_headers
from mainstay.errors import DeadlineExpiredError
from mainstay.integrations._calls import end_of
from mainstay.integrations._errors import as_clients
from mainstay.integrations._hosts import Host, Policies, counts
from mainstay.integrations._open_answer import OpenAnswer
from mainstay.integrations._time import (
    has_deadline,
    is_over,
    time_left,
    until_deadline,
)
from mainstay.integrations._versions import check_version

# Before anything below names what older versions lack.
check_version("httpx", httpx.__version__, since="0.27", before="1")

_LIMITS = ("connect", "read", "write", "pool")


class HttpxExchange:
    """One request, and how it is sent: `SyncExchange` and `AsyncExchange` of httpx.

    Args:
        request: The request.
        host: What it goes through.
        policies: What a failure is.
        started: When it began, in seconds of the system's clock.
        handle: Sends it, or returns what is to be awaited.
        first: What the first attempt came to, if it was made: an answer, or an exception.
    """

    __slots__ = (
        "_body",
        "_first",
        "_handle",
        "_policies",
        "_request",
        "host",
        "refusal",
        "response",
        "started",
    )

    def __init__(
        self,
        request: httpx.Request,
        host: Host,
        policies: Policies,
        started: float,
        handle: Callable[..., Any],
        first: httpx.Response | BaseException | None = None,
    ) -> None:
        self._request = request
        self._handle = handle
        self._policies = policies
        self._first = first
        self.host = host
        self.started = started
        self.response: httpx.Response | None = None
        self.refusal: Exception | None = None
        self._body: BodySentOnce | None = None
        stream: Any = request.stream
        if type(stream) is not httpx.ByteStream and not _can_be_read_again(stream):
            if not isinstance(stream, BodySentOnce):
                request.stream = stream = BodySentOnce(stream, self._component)
            self._body = stream

    def used_up(self) -> str | None:
        """Return that the body is used up, where an attempt has read from it."""
        return None if self._body is None else self._body.used_up

    # An attempt.

    def send(self) -> httpx.Response:
        """Make an attempt; raise for an answer that is a failure."""
        try:
            return self._checked(self._answered())
        except httpx.RequestError as error:
            error.request = self._request  # as the client does, but `transient` asks before it
            raise

    async def asend(self) -> httpx.Response:
        """As `send`, interrupted when the time is over."""
        try:
            return self._checked(await self._aanswered())
        except httpx.RequestError as error:
            error.request = self._request
            raise

    def _answered(self) -> httpx.Response:
        if self._first is not None:
            return self._taken_first()
        if not has_deadline():
            return self._handle(self._request)  # type: ignore[no-any-return]
        with HttpxAttempt(self._request, self._component) as within:
            response: httpx.Response = self._handle(self._request)
            if within.left < math.inf:
                response.stream = HttpxBody(response, self._request, self._component)
        return response

    async def _aanswered(self) -> httpx.Response:
        if self._first is not None:
            return self._taken_first()
        if not has_deadline():
            return await self._handle(self._request)  # type: ignore[no-any-return]
        with HttpxAttempt(self._request, self._component, is_interrupted=True) as within:
            sending = self._handle(self._request)
            response: httpx.Response = await until_deadline(sending, self._component)
            if within.left < math.inf:
                response.stream = HttpxBody(response, self._request, self._component)
        return response

    def _taken_first(self) -> httpx.Response:
        first: Any = self._first
        self._first = None
        try:
            if isinstance(first, BaseException):
                raise first
            return first  # type: ignore[no-any-return]
        finally:
            del first  # this frame is part of its traceback

    @property
    def _component(self) -> str:
        return self.host.retry.component

    def _checked(self, response: httpx.Response) -> httpx.Response:
        self.response = response
        if response.status_code >= self._policies.first_judged:
            text = f"status {response.status_code}"
            self.refusal = httpx.HTTPStatusError(text, request=self._request, response=response)
            if counts(self.host, self._policies, self.refusal, response.headers):
                raise self.refusal
            self.refusal = None
        return response

    # What becomes of the answer.

    def hold(self, place: BulkheadCall) -> None:
        """Free *place* once the body of the answer is out."""
        response: Any = self.response
        if response.is_closed:  # one that a transport made of bytes is out already
            end_of(place, None)
            return
        if not isinstance(response.stream, HttpxBody):
            response.stream = HttpxBody(response, self._request, self._component)
        response.stream.answer.hold(place)

    def discard(self) -> None:
        """Close the answer of an attempt that another one follows."""
        response, self.response, self.refusal = self.response, None, None
        if response is not None:
            with suppress(Exception):  # what cannot be closed keeps nobody from another attempt
                response.close()

    async def adiscard(self) -> None:
        """As `discard`."""
        response, self.response, self.refusal = self.response, None, None
        if response is not None:
            with suppress(Exception):
                await response.aclose()


class HttpxAttempt:
    """One attempt within the time left: the request has limits and headers that say so meanwhile.

    What is interrupted keeps the limits that it has. Or both would end it at the same moment, and
    the interruption the cleaning up of the other one, which leaves a connection behind.

    Attributes:
        left: Seconds; infinity without a deadline.
    """

    __slots__ = ("_added", "_component", "_extensions", "_is_interrupted", "_request", "left")

    def __init__(
        self, request: httpx.Request, component: str, *, is_interrupted: bool = False
    ) -> None:
        self._is_interrupted = is_interrupted
        self._request = request
        self._component = component
        self._extensions = request.extensions
        self._added: list[str] = []
        self.left = time_left(component)

    def __enter__(self) -> Self:
        if self.left < math.inf:
            request, given = self._request, self._extensions.get("timeout") or {}
            if not self._is_interrupted:
                limits = LimitsNow(given, self._component)
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


class LimitsNow(Mapping[str, float | None]):
    """The limits of a request, each no longer than the time that is left when it is asked for.

    A transport asks for one at the beginning of each phase, so that they do not add up.
    """

    def __init__(self, given: Mapping[str, float | None], component: str) -> None:
        self._given = {**dict.fromkeys(_LIMITS), **given}
        self._component = component

    def __getitem__(self, name: str) -> float | None:
        limit, left = self._given[name], time_left(self._component)
        if left == math.inf:  # the body is read after the deadline was left
            return limit
        return left if limit is None else min(limit, left)

    def __iter__(self) -> Iterator[str]:
        return iter(self._given)

    def __len__(self) -> int:
        return len(self._given)


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


class BodySentOnce(httpx.SyncByteStream, httpx.AsyncByteStream):
    """The body of a request that can be read once.

    Attributes:
        used_up: That it has been, in words; None before.
    """

    def __init__(self, stream: Any, component: str) -> None:
        self._stream = stream
        self._component = component
        self.used_up: str | None = None

    def __iter__(self) -> Iterator[bytes]:
        self.used_up = _USED_UP
        for piece in self._stream:
            yield piece
            time_left(self._component)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        self.used_up = _USED_UP
        async for piece in self._stream:
            yield piece


_USED_UP = "the body of the request is used up; pass bytes, or a file that can seek in `files=`"


class HttpxBody(httpx.SyncByteStream, httpx.AsyncByteStream):
    """The body of an answer, which ends with the time left and gives back the place of its request.

    Attributes:
        answer: What the body needs until nobody reads it any more.
    """

    def __init__(self, response: httpx.Response, request: httpx.Request, component: str) -> None:
        self._stream: Any = response.stream
        self._extensions = response.extensions
        self._request = request
        self._component = component
        self.answer = OpenAnswer(component)

    def __iter__(self) -> Iterator[bytes]:
        pieces = iter(self._stream)
        try:
            while (piece := self._next(pieces)) is not None:
                yield piece
        except GeneratorExit:  # the caller reads no further
            raise
        except BaseException as error:
            self.answer.error = error
            raise

    def _next(self, pieces: Iterator[bytes]) -> bytes | None:
        """Return the next piece; None at the end."""
        if not has_deadline():
            return next(pieces, None)
        try:
            with self._reading(time_left(self._component)):
                return next(pieces, None)
        except (httpx.TransportError, DeadlineExpiredError) as error:
            if is_over():
                raise self._late() from error
            raise

    def _reading(self, left: float) -> AbstractContextManager[None]:
        if self._extensions.get("http_version") == b"HTTP/2":
            return nullcontext()  # a connection of HTTP/2 has other requests, too
        return self.answer.reading(left, self._connection)

    def _connection(self) -> Any:
        return self._extensions["network_stream"].get_extra_info("socket")

    def _late(self) -> httpx.ReadTimeout:
        """Return what a read raises that the time left has ended."""
        expired = DeadlineExpiredError(self._component)
        return as_clients(expired, httpx.ReadTimeout, request=self._request)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        pieces = aiter(self._stream)
        try:
            while (piece := await self._anext(pieces)) is not None:
                yield piece
        except GeneratorExit:  # the caller reads no further
            raise
        except BaseException as error:
            self.answer.error = error
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
            self.answer.end()

    async def aclose(self) -> None:
        """As `close`."""
        try:
            await self._stream.aclose()
        finally:
            self.answer.end()

    def __del__(self) -> None:  # of an answer that nobody has closed
        self.answer.end()
