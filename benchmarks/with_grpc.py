"""What does our interceptor add to a unary call of gRPC?

First alone: the interceptor is called as a channel calls it, and what sends the call answers at
once. Then through a channel, to a server on loopback: without any interceptor, with one that does
nothing, and with ours, with the policies that the names say. The server is in the same process, so
its work is part of each time; what an interceptor adds is the difference.
"""

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import grpc.aio

import mainstay
import peers
from harness import Loop, Measure, Report, async_loop_over, loop_over, main, ratio, times_of
from mainstay.integrations.grpc import AsyncClientInterceptor, ClientInterceptor
from peers import LIMIT

ROUNDS = 150
QUICK_ROUNDS = 5
METHOD = "/shop.Orders/Get"
NOTHING, BARE = "an interceptor that does nothing", "no interceptor"
OURS, WITH_TIMEOUT = "mainstay", "mainstay, timeout="
BREAKER, ALL = "mainstay, breaker", "mainstay, breaker and limit"


class Nothing(grpc.UnaryUnaryClientInterceptor):
    """Hands a call on."""

    def intercept_unary_unary(
        self, continuation: Any, client_call_details: Any, request: Any
    ) -> Any:
        """Do nothing else."""
        return continuation(client_call_details, request)


class AsyncNothing(grpc.aio.UnaryUnaryClientInterceptor):
    """Hands a call on."""

    async def intercept_unary_unary(
        self, continuation: Any, client_call_details: Any, request: Any
    ) -> Any:
        """Do nothing else."""
        return await continuation(client_call_details, request)


class Answer:
    """A call that is over."""

    def exception(self) -> None:
        """Have none."""

    def result(self) -> bytes:
        """Give the response."""
        return b""

    def __await__(self) -> Iterator[Any]:
        return b""
        yield


class Details(grpc.ClientCallDetails):
    """What is called."""

    method = METHOD
    metadata = credentials = wait_for_ready = compression = None

    def __init__(self, timeout: float | None = None) -> None:
        self.timeout = timeout


def interceptors(kind: Callable[..., Any]) -> dict[str, Any]:
    """Make the interceptors that are compared."""
    given = {"metrics": peers.METRICS}
    return {
        OURS: kind(**given),
        BREAKER: kind(breaker=mainstay.Detect(), name="breaker", **given),
        ALL: kind(breaker=mainstay.Detect(), limit=20, name="all", **given),
    }


def alone() -> dict[str, Loop]:
    """List calls of interceptors by themselves."""
    details, timed, answer = Details(), Details(5.0), Answer()

    def sends(_details: Any, _request: Any) -> Answer:
        return answer

    def calling(interceptor: Any, how: Details = details) -> Callable[[int], Any]:
        return lambda _: interceptor.intercept_unary_unary(sends, how, b"")

    ours = interceptors(ClientInterceptor)
    calls = {NOTHING: calling(Nothing()), **{name: calling(each) for name, each in ours.items()}}
    calls[WITH_TIMEOUT] = calling(ours[OURS], timed)
    loops = {name: loop_over(call) for name, call in calls.items()}
    return {LIMIT: loop_over(peers.by_hand(peers.job)), **loops}


def alone_in_async_code() -> dict[str, Loop]:
    """List the same of those for grpc.aio."""
    details = grpc.aio.ClientCallDetails(METHOD, None, None, None, None)
    answer = Answer()

    async def sends(_details: Any, _request: Any) -> Answer:
        return answer

    def calling(interceptor: Any) -> Callable[[int], Any]:
        async def call(_: int) -> Any:
            return await interceptor.intercept_unary_unary(sends, details, b"")

        return call

    every = {NOTHING: AsyncNothing(), **interceptors(AsyncClientInterceptor)}
    loops = {name: async_loop_over(calling(each)) for name, each in every.items()}
    return {LIMIT: async_loop_over(peers.by_hand_async(peers.ajob)), **loops}


def handler() -> grpc.GenericRpcHandler:
    """Make a handler that answers at once."""
    method = grpc.unary_unary_rpc_method_handler(lambda request, _: request)
    return grpc.method_handlers_generic_handler("shop.Orders", {"Get": method})


@contextlib.contextmanager
def serving() -> Iterator[str]:
    """Serve on loopback; give the address."""
    with ThreadPoolExecutor(1) as pool:
        server = grpc.server(pool)
        server.add_generic_rpc_handlers((handler(),))
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        yield f"127.0.0.1:{port}"
        server.stop(None).wait()


def through_channels(address: str, stack: contextlib.ExitStack) -> dict[str, Loop]:
    """List calls through channels."""

    def calling(*given: Any) -> Callable[[int], Any]:
        bare = stack.enter_context(grpc.insecure_channel(address))
        method = grpc.intercept_channel(bare, *given).unary_unary(METHOD)
        return lambda _: method(b"")

    every = {BARE: (), NOTHING: (Nothing(),)}
    every |= {name: (each,) for name, each in interceptors(ClientInterceptor).items()}
    return {name: loop_over(calling(*given)) for name, given in every.items()}


def report(*, quick: bool) -> Report:
    """Measure interceptors alone, and through channels."""
    answer = Report()
    answer.say(f"grpcio {grpc.__version__}.")
    rounds = QUICK_ROUNDS if quick else ROUNDS
    for colour, loops in (("sync", alone()), ("async", alone_in_async_code())):
        times = times_of(loops, rounds=rounds)
        answer.times(f"An interceptor alone, {colour}", times, LIMIT, NOTHING)
        for name in (OURS, ALL):
            added = ratio(times, name, LIMIT) - ratio(times, NOTHING, LIMIT)
            text = f"grpc, {colour}: {name}, minus an interceptor that does nothing"
            answer.measures.append(Measure(text, 8.0, 5.0, added, " LIMIT"))
    with contextlib.ExitStack() as stack:
        loops = through_channels(stack.enter_context(serving()), stack)
        times = times_of(loops, rounds=rounds, sample_seconds=0.01)
    answer.times("A call to a server on loopback, sync", times, BARE, NOTHING)
    answer.measures.append(
        Measure("a call of grpc through ours, vs without any", None, None, ratio(times, OURS, BARE))
    )
    return answer


if __name__ == "__main__":
    main(report, __doc__)
