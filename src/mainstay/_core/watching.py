"""Watchers of the attempts after the first of a call, such as `trace_attempts`, which makes spans.

Usually there is no watcher: then `watchers` is empty, and the loops of the policies only check
that.
"""

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, ExitStack
from typing import Any, NamedTuple, TypeAlias


class WatchedAttempt(NamedTuple):
    """An attempt that is about to be made.

    Attributes:
        policy: The kind of policy, as in labels.
        component: Its name.
        number: From 2. Of a redundant call it is that of the copy, where the primary is 1.
        member: Who is called; None without a pool.
    """

    policy: str
    component: str
    number: int
    member: str | None = None


Watcher: TypeAlias = Callable[[WatchedAttempt], AbstractContextManager[object]]
"""Makes what is entered around an attempt. Neither may raise."""

watchers: list[Watcher] = []


def watch_attempts(watcher: Watcher) -> Callable[[], None]:
    """Show attempts after the first to *watcher*; return a function that ends it."""
    watchers.append(watcher)

    def stop() -> None:
        if watcher in watchers:
            watchers.remove(watcher)

    return stop


def around(attempt: WatchedAttempt) -> ExitStack:
    """Enter what the watchers make around an attempt; return it, to be left at the end."""
    with ExitStack() as stack:
        for watcher in tuple(watchers):
            stack.enter_context(watcher(attempt))
        return stack.pop_all()


def watched(fn: Callable[..., Any], attempt: WatchedAttempt) -> Callable[..., Any]:
    """Return *fn* as an attempt that is shown to the watchers."""

    def shown(*args: Any, **kwargs: Any) -> Any:
        with around(attempt):
            return fn(*args, **kwargs)

    return shown


def awatched(
    fn: Callable[..., Awaitable[Any]], attempt: WatchedAttempt
) -> Callable[..., Awaitable[Any]]:
    """Return an async *fn* as an attempt that is shown to the watchers."""

    async def shown(*args: Any, **kwargs: Any) -> Any:
        with around(attempt):
            return await fn(*args, **kwargs)

    return shown
