"""An application of Starlette for real servers, with the middleware of ASGI around another one.

/stream-N       N chunks, a tenth of a second apart
/background-S   an answer at once, and work for S seconds after it
/thread-S       an answer after S seconds in a thread
/wait-S         an answer after S seconds
/metrics        what the middleware has counted
"""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from prometheus_client import generate_latest
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from mainstay import Bulkhead
from mainstay.integrations.asgi import Middleware

STEP = 0.1


async def drip(chunks: int) -> AsyncIterator[bytes]:
    for _ in range(chunks):
        yield b"drip"
        await asyncio.sleep(STEP)


async def home(_request: Request) -> Response:
    return PlainTextResponse("done")


async def stream(request: Request) -> Response:
    return StreamingResponse(drip(request.path_params["number"]))


async def background(request: Request) -> Response:
    work = BackgroundTask(asyncio.sleep, request.path_params["number"])
    return PlainTextResponse("done", background=work)


def thread(request: Request) -> Response:
    time.sleep(request.path_params["number"])
    return PlainTextResponse("done")


async def wait(request: Request) -> Response:
    await asyncio.sleep(request.path_params["number"])
    return PlainTextResponse("done")


async def export(_request: Request) -> Response:
    return PlainTextResponse(generate_latest())


class Passing(BaseHTTPMiddleware):
    """Does nothing, as other middlewares do it."""

    async def dispatch(self, request: Request, call_next: Any) -> Response:
        response: Response = await call_next(request)
        return response


app = Starlette(
    routes=[
        Route("/", home),
        Route("/stream-{number:int}", stream),
        Route("/background-{number:float}", background),
        Route("/thread-{number:float}", thread),
        Route("/wait-{number:float}", wait),
        Route("/metrics", export),
    ]
)
app.add_middleware(Passing)
app.add_middleware(
    Middleware, name="shop", bulkhead=Bulkhead("places", limit=2), exempt=("/metrics",)
)
