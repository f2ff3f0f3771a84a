"""tenacity's strategies as retry takes them: `wait=`, `stop=` and `on=`.

tenacity's objects are callables that read a `RetryCallState`; they get a `CallState` instead.
tenacity is never imported here: a user who passes one of its objects has imported it already.
"""

import inspect
import sys
from collections.abc import Awaitable, Callable
from datetime import timedelta
from types import ModuleType
from typing import Any, TypeAlias

import attrs

from mainstay._core import failures
from mainstay._core.arguments import to_seconds
from mainstay._core.failures import Judge
from mainstay._core.functions import Kind, kind_of, name_of

Strategy: TypeAlias = Callable[[Any], Any]
"""From the state of a call to seconds to wait, or to True: stop, or try again."""

FunctionCall: TypeAlias = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]
"""A function, its arguments, its keyword arguments."""


def wait_of(wait: object) -> float | Strategy | None:
    """Return `wait=` checked: None for the default, constant seconds, or a strategy."""
    if wait is None:
        return None
    if callable(wait):
        return _checked("wait", wait)
    if isinstance(wait, int | float | timedelta):
        return to_seconds(wait, "wait")
    raise TypeError(f"`wait` must be seconds, a timedelta or a tenacity wait, not {wait!r}")


def stop_of(stop: object) -> Strategy | None:
    """Return `stop=` checked: None or a strategy."""
    if stop is None:
        return None
    if callable(stop):
        return _checked("stop", stop)
    raise TypeError(f"`stop` must be a tenacity stop, not {stop!r}")


@attrs.frozen(repr=False)
class RetryStrategy:
    """One of tenacity's retry strategies, given as `on=`."""

    strategy: Strategy

    def bound_to(self, state: Any) -> Judge:
        """Return the judge of the exception that *state* has."""
        return lambda _error: self.verdict(state)

    def verdict(self, state: Any) -> bool | Awaitable[bool]:
        """Return the truth of the strategy's answer, which in tenacity need not be a bool."""
        answer = self.strategy(state)
        if not inspect.isawaitable(answer):
            return bool(answer)

        async def awaited() -> bool:
            return bool(await answer)

        return awaited()


def judge_of(on: object) -> Judge | RetryStrategy:
    """Return the judge of `on=`: one of tenacity's retry strategies, or what every policy takes.

    Raises:
        TypeError: If it is none of the accepted forms.
    """
    strategy = _retry_strategy_of(on)
    return failures.judge_of(on) if strategy is None else RetryStrategy(strategy)


def _retry_strategy_of(on: object) -> Strategy | None:
    """Return *on* if it is one of tenacity's retry strategies, and None if it is not.

    Raises:
        TypeError: If it looks at results, or is no `retry_if_exception*`.
    """
    tenacity = sys.modules.get("tenacity")
    if tenacity is None or not isinstance(on, tenacity.retry_base):
        return None
    if not _looks_at_exceptions_only(tenacity, on):
        raise TypeError(
            f"`on` takes tenacity's retry_if_exception* strategies, alone or joined by | and &, "
            f"not {type(on).__name__}; to retry on a result, use `on_result`"
        )
    return on if callable(on) else None


def _checked(parameter: str, strategy: Strategy) -> Strategy:
    if isinstance(strategy, type):
        raise TypeError(f"`{parameter}` must be a strategy, not the class {strategy.__name__}")
    if kind_of(strategy) is not Kind.SYNC:
        raise TypeError(
            f"`{parameter}` must be a plain function or strategy, not {name_of(strategy)}"
        )
    kind: type = type(strategy)
    theirs = [each.__name__ for each in kind.__mro__ if each.__module__.startswith("tenacity.")]
    if theirs and f"{parameter}_base" not in theirs:
        raise TypeError(
            f"`{parameter}` takes tenacity's {parameter}_* strategies, not {kind.__name__}"
        )
    return strategy


def _looks_at_exceptions_only(tenacity: ModuleType, on: Any) -> bool:
    of_async = tenacity.asyncio.retry
    if isinstance(on, of_async.retry_any | of_async.retry_all):
        return all(_looks_at_exceptions_only(tenacity, part) for part in on.retries)
    if isinstance(on, tenacity.retry_any | tenacity.retry_all):
        # A sync `any` or `all` would take the coroutine of an async part for its answer.
        return all(
            _looks_at_exceptions_only(tenacity, part) and kind_of(part) is Kind.SYNC
            for part in on.retries
        )
    # Some of those below these classes answer for results as well, each by a `__call__` of its own.
    exceptions_only = (
        tenacity.retry_if_exception,
        tenacity.retry_if_exception_cause_type,
        of_async.retry_if_exception,
    )
    return any(type(on).__call__ is each.__call__ for each in exceptions_only)
