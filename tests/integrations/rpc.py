"""gRPC on loopback without generated code: a server that does what a test says, and its callers."""

import asyncio
import contextlib
from concurrent import futures

METHOD = "/shop.Orders/Get"
WAIT = 10.0
NO_RETRIES = [("grpc.enable_retries", 0)]  # of gRPC's own


class Service:
    """Answers what the script says, one step for each call, of which the last one stays.

    A step is bytes, a status, a status with its trailers, or a function.

    Attributes:
        calls: What each call was: its request, the seconds it had left, and its metadata.
    """

    def __init__(self, *script):
        self._script = list(script)
        self.calls = []

    def step(self, request, context):
        """Record a call, and return its step."""
        self.calls.append((request, context.time_remaining(), context.invocation_metadata()))
        return self._script.pop(0) if len(self._script) > 1 else self._script[0]

    def handler(self, grpc):
        """Make the handler of this service."""

        def get(request, context):
            step = self.step(request, context)
            if isinstance(step, bytes):
                return step
            if callable(step):
                return step(request, context)
            code, *trailers = step if isinstance(step, tuple) else (step,)
            context.set_trailing_metadata(tuple(trailers))
            context.abort(grpc.StatusCode[code], f"it says {code}")
            raise AssertionError("abort raises")

        return handler_of(grpc, get)


def handler_of(grpc, behavior, kind="unary_unary"):
    """Make a generic handler of bytes."""
    method = getattr(grpc, f"{kind}_rpc_method_handler")(behavior)
    return grpc.method_handlers_generic_handler("shop.Orders", {"Get": method})


@contextlib.contextmanager
def serving(grpc, *handlers, interceptors=(), workers=8):
    """Serve on a port of loopback; give its address."""
    with futures.ThreadPoolExecutor(workers) as pool:
        server = grpc.server(pool, interceptors=interceptors)
        server.add_generic_rpc_handlers(handlers)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            server.stop(None).wait(WAIT)


@contextlib.contextmanager
def serving_async(grpc, *handlers, interceptors=()):
    """Serve by grpc.aio, on an event loop in a thread; give the address."""
    loop = asyncio.new_event_loop()

    async def start():
        server = grpc.aio.server(interceptors=interceptors)
        server.add_generic_rpc_handlers(handlers)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        return server, port

    with futures.ThreadPoolExecutor(1) as thread:
        running = thread.submit(loop.run_forever)
        server, port = asyncio.run_coroutine_threadsafe(start(), loop).result(WAIT)
        try:
            yield f"127.0.0.1:{port}"
        finally:
            asyncio.run_coroutine_threadsafe(server.stop(None), loop).result(WAIT)
            loop.call_soon_threadsafe(loop.stop)
            running.result(WAIT)
            loop.close()


class SyncClient:
    """A channel of grpc with an interceptor."""

    kind = "sync"

    def __init__(self, grpc, address, interceptor):
        self._bare = grpc.insecure_channel(address, options=NO_RETRIES)
        self.channel = (
            self._bare if interceptor is None else grpc.intercept_channel(self._bare, interceptor)
        )

    def call(self, request=b"7", method=METHOD, **more):
        return self.channel.unary_unary(method)(request, **more)

    def close(self):
        self._bare.close()


class AsyncClient:
    """A channel of grpc.aio with an interceptor, on an event loop of its own."""

    kind = "async"

    def __init__(self, grpc, address, interceptor):
        self._loop = asyncio.new_event_loop()
        interceptors = [] if interceptor is None else [interceptor]

        async def opened():
            return grpc.aio.insecure_channel(address, options=NO_RETRIES, interceptors=interceptors)

        self.channel = self._loop.run_until_complete(opened())

    def call(self, request=b"7", method=METHOD, **more):
        async def called():
            return await self.channel.unary_unary(method)(request, **more)

        return self._loop.run_until_complete(called())

    def close(self):
        self._loop.run_until_complete(self.channel.close())
        self._loop.close()
