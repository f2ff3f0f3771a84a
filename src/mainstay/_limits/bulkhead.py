"""`Bulkhead`: limits how many calls run at a time."""

from collections.abc import Callable
from types import TracebackType
from typing import Any, ClassVar, ParamSpec, Self, TypeVar

import attrs

from mainstay._core.arguments import Duration, check_callable, to_count, to_seconds
from mainstay._core.functions import checked_name, require_asyncio, rewrapped
from mainstay._core.misuse import shows_use
from mainstay._core.open_blocks import OpenBlocks
from mainstay._core.sharing import Shared, reset_with_all
from mainstay._limits.adaptive import Adaptive
from mainstay._limits.bulkhead_calls import BoundBulkhead, BulkheadCall, wrap
from mainstay._limits.bulkhead_engine import POLICY, BulkheadEngine
from mainstay._metrics.collector import Metrics, metrics_of
from mainstay._metrics.pipeline import PipelineBuilder, SharedRecorder

P = ParamSpec("P")
R = TypeVar("R")


class Bulkhead(Shared):
    """Limits how many calls run at a time, so that the service behind it stays fast.

    The calls of all threads, event loops, functions and blocks count together. A call without a
    free place waits for at most *max_wait* seconds, or until the surrounding deadline if that is
    sooner; then the call is rejected. Each `priority` has a queue, and a free place goes to the
    first call in the queue. A call whose turn comes with less time left than a call usually takes
    is rejected. "normal" calls get a place only while no "high" call waits, and "low" calls only
    while no other call waits; so "low" calls may get no place at all.

    In a thread whose event loop is running, a ``def`` and a ``with`` never wait: without a free
    place they are rejected at once. A call from code that already has a place in the same bulkhead
    is rejected at once, too, since it could wait for itself. A forked child process starts with all
    places free.

    Args:
        name: The `component` label. Not empty.
        limit: The number of calls that may run at a time, at least 1; or an `Adaptive`, which finds
            the limit.
        max_wait: The longest time that a call waits for a place: seconds or a `timedelta`, at least
            0 and finite. 0 for no waiting.
        metrics: Where to record. None for `default_metrics()`.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If *name* is empty, *limit* is below 1, or *max_wait* is negative, NaN or
            infinite.

    Metrics:
        `calls_total`, `call_duration_seconds` and `give_ups_total` with ``policy="bulkhead"``,
        `concurrency_limit`, `in_flight`, `waiting`, `in_flight_seconds_total`,
        `queue_wait_seconds`, `limit_changes_total`. A call that is refused counts as
        ``outcome="rejected"`` with the reason "full" (at once), "wait" (after *max_wait*) or "shed"
        (too little time left).

    Source:
        The bulkhead is that of Michael Nygard, "Release It!", 2007. That a queue is to have a
        longest wait, and not a length, is in Nichols and Jacobson, "Controlling Queue Delay", ACM
        Queue 10, 2012.

    Example:
        >>> from mainstay import Bulkhead, BulkheadFullError
        >>> orders = Bulkhead("orders", limit=1)
        >>> @orders
        ... def order(what: str) -> str:
        ...     return f"{what} ordered"
        >>> order("tea")
        'tea ordered'
        >>> with orders:
        ...     try:
        ...         order("milk")
        ...     except BulkheadFullError as error:
        ...         error.reason
        'full'
    """

    _kind: ClassVar[str] = POLICY

    @shows_use(
        "Bulkhead('db', limit=10)",
        elsewhere={
            "max_concurrent": "`limit=`",
            "max_concurrent_calls": "`limit=`",
            "max_concurrency": "`limit=`",
            "concurrency": "`limit=`",
            "max_workers": "`limit=`",
            "value": "`limit=`",
            "size": "`limit=`",
            "max_wait_duration": "`max_wait=`",
            "timeout": "`max_wait=`, the longest wait for a place",
        },
    )
    def __init__(
        self,
        name: str,
        limit: int | Adaptive = 10,
        *,
        max_wait: Duration = 0.0,
        metrics: Metrics | None = None,
    ) -> None:
        checked_limit = limit if isinstance(limit, Adaptive) else to_count(limit, "limit")
        engine = BulkheadEngine(
            checked_name(name), checked_limit, to_seconds(max_wait, "max_wait"), metrics_of(metrics)
        )
        self._bound = BoundBulkhead(engine, engine.recorder)
        self._blocks: OpenBlocks[BulkheadCall] = OpenBlocks()
        reset_with_all(self, Bulkhead.reset)

    @property
    def name(self) -> str:
        """The name of the bulkhead."""
        return self._bound.engine.name

    @property
    def limit(self) -> int:
        """The number of calls that may run at a time, now."""
        return self._bound.engine.places.limit

    @property
    def in_flight(self) -> int:
        """The number of calls that have a place; above `limit` for a while after `limit` fell."""
        return self._bound.engine.places.in_flight

    @property
    def waiting(self) -> int:
        """The number of calls that wait for a place."""
        return self._bound.engine.places.waiting

    def __repr__(self) -> str:
        return f"<Bulkhead {self.name!r}: {self.in_flight} of {self.limit}>"

    def resize(self, limit: int) -> None:
        """Change the number of calls that may run at a time, from the next call on. Never blocks.

        Running calls keep their places, so a lower limit holds only after enough calls have ended.

        Args:
            limit: The new limit, at least 1.

        Raises:
            TypeError: If *limit* is not a whole number, or the bulkhead is adaptive.
            ValueError: If *limit* is below 1.

        Example:
            >>> from mainstay import Bulkhead
            >>> orders = Bulkhead("orders", limit=20)
            >>> orders.resize(30)
            >>> orders.limit
            30
        """
        engine = self._bound.engine
        if engine.follower is not None:
            raise TypeError(
                f"`resize` is for a limit that is a number, and that of {self.name} is Adaptive: "
                f"give it `at_least` and `at_most` instead of {limit!r}"
            )
        engine.resize(to_count(limit, "limit"))

    def reset(self) -> None:
        """Reset the bulkhead to its initial state; meant for tests that share a bulkhead."""
        self._blocks = OpenBlocks()
        self._bound.engine.reset()

    def __call__(self, fn: Callable[P, R], /) -> Callable[P, R]:
        """Wrap a function; signature and kind, sync or async, stay.

        Args:
            fn: A function, async function, method, `classmethod` or `staticmethod`.

        Raises:
            TypeError: If *fn* cannot be called, or is a generator function.
        """
        if isinstance(fn, classmethod | staticmethod):
            return rewrapped(fn, self)
        check_callable(fn, "a bulkhead")
        self._bound.recorder.appear()
        return wrap(self._bound, fn)

    def _layer(self, fn: Callable[..., Any], builder: PipelineBuilder) -> Callable[..., Any]:
        """Wrap a function as a layer of a pipeline."""
        bound = attrs.evolve(self._bound, recorder=builder.shared_recorder(self._bound.recorder))
        return wrap(builder.bind(bound), fn)

    def call(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call *fn* through the bulkhead, without decorating it.

        Args:
            fn: A function or an async function.
            *args: The arguments for *fn*.
            **kwargs: The keyword arguments for *fn*.

        Returns:
            The result of *fn*; an awaitable if *fn* is async.

        Raises:
            BulkheadFullError: If there is no place in time; *fn* is not called.
            DeadlineExpiredError: If no time of the surrounding deadline is left; *fn* is not
                called.
            Exception: The exception that *fn* raises.

        Example:
            >>> from mainstay import Bulkhead
            >>> Bulkhead("search", limit=5).call(str.upper, "found")
            'FOUND'
        """
        return self(fn)(*args, **kwargs)

    # Blocks. One that is left in a context that has none ends the one entered last.

    def __enter__(self) -> Self:
        call = self._bound.begin()
        try:
            call.enter()
            self._blocks.enter(call)
            return self  # noqa: TRY300 - from here on the block is left
        except BaseException:  # of a signal handler, too
            call.give_back()
            raise

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._leave(error)

    def _leave(self, error: BaseException | None) -> None:
        call = None
        try:
            call = self._blocks.leave(3)  # the code around `__exit__`, or `__aexit__`
            if call is None:  # it was open when the bulkhead was reset
                return
            call.give_back()
        except BaseException as interrupt:  # of a signal handler
            if call is not None:
                call.give_back()
                call.raised(interrupt)
            raise
        if error is None:
            call.succeeded()
        else:
            call.raised(error)

    async def __aenter__(self) -> Self:
        require_asyncio(self.name)
        call = self._bound.begin()
        try:
            await call.aenter()
            self._blocks.enter(call)
            return self  # noqa: TRY300 - from here on the block is left
        except BaseException:  # of a signal handler, too
            call.give_back()
            raise

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._leave(error)


def as_part(bulkhead: Bulkhead) -> BoundBulkhead:
    """Return a bulkhead as a part of calls that are counted as a whole, as in a pipeline."""
    bound = bulkhead._bound  # noqa: SLF001 - of this module
    own = bound.recorder
    recorder = SharedRecorder(own.table, own.component, own.policy)
    return attrs.evolve(bound, recorder=recorder)
