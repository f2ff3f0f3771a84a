"""What type checkers see of the middlewares, health and draining."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any, assert_type
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from mainstay import Bulkhead, FailoverPool, Member, drain, health
from mainstay.integrations import alertmanager, asgi, wsgi
from mainstay.types import ComponentHealth

assert_type(health(), dict[str, ComponentHealth])
assert_type(health(None), dict[str, ComponentHealth])
assert_type(health(ready=("orders-db",)), bool)
assert_type(health(ready=[]), bool)
health(ready=5)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]  # names
drain()
drain(15)
drain(timedelta(seconds=15))
drain("soon")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # no time


async def pages(scope: Any, receive: Any, send: Any) -> None:
    """Answer, as an application of ASGI."""


def shop(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Answer, as one of WSGI."""
    start_response("200 OK", [])
    return [str(environ["PATH_INFO"]).encode()]


places = Bulkhead("places", limit=20)
app = asgi.Middleware(
    pages, bulkhead=places, ready=("orders-db",), exempt=["/metrics"], name="shop"
)
asgi.Middleware(app)
asgi.Middleware(shop)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # of WSGI
asgi.Middleware(pages, bulkhead=20)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # a Bulkhead
asgi.Middleware(pages, health=None, at_most=timedelta(seconds=5))

served: WSGIApplication = wsgi.Middleware(shop, bulkhead=places)
wsgi.Middleware(served)
wsgi.Middleware(pages)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # of ASGI

pool = FailoverPool("db", [Member("a", "A"), Member("b", "B")], on=OSError)
TOKEN = repr(pool)
receiver = alertmanager.Receiver([pool], token=TOKEN)
alertmanager.Receiver(pool, token=TOKEN)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # a list
alertmanager.Receiver([pool], token=b"secret")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # a str
mounted: WSGIApplication = receiver
asgi.Middleware(receiver, name="alerts")
wsgi.Middleware(receiver, name="alerts")
