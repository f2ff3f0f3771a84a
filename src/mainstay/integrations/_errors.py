"""Our errors as the client's own, so that one `except` is right wherever a request is made.

What a client raises is derived from its own base. An error of ours that ends a request is made one
that is derived from both: `except httpx.TransportError` catches an open breaker, and so does
`except CircuitOpenError`.
"""

from functools import lru_cache
from typing import Any, TypeVar

from mainstay.errors import DeadlineExpiredError, MainstayError

E = TypeVar("E", bound=Exception)


def as_clients(error: MainstayError, base: type[E], **attributes: Any) -> E:
    """Return *error* as an exception that is of the client's class *base* as well.

    Args:
        error: One of ours.
        base: The client's.
        **attributes: What *base* is made with besides a message.
    """
    if isinstance(error, base):
        return error
    classes: Any = type(error), base  # which type checkers do not take for hashable
    mixed: Any = _mixed(*classes)
    made = mixed.__new__(mixed)
    base.__init__(made, str(error), **attributes)
    made.args = error.args
    vars(made).update(vars(error))  # its notes are among them
    made.ours = error
    return made.with_traceback(error.__traceback__)  # type: ignore[no-any-return]


def base_for(error: MainstayError, base: type[E], late: type[E]) -> type[E]:
    """Return the client's class for an error of ours: *late* if the time was over."""
    return late if isinstance(error, DeadlineExpiredError) else base


@lru_cache(maxsize=100)
def _mixed(kind: type[MainstayError], base: type[Exception]) -> type[Exception]:
    def __reduce__(self: Any) -> tuple[Any, ...]:  # noqa: N807 - it becomes a method
        return as_clients, (self.ours, base)

    body = {"__module__": kind.__module__, "__doc__": kind.__doc__, "__reduce__": __reduce__}
    return type(kind.__name__, (kind, base), body)
