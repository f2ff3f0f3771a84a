"""The HTTP clients with their integrations, each behind the same few methods.

A behaviour is written once, as a test that takes a `client` and runs for each of them.
"""

import asyncio
import contextlib
import contextvars
from importlib import import_module

PATIENCE = 5.0  # what a client waits by itself


class HttpxSync:
    """`httpx.Client` through `Transport`.

    Attributes:
        repeats: How often the library itself sends what broke off and may be repeated.
    """

    repeats = 1

    library = "httpx"

    def __init__(self, **policies):
        httpx, ours = import_module("httpx"), import_module("mainstay.integrations.httpx")

        self.base, self.late = httpx.TransportError, httpx.TimeoutException
        self._client = httpx.Client(transport=ours.Transport(**policies), timeout=PATIENCE)

    def ask(self, method, url, *, body=None, headers=None):
        response = self._client.request(method, url, content=body, headers=headers)
        return response.status_code, response.content

    @contextlib.contextmanager
    def streaming(self, url):
        """A GET whose body is not read; gives what reads it."""
        with self._client.stream("GET", url) as response:
            yield response.read

    def close(self):
        self._client.close()


class RequestsSync:
    """`requests.Session` through `Adapter`."""

    repeats = 1

    library = "requests"

    def __init__(self, **policies):
        requests, ours = import_module("requests"), import_module("mainstay.integrations.requests")

        self.base, self.late = requests.RequestException, requests.Timeout
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.mount("http://", ours.Adapter(**policies))

    def ask(self, method, url, *, body=None, headers=None):
        response = self._session.request(method, url, data=body, headers=headers, timeout=PATIENCE)
        return response.status_code, response.content

    @contextlib.contextmanager
    def streaming(self, url):
        with self._session.get(url, stream=True, timeout=PATIENCE) as response:
            yield lambda: response.content

    def close(self):
        self._session.close()


class OnLoop:
    """Runs coroutines on one event loop, in the context of whoever asks."""

    def __init__(self):
        self._runner = asyncio.Runner()

    def run(self, coroutine):
        return self._runner.run(coroutine, context=contextvars.copy_context())

    def close(self):
        self._runner.close()


class HttpxAsync:
    """`httpx.AsyncClient` through `AsyncTransport`."""

    repeats = 1

    library = "httpx"

    def __init__(self, **policies):
        httpx, ours = import_module("httpx"), import_module("mainstay.integrations.httpx")

        self.base, self.late = httpx.TransportError, httpx.TimeoutException
        self._loop = OnLoop()
        self._client = httpx.AsyncClient(
            transport=ours.AsyncTransport(**policies), timeout=PATIENCE
        )

    def ask(self, method, url, *, body=None, headers=None):
        content = body if body is None or isinstance(body, bytes) else in_async(body)
        return self._loop.run(self._ask(method, url, content, headers))

    async def _ask(self, method, url, content, headers):
        response = await self._client.request(method, url, content=content, headers=headers)
        return response.status_code, response.content

    @contextlib.contextmanager
    def streaming(self, url):
        stream = self._client.stream("GET", url)
        response = self._loop.run(stream.__aenter__())
        try:
            yield lambda: self._loop.run(response.aread())
        finally:
            self._loop.run(response.aclose())

    def close(self):
        self._loop.run(self._client.aclose())
        self._loop.close()


class AiohttpAsync:
    """`aiohttp.ClientSession` through `Middleware`."""

    repeats = 2

    library = "aiohttp"

    def __init__(self, **policies):
        aiohttp, ours = import_module("aiohttp"), import_module("mainstay.integrations.aiohttp")

        self.base, self.late = aiohttp.ClientError, TimeoutError
        self._loop = OnLoop()
        self._middleware = ours.Middleware(**policies)
        self._session = self._loop.run(self._open(aiohttp))

    async def _open(self, aiohttp):
        limit = aiohttp.ClientTimeout(total=PATIENCE)
        return aiohttp.ClientSession(middlewares=[self._middleware], timeout=limit)

    def ask(self, method, url, *, body=None, headers=None):
        data = body if body is None or isinstance(body, bytes) else in_async(body)
        return self._loop.run(self._ask(method, url, data, headers))

    async def _ask(self, method, url, data, headers):
        async with self._session.request(method, url, data=data, headers=headers) as response:
            return response.status, await response.read()

    @contextlib.contextmanager
    def streaming(self, url):
        async def get():
            return await self._session.get(url)

        async def close(response):
            response.close()

        response = self._loop.run(get())
        try:
            yield lambda: self._loop.run(response.read())
        finally:
            self._loop.run(close(response))

    def close(self):
        self._loop.run(self._session.close())
        self._loop.close()


async def in_async(pieces):
    for piece in pieces:
        await asyncio.sleep(0)
        yield piece


CLIENTS = {
    "httpx": HttpxSync,
    "httpx-async": HttpxAsync,
    "requests": RequestsSync,
    "aiohttp": AiohttpAsync,
}
