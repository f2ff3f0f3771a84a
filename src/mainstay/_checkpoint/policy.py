"""`checkpointed(...)`, and the `CheckpointedFunction` that it makes."""

import functools
from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, Self, TypeAlias, TypeVar, overload

import attrs

from mainstay._checkpoint.call import BoundCheckpoint, CheckpointCall, arun_to_end, run_to_end
from mainstay._checkpoint.code import Code, code_digest
from mainstay._checkpoint.codec import Codec
from mainstay._checkpoint.cp import AsyncCheckpoint, Checkpoint
from mainstay._checkpoint.decision import OnBusy, OnCodeChange, OnComplete
from mainstay._checkpoint.keys import (
    Arguments,
    RunKey,
    check_key,
    checked_run_name,
    key_of_call,
)
from mainstay._checkpoint.recovery import Recoverable, encoded_arguments, remember
from mainstay._checkpoint.run import Run
from mainstay._checkpoint.schedule import Every
from mainstay._checkpoint.settings import CheckpointSettings, Keep, Key
from mainstay._checkpoint.types import allowed_by, hints_of
from mainstay._core.arguments import Duration, check_callable, to_flag
from mainstay._core.functions import (
    Kind,
    kind_of,
    name_of,
    rewrapped,
    without_resource,
)
from mainstay._core.misuse import keywords_only
from mainstay._metrics.collector import Metrics, metrics_of, recorders_of
from mainstay.stores import store_of
from mainstay.stores.base import Store

Args: TypeAlias = tuple[Any, ...]
Kwargs: TypeAlias = dict[str, Any]
Begin: TypeAlias = Callable[[Args, Kwargs], CheckpointCall]
"""From the arguments of a call to the call."""

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")


