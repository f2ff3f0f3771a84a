"""Where the resource goes in: first, or right after a first parameter named self or cls."""

import functools
import inspect
from collections.abc import Callable
from types import FunctionType
from typing import Any

from mainstay._core.callables import Colour, colour_of

_SELVES = frozenset({"self", "cls"})


def resource_first(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Give a function that takes the resource first, whatever *fn* does."""
    return _self_second(fn) if _takes_self(fn) else fn


def _takes_self(fn: Callable[..., Any]) -> bool:
    """Whether the first parameter of a function is that of a method."""
    if isinstance(fn, FunctionType) and not hasattr(fn, "__wrapped__"):  # quicker than a signature
        code = fn.__code__
        return code.co_argcount > 0 and code.co_varnames[0] in _SELVES
    try:
        return next(iter(inspect.signature(fn).parameters), "") in _SELVES
    except (TypeError, ValueError):  # a builtin that does not tell
        return False


def _self_second(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Let a method take the resource before its self."""

    @functools.wraps(fn)
    def call(resource: Any, self: Any, *args: Any, **kwargs: Any) -> Any:
        return fn(self, resource, *args, **kwargs)

    @functools.wraps(fn)
    async def acall(resource: Any, self: Any, *args: Any, **kwargs: Any) -> Any:
        return await fn(self, resource, *args, **kwargs)

    return acall if colour_of(fn) is Colour.ASYNC else call
