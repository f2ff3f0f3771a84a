"""How the operations of stores on servers are driven: by a thread that blocks, or by a task.

An operation is a generator, so that both share its source: what it yields is sent, and the answer,
or the failure, goes back into it.
"""

from collections.abc import Awaitable, Callable, Generator
from typing import TypeVar

from mainstay.stores._failure import ServerFailure

A = TypeVar("A")
R = TypeVar("R")
T = TypeVar("T")


def drive(operation: Generator[R, A, T], send: Callable[[R], A]) -> T:
    """Run *operation* to its end, and return its result.

    Args:
        operation: Yields requests.
        send: Sends a request, and returns the answer.

    Raises:
        ServerFailure: If a request fails, and the operation knows no other way.
    """
    try:
        request = next(operation)
        while True:
            try:
                answer = send(request)
            except ServerFailure as failure:
                request = operation.throw(failure)
            else:
                request = operation.send(answer)
    except StopIteration as ended:
        found: T = ended.value
        return found
    except BaseException:  # also an interruption: what the operation holds is free at once
        operation.close()
        raise


async def adrive(operation: Generator[R, A, T], send: Callable[[R], Awaitable[A]]) -> T:
    """As `drive`, in a task."""
    try:
        request = next(operation)
        while True:
            try:
                answer = await send(request)
            except ServerFailure as failure:
                request = operation.throw(failure)
            else:
                request = operation.send(answer)
    except StopIteration as ended:
        found: T = ended.value
        return found
    except BaseException:  # also an interruption: what the operation holds is free at once
        operation.close()
        raise
