"""Alerts that act: Alertmanager tells a program which members of its pools to leave."""

import functools
import hmac
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from http import HTTPStatus
from typing import Any, Final, Literal, overload
from wsgiref.types import StartResponse, WSGIEnvironment

from mainstay._core.events import is_first, logger_of
from mainstay._core.sharing import Shared, reset_with_all
from mainstay._core.words import kind_in_words
from mainstay._failover.alerted import AlertedPool, What
from mainstay._failover.pool import FailoverPool
from mainstay._failover.settings import POLICY
from mainstay._metrics.alertmanager import Notice, Notification, NotificationError, notification_in
from mainstay.integrations._own_responses import OwnResponse, in_words
from mainstay.integrations.asgi import Receive, Scope, Send
from mainstay.integrations.asgi import respond as respond_asgi
from mainstay.integrations.wsgi import respond as respond_wsgi

__all__ = ["Receiver"]

_LONGEST_BODY: Final = 4 * 2**20
"""Bytes of a notification: a thousand alerts and more."""

_LONGEST_LENGTH: Final = 18
"""Digits of the longest Content-Length that is read."""

_LINES: Final[dict[What | Literal["elsewhere"], tuple[int, str]]] = {
    "drained": (logging.WARNING, "member %s drained, since alert %s fires"),
    "drained too": (logging.INFO, "member %s, drained already, stays so while alert %s fires"),
    "forced": (
        logging.WARNING,
        "member %s is forced, and continues to serve although alert %s fires",
    ),
    "last": (
        logging.WARNING,
        "member %s continues to serve although alert %s fires: no other member is ready",
    ),
    "released": (logging.INFO, "member %s released, since alert %s is over"),
    "over": (logging.INFO, "member %s stays drained by hand, though alert %s is over"),
    "older": (logging.DEBUG, "ignored what is said of member %s: alert %s is known to be newer"),
    "full": (logging.WARNING, "ignored what is said of member %s: alert %s is one too many"),
    "unknown": (logging.WARNING, "there is no member %s: ignored alert %s"),
    "elsewhere": (logging.WARNING, "no pool here, or %s no member: ignored alert %s"),
}
_ONCE: Final = ("full", "unknown", "elsewhere")
"""What is said aloud once only: what is wrong in the settings of others is sent again and again."""


