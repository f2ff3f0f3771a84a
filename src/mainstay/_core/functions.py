"""What policies need to know of a callable: its name, its kind, and the place of a resource.

`functools.partial` and objects with `__call__` are looked through. No other module asks these
questions.
"""

import contextlib
import enum
import functools
import inspect
import os
import sys
import threading
from collections.abc import Callable, Mapping
from types import CodeType, FrameType, FunctionType, GeneratorType, MethodType, NoneType
from typing import TYPE_CHECKING, Any, TypeVar, cast

from mainstay.errors import UnsupportedLoopError

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

W = TypeVar("W")


class Kind(enum.Enum):
    """How a callable must be called: its kind."""

    SYNC = "def"
    ASYNC = "async def"
    GENERATOR = "generator"
    ASYNC_GENERATOR = "async generator"


_LEFT_OUT: Any = object()
_NAMES = ("__module__", "__name__", "__qualname__")
_MAIN = ("__main__", "__mp_main__")  # the second in processes that multiprocessing spawned
_POSITIONAL = (
    inspect.Parameter.POSITIONAL_ONLY,
    inspect.Parameter.POSITIONAL_OR_KEYWORD,
    inspect.Parameter.VAR_POSITIONAL,
)
_PLAIN = frozenset((NoneType, bool, int, float, str, bytes, list, tuple, dict, set))
_ASYNC_CODE = inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR


def kind_of(fn: Callable[..., Any]) -> Kind:
    """Return how *fn* must be called: sync, async, or as a generator of either."""
    fn = _unwrap_partial(fn)
    # A plain function has no `__call__` of its own; to look at it would double the time.
    for candidate in (fn,) if type(fn) is FunctionType else (fn, type(fn).__call__):
        if inspect.iscoroutinefunction(candidate) or _makes_awaitables(candidate):
            return Kind.ASYNC
        if inspect.isasyncgenfunction(candidate):
            return Kind.ASYNC_GENERATOR
        if inspect.isgeneratorfunction(candidate):
            return Kind.GENERATOR
    return Kind.SYNC


def _makes_awaitables(fn: Any) -> bool:
    """True for what is async by a mark: of `types.coroutine`, or of asyncio before Python 3.13.

    The second is on stand-ins for async functions that `create_autospec` makes, among others.
    """
    code = getattr(fn, "__code__", None)
    if isinstance(code, CodeType) and code.co_flags & inspect.CO_ITERABLE_COROUTINE:
        return True
    asyncio = sys.modules.get("asyncio") if sys.version_info < (3, 13) else None
    return asyncio is not None and asyncio.iscoroutinefunction(fn)


def is_async(fn: Callable[..., Any]) -> bool:
    """True if calling *fn* returns something to await."""
    return kind_of(fn) is Kind.ASYNC


def is_async_hook(hook: object) -> bool:
    """True if what a user gave as a parameter is a function to be awaited; a class is none."""
    return callable(hook) and not isinstance(hook, type) and is_async(hook)


