"""The two facts about a callable that policies need: its name and its colour.

Both look through `functools.partial` and through objects with `__call__`; nothing else in the
package asks these questions.
"""

import enum
import functools
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any


class Colour(enum.Enum):
    """How a callable must be called."""

    SYNC = "def"
    ASYNC = "async def"
    GENERATOR = "generator"
    ASYNC_GENERATOR = "async generator"


_ASYNC_CODE = inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR


def colour_of(fn: Callable[..., Any]) -> Colour:
    """Say how *fn* must be called: sync, async, or as a generator of either."""
    fn = _unwrap_partial(fn)
    for candidate in (fn, type(fn).__call__):
        if inspect.iscoroutinefunction(candidate):
            return Colour.ASYNC
        if inspect.isasyncgenfunction(candidate):
            return Colour.ASYNC_GENERATOR
        if inspect.isgeneratorfunction(candidate):
            return Colour.GENERATOR
    return Colour.SYNC


def is_async(fn: Callable[..., Any]) -> bool:
    """Whether calling *fn* gives something to await."""
    return colour_of(fn) is Colour.ASYNC


def name_of(fn: Callable[..., Any]) -> str:
    """Name a callable `module.qualname`; an object with `__call__` by its class.

    Methods of built-in types do not say where they are from: they are from `builtins`.
    """
    fn = _unwrap_partial(fn)
    if not isinstance(getattr(fn, "__qualname__", None), str):
        fn = type(fn)
    return f"{_module_name(getattr(fn, '__module__', None))}.{fn.__qualname__}"


def name_of_frame(frame: FrameType) -> str:
    """Name the code that runs in *frame* `module.qualname`; code outside a function `module`."""
    module = _module_name(frame.f_globals.get("__name__"))
    qualname = frame.f_code.co_qualname
    return module if qualname == "<module>" else f"{module}.{qualname}"


def is_async_frame(frame: FrameType) -> bool:
    """Whether the code that runs in *frame* belongs to an `async def`."""
    return bool(frame.f_code.co_flags & _ASYNC_CODE)


def _unwrap_partial(fn: Callable[..., Any]) -> Callable[..., Any]:
    while isinstance(fn, functools.partial):
        fn = fn.func
    return fn


def _module_name(module: object) -> str:
    return _name_of_main() if module == "__main__" else str(module or "builtins")


@functools.cache
def _name_of_main() -> str:
    """Name the main module as if it were imported, so that labels do not depend on how it runs."""
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        return str(spec.name).removesuffix(".__main__")
    path = getattr(main, "__file__", None)
    return Path(path).stem if path else "__main__"