class Receiver(Shared):
    """Drain the members of pools that alerts name, while they fire: a webhook for Alertmanager.

    An alert names a pool in its label *label*, and a member in its label *member_label*. While an
    alert about a member fires, new calls go to other members, as after `FailoverPool.drain`. When
    no alert about the member fires any more, the member is released. What you do by hand wins: a
    member that you drained stays drained, a member that you forced serves, and a member that you
    released serves until another alert names it. The last ready member is never drained, which is
    logged; the next notification drains it if another member is ready by then.

    Notifications that come twice, late or out of order change nothing: alerts are identified by
    their fingerprint and start time. An alert about an unknown pool or member is logged and
    ignored. Only pools of this process are drained. If there are several processes, each needs a
    receiver with its own address; or use `Probe.promql`.

    The object is an application of both ASGI and WSGI, to serve or mount at any path. It answers
    200 to a notification, 401 to a request without the token, 400 to any other body (notifications
    must be of version 4), 413 to a body of more than 4 MiB, and 405 to methods other than POST.
    Everybody who has the token can drain members: serve the receiver over TLS, or where only
    Alertmanager can reach it.

    Args:
        pools: The pools that alerts may name; no two with the same name.
        token: The bearer token that Alertmanager sends (``authorization: credentials:``). Printable
            ASCII without spaces, not empty.
        label: The label of alerts that names a pool.
        member_label: The label of alerts that names a member.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If two pools have the same name, *token* cannot be sent, or a label is empty.

    Metrics:
        Those of the pool: `member_state{state="draining"}`, and `failovers_total` with the reason
        "drained".

    Example:
        >>> from mainstay import FailoverPool, Member
        >>> from mainstay.integrations.alertmanager import Receiver
        >>> pool = FailoverPool("db", [Member("a", "A"), Member("b", "B")], on=OSError)
        >>> app = Receiver([pool], token="what-alertmanager-sends")
    """

    def __init__(
        self,
        pools: Iterable[FailoverPool[Any]],
        *,
        token: str,
        label: str = "component",
        member_label: str = "member",
    ) -> None:
        self._pools: dict[str, AlertedPool] = _alerted(pools)
        self._token = _checked_token(token)
        self._label = _checked_label(label, "label")
        self._member_label = _checked_label(member_label, "member_label")
        reset_with_all(self, Receiver._reset)

    def __repr__(self) -> str:
        return f"<Receiver of alerts about {', '.join(self._pools) or 'no pool'}>"

    @overload
    def __call__(
        self, environ: WSGIEnvironment, start_response: StartResponse, /
    ) -> Iterable[bytes]: ...
    @overload
    def __call__(self, scope: Scope, receive: Receive, send: Send, /) -> Awaitable[None]: ...
    @overload
    def __call__(self, scope: Scope, /) -> Callable[[Receive, Send], Awaitable[None]]: ...
    def __call__(self, first: Any, second: Any = None, third: Any = None, /) -> Any:
        """Serve one request of WSGI, or what a scope of ASGI is about.

        Servers that look if an application is async, and see that this is not, ask by the form of
        ASGI 2, which has the scope alone.
        """
        if second is None:
            return functools.partial(self._serve_asgi, first)
        if third is None:
            return self._serve_wsgi(first, second)
        return self._serve_asgi(first, second, third)

    # The two kinds of servers.

    def _serve_wsgi(
        self, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        login = environ.get("HTTP_AUTHORIZATION")
        answer = self._refusal(
            environ["REQUEST_METHOD"],
            [] if login is None else [login.encode("latin-1")],
            environ.get("CONTENT_LENGTH") or None,
        )
        if answer is None:
            longest = int(environ.get("CONTENT_LENGTH") or 0)
            if environ.get("wsgi.input_terminated"):
                longest = _LONGEST_BODY + 1
            answer = self._taken(environ["wsgi.input"].read(longest))
        return respond_wsgi(start_response, answer, environ)

    async def _serve_asgi(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind == "http":
            await self._serve_request(scope, receive, send)
        elif kind == "lifespan":
            await _live(receive, send)
        elif kind == "websocket":
            await receive()  # that it wants to connect
            await send({"type": "websocket.close"})

    async def _serve_request(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = scope["headers"]
        logins = [value for name, value in headers if name == b"authorization"]
        lengths = [value.decode("latin-1") for name, value in headers if name == b"content-length"]
        answer = self._refusal(scope["method"], logins, lengths[0] if lengths else None)
        if answer is None:
            body = await _received(receive)
            if body is None:  # the client has left
                return
            answer = self._taken(body)
        await respond_asgi(send, answer, scope)

    # What is answered.

    def _refusal(
        self, method: str, logins: Sequence[bytes], length: str | None
    ) -> OwnResponse | None:
        """Return the answer to a request that is refused before its body is read; else None."""
        if method != "POST":
            text = "this takes notifications of Alertmanager, by POST"
            return in_words(HTTPStatus.METHOD_NOT_ALLOWED, text, ("allow", "POST"))
        if not self._is_login(logins):
            level = logging.WARNING if is_first(POLICY, "receiver", "token") else logging.DEBUG
            logger_of(POLICY).log(level, "%r: refused a notification without the token", self)
            text = "the token is missing or wrong"
            return in_words(HTTPStatus.UNAUTHORIZED, text, ("www-authenticate", "Bearer"))
        if length is not None and not (length.isascii() and length.isdecimal()):
            return in_words(HTTPStatus.BAD_REQUEST, "the length is not a number")
        if length is not None and (len(length) > _LONGEST_LENGTH or int(length) > _LONGEST_BODY):
            return _too_long()
        return None

    def _is_login(self, logins: Sequence[bytes]) -> bool:
        scheme, _, token = (logins[0] if len(logins) == 1 else b"").partition(b" ")
        matches = hmac.compare_digest(token.strip(), self._token)
        return matches and scheme.lower() == b"bearer"

    def _taken(self, body: bytes) -> OwnResponse:
        """Do what a notification says, and return the answer to it."""
        if len(body) > _LONGEST_BODY:
            return _too_long()
        try:
            notification = notification_in(body)
        except NotificationError as error:
            logger_of(POLICY).warning("%r: refused a notification: %s", self, error)
            return in_words(HTTPStatus.BAD_REQUEST, str(error))
        self._take(notification)
        return in_words(HTTPStatus.OK, "accepted")

    # What is done.

    def _take(self, notification: Notification) -> None:
        found: dict[str, list[tuple[str, Notice]]] = {}
        for notice in notification.notices:
            pool = notice.labels.get(self._label)
            member = notice.labels.get(self._member_label)
            if pool in self._pools and member is not None:
                found.setdefault(pool, []).append((member, notice))
            else:
                _log("elsewhere", str(pool), str(member), notice.name)
        if notification.truncated:
            text = "%r: Alertmanager has left out %d alerts: set max_alerts to 0"
            logger_of(POLICY).warning(text, self, notification.truncated)
        for name, notices in found.items():
            for outcome in self._pools[name].take(notices):
                _log(outcome.what, name, outcome.member, outcome.alert)

    def _reset(self) -> None:
        for pool in self._pools.values():
            pool.reset()


def _log(what: What | Literal["elsewhere"], pool: str, member: str, alert: str) -> None:
    level, line = _LINES[what]
    if what in _ONCE and not is_first(POLICY, "receiver", what, pool, member):
        level = logging.DEBUG
    logger_of(POLICY).log(level, f"%s: {line}", pool, member, alert)


def _too_long() -> OwnResponse:
    text = f"a notification has at most {_LONGEST_BODY} bytes"
    return in_words(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, text)


async def _received(receive: Receive) -> bytes | None:
    """Return the body, or a little more than the longest one; None if the client leaves."""
    body = bytearray()
    while len(body) <= _LONGEST_BODY:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    return bytes(body)


async def _live(receive: Receive, send: Send) -> None:
    """Answer a server that starts or ends: there is nothing to do."""
    while True:
        phase = (await receive())["type"].removeprefix("lifespan.")
        await send({"type": f"lifespan.{phase}.complete"})
        if phase == "shutdown":
            return


def _alerted(pools: object) -> dict[str, AlertedPool]:
    """Return the pools by name.

    Raises:
        TypeError: If they are no pools.
        ValueError: If two have one name.
    """
    if isinstance(pools, FailoverPool) or not isinstance(pools, Iterable):
        raise TypeError(f"`pools` must be a list of pools, not {kind_in_words(pools)}")
    found: dict[str, AlertedPool] = {}
    for pool in pools:
        if not isinstance(pool, FailoverPool):
            raise TypeError(
                f"`pools` must be a list of pools, and {kind_in_words(pool)} is not a pool"
            )
        if pool.name in found:
            raise ValueError(f"`pools` must have different names, and {pool.name!r} occurs twice")
        found[pool.name] = AlertedPool(pool._engine)  # noqa: SLF001 - hidden from users only
    return found


def _checked_token(token: object) -> bytes:
    if not isinstance(token, str):
        raise TypeError(f"`token` must be a str, not {kind_in_words(token)}")
    if not (token and token.isascii() and token.isprintable() and " " not in token):
        raise ValueError("`token` must be printable ASCII without spaces, and not empty")
    return token.encode()


def _checked_label(label: object, parameter: str) -> str:
    if not isinstance(label, str):
        raise TypeError(f"`{parameter}` must be the name of a label, not {label!r}")
    if not label:
        raise ValueError(f"`{parameter}` must be the name of a label, and not empty")
    return label