def wraps(fn: Callable[..., Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """As `functools.wraps`, for whatever can be called: partials, objects, stand-ins of tests."""
    if type(fn) is FunctionType:
        return functools.wraps(fn)
    named = _named(fn)

    def give_identity(wrapper: Callable[..., Any]) -> Callable[..., Any]:
        for name in functools.WRAPPER_ASSIGNMENTS:
            source = named if name in _NAMES else fn
            with contextlib.suppress(AttributeError, TypeError):  # a mock has every attribute
                setattr(wrapper, name, getattr(source, name))
        wrapper.__dict__.update(getattr(fn, "__dict__", {}))
        wrapper.__wrapped__ = fn  # type: ignore[attr-defined]  # as functools does
        return wrapper

    return give_identity


def rewrapped(method: Any, policy: Callable[[Any], W]) -> W:
    """Return a `classmethod` or `staticmethod` with its function in a policy.

    It is no callable to a type checker before it is bound, as *method* was none.
    """
    return cast("W", type(method)(policy(method.__func__)))


def resource_first(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that takes a pool's resource before all else; a method, before its self.

    A method of the resource's own class that was taken from there, as in ``pool(Redis.get)``, takes
    the resource as its self. Where it was decorated in its class, the class has what is returned.

    Raises:
        TypeError: If it has no parameter for the resource.
    """
    _, place = _parameters_of(fn)
    if place == 0:
        return fn
    other: type | None = None

    def given(resource: Any, self: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
        nonlocal other
        if _has(type(resource), _unwrap_partial(fn)):
            return (resource,) if self is _LEFT_OUT else (resource, self, *args)
        if self is _LEFT_OUT:
            raise TypeError(f"{name_of(fn)} is a method, and was called without its object")
        other = type(resource)
        return self, resource, *args

    @functools.wraps(fn)
    def call(resource: Any, self: Any = _LEFT_OUT, /, *args: Any, **kwargs: Any) -> Any:
        if type(resource) is other and self is not _LEFT_OUT:
            return fn(self, resource, *args, **kwargs)
        return fn(*given(resource, self, args), **kwargs)

    @functools.wraps(fn)
    async def acall(resource: Any, self: Any = _LEFT_OUT, /, *args: Any, **kwargs: Any) -> Any:
        if type(resource) is other and self is not _LEFT_OUT:
            return await fn(self, resource, *args, **kwargs)
        return await fn(*given(resource, self, args), **kwargs)

    return acall if kind_of(fn) is Kind.ASYNC else call


def resource_first_or_as_self(fn: Callable[..., Any]) -> Callable[..., Any]:
    """As `resource_first`, where *fn* may be a method of the resource's own class.

    Such a method, as in ``pool.call(Redis.get, "key")``, takes the resource as its self. A method
    of neither the resource nor the object before its arguments raises TypeError when called.

    Raises:
        TypeError: If it has no parameter for the resource.
    """
    method, parameters = _unwrap_partial(fn), _parameters(fn)
    name = getattr(method, "__name__", None)
    if name is None or not parameters or parameters[0].name != "self":
        return resource_first(fn)
    as_function = resource_first(fn) if len(parameters) > 1 else None
    qualname = method.__qualname__
    in_class = qualname != name and not qualname.endswith(f"<locals>.{name}")

    @functools.wraps(fn)
    def call(resource: Any, /, *args: Any, **kwargs: Any) -> Any:
        if _is_method_of(method, type(resource)):
            return fn(resource, *args, **kwargs)
        if as_function is None or (
            in_class and not (args and _is_method_of(method, type(args[0])))
        ):
            raise TypeError(
                f"{name_of(fn)} has no parameter for the resource of a member: it is a method, but "
                f"not of the resource, whose class is {type(resource).__qualname__}; pass a "
                f"function that takes the resource first, such as `lambda resource: ...`"
            )
        return as_function(resource, *args, **kwargs)

    return call


def takes_self(fn: Callable[..., Any]) -> bool:
    """True if the first parameter of *fn* is named as that of a method."""
    parameters = _parameters(fn)
    return bool(parameters) and parameters[0].name in {"self", "cls"}


def without_resource(fn: Callable[..., Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """As `wraps`, for what gives *fn* a pool's resource: what shows is what callers write.

    Raises:
        TypeError: If it has no parameter for the resource.
    """
    signature, place = _parameters_of(fn)

    def give_identity(wrapper: Callable[..., Any]) -> Callable[..., Any]:
        wraps(fn)(wrapper)
        if signature is None:
            return wrapper
        parameters = [*signature.parameters.values()]
        if parameters[place].kind is not inspect.Parameter.VAR_POSITIONAL:
            wrapper.__annotations__ = {**wrapper.__annotations__}
            wrapper.__annotations__.pop(parameters.pop(place).name, None)
        vars(wrapper)["__signature__"] = signature.replace(parameters=parameters)
        return wrapper

    return give_identity


def name_of(fn: Any) -> str:
    """Return the name of a callable, `module.qualname`; an object with `__call__` by its class.

    Messages use this name in place of the `repr`, which for a partial shows arguments, and for a
    method its object; either may contain secrets.

    Methods of built-in types have no module; they get `builtins`.
    """
    fn = _named(fn)
    module = getattr(fn, "__module__", None)
    names = getattr(inspect.unwrap(fn), "__globals__", None)
    if names is None:  # a class
        names = vars(sys.modules["__main__"])
    return f"{_module_name(module, names)}.{fn.__qualname__}"


def repr_of(value: object) -> str:
    """Return the `repr` of what users give as a parameter; the name of what holds something.

    A partial may hold a password, and a method an object that shows one.
    """
    holds = isinstance(value, functools.partial | MethodType)
    return name_of(value) if holds else repr(value)


def checked_name(name: object) -> str:
    """Return what users give as `name=`, checked."""
    if not isinstance(name, str):
        raise TypeError(f"`name` must be a str, not {name!r}")
    if not name:
        raise ValueError("`name` must not be empty")
    return name


def checked_name_or_none(name: object) -> str | None:
    """Return it where None is as good, and stands for the name of what is called."""
    if not isinstance(name, str | None):
        raise TypeError(f"`name` must be a str or None, not {name!r}")
    if name == "":
        raise ValueError("`name` must not be empty; leave it out for the function's own name")
    return name


def name_of_frame(frame: FrameType) -> str:
    """Return the name of the code in *frame*: `module.qualname`, or `module` outside functions."""
    names = frame.f_globals
    module = _module_name(names.get("__name__"), names)
    qualname = frame.f_code.co_qualname
    return module if qualname == "<module>" else f"{module}.{qualname}"


def is_awaitable(value: object) -> bool:
    """True if *value* is there to be awaited: a coroutine, a future, a call of a client."""
    kind = type(value)  # usually a plain value; a failing attribute look-up is slow
    if kind in _PLAIN:
        return False
    if kind is GeneratorType:  # one of `types.coroutine` can be awaited
        made: GeneratorType[Any, Any, Any] = cast("Any", value)
        return bool(made.gi_code.co_flags & inspect.CO_ITERABLE_COROUTINE)
    return getattr(kind, "__await__", None) is not None


def refused_awaitable(fn: object, value: object) -> TypeError:
    """Return the error to raise if a plain function returned an awaitable.

    The failure of the awaitable would never be seen. A coroutine is closed, so that Python does not
    warn that it was never awaited.

    Args:
        fn: The function, or its name.
        value: The awaitable.
    """
    kind = type(value).__name__
    what = "a coroutine" if close_coroutine(value) else f"something to await, a {kind}"
    who = fn if isinstance(fn, str) else name_of(fn)
    return TypeError(
        f"{who} is not an async function, but returned {what}; decorate the async function "
        f"itself, or an `async def` that awaits it"
    )


def close_coroutine(value: object) -> bool:
    """Close a coroutine that nobody will await, so that Python does not warn; True if it is one."""
    if inspect.iscoroutine(value):
        value.close()
        return True
    return False


def running_loop() -> "AbstractEventLoop | None":
    """Return the event loop that runs in this thread, or None."""
    asyncio = sys.modules.get("asyncio")  # not loaded, no loop
    try:
        return asyncio.get_running_loop() if asyncio is not None else None
    except RuntimeError:
        return None


def task_or_thread() -> object:
    """Return the task that runs here, or the number of the thread outside of tasks."""
    task = None if running_loop() is None else sys.modules["asyncio"].current_task()
    return threading.get_ident() if task is None else task


def require_asyncio(component: str) -> "AbstractEventLoop":
    """Return the running event loop; refuse to run where there is none.

    Raises:
        UnsupportedLoopError: Outside asyncio, where waits and timeouts could not work.
    """
    event_loop = running_loop()
    if event_loop is None:
        raise UnsupportedLoopError(component)
    return event_loop


def is_async_frame(frame: FrameType) -> bool:
    """True if the code that runs in *frame* belongs to an `async def`."""
    return bool(frame.f_code.co_flags & _ASYNC_CODE)


def _named(fn: Callable[..., Any]) -> Any:
    """Return what stands for *fn* where it has no name: what a partial calls, an object's class."""
    fn = _unwrap_partial(fn)
    return fn if isinstance(getattr(fn, "__qualname__", None), str) else type(fn)


def _has(cls: type, fn: Callable[..., Any]) -> bool:
    """True if *cls* or a base class has *fn* itself under its name, and not a wrapper of it."""
    name: str = getattr(fn, "__name__", "")
    return any(vars(each).get(name) is fn for each in cls.__mro__)


def _is_method_of(fn: Callable[..., Any], cls: type) -> bool:
    """True if *fn* is what *cls* or a base of that has under its name."""
    name, own = fn.__name__, inspect.unwrap(fn)
    found = (vars(each)[name] for each in cls.__mro__ if name in vars(each))
    return any(inspect.unwrap(each) is own for each in found)


def _parameters(fn: Callable[..., Any]) -> list[inspect.Parameter]:
    try:
        return [*inspect.signature(fn).parameters.values()]
    except (TypeError, ValueError):  # a builtin without a signature
        return []


def _parameters_of(fn: Callable[..., Any]) -> tuple[inspect.Signature | None, int]:
    """Return the signature of a function, and the place of the parameter for a resource."""
    try:
        signature = inspect.signature(fn)
    except (TypeError, ValueError):  # a builtin without a signature
        return None, 0
    parameters = [*signature.parameters.values()]
    place = int(bool(parameters) and parameters[0].name in {"self", "cls"})
    if len(parameters) <= place or parameters[place].kind not in _POSITIONAL:
        raise TypeError(
            f"{name_of(fn)} has no parameter for the resource of a member, which is the first, or "
            f"the second after `self` or `cls`; to call a method of the resource itself use `.call`"
        )
    return signature, place


def _unwrap_partial(fn: Callable[..., Any]) -> Callable[..., Any]:
    while isinstance(fn, functools.partial):
        fn = fn.func
    return fn


def _module_name(module: object, names: Mapping[str, Any]) -> str:
    """Return the name of a module as if it were imported: labels do not depend on how it is run.

    Args:
        module: Its `__name__`, which for the main module says nothing.
        names: Its global names.
    """
    if module not in _MAIN:
        return str(module or "builtins")
    spec = names.get("__spec__")
    if spec is not None:
        return str(spec.name)
    path = names.get("__file__")
    return _stem(path) if path else "__main__"


@functools.cache
def _stem(path: str) -> str:
    return os.path.splitext(os.path.basename(path))[0]  # noqa: PTH119, PTH122 - pathlib is slow to load
