"""gRPC with mainstay at both ends: a shop in trouble on loopback, and its clients, sync and async.

pip install 'mainstay[grpc]'
python grpc_shop.py
"""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import grpc.aio
from prometheus_client import REGISTRY

from mainstay import CircuitOpenError, Detect, RateLimit, deadline, remaining, retry, transient
from mainstay.integrations.grpc import (
    AsyncClientInterceptor,
    ClientInterceptor,
    ServerInterceptor,
)

# The server. A program has classes made from a .proto in place of these functions of bytes.

reservations = RateLimit("reservations", 1, per=60.0)
asked = 0


def get(request: bytes, context: grpc.ServicerContext) -> bytes:
    """Answer an order; the first time the shop is not ready yet."""
    global asked
    asked += 1
    if asked == 1:
        context.abort(grpc.StatusCode.UNAVAILABLE, "starting up")
    return request + b": 2 teas"


def report(_request: bytes, _context: grpc.ServicerContext) -> bytes:
    """Work for as long as the caller waits, and no longer."""
    for _page in range(200):
        if remaining(default=10.0) <= 0:
            break
        time.sleep(0.01)
    return b"a long report"


def reserve(_request: bytes, _context: grpc.ServicerContext) -> bytes:
    """Reserve, once a minute: RESOURCE_EXHAUSTED to others, and when to come again."""
    with reservations:
        return b"reserved"


def down(_request: bytes, context: grpc.ServicerContext) -> bytes:
    """Fail, always."""
    context.abort(grpc.StatusCode.INTERNAL, "no disk")


def serve() -> tuple[grpc.Server, str]:
    """Start the shop; return it and its address."""
    server = grpc.server(ThreadPoolExecutor(4), interceptors=[ServerInterceptor()])
    methods = {
        behavior.__name__.title(): grpc.unary_unary_rpc_method_handler(behavior)
        for behavior in (get, report, reserve, down)
    }
    handler = grpc.method_handlers_generic_handler("shop.Orders", methods)
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    return server, f"127.0.0.1:{port}"


# The clients.

OPTIONS = [("grpc.enable_retries", 0)]  # gRPC's own would multiply with ours


def main(address: str) -> None:
    """Ask the shop."""
    interceptor = ClientInterceptor(
        retry=retry(on=transient, attempts=3, timeout=20.0, wait=0.01),
        breaker=Detect(consecutive=5),
        limit=20,
        name="shop",
    )
    with grpc.insecure_channel(address, options=OPTIONS) as bare:
        channel = grpc.intercept_channel(bare, interceptor)
        print(channel.unary_unary("/shop.Orders/Get")(b"order 7").decode())

        began = time.monotonic()
        try:
            with deadline(0.3):
                channel.unary_unary("/shop.Orders/Report")(b"")
        except grpc.RpcError as error:
            name, seconds = type(error).__name__, time.monotonic() - began
            print(f"report: {name}, {error.code().name} after {seconds:.1f} s")

        reserve_one = channel.unary_unary("/shop.Orders/Reserve")
        print("reserve:", reserve_one(b"7").decode())
        try:
            reserve_one(b"8")  # not tried again, since the minute is longer than the 20 s
        except grpc.RpcError as error:
            print("reserve:", error.code().name)

        for _ in range(5):
            try:
                channel.unary_unary("/shop.Orders/Down")(b"")
            except grpc.RpcError as error:
                last = error
        print("down:", last.code().name)
        try:
            with deadline(0.5):  # or it would wait for the breaker's next trial
                channel.unary_unary("/shop.Orders/Down")(b"")
        except CircuitOpenError as error:
            print(f"down: {type(error).__name__}, {error.code().name}")

    labels = {"component": "shop", "policy": "retry", "outcome": "recovered"}
    print("recovered:", REGISTRY.get_sample_value("mainstay_calls_total", labels))


async def amain(address: str) -> None:
    """Ask the shop in async code."""
    interceptors = [AsyncClientInterceptor(name="shop, async")]
    async with grpc.aio.insecure_channel(
        address, options=OPTIONS, interceptors=interceptors
    ) as channel:
        answer = await channel.unary_unary("/shop.Orders/Get")(b"order 8", timeout=5.0)
        print(answer.decode())


if __name__ == "__main__":
    shop, at = serve()
    main(at)
    asyncio.run(amain(at))
    shop.stop(None).wait()
