"""The block form: `checkpoint_run`."""

import sys
from types import TracebackType

from mainstay._checkpoint import sessions
from mainstay._checkpoint.bound import Bound
from mainstay._checkpoint.cp import AsyncCheckpoint, Checkpoint
from mainstay._checkpoint.decision import Code, Every, OnBusy, OnCodeChange, OnComplete
from mainstay._checkpoint.keys import checked_key
from mainstay._checkpoint.retention import forget_old
from mainstay._checkpoint.rules import Keep, checked
from mainstay._core.arguments import Duration
from mainstay._core.functions import checked_name_or_none, is_async_frame
from mainstay._core.threads import run_in_thread
from mainstay._metrics.collector import Metrics, metrics_of
from mainstay.stores import store_of
from mainstay.stores.base import Store


class CheckpointRun:
    """What `checkpoint_run(...)` makes: a block, for ``with`` and ``async with``."""

    __slots__ = ("_bound", "_key", "_session")

    def __init__(self, bound: Bound, key: str) -> None:
        self._bound = bound
        self._key = key
        self._session: sessions.Session | None = None

    def __enter__(self) -> Checkpoint:
        if is_async_frame(sys._getframe(1)):  # noqa: SLF001 - it would block the loop there
            raise TypeError("`with checkpoint_run(...)` would block the event loop; in async code "
                            "it is `async with`")  # fmt: skip
        session = self._begun()
        session.enter()
        self._session = session
        return Checkpoint(session.run)

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.leave(error, self._bound.codec())
            forget_old(self._bound.rules, session.run.id)

    async def __aenter__(self) -> AsyncCheckpoint:
        sessions.require_asyncio(self._bound.name)
        session = self._begun()
        await session.aenter()
        self._session = session
        return AsyncCheckpoint(session.run)

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.aleave(error, self._bound.codec())
            await run_in_thread(lambda: forget_old(self._bound.rules, session.run.id))

    def _begun(self) -> sessions.Session:
        if self._session is not None:
            raise RuntimeError("this checkpoint_run is entered already; make another one")
        return sessions.Session(self._bound.begin(self._key))


def checkpoint_run(  # noqa: PLR0913 - as `checkpointed`
    key: str,
    *,
    store: Store | str | None = None,
    name: str = "run",
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
    """Let a block survive `kill -9`: entered again, it goes on where it was.

    The block form of `checkpointed`. The run ends where the block does; an exception that leaves
    the block interrupts it. A block has no result: entered after the run has ended, its
    `cp.complete` is True, `cp.iterate` gives nothing, and only steps that were saved answer.
    There is no `recoverable`: `recover` can call a function, but no block of code in the middle
    of one; write a function for what is to be run again in another process.

    Args:
        key: Which run it is.
        store: As for `checkpointed`.
        name: The name of the run, and the `component` label.
        every: As for `checkpointed`.
        version: As for `checkpointed`; the only thing that tells changed code here.
        on_busy: As for `checkpointed`; "return" gives a complete `cp` when the other one ends.
        on_complete: As for `checkpointed`; "return" gives a complete `cp`.
        on_code_change: As for `checkpointed`.
        lease: As for `checkpointed`.
        max_crashes: As for `checkpointed`.
        keep: As for `checkpointed`.
        allow_pickle: As for `checkpointed`.
        metrics: As for `checkpointed`.

    Returns:
        A block for ``with``, which gives a `Checkpoint`, and for ``async with``, which gives an
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
    name = checked_name_or_none(name) or "run"
    rules = checked(
        store=store_of(store), every=every, version=version, on_busy=on_busy,
        on_complete=on_complete, on_code_change=on_code_change, lease=lease,
        max_crashes=max_crashes, keep=keep, allow_pickle=allow_pickle,
    )  # fmt: skip
    code = Code(rules.version, "")
    bound = Bound(rules, metrics_of(metrics), name, code)
    return CheckpointRun(bound, checked_key(key))
