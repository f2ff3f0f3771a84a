"""What type checkers see of the integrations of HTTP clients: each fits its library."""

from typing import assert_type

import aiohttp
import httpx
import requests
from requests.adapters import HTTPAdapter

from mainstay import Adaptive, Detect, RetryBudget, deadline, deadline_from, deadline_headers, retry
from mainstay.integrations.aiohttp import Middleware
from mainstay.integrations.httpx import AsyncTransport, Transport
from mainstay.integrations.requests import Adapter

assert_type(httpx.Client(transport=Transport()).get("http://a.example"), httpx.Response)
transport = Transport(
    httpx.HTTPTransport(retries=0),
    retry=retry(on=httpx.TransportError),
    breaker=Detect(consecutive=3),
    limit=20,
    budget=0.1,
    name="shop",
)
httpx.AsyncClient(transport=AsyncTransport(limit=Adaptive(), budget=RetryBudget()))
Transport(httpx.AsyncHTTPTransport())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
Transport(retry=3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
Transport(breaker=True)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
Transport(limit="20")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

session = requests.Session()
session.mount("https://", Adapter(HTTPAdapter(pool_maxsize=5), limit=20))


async def fetch(url: str) -> str:
    """Send a request through the middleware."""
    async with (
        aiohttp.ClientSession(middlewares=[Middleware(breaker=Detect())]) as opened,
        opened.get(url) as response,
    ):
        return await response.text()


assert_type(deadline_headers(), dict[str, str])
assert_type(deadline_from({"grpc-timeout": "1S"}), deadline)
deadline_from(httpx.Headers({"X-Request-Timeout-Ms": "5"}))
deadline_from([(b"x-request-timeout-ms", b"5")], at_most=5)
