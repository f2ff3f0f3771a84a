"""`recover`: runs interrupted runs again, in any process.

This module knows by name the functions that are decorated with ``recoverable=True``; the arguments
of their calls are saved.
"""

from collections.abc import Callable, Iterator
from typing import Any, Literal

import attrs

from mainstay._checkpoint.codec import Codec, to_bytes
from mainstay._checkpoint.document import opened_value, restored, seal
from mainstay._checkpoint.shape import check_arguments
from mainstay._core.arguments import to_count
from mainstay._core.exceptions import is_a
from mainstay._core.words import counted
from mainstay.errors import PoisonedRunError, RunBusyError, RunCompleteError
from mainstay.stores import store_of
from mainstay.stores.base import Record, RunId, Status, Store
from mainstay.stores.selection import pages


@attrs.frozen(eq=False)
class Recoverable:
    """A function that is imported in this process.

    Attributes:
        name: The name of its runs.
        store: Where they are kept.
        with_key: From the key of a run to the wrapped function, which then means that run.
        codec: Returns how its arguments are saved.
        is_async: True if it must be awaited.
    """

    name: str
    store: Store
    with_key: Callable[[str], Callable[..., Any]]
    codec: Callable[[], Codec]
    is_async: bool = attrs.field(kw_only=True)


_known: dict[str, dict[str, Recoverable]] = {}
"""All of them, by the name of their runs and the URL of their store."""


def remember(recoverable: Recoverable) -> None:
    """Make a function known; it replaces one of the same name and store."""
    _known.setdefault(recoverable.name, {})[recoverable.store.url] = recoverable


