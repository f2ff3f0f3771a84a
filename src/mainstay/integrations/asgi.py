"""Policies around an application of ASGI, as FastAPI, Starlette, Litestar, Quart and Django are."""

import asyncio
import contextlib
import math
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, TypeAlias

from mainstay._core.arguments import Duration
from mainstay._core.context import block_context
from mainstay._core.deadline import begin_interrupting, deadline, end_interrupting
from mainstay._limits.bulkhead import Bulkhead
from mainstay._metrics.collector import Metrics
from mainstay._pipeline.fast_path import FastAsyncBulkhead
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

Message: TypeAlias = MutableMapping[str, Any]
Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

_LOOK_AFTER = 0.05
"""Seconds after which a message of the application is a reason to look if the client is there."""

_MOST_MESSAGES = 2
"""How many may come in between: an empty body that nobody has asked for, and that it has left."""

_TURNS = 10
"""Turns of the event loop in which a message that is there gets through other middlewares."""

_TRY_AGAIN_LATER = 1013
"""The code of a websocket that is closed where HTTP would answer 503."""


class Middleware:
    """Put a deadline, a bulkhead and metrics around each request of an ASGI application.

    The headers of a request say how much time is left (`deadline_from`). At the end of that time
    the request is interrupted, as by ``async with deadline``. With *bulkhead*, a request needs a
    place, and keeps it until the response is sent, body included; background tasks after the
    response have no place. A `RejectedError`, from the bulkhead or from a policy in the
    application, is answered with status 503 and Retry-After, a `DeadlineExpiredError` with 504. If
    the response has already begun, and for any other exception, the exception goes to the server.
    After `drain` and its time, new requests are refused.

    The path *health* answers GET and HEAD with the health of all components: with status 200 if
    the components of *ready* are ready, otherwise 503. This path and *exempt* paths are not
    counted. Websockets may last for hours, so they get no deadline and no place, and are not
    counted; a `RejectedError` before a websocket is accepted refuses it. Lifespan and all other
    types pass through.

    The middleware must be inside the layer that turns exceptions into responses;
    ``app.add_middleware`` of FastAPI and Starlette puts it there.

    Args:
        app: The application: a callable that takes scope, receive and send.
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
        `calls_total`, `call_duration_seconds`, `give_ups_total` and `errors_total` with
        ``policy="pipeline"``. One request is one call, with the outcome "success" for a status
        below 500, "error" for other statuses and for exceptions, "timeout" for deadlines,
        "rejected" if the bulkhead or a draining process refused it, and "cancelled" if the client
        or the server ended it. Paths are not labels. `wire_errors_total` counts invalid headers.

    Example:
        >>> import asyncio
        >>> from mainstay.integrations.asgi import Middleware
        >>> async def hello(scope, receive, send):
        ...     await send({"type": "http.response.start", "status": 200, "headers": []})
        ...     await send({"type": "http.response.body", "body": b"hello"})
        >>> app = Middleware(hello, name="shop")
        >>> async def show(message):
        ...     print(message["type"], message.get("status", ""))
        >>> scope = {"type": "http", "method": "GET", "path": "/health", "headers": []}
        >>> asyncio.run(app(scope, None, show))
        http.response.start 200
        http.response.body
    """

    def __init__(
        self,
        app: App,
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
        check_takes(app, "scope", "receive", "send")
        self._app = app
        self._rules: RequestRules = rules_of(
            app,
            FastAsyncBulkhead,
            bulkhead=bulkhead,
            at_most=at_most,
            header=header,
            health=health,
            ready=ready,
            exempt=exempt,
            name=name,
            metrics=metrics,
        )
        # ASGI has the names of headers in lower case.
        self._timed = frozenset((header.lower().encode(), b"grpc-timeout"))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve what *scope* is about."""
        kind, rules = scope["type"], self._rules
        if kind == "http":
            path = _path_of(scope)
            if path == rules.health:
                page = rules.page(scope["method"])
                if page is not None:
                    await respond(send, page, scope)
                    return
            if not rules.is_exempt(path):
                await self._serve(scope, receive, send)
                return
        elif kind == "websocket" and not rules.is_exempt(_path_of(scope)):
            await self._connect(scope, receive, send)
            return
        await self._app(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        rules, timed = self._rules, self._timed
        call = rules.begin()
        exchange = _AsgiRequest(call, scope, receive, send)
        try:
            found = None
            for header in scope["headers"]:
                if header[0] in timed:
                    found = [header] if found is None else [*found, header]
            seconds = None if found is None else rules.seconds(found, call)
            call.check(seconds)
            if seconds is not None:
                exchange.limit(seconds)
            waits = call.needs_to_wait()
            if waits is not None:
                await waits.aenter()
                call.waited = waits
            call.was_called = True
            await self._app(scope, exchange.receive, exchange.send)
        except BaseException as error:
            ended_by = exchange.raised(error)
            answer = None if call.status else answer_to(ended_by, chance())
            if answer is None:
                if ended_by is error:
                    raise
                if call.seconds is not None:  # the time was over when all was done
                    return
                raise ended_by from ended_by.__cause__
        else:
            exchange.returned()
            return
        await respond(send, answer, scope)

    async def _connect(self, scope: Scope, receive: Receive, send: Send) -> None:
        handshake = _Handshake(scope, receive, send)
        try:
            self._rules.check_draining()
            await self._app(scope, handshake.receive, handshake.send)
        except Exception as error:
            answer = answer_to(error, chance())
            if handshake.is_over or answer is None:
                raise
        else:
            return
        await handshake.refuse(answer)


class _AsgiRequest:
    """One request and its response: what the application is given to receive and to send.

    Attributes:
        call: What it counts as.
        has_left: True if the client has left before the response was out.
    """

    __slots__ = (
        "_block",
        "_early",
        "_entry",
        "_is_body_in",
        "_looked",
        "_now",
        "_receive",
        "_receiving",
        "_seconds",
        "_send",
        "call",
        "has_left",
    )

    def __init__(self, call: RequestCall, scope: Scope, receive: Receive, send: Send) -> None:
        self.call = call
        self.has_left = False
        self._receive = receive
        self._send = send
        self._block: deadline | None = None
        self._entry: Any = None
        self._seconds = math.inf
        self._now = call.context.clock.now
        self._looked = call.started
        self._receiving = 0  # how many of the application's tasks wait for a message
        self._is_body_in = scope["method"] in ("GET", "HEAD")  # if only an empty one
        self._early: list[Message] = []  # what was received before the application asked for it

    # Its time.

    def limit(self, seconds: float) -> None:
        """Interrupt the task that runs here after so many seconds."""
        self._block = deadline(seconds)
        begin_interrupting(self._block)
        self._entry = block_context()
        self._seconds = seconds

    # Its end.

    def returned(self) -> None:
        """Record that the application has returned."""
        self.call.returned(has_left=self.has_left)
        if self._block is not None:
            end_interrupting(self._block, None)

    def raised(self, error: BaseException) -> BaseException:
        """Record what the application has raised; return what that comes to."""
        call = self.call
        call.give_back(error, may_be_late=True)
        if self._block is not None:
            entry = end_interrupting(self._block, type(error))
            if entry is not None:
                expired = DeadlineExpiredError(call.component, self._seconds)
                expired.__cause__ = error if entry.cause is None else entry.cause
                error = expired
        call.raised(error, has_left=self.has_left)
        return error

    # What the application calls.

    async def receive(self) -> Message:
        """Receive a message of the client."""
        if self._early:
            return self._early.pop(0)
        self._receiving += 1
        try:
            message = await self._receive()
        finally:
            self._receiving -= 1
        self._note(message)
        return message

    def _note(self, message: Message) -> None:
        if message["type"] == "http.disconnect":
            self.has_left = self.call.seconds is None
        elif not message.get("more_body"):
            self._is_body_in = True

    async def send(self, message: Message) -> None:
        """Send a part of the response to the client."""
        call, kind = self.call, message["type"]
        if call.seconds is not None:  # something after the response
            await self._send(message)
            return
        if self._now() - self._looked > _LOOK_AFTER:
            await self._look()
        if kind == "http.response.start":
            call.status = message["status"]
        try:
            await self._send(message)
        except OSError:
            self.has_left = True
            raise
        if kind != "http.response.start" and _is_last(kind, message):
            call.response_is_out(has_left=self.has_left)
            if self._block is not None and not self._entry.fired:
                block, self._block = self._block, None
                end_interrupting(block, None)

    async def _look(self) -> None:
        """Find out if the client has left, where nobody waits for it to say so."""
        for _ in range(_MOST_MESSAGES):
            if self._receiving or not self._is_body_in or self.has_left:
                break
            message = await _at_once(self._receive())
            if message is None:
                break
            self._early.append(message)
            self._note(message)
        self._looked = self._now()


def _is_last(kind: str, message: Message) -> bool:
    """True if the response is complete with this message."""
    if kind in ("http.response.body", "http.response.zerocopysend"):
        return not message.get("more_body")
    return kind == "http.response.pathsend"


async def _at_once(receiving: Awaitable[Message]) -> Message | None:
    """Return a message that is there already; None if it would have to be waited for."""
    task = asyncio.ensure_future(receiving)
    try:
        for _ in range(_TURNS):
            if not task.done():
                await asyncio.sleep(0)
    finally:
        task.cancel()
    await asyncio.wait((task,))
    return None if task.cancelled() or task.exception() is not None else task.result()


class _Handshake:
    """A websocket that may still be refused.

    Attributes:
        is_over: True once the application has answered.
    """

    __slots__ = ("_has_received", "_receive", "_scope", "_send", "is_over")

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.is_over = False
        self._has_received = False
        self._scope = scope
        self._receive = receive
        self._send = send

    async def receive(self) -> Message:
        """Receive a message of the client."""
        self._has_received = True
        return await self._receive()

    async def send(self, message: Message) -> None:
        """Send a message to the client, the first of which decides."""
        self.is_over = True
        await self._send(message)

    async def refuse(self, answer: OwnResponse) -> None:
        """Answer in place of the application."""
        if not self._has_received:
            await self._receive()  # that it wants to connect
        if "websocket.http.response" in (self._scope.get("extensions") or {}):
            await respond(self._send, answer, self._scope, kind="websocket.http.response")
        else:
            await self._send(
                {
                    "type": "websocket.close",
                    "code": _TRY_AGAIN_LATER,
                    "reason": answer.status.phrase,
                }
            )


async def respond(
    send: Send, answer: OwnResponse, scope: Scope, kind: str = "http.response"
) -> None:
    """Send a response of ours."""
    body = b"" if scope.get("method") == "HEAD" else answer.body
    headers = [(name.encode(), value.encode()) for name, value in answer.headers]
    with contextlib.suppress(OSError):  # the client has left
        await send({"type": f"{kind}.start", "status": answer.status.value, "headers": headers})
        await send({"type": f"{kind}.body", "body": body})


def _path_of(scope: Scope) -> str:
    """Return the path of a request below that where the application is mounted."""
    path: str = scope["path"]
    root: str = scope.get("root_path") or ""
    return path[len(root) :] if root and path.startswith(root) else path
