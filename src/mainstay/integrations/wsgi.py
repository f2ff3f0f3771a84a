"""Policies around an application of WSGI, as Flask, Django, Pyramid and Bottle are."""

import math
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import Self, TypeAlias
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from mainstay._core.arguments import Duration
from mainstay._core.deadline import deadline
from mainstay._core.functions import Kind, kind_of
from mainstay._limits.bulkhead import Bulkhead
from mainstay._metrics.collector import Metrics
from mainstay._pipeline.fast_path import FastBulkhead
from mainstay._wire import TIMEOUT_HEADER
from mainstay.errors import DeadlineExpiredError
from mainstay.integrations._own_responses import OwnResponse, answer_to
from mainstay.integrations._serving import (
    RequestCall,
    RequestRules,
    chance,
    check_takes,
    rules_of,
)

__all__ = ["Middleware"]

ExcInfo: TypeAlias = (
    tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None] | None
)
Write: TypeAlias = Callable[[bytes], object]

_WITHOUT_BODY = (204, 304)
_UNLIMITED: AbstractContextManager[None] = nullcontext()


class Middleware:
    """Put a deadline, a bulkhead and metrics around each request of a WSGI application.

    As `mainstay.integrations.asgi.Middleware`, with the same arguments, for code that runs in
    threads. A thread cannot be interrupted, so the time left holds as in ``with deadline``: for the
    policies in the application, and for `remaining`. A late response is sent all the same, but a
    body that goes on after the end of the time is cut off. A request keeps its place until the
    server has sent the body.

    Flask and Django turn all exceptions of a view into responses of their own, so the middleware
    answers only for its bulkhead. Give Flask or Django error handlers for `RejectedError` and
    `DeadlineExpiredError`.

    Args:
        app: The application: a callable that takes environ and start_response.
        bulkhead: The bulkhead that each request needs a place of. None for no limit.
        at_most: The longest time that the headers of a request may ask for: seconds or a
            `timedelta`, above 0. Requests that ask for no time have no limit.
        header: The header that has the milliseconds left. ``grpc-timeout`` is read as well.
        health: The path of the health page. None for no such page.
        ready: The names of the components that must be ready for the process to be ready.
        exempt: Paths, such as "/metrics", that skip the middleware, with all paths below them.
        name: The `component` label. None for the name of *app*.
        metrics: Where to record. None for `default_metrics()`.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of its range, or a path does not begin with a slash.

    Metrics:
        Those of `mainstay.integrations.asgi.Middleware`. A request is "cancelled" if the server
        does not take the whole response.

    Example:
        >>> from mainstay.integrations.wsgi import Middleware
        >>> def hello(environ, start_response):
        ...     start_response("200 OK", [])
        ...     return [b"hello"]
        >>> app = Middleware(hello, name="shop")
        >>> environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/"}
        >>> b"".join(app(environ, lambda status, headers: print(status)))
        200 OK
        b'hello'
    """

    def __init__(
        self,
        app: WSGIApplication,
        *,
        bulkhead: Bulkhead | None = None,
        at_most: Duration = 30.0,
        header: str = TIMEOUT_HEADER,
        health: str | None = "/health",
        ready: Iterable[str] = (),
        exempt: Iterable[str] = (),
        name: str | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        check_takes(app, "environ", "start_response")
        if kind_of(app) in (Kind.ASYNC, Kind.ASYNC_GENERATOR):
            raise TypeError(f"`app` must be an application of WSGI, and {app!r} is async")
        self._app = app
        self._rules: RequestRules = rules_of(
            app,
            FastBulkhead,
            bulkhead=bulkhead,
            at_most=at_most,
            header=header,
            health=health,
            ready=ready,
            exempt=exempt,
            name=name,
            metrics=metrics,
        )
        names = dict.fromkeys((header.lower(), "grpc-timeout"))
        self._timed = [(f"HTTP_{name.upper().replace('-', '_')}", name) for name in names]

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Serve one request."""
        rules, path = self._rules, environ.get("PATH_INFO", "")
        if path == rules.health:
            page = rules.page(environ["REQUEST_METHOD"])
            if page is not None:
                return respond(start_response, page, environ)
        if rules.is_exempt(path):
            return self._app(environ, start_response)
        call = rules.begin()
        response = _Response(call, environ, start_response)
        try:
            seconds = self._seconds(environ, call)
            call.check(seconds)
            with response.limit(seconds):
                waits = call.needs_to_wait()
                if waits is not None:
                    waits.enter()
                    call.waited = waits
                call.was_called = True
                response.body = self._app(environ, response.start)
                response.chunks = iter(response.body)
        except BaseException as error:
            answer = response.answer_to(error)
            if answer is None:
                raise
            return answer
        return response

    def _seconds(self, environ: WSGIEnvironment, call: RequestCall) -> float | None:
        found = [(name, environ[key]) for key, name in self._timed if key in environ]
        return self._rules.seconds(found, call) if found else None


class _Response:
    """One request and its response, which the server iterates over and closes.

    Attributes:
        call: What it counts as.
        body: What the application has returned; None before it has.
        chunks: The parts of the body that the server has not asked for yet.
    """

    __slots__ = ("_environ", "_is_out", "_seconds", "_start", "_until", "body", "call", "chunks")

    def __init__(
        self, call: RequestCall, environ: WSGIEnvironment, start_response: StartResponse
    ) -> None:
        self.call = call
        self.body: Iterable[bytes] | None = None
        self.chunks: Iterator[bytes] = iter(())
        self._environ = environ
        self._start = start_response
        self._is_out = False  # True once the server may have sent the headers
        self._seconds = self._until = math.inf

    # Its time.

    def limit(self, seconds: float | None) -> AbstractContextManager[None]:
        """Return a block in which so much time is left; it begins now."""
        if seconds is not None:
            self._seconds, self._until = seconds, self.call.started + seconds
        return self._time()

    def _time(self) -> AbstractContextManager[None]:
        """Return a block in which what is left of the time is in force, and no longer.

        A server need not iterate in the thread, and has a context of its own in between.
        """
        if self._until == math.inf:
            return _UNLIMITED
        return deadline(max(0.0, self._until - self.call.now()))

    # What the application calls.

    def start(self, status: str, headers: list[tuple[str, str]], exc_info: ExcInfo = None) -> Write:
        """Begin the response, as `start_response` of WSGI."""
        self.call.status = int(status[:3])
        if exc_info is None:
            write = self._start(status, headers)
        else:
            write = self._start(status, headers, exc_info)

        def write_out(data: bytes) -> object:
            self._is_out = True
            return write(data)

        return write_out

    # What the server calls.

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        try:
            with self._time():
                chunk = next(self.chunks)
            if self._until < math.inf and self.call.now() >= self._until:
                self._check_late()
        except StopIteration:
            self._finish()
            raise
        except BaseException as error:
            answer = self.answer_to(error)
            if answer is None:
                raise
            self.chunks = iter(())
            chunk = b"".join(answer)
        self._is_out = True
        return chunk

    def _check_late(self) -> None:
        """Cut off a body that goes on after its time; one that begins after it is let through."""
        if self._is_out:
            raise DeadlineExpiredError(self.call.component, self._seconds)
        self._until = math.inf

    def close(self) -> None:
        """Close the body of the application; the server does so at the end, however it came."""
        try:
            close = getattr(self.body, "close", None)
            if close is not None:
                with self._time():
                    close()
        finally:
            self._let_go()

    def __del__(self) -> None:
        self._let_go()  # of a server that has not closed it

    # Its end.

    def _finish(self) -> None:
        """Record that the server has taken the whole response."""
        if self.call.status:
            self.call.response_is_out(has_left=False)
        self.call.returned(has_left=False)

    def _let_go(self) -> None:
        """Record a response that the server asks for no more of."""
        call = self.call
        if call.is_over:
            return
        if self._environ.get("REQUEST_METHOD") == "HEAD" or call.status in _WITHOUT_BODY:
            self._finish()
            return
        left = GeneratorExit("the server has not taken the whole response")
        call.give_back(left, may_be_late=False)
        call.raised(left, has_left=True)

    def answer_to(self, error: BaseException) -> list[bytes] | None:
        """Record what the application has raised; begin a response to it, if that is ours."""
        call = self.call
        call.give_back(error, may_be_late=False)
        call.raised(error, has_left=False)
        answer = None if self._is_out else answer_to(error, chance())
        if answer is None:
            return None
        exc_info = sys.exc_info() if call.status else None  # it has begun one, which is not out
        return respond(self._start, answer, self._environ, exc_info)


def respond(
    start_response: StartResponse,
    answer: OwnResponse,
    environ: WSGIEnvironment,
    exc_info: ExcInfo = None,
) -> list[bytes]:
    """Begin a response of ours, and return its body."""
    status, headers = f"{answer.status.value} {answer.status.phrase}", [*answer.headers]
    if exc_info is None:
        start_response(status, headers)
    else:
        start_response(status, headers, exc_info)
    return [b"" if environ.get("REQUEST_METHOD") == "HEAD" else answer.body]
