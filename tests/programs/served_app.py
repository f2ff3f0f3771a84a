"""An application of ASGI, and one of WSGI, that do what the path says; for real servers.

/stream-N     N chunks, a tenth of a second apart
/wait-S       an answer after S seconds, in which nothing is read of the client
/metrics      what the middleware has counted
a websocket   is sent back what it sends; refused at /closed
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Any

from prometheus_client import generate_latest

from mainstay import Bulkhead, CircuitBreaker
from mainstay.integrations.asgi import Middleware as AsgiMiddleware
from mainstay.integrations.wsgi import Middleware as WsgiMiddleware

places = Bulkhead("places", limit=2)
closed = CircuitBreaker("closed", on=OSError)
closed.open()

STEP = 0.1


def number(path: str) -> float:
    return float(path.partition("-")[2])


async def asgi_app(scope: Any, receive: Callable, send: Callable) -> None:
    if scope["type"] == "lifespan":
        await live(receive, send)
    elif scope["type"] == "websocket":
        await echo(scope, receive, send)
    elif scope["path"].startswith("/stream-"):
        await start(send)
        for _ in range(int(number(scope["path"]))):
            await send({"type": "http.response.body", "body": b"drip", "more_body": True})
            await asyncio.sleep(STEP)
        await send({"type": "http.response.body", "body": b""})
    else:
        if scope["path"].startswith("/wait-"):
            await asyncio.sleep(number(scope["path"]))
        body = generate_latest() if scope["path"] == "/metrics" else b"done"
        await start(send)
        await send({"type": "http.response.body", "body": body})


async def start(send: Callable) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})


async def live(receive: Callable, send: Callable) -> None:
    while (await receive())["type"] != "lifespan.shutdown":
        await send({"type": "lifespan.startup.complete"})
    await send({"type": "lifespan.shutdown.complete"})


async def echo(scope: Any, receive: Callable, send: Callable) -> None:
    await receive()
    if scope["path"] == "/closed":
        closed.call(str)
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message["text"]})


def wsgi_app(environ: Any, start_response: Callable) -> Any:
    path = environ["PATH_INFO"]
    if path.startswith("/wait-"):
        time.sleep(number(path))
    start_response("200 OK", [("Content-Type", "text/plain")])
    if path.startswith("/stream-"):
        return drip(int(number(path)))
    return [generate_latest() if path == "/metrics" else b"done"]


def drip(chunks: int) -> Iterator[bytes]:
    for _ in range(chunks):
        yield b"drip"
        time.sleep(STEP)


options: Any = {"name": "shop", "bulkhead": places, "exempt": ("/metrics",)}
asgi = AsgiMiddleware(asgi_app, **options)
wsgi = WsgiMiddleware(wsgi_app, **options)
