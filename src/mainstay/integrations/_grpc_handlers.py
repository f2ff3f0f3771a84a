"""Handlers of a gRPC server: the caller's time is in force in them, and errors are statuses."""

import math
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import nullcontext
from typing import Any, TypeAlias

import grpc

from mainstay._core.arguments import Duration, to_seconds
from mainstay._core.deadline import deadline
from mainstay._core.functions import Kind, kind_of
from mainstay.errors import MainstayError, TimedOutError
from mainstay.integrations._refusals import ANSWERED, answered_as
from mainstay.integrations._statuses import pushback_of, status_of

_ENDLESS = 1e9  # seconds: what the C core has for a call without a deadline
_ANSWERED = (*ANSWERED, TimedOutError)
_END = object()

_SHAPES: dict[tuple[bool, bool], tuple[str, Callable[..., Any]]] = {
    (False, False): ("unary_unary", grpc.unary_unary_rpc_method_handler),
    (False, True): ("unary_stream", grpc.unary_stream_rpc_method_handler),
    (True, False): ("stream_unary", grpc.stream_unary_rpc_method_handler),
    (True, True): ("stream_stream", grpc.stream_stream_rpc_method_handler),
}
"""By whether requests and responses are streams: a handler's function, and what makes another."""

Behavior: TypeAlias = Callable[[Any, Any], Any]


def checked_at_most(at_most: Duration | None) -> float:
    """Return the longest time that a client may ask for, in seconds; infinity for no limit.

    Raises:
        TypeError: If it is no duration.
        ValueError: If it is out of range.
    """
    return math.inf if at_most is None else to_seconds(at_most, "at_most", zero=False)


def in_time_left(handler: Any, at_most: float) -> Any:
    """Return a handler with the deadline in its function; None where nobody handles the call."""
    if handler is None:
        return None
    name, made = _SHAPES[handler.request_streaming, handler.response_streaming]
    behavior = getattr(handler, name)
    kind = kind_of(behavior)
    if kind is Kind.ASYNC_GENERATOR:
        inside: Behavior = _async_stream(behavior, at_most)
    elif kind is Kind.ASYNC:
        inside = _async_answer(behavior, at_most)
    elif handler.response_streaming:
        inside = _stream(behavior, at_most)
    else:
        inside = _answer(behavior, at_most)
    return made(inside, handler.request_deserializer, handler.response_serializer)


def _deadline_of(context: Any, at_most: float) -> Any:
    """Return the block with the time that the caller has left."""
    left = context.time_remaining()
    if left is None or left > _ENDLESS:
        return nullcontext()
    return deadline(min(max(0.0, left), at_most))


def _answer(behavior: Behavior, at_most: float) -> Behavior:
    def served(request: Any, context: Any) -> Any:
        try:
            with _deadline_of(context, at_most):
                return behavior(request, context)
        except (MainstayError, ExceptionGroup) as error:
            context.abort(_prepared(context, error), str(error))  # which raises

    return served


def _stream(behavior: Behavior, at_most: float) -> Behavior:
    def served(request: Any, context: Any) -> Iterator[Any]:
        responses: Any = ()
        try:
            with _deadline_of(context, at_most):
                responses = iter(behavior(request, context))
            while True:
                with _deadline_of(context, at_most):
                    response = next(responses, _END)
                if response is _END:
                    return
                yield response
        except (MainstayError, ExceptionGroup) as error:
            # What `abort` does, which leaves a client of such a generator waiting under grpc.aio.
            context.set_code(_prepared(context, error))
            context.set_details(str(error))
        finally:
            close = getattr(responses, "close", None)
            if close is not None:
                close()

    return served


def _async_answer(behavior: Behavior, at_most: float) -> Behavior:
    async def served(request: Any, context: Any) -> Any:
        try:
            async with _deadline_of(context, at_most):
                return await behavior(request, context)
        except (MainstayError, ExceptionGroup) as error:
            status = _prepared(context, error)
            await context.abort(status, str(error), context.trailing_metadata() or ())

    return served


def _async_stream(behavior: Behavior, at_most: float) -> Behavior:
    async def served(request: Any, context: Any) -> AsyncIterator[Any]:
        responses = behavior(request, context)
        try:
            while True:
                async with _deadline_of(context, at_most):
                    response = await anext(responses, _END)
                if response is _END:
                    return
                yield response
        except (MainstayError, ExceptionGroup) as error:
            status = _prepared(context, error)
            await context.abort(status, str(error), context.trailing_metadata() or ())
        finally:
            await responses.aclose()

    return served


def _prepared(context: Any, error: Exception) -> grpc.StatusCode:
    """Add the trailers that *error* has to those of the call; return its status.

    Raises:
        Exception: *error* itself, if it is no status.
    """
    answered = answered_as(error, _ANSWERED)
    status = status_of(answered)
    if status is None:
        raise error
    trailers = pushback_of(answered)
    if trailers:
        known = getattr(context, "trailing_metadata", tuple)  # plain functions under grpc.aio: none
        context.set_trailing_metadata((*(known() or ()), *trailers))
    return grpc.StatusCode[status]
