"""The block form: `checkpoint_run`."""

import sys
from types import TracebackType

from mainstay._checkpoint.call import BoundCheckpoint, CheckpointCall
from mainstay._checkpoint.code import Code
from mainstay._checkpoint.cp import AsyncCheckpoint, Checkpoint
from mainstay._checkpoint.decision import OnBusy, OnCodeChange, OnComplete
from mainstay._checkpoint.keys import RunKey, checked_key
from mainstay._checkpoint.schedule import Every
from mainstay._checkpoint.settings import CheckpointSettings, Keep
from mainstay._core.arguments import Duration
from mainstay._core.functions import (
    checked_name_or_none,
    is_async_frame,
    name_of_frame,
)
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
            raise RuntimeError("this checkpoint_run is entered already; make another one")
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
    """Make a block survive `kill -9`: entered again, it continues where it was.

    The block form of `checkpointed`. The run ends where the block does; an exception that leaves
    the block interrupts it. A block has no result: entered after the run has ended, its
    `cp.complete` is True, `cp.iterate` yields nothing, and only steps that were saved answer.
    There is no `recoverable`: `recover` can call a function, but no block of code in the middle
    of one; write a function for what is to be run again in another process.

    Args:
        key: Which run it is.
        store: As for `checkpointed`.
        name: The name of the run, and the `component` label. None to store the run under "run",
            with the ``module.qualname`` of the code around as the label.
        every: As for `checkpointed`.
        version: As for `checkpointed`; the only thing that tells changed code here.
        on_busy: As for `checkpointed`; "return" enters a complete `cp` when the other one ends.
        on_complete: As for `checkpointed`; "return" enters a complete `cp`.
        on_code_change: As for `checkpointed`.
        lease: As for `checkpointed`.
        max_crashes: As for `checkpointed`.
        keep: As for `checkpointed`.
        allow_pickle: As for `checkpointed`.
        metrics: As for `checkpointed`.

    Returns:
        A block for ``with``, which enters a `Checkpoint`, and for ``async with``, which enters an
        `AsyncCheckpoint`.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of its range, or there is no store.
        CheckpointError: From the block; see `mainstay.errors`.

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
    name = checked_name_or_none(name)
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