def encoded_arguments(
    codec: Codec, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> bytes:
    """Return the bytes to save of the arguments of a call.

    Raises:
        UnsaveableValueError: If one cannot be saved.
    """
    root = f"the arguments of recoverable {name}: "
    saved = [codec.encode([*args], f"{root}args"), codec.encode(kwargs, f"{root}kwargs")]
    return seal(to_bytes(saved), root.removesuffix(": "))


def _decoded_arguments(codec: Codec, run: RunId, saved: bytes) -> tuple[list[Any], dict[str, Any]]:
    """Return the arguments of a call that were saved.

    Raises:
        CorruptCheckpointError: If they are damaged.
        CodeChangedError: If a type no longer takes what was saved of it.
        UnknownTypeError: If they need a type that may not be built.
    """
    root = f"the arguments of recoverable {run.name}"
    args, kwargs = opened_value(saved, root, check_arguments)
    return restored(codec, args, f"{root}: args", run), restored(
        codec, kwargs, f"{root}: kwargs", run
    )


@attrs.frozen(kw_only=True)
class Recovered:
    """The outcome of one run that `recover` has looked at.

    Attributes:
        name: The name of the run.
        key: Its key.
        outcome: "done" if the function ran to its end, "failed" if it raised an exception, "left"
            if it was not run.
        reason: For people: why the function was not run, or what it raised; empty if it is done.
        result: The result of the function; None unless it is done.
        error: The exception that the function raised; None unless it failed.

    Example:
        >>> from mainstay import checkpoint_run, recover
        >>> with checkpoint_run("nightly", store="memory://recovered"):
        ...     raise SystemExit
        Traceback (most recent call last):
        SystemExit
        >>> [(run.key, run.outcome) for run in recover("memory://recovered")]
        [('nightly', 'left')]
    """

    name: str
    key: str
    outcome: Literal["done", "failed", "left"]
    reason: str = ""
    result: Any = None
    error: Exception | None = None


def recover(store: Store | str | None = None, *, limit: int | None = None) -> list[Recovered]:
    """Run interrupted runs again in this process, one after the other.

    Looks at every run in the store that has not ended. A run is run again if its owner is gone, and
    its function is decorated with ``recoverable=True``, is imported in this process, and is not
    async. The other runs are left as they are; `Recovered.reason` says why.

    Any number of machines may call this function at the same time, and share the runs: only one
    machine at a time works on a run, and the others leave that run as it is.

    Args:
        store: A `Store`, a URL, or None for the URL in `$MAINSTAY_STORE`.
        limit: The largest number of runs to run again, at least 1; None for all. The search ends
            with the last of these.

    Returns:
        The outcome of each run that had not ended. An exception of a function is part of its
        outcome; only exceptions that are no `Exception`, such as `KeyboardInterrupt`, are raised.

    Raises:
        TypeError: If *store* is not a store, or *limit* is not an int.
        ValueError: If there is no store, or *limit* is below 1.
        StoreUnavailableError: If the store cannot be read.

    Metrics:
        Those of the functions that run; see `checkpointed`.

    Example:
        >>> from mainstay import recover
        >>> recover("memory://recover")
        []
    """
    done: list[Recovered] = []
    limit = None if limit is None else to_count(limit, "limit")
    for record, candidate in _candidates(store_of(store), is_async=False):
        if isinstance(candidate, str):
            done.append(_left(record, candidate))
            continue
        if _run_again_so_far(done) == limit:
            break
        try:
            done.append(_done(record, _run_again(candidate, record)))
        except Exception as error:  # noqa: BLE001 - handed back, whatever it is
            done.append(_failed(record, error))
    return done


async def recover_async(
    store: Store | str | None = None, *, limit: int | None = None
) -> list[Recovered]:
    """Run interrupted runs of async functions again, one after the other.

    As `recover`, which runs the runs of functions that are not async.

    Args:
        store: A `Store`, a URL, or None for the URL in `$MAINSTAY_STORE`.
        limit: As for `recover`.

    Returns:
        The outcome of each run that had not ended.

    Raises:
        TypeError: If *store* is not a store, or *limit* is not an int.
        ValueError: If there is no store, or *limit* is below 1.
        StoreUnavailableError: If the store cannot be read.

    Metrics:
        Those of the functions that run; see `checkpointed`.

    Example:
        >>> import asyncio
        >>> from mainstay import recover_async
        >>> asyncio.run(recover_async("memory://recover-async"))
        []
    """
    done: list[Recovered] = []
    limit = None if limit is None else to_count(limit, "limit")
    for record, candidate in _candidates(store_of(store), is_async=True):
        if isinstance(candidate, str):
            done.append(_left(record, candidate))
            continue
        if _run_again_so_far(done) == limit:
            break
        try:
            done.append(_done(record, await _run_again(candidate, record)))
        except Exception as error:  # noqa: BLE001 - handed back, whatever it is
            done.append(_failed(record, error))
    return done


def _candidates(store: Store, *, is_async: bool) -> Iterator[tuple[Record, Recoverable | str]]:
    """Yield each run that has not ended, with its function, or why it is left alone."""
    for record, state in pages(store):
        if state != "done":
            yield record, _judged(store, record, state, is_async=is_async)


def _run_again_so_far(done: list[Recovered]) -> int:
    return sum(each.outcome != "left" for each in done)


def _judged(store: Store, record: Record, state: Status, *, is_async: bool) -> Recoverable | str:
    candidates = _known.get(record.run.name, {})
    candidate = candidates.get(store.url)
    if state == "running":
        return f"{record.owner} works on it"
    if state == "poisoned":
        return _too_often(record.crashes)
    if not candidates:
        return "no function of that name is imported here and decorated with recoverable=True"
    if candidate is None:
        return f"the function keeps its runs in {' and '.join(sorted(candidates))}"
    if record.arguments is None:
        return "it was begun without recoverable=True, so its arguments are not known"
    if candidate.is_async is not is_async:
        return "it is async; use recover_async" if candidate.is_async else "use recover"
    return candidate


def _too_often(crashes: int) -> str:
    return f"it died {counted(crashes, 'time')} in a row without progress"


def _run_again(candidate: Recoverable, record: Record) -> Any:
    """Call the function of a run as it was called before; to be awaited if it is async."""
    assert record.arguments is not None  # noqa: S101 - `_judged` leaves it alone
    args, kwargs = _decoded_arguments(candidate.codec(), record.run, record.arguments)
    return candidate.with_key(record.run.key)(*args, **kwargs)


def _left(record: Record, reason: str) -> Recovered:
    return Recovered(name=record.run.name, key=record.run.key, outcome="left", reason=reason)


def _done(record: Record, result: object) -> Recovered:
    return Recovered(name=record.run.name, key=record.run.key, outcome="done", result=result)


def _failed(record: Record, error: Exception) -> Recovered:
    """Return what came instead of a result; it is left alone if that is about this very run."""
    run = record.run
    if is_a(error, RunBusyError) and (error.component, error.key) == (run.name, run.key):
        return _left(record, str(error))
    if is_a(error, PoisonedRunError) and (error.component, error.key) == (run.name, run.key):
        return _left(record, _too_often(error.crashes))
    if is_a(error, RunCompleteError) and (error.component, error.key) == (run.name, run.key):
        return _left(record, "it has ended meanwhile, and was removed")
    reason = f"it raised {type(error).__name__}"
    return Recovered(name=run.name, key=run.key, outcome="failed", reason=reason, error=error)
