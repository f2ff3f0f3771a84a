"""The face of checkpointed functions: `checkpointed`."""

import functools
from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, TypeVar, cast, overload

import attrs

from mainstay._checkpoint import sessions
from mainstay._checkpoint.bound import Bound
from mainstay._checkpoint.codec import Codec
from mainstay._checkpoint.cp import AsyncCheckpoint, Checkpoint
from mainstay._checkpoint.decision import Code, Every, OnBusy, OnCodeChange, OnComplete
from mainstay._checkpoint.digest import digest_of
from mainstay._checkpoint.keys import Arguments, check_key, key_of_call
from mainstay._checkpoint.recoverable import Recoverable, encoded_arguments, remember
from mainstay._checkpoint.retention import forget_old
from mainstay._checkpoint.rules import Keep, Key, Rules, checked
from mainstay._checkpoint.run import Run
from mainstay._checkpoint.types import allowed_by, hints_of
from mainstay._core.arguments import Duration, to_flag
from mainstay._core.functions import Kind, checked_name_or_none, kind_of, name_of
from mainstay._core.threads import run_in_thread
from mainstay._metrics.collector import Metrics, metrics_of
from mainstay.stores import store_of
from mainstay.stores.base import Store

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")


@attrs.frozen(eq=False, kw_only=True)
class Checkpointed:
    """What `checkpointed(...)` makes: a decorator, and a caller.

    Immutable: one object may wrap any number of functions.
    """

    rules: Rules
    key: Key
    recoverable: bool
    name: str | None
    metrics: Metrics

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
            # No callable to a type checker before it is bound, as *fn* was none.
            wrapped_method: Any = type(fn)(self(fn.__func__))
            return cast("Callable[..., Any]", wrapped_method)
        if not callable(fn):
            raise TypeError(f"checkpointed wraps callables, not {fn!r}")
        kind = kind_of(fn)
        if kind in (Kind.GENERATOR, Kind.ASYNC_GENERATOR):
            raise TypeError(
                f"checkpointed wraps functions, not generators such as {name_of(fn)}: whoever "
                f"takes its items would not be resumed; iterate over it with cp.iterate"
            )
        arguments = Arguments.of(fn)
        check_key(self.key, arguments)
        bound = Bound(
            self.rules,
            self.metrics,
            self.name or name_of(fn),
            Code(self.rules.version, digest_of(fn)),
            fn,
        )
        wrap = _wrap_async if kind is Kind.ASYNC else _wrap_sync
        begin = self._beginner(bound, arguments, fn)
        wrapped = wrap(bound, arguments, fn, begin)
        if self.recoverable:
            # Who else finishes or takes up the run meanwhile must not be waited for or undone.
            rules = attrs.evolve(self.rules, on_busy="raise", on_complete="return")
            again = attrs.evolve(bound, rules=rules)

            def with_key(key: str) -> Callable[..., Any]:
                return wrap(again, arguments, fn, lambda _args, _kwargs: again.begin(key))

            codec = functools.partial(self._codec_of_arguments, fn)
            remember(Recoverable(bound.name, self.rules.store, with_key, codec,
                                 is_async=kind is Kind.ASYNC))  # fmt: skip
        return wrapped

    def call(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Call *fn* as a checkpointed function, without decorating it.

        Args:
            fn: As for the decorator. Its name is that of the run if the policy has none.
            *args: Its arguments, without `cp`.
            **kwargs: Its keyword arguments.

        Returns:
            What *fn* returns, or did; something to await if *fn* is async.

        Raises:
            TypeError: As for the decorator, before *fn* is called.
            Exception: As for the decorated function.
        """
        wrapped: Callable[..., Any] = self(fn)
        return wrapped(*args, **kwargs)

    def _beginner(
        self, bound: Bound, arguments: Arguments, fn: Callable[..., Any]
    ) -> Callable[[tuple[Any, ...], dict[str, Any]], Run]:
        """Make the function that turns the arguments of a call into its run."""
        if self.recoverable and arguments.place:
            raise TypeError(
                f"`recoverable` is for functions: what {name_of(fn)} is a method of could not be "
                f"made again in another process"
            )

        def begin(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Run:
            key = key_of_call(self.key, arguments, args, kwargs)
            if not self.recoverable:
                return bound.begin(key)
            codec = self._codec_of_arguments(fn)
            return bound.begin(key, encoded_arguments(codec, bound.name, args, kwargs))

        return begin

    def _codec_of_arguments(self, fn: Callable[..., Any]) -> Codec:
        """Give the codec of the arguments, by the annotations as they are now."""
        return Codec(allowed_by(*hints_of(fn).values()), self.rules.allow_pickle)


def _wrap_sync(
    bound: Bound, arguments: Arguments, fn: Callable[..., Any], begin: Callable[..., Run]
) -> Callable[..., Any]:
    @functools.wraps(fn)
    def call(*args: Any, **kwargs: Any) -> Any:
        run = begin(args, kwargs)
        cp = Checkpoint(run)
        with_cp = arguments.with_checkpoint(cp, args)
        value = sessions.call(run, functools.partial(fn, *with_cp, **kwargs), bound.codec())
        forget_old(bound.rules, run.id)
        return value

    return _without_cp(call, arguments)


def _wrap_async(
    bound: Bound, arguments: Arguments, fn: Callable[..., Any], begin: Callable[..., Run]
) -> Callable[..., Any]:
    @functools.wraps(fn)
    async def call(*args: Any, **kwargs: Any) -> Any:
        sessions.require_asyncio(bound.name)
        run = begin(args, kwargs)
        cp = AsyncCheckpoint(run)
        with_cp = arguments.with_checkpoint(cp, args)
        value = await sessions.acall(run, functools.partial(fn, *with_cp, **kwargs), bound.codec())
        await run_in_thread(lambda: forget_old(bound.rules, run.id))
        return value

    return _without_cp(call, arguments)


def _without_cp(call: Callable[..., Any], arguments: Arguments) -> Callable[..., Any]:
    call.__signature__ = arguments.signature  # type: ignore[attr-defined]  # inspect reads it
    return call


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
) -> Checkpointed:
    """Let a long function survive `kill -9`: run again, it goes on where it was.

    What was saved is never lost and never applied twice; a crash or error repeats at most the
    items since the last save; use `cp.idempotency_key(item)` for their side effects. A run is
    known by the function's name and a key. Once it has ended, its result is remembered.

    Args:
        store: Where runs are kept: a `Store`, a URL such as ``sqlite:///jobs.db``, or None for
            the URL in `$MAINSTAY_STORE`.
        key: Which run a call means: a format string over the parameters, a function of the
            arguments that gives a str, or None for a digest of all arguments. For the last two
            `self` and `cls` are no arguments: where instances have runs of their own, name what
            tells them apart, as in ``"{self.tenant}-{day}"``.
        every: When to save: after that many items (`int`, at least 1), that much time
            (`timedelta`), or `young_daly(mtbf=...)`.
        version: What the code is called; another one is a changed function.
        on_busy: If somebody else works on the run: "raise" `RunBusyError`, "wait" until it is
            free, or "return" the result of the other one, when it ends.
        on_complete: If the run has ended: "return" its result, "raise" `RunCompleteError`, or
            "rerun" it from the start.
        on_code_change: If the run was saved by other code: "warn" and go on, "raise"
            `CodeChangedError`, "ignore" it, or a function that takes the saved state as plain
            dicts and lists and gives the new state.
        lease: How long a run stays reserved for a process that is silent, and not provably dead:
            seconds or a `timedelta`, above 0. Renewed three times in that time, and by every save
            of a boundary; the result of a step renews it once a third of it is over.
        max_crashes: After how many deaths of the process in a row, without progress, the run is
            not run again; at least 1, None for never.
        keep: How many finished runs of this name to keep (`int`, at least 1), for how long
            (`timedelta`, above 0), or both as a tuple; None for all. Others are forgotten when a
            run ends.
        recoverable: Whether `recover()` may run it again in another process. Its arguments are
            then saved at each call.
        allow_pickle: Whether values that have no exact form in JSON are pickled. Whoever can
            write to the store can then run code in this process.
        name: The name of the runs, and the `component` label. None for the function's
            ``module.qualname``.
        metrics: Where to record. None for `default_metrics()`.

    Returns:
        A policy: a decorator, with `.call`.

    Raises:
        TypeError: Here or at decoration, if an argument has the wrong type.
        ValueError: Here or at decoration, if an argument is out of its range, or there is no
            store.
        CheckpointError: From a call; see `mainstay.errors`.
        DeadlineExpiredError: From a call, if it began with no time left; nothing was called.
        UnsupportedLoopError: From an async call outside asyncio.
        Exception: From a call: the function's own.

    Metrics:
        `calls_total`, `call_duration_seconds`, `give_ups_total`, `errors_total` with
        ``policy="checkpoint"``, `wait_seconds_total`, and all that begin with `checkpoint_`.

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
    return Checkpointed(
        rules=checked(
            store=store_of(store), every=every, version=version, on_busy=on_busy,
            on_complete=on_complete, on_code_change=on_code_change, lease=lease,
            max_crashes=max_crashes, keep=keep, allow_pickle=allow_pickle,
        ),
        key=key,
        recoverable=to_flag(recoverable, "recoverable"),
        name=checked_name_or_none(name),
        metrics=metrics_of(metrics),
    )  # fmt: skip