@attrs.frozen(eq=False, kw_only=True, repr=False)
class CheckpointedFunction:
    """What `checkpointed(...)` returns: a decorator, and a caller.

    Immutable: one object may wrap any number of functions. Each function has runs of its own.

    Example:
        >>> from mainstay import checkpointed
        >>> policy = checkpointed(store="memory://policies", name="add")
        >>> policy.call(lambda cp: cp.step("one", lambda: 1))
        1
    """

    settings: CheckpointSettings
    key: Key
    recoverable: bool
    name: str | None
    metrics: Metrics

    def __repr__(self) -> str:
        name = "" if self.name is None else f" {self.name!r}"
        return f"<CheckpointedFunction{name}: {self.settings.store.url}>"

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    @overload
    def __call__(
        self, fn: Callable[Concatenate[AsyncCheckpoint, P], Coroutine[Any, Any, R]], /
    ) -> Callable[P, Coroutine[Any, Any, R]]: ...
    @overload
    def __call__(self, fn: Callable[Concatenate[Checkpoint, P], R], /) -> Callable[P, R]: ...  # type: ignore[overload-overlap]  # any first parameter could be `self`
    @overload
    def __call__(
        self, fn: Callable[Concatenate[S, AsyncCheckpoint, P], Coroutine[Any, Any, R]], /
    ) -> Callable[Concatenate[S, P], Coroutine[Any, Any, R]]: ...
    @overload
    def __call__(
        self, fn: Callable[Concatenate[S, Checkpoint, P], R], /
    ) -> Callable[Concatenate[S, P], R]: ...
    def __call__(self, fn: Callable[..., Any], /) -> Callable[..., Any]:
        """Wrap a function, which is then called without `cp`.

        Args:
            fn: A function or coroutine function whose first parameter, after `self` or `cls`,
                takes the `Checkpoint`.

        Raises:
            TypeError: If *fn* cannot be called, has no such parameter, or is a generator.
            ValueError: If the key template does not fit its parameters.
        """
        if isinstance(fn, classmethod | staticmethod):
            return rewrapped(fn, self)
        check_callable(fn, "checkpointed")
        kind = kind_of(fn)
        if kind in (Kind.GENERATOR, Kind.ASYNC_GENERATOR):
            raise TypeError(
                f"checkpointed wraps functions, not generators such as {name_of(fn)}: the code "
                f"that takes its items would not be resumed; iterate over it with cp.iterate"
            )
        arguments = Arguments.of(fn)
        check_key(self.key, arguments)
        if self.recoverable and arguments.place:
            raise TypeError(
                f"`recoverable` is for functions, and {name_of(fn)} is a method: its object could "
                f"not be made again in another process"
            )
        name = self.name or name_of(fn)
        bound = BoundCheckpoint(
            self.settings,
            name,
            recorders_of(self.metrics).checkpoint(name),
            name,
            Code(self.settings.version, code_digest(fn)),
            fn,
        )
        wrap = _wrap_async if kind is Kind.ASYNC else _wrap_sync
        wrapped = wrap(fn, arguments, functools.partial(self._begin, bound, arguments))
        if self.recoverable:
            # If another owner has the run meanwhile, or finishes or removes it, it stays as it is.
            settings = attrs.evolve(self.settings, on_busy="raise", on_complete="return")
            again = attrs.evolve(bound, settings=settings, begins=False)

            def with_key(key: str) -> Callable[..., Any]:
                return wrap(fn, arguments, lambda _args, _kwargs: again.begin(RunKey(key)))

            codec = functools.partial(self._codec_of_arguments, fn)
            is_async = kind is Kind.ASYNC
            remember(Recoverable(name, settings.store, with_key, codec, is_async=is_async))
        return wrapped

    def call(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Call *fn* as a checkpointed function, without decorating it.

        Args:
            fn: A function whose first parameter is `cp`. If the policy has no name, the name of
                *fn* is the name of the run.
            *args: The arguments for *fn*, without `cp`.
            **kwargs: The keyword arguments for *fn*.

        Returns:
            The result of *fn*, from this call or saved before; an awaitable if *fn* is async.

        Raises:
            TypeError: As for the decorator, before *fn* is called.
            Exception: As for the decorated function.
        """
        wrapped: Callable[..., Any] = self(fn)
        return wrapped(*args, **kwargs)

    def _begin(
        self, bound: BoundCheckpoint, arguments: Arguments, args: Args, kwargs: Kwargs
    ) -> CheckpointCall:
        key = key_of_call(self.key, arguments, args, kwargs)
        saved = None
        if self.recoverable:
            codec = self._codec_of_arguments(arguments.fn)
            saved = encoded_arguments(codec, bound.name, args, kwargs)
        return bound.begin(key, saved)

    def _codec_of_arguments(self, fn: Callable[..., Any]) -> Codec:
        """Return the codec of the arguments, by the annotations as they are now."""
        allowed = allowed_by(*hints_of(fn).values())
        return self.settings.codec(allowed, self.name or name_of(fn))


def _wrap_sync(fn: Callable[..., Any], arguments: Arguments, begin: Begin) -> Callable[..., Any]:
    @without_resource(fn)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        def body(run: Run) -> Any:
            return fn(*arguments.with_checkpoint(Checkpoint(run), args), **kwargs)

        return run_to_end(begin(args, kwargs), body)

    return wrapper


def _wrap_async(fn: Callable[..., Any], arguments: Arguments, begin: Begin) -> Callable[..., Any]:
    @without_resource(fn)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        def body(run: Run) -> Any:
            return fn(*arguments.with_checkpoint(AsyncCheckpoint(run), args), **kwargs)

        return await arun_to_end(begin(args, kwargs), body)

    return wrapper


@keywords_only(
    example="`@checkpointed()`, or `@checkpointed(store=..., key=...)`",
    elsewhere={
        "interval": "`every=`",
        "path": "`store=`, such as `sqlite:///jobs.db`",
        "filename": "`store=`, such as `sqlite:///jobs.db`",
        "backend": "`store=`",
        "workflow_id": "`key=`",
        "run_id": "`key=`",
        "id": "`key=`",
        "retries": "`mainstay.retry` around the function",
        "attempts": "`mainstay.retry` around the function",
        "timeout": "`mainstay.deadline` around the call",
    },
)
def checkpointed(  # noqa: PLR0913 - the vocabulary of the policy
    *,
    store: Store | str | None = None,
    key: Key = None,
    every: Every = 1,
    version: str = "1",
    on_busy: OnBusy = "raise",
    on_complete: OnComplete = "return",
    on_code_change: OnCodeChange = "warn",
    lease: Duration = 30.0,
    max_crashes: int | None = 5,
    keep: Keep = None,
    recoverable: bool = False,
    allow_pickle: bool = False,
    name: str | None = None,
    metrics: Metrics | None = None,
) -> CheckpointedFunction:
    """Make a long function survive `kill -9`: called again, it continues where it was.

    What was saved is never lost, and never applied twice. After a crash or an error, at most the
    items since the last save run again; use `cp.idempotency_key(item)` for their side effects. The
    name of the function and a key identify a run. The result of a run that has ended is remembered,
    and returned to later calls.

    Args:
        store: The place where runs are kept: a `Store`, a URL such as ``sqlite:///jobs.db``, or
            None for the URL in `$MAINSTAY_STORE`.
        key: The key of the run that a call belongs to: a format string over the parameters, a
            function that takes the arguments and returns a str, or None for a digest of all
            arguments. The function and the digest do not get `self` and `cls`. If each instance
            has runs of its own, name what tells instances apart, as in
            ``"{self.tenant}-{day}"``.
        every: When to save: after a number of items (`int`, at least 1), after some time
            (`timedelta`, above 0), or ``young_daly(mtbf=...)``.
        version: A name for the present code. A run counts as saved by other code if its version
            differs, or the source of the function.
        on_busy: What a call does while another owner works on the run. "raise": `RunBusyError`.
            "wait": wait until the run is free. "return": wait for the end of the run, and return
            its result.
        on_complete: What a call does if the run has ended. "return": return the saved result.
            "raise": `RunCompleteError`. "rerun": run the function again from the start.
        on_code_change: What a call does if the run was saved by other code. "warn": log a warning
            and go on. "raise": `CodeChangedError`. "ignore": go on, and drop saved fields that the
            code no longer has. A function: it takes the saved state, as plain dicts and lists, and
            returns the new state.
        lease: The time for which a run stays reserved for an owner that is silent and may be alive:
            seconds or a `timedelta`, above 0. The owner renews the lease three times in that time,
            and with every save at a boundary; the result of a step renews the lease once a third
            of the time is over.
        max_crashes: The number of crashes in a row, without progress, after which the run is not
            run again: at least 1; None for no limit.
        keep: The finished runs of this name to keep: a number (`int`, at least 1), the time since
            their end (`timedelta`, above 0), or both as a tuple; None for all. The other finished
            runs are removed whenever a run ends.
        recoverable: True to let `recover()` run interrupted runs again in another process. The
            arguments are then saved with each call.
        allow_pickle: True to pickle values that have no exact form in JSON. Then everybody who can
            write to the store can run code in this process.
        name: The name of the runs, and the `component` label. None for ``module.qualname`` of the
            function.
        metrics: Where to record. None for `default_metrics()`.

    Returns:
        A policy: a decorator, with `.call`.

    Raises:
        TypeError: Here or at decoration, if an argument has the wrong type.
        ValueError: Here or at decoration, if an argument is out of its range, or there is no
            store.
        CheckpointError: From a call; see `mainstay.errors`.
        DeadlineExpiredError: From a call that began with no time left; nothing was called.
        UnsupportedLoopError: From an async call outside asyncio.
        Exception: From a call: the exception that the function raises.

    Metrics:
        `calls_total`, `call_duration_seconds`, `give_ups_total`, `errors_total` with
        ``policy="checkpoint"``, `wait_seconds_total`, and all metrics that begin with
        `checkpoint_`.

    Source:
        Fencing tokens: M. Kleppmann, "How to do distributed locking", 2016.

    Example:
        >>> from mainstay import Checkpoint, checkpointed
        >>> @checkpointed(store="memory://", key="import-{tenant}")
        ... def import_rows(cp: Checkpoint, tenant: str, rows: list[int]) -> int:
        ...     totals = cp.state({"sum": 0})
        ...     for row in cp.iterate(rows, key=lambda row: row):
        ...         totals["sum"] += row
        ...     return totals["sum"]
        >>> import_rows("acme", [1, 2, 3])
        6
    """
    return CheckpointedFunction(
        settings=CheckpointSettings(
            store=store_of(store), every=every, version=version, on_busy=on_busy,
            on_complete=on_complete, on_code_change=on_code_change, lease=lease,
            max_crashes=max_crashes, keep=keep, allow_pickle=allow_pickle,
        ),
        key=key,
        recoverable=to_flag(recoverable, "recoverable"),
        name=checked_run_name(name),
        metrics=metrics_of(metrics),
    )  # fmt: skip
