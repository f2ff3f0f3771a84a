"""The block form: `checkpoint_run`."""

import sys
from types import TracebackType

from mainstay._checkpoint.call import BoundCheckpoint, CheckpointCall
from mainstay._checkpoint.code import Code
from mainstay._checkpoint.cp import AsyncCheckpoint, Checkpoint
from mainstay._checkpoint.decision import OnBusy, OnCodeChange, OnComplete
from mainstay._checkpoint.keys import RunKey, checked_key, checked_run_name
from mainstay._checkpoint.schedule import Every
from mainstay._checkpoint.settings import CheckpointSettings, Keep
from mainstay._core.arguments import Duration
from mainstay._core.functions import is_async_frame, name_of_frame
from mainstay._metrics.collector import Metrics, metrics_of, recorders_of
from mainstay.stores import store_of
from mainstay.stores.base import Store

_STORED_NAME = "run"
"""What runs of blocks without a name are stored under."""


class CheckpointRun:
    """What `checkpoint_run(...)` returns: a block, for ``with`` and ``async with``."""

    __slots__ = ("_bound", "_call", "_key")

    def __init__(self, bound: BoundCheckpoint, key: RunKey) -> None:
        self._bound = bound
        self._key = key
        self._call: CheckpointCall | None = None

    def __enter__(self) -> Checkpoint:
        if is_async_frame(sys._getframe(1)):  # noqa: SLF001 - it would block the loop there
            raise TypeError(
                "`with checkpoint_run(...)` would block the event loop; in async code it is "
                "`async with`"
            )
        call = self._begun()
        run = call.enter()
        self._call = call
        return Checkpoint(run)

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        call, self._call = self._call, None
        if call is not None:
            call.leave(error)

    async def __aenter__(self) -> AsyncCheckpoint:
        call = self._begun()
        run = await call.aenter()
        self._call = call
        return AsyncCheckpoint(run)

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        call, self._call = self._call, None
        if call is not None:
            await call.aleave(error)

    def _begun(self) -> CheckpointCall:
        if self._call is not None:
            raise RuntimeError(
                "this block is entered already; call checkpoint_run(...) for another block"
            )
        return self._bound.begin(self._key)


def checkpoint_run(  # noqa: PLR0913 - as `checkpointed`
    key: str,
    *,
    store: Store | str | None = None,
    name: str | None = None,
    every: Every = 1,
    version: str = "1",
    on_busy: OnBusy = "raise",
    on_complete: OnComplete = "return",
    on_code_change: OnCodeChange = "warn",
    lease: Duration = 30.0,
    max_crashes: int | None = 5,
    keep: Keep = None,
    allow_pickle: bool = False,
    metrics: Metrics | None = None,
) -> CheckpointRun:
    """Make a block survive `kill -9`: entered again, the block continues where it was.

    This is the block form of `checkpointed`. The run ends at the end of the block; an exception
    that leaves the block interrupts the run. A block has no result. If the run has already ended,
    the block is entered with `cp.complete` True: then `cp.iterate` yields nothing, and `cp.step`
    returns saved results only. There is no `recoverable`, since `recover` can call a function, but
    not a part of one.

    Args:
        key: The key of the run.
        store: The place where runs are kept: a `Store`, a URL such as ``sqlite:///jobs.db``, or
            None for the URL in `$MAINSTAY_STORE`.
        name: The name of the run, and the `component` label. None to store the run under "run",
            with ``module.qualname`` of the code around the block as the label.
        every: When to save: a number of items, a `timedelta`, or ``young_daly(mtbf=...)``.
        version: A name for the present code. A change of the code in the block is noticed only by a
            change of its version.
        on_busy: What happens while another owner works on the run. "raise": `RunBusyError`.
            "wait": wait until the run is free. "return": wait for the end of the run, and enter
            the block with `cp.complete` True.
        on_complete: What happens if the run has ended. "return": enter the block with `cp.complete`
            True. "raise": `RunCompleteError`. "rerun": run the block again from the start.
        on_code_change: What happens if the run was saved under another *version*: "warn", "raise",
            "ignore" or a function, as for `checkpointed`.
        lease: The time for which a run stays reserved for an owner that is silent and may be alive:
            seconds or a `timedelta`, above 0.
        max_crashes: The number of crashes in a row, without progress, after which the run is not
            run again: at least 1; None for no limit.
        keep: The finished runs of this name to keep: a number, a `timedelta`, or both as a tuple;
            None for all.
        allow_pickle: True to pickle values that have no exact form in JSON. Then everybody who can
            write to the store can run code in this process.
        metrics: Where to record. None for `default_metrics()`.

    Returns:
        A block for ``with``, which enters a `Checkpoint`, and for ``async with``, which enters an
        `AsyncCheckpoint`.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of its range, or there is no store.
        CheckpointError: On entry, or from a method of `cp`; see `mainstay.errors`.

    Metrics:
        As for `checkpointed`.

    Example:
        >>> from mainstay import checkpoint_run
        >>> with checkpoint_run("nightly", store="memory://") as cp:
        ...     for day in cp.iterate(["mon", "tue"]):
        ...         print(day)
        mon
        tue
    """
    name = checked_run_name(name)
    component = name or name_of_frame(sys._getframe(1))  # noqa: SLF001 - the code around
    settings = CheckpointSettings(
        store=store_of(store), every=every, version=version, on_busy=on_busy,
        on_complete=on_complete, on_code_change=on_code_change, lease=lease,
        max_crashes=max_crashes, keep=keep, allow_pickle=allow_pickle,
    )  # fmt: skip
    recorder = recorders_of(metrics_of(metrics)).checkpoint(component)
    code = Code(settings.version, "")
    bound = BoundCheckpoint(settings, component, recorder, name or _STORED_NAME, code)
    return CheckpointRun(bound, RunKey(checked_key(key)))
