"""Requests to applications of ASGI, and applications, without a server."""

import asyncio

from mainstay.integrations.asgi import Middleware


class Client:
    """Stands in for a server and what is behind it: sends one request, and keeps the response."""

    def __init__(self, app, *, path="/", method="GET", headers=(), body=(), kind="http", **scope):
        self.app = app
        self.scope = {
            "type": kind,
            "method": method,
            "path": path,
            "headers": [(name.encode(), value.encode()) for name, value in headers],
            **scope,
        }
        parts = [*body] or [b""]
        self.incoming = [
            {"type": "http.request", "body": part, "more_body": part is not parts[-1]}
            for part in parts
        ]
        self.sent = []
        self.left = asyncio.Event()
        self.leaves_by = None  # what `send` raises once the client has left

    async def receive(self):
        if self.incoming:
            return self.incoming.pop(0)
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message):
        if self.left.is_set() and self.leaves_by is not None:
            raise self.leaves_by
        self.sent.append(message)

    async def run(self):
        await self.app(self.scope, self.receive, self.send)
        return self

    @property
    def status(self):
        (start,) = [each for each in self.sent if each["type"].endswith("response.start")]
        return start["status"]

    @property
    def headers(self):
        return {name.decode(): value.decode() for name, value in self.sent[0]["headers"]}

    @property
    def body(self):
        return b"".join(each.get("body", b"") for each in self.sent)


def get(app, **request):
    return asyncio.run(Client(app, **request).run())


def answering(status=200, *parts, before=None, between=None, after=None):
    """An application that sends a response of these parts."""

    async def app(scope, receive, send):
        if before is not None:
            await before()
        await send({"type": "http.response.start", "status": status, "headers": []})
        chunks = parts or (b"done",)
        for chunk in chunks[:-1]:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
            if between is not None:
                await between()
        await send({"type": "http.response.body", "body": chunks[-1]})
        if after is not None:
            await after()

    return app


def raising(error, *, begun=False):
    async def app(scope, receive, send):
        if begun:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"some", "more_body": True})
        raise error

    return app


def shop(app, **options):
    return Middleware(app, **{"name": "shop", **options})
