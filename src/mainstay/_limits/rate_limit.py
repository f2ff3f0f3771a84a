"""`RateLimit`: limits how many calls, or units of cost, begin in a certain time."""

from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, ParamSpec, Self, TypeVar, get_args

import attrs

from mainstay._core.arguments import Duration, check_callable, check_choice, to_number, to_seconds
from mainstay._core.functions import checked_name, require_asyncio, rewrapped
from mainstay._core.misuse import shows_use
from mainstay._core.open_blocks import OpenBlocks
from mainstay._core.sharing import Shared
from mainstay._limits.rate_calls import BoundRate, RateCall, wrap
from mainstay._limits.rate_engine import POLICY, RateEngine, StoreErrorAction
from mainstay._metrics.collector import Metrics, metrics_of
from mainstay._metrics.pipeline import PipelineBuilder

if TYPE_CHECKING:
    from limits.aio.strategies import RateLimiter as AsyncRateLimiter
    from limits.strategies import RateLimiter

    from mainstay._limits.shared_turns import SharedTurns

P = ParamSpec("P")
R = TypeVar("R")

_MOST_SECONDS = 1e9
_LEAST_SECONDS = 1e-9


class RateLimit(Shared):
    """Limits how many calls begin in a certain time; other calls wait for a turn, or are rejected.

    Turns come evenly, one every ``per / rate`` seconds, and up to *burst* unused turns are saved
    up. So in any window of *per* seconds, wherever it begins, at most ``rate + burst`` calls begin.
    The clock is monotonic; steps of the wall clock have no effect. A call without a turn waits for
    at most *max_wait* seconds, and no longer than a surrounding `deadline` leaves; a call whose
    turn would come later is rejected at once. Threads and tasks of all event loops wait in one
    queue: first come, first served, also for calls that need several turns. Async code waits
    without blocking its event loop. Sync calls in a thread whose event loop is running never wait:
    they go through or are rejected. Any number of functions, threads and tasks may share a limit.

    Each process counts its own calls, so *n* workers may make *n* times as many calls. With
    *shared*, all workers share one limit, which a strategy of the package `limits` keeps in a store
    such as Redis (``pip install 'mainstay[limits]'``), under the key ``mainstay/<name>``. Then the
    strategy decides which calls go through, in bursts or evenly, and no call waits. A store that
    does not answer within a second, or within the time left, counts as failed.

    Args:
        name: The `component` label. Not empty.
        rate: The number of turns in each *per*, above 0; with *shared* a whole number.
        per: The time for *rate* turns: seconds or a `timedelta`, above 0; with *shared* whole
            seconds. ``per / rate`` must be from 1 ns to 10^9 seconds.
        burst: The number of turns that may be taken at once after a quiet time, at least 1.
        max_wait: The longest time that a call waits for its turn: seconds or a `timedelta`, at
            least 0. 0 for no waiting.
        shared: A strategy of `limits.strategies`, or of `limits.aio.strategies` for async code.
            *burst* and *max_wait* then hold only while its store fails.
        on_store_error: With *shared*, what happens while its store fails. "local": each process
            keeps to the limit by itself. "allow": all calls go through. "deny": all calls are
            rejected.
        metrics: Where to record. None for `default_metrics()`.

    Raises:
        TypeError: If an argument has the wrong type, or *shared* is not a strategy of `limits`.
        ValueError: If an argument is out of range, or *on_store_error* is given without *shared*.

    Metrics:
        `calls_total`, `call_duration_seconds` (waiting included) and `give_ups_total` with
        ``policy="rate_limit"``, and with *shared* `rate_store_errors_total`. A rejected call counts
        as ``outcome="rejected"``, with ``reason="rate"``, or with ``reason="timeout"`` if only the
        deadline kept the call from waiting.

    Source:
        ITU-T Recommendation I.371, the generic cell rate algorithm.

    Example:
        >>> from mainstay import RateLimit, RateLimitedError
        >>> mail = RateLimit("mail", 100, per=60.0, burst=2)
        >>> @mail
        ... def send(to: str) -> str:
        ...     return f"sent to {to}"
        >>> for name in ("ann", "bob", "cid"):
        ...     try:
        ...         print(send(name))
        ...     except RateLimitedError as error:
        ...         print(f"{name} has to wait for {error.retry_after:.1f} s")
        sent to ann
        sent to bob
        cid has to wait for 0.6 s
    """

    _kind: ClassVar[str] = POLICY

    @shows_use(
        "RateLimit('api', 100, per=60)",
        elsewhere={
            "calls": "`rate=`",
            "limit": "`rate=`",
            "max_calls": "`rate=`",
            "max_rate": "`rate=`",
            "period": "`per=`",
            "time_period": "`per=`",
            "interval": "`per=`",
            "window": "`per=`",
            "capacity": "`burst=`",
            "timeout": "`max_wait=`",
            "max_delay": "`max_wait=`",
            "raise_on_limit": "`max_wait=`, 0 by default",
            "storage": "`shared=`",
        },
    )
    def __init__(
        self,
        name: str,
        rate: float,
        *,
        per: Duration = 1.0,
        burst: float = 1,
        max_wait: Duration = 0.0,
        shared: "RateLimiter | AsyncRateLimiter | None" = None,
        on_store_error: StoreErrorAction = "local",
        metrics: Metrics | None = None,
    ) -> None:
        checked_name(name)
        turns = to_number(rate, "rate", zero=False)
        seconds = to_seconds(per, "per", zero=False)
        _check_interval(turns, seconds, rate, per)
        saved = to_number(burst, "burst")
        if saved < 1:
            raise ValueError(f"`burst` must be at least 1, not {burst!r}")
        check_choice(on_store_error, "on_store_error", get_args(StoreErrorAction))
        if shared is None and on_store_error != "local":
            raise ValueError(
                f"`on_store_error` is for a limit with `shared`, which has a store; leave out "
                f"{on_store_error!r}"
            )
        engine = RateEngine(
            name,
            turns,
            seconds,
            saved,
            to_seconds(max_wait, "max_wait"),
            None if shared is None else _shared_turns(shared, name, turns, seconds),
            on_store_error,
            metrics_of(metrics),
        )
        self._bound = BoundRate(engine, engine.recorder)
        self._blocks: OpenBlocks[RateCall] = OpenBlocks()

    @property
    def name(self) -> str:
        """The name of the rate limit."""
        return self._bound.engine.name

    def __repr__(self) -> str:
        engine = self._bound.engine
        return f"<RateLimit {engine.name!r}: {engine.rate:g} in {engine.per:g} s>"

    def reset(self) -> None:
        """Reset the rate limit to its initial state; meant for tests that share a rate limit.

        Calls that are waiting keep the turns that they wait for. The counts in the store of
        *shared* stay.
        """
        self._bound.engine.reset()

    # Functions.

    def __call__(self, fn: Callable[P, R], /) -> Callable[P, R]:
        """Wrap a function; signature and kind, sync or async, stay.

        Args:
            fn: A function, async function, method, `classmethod` or `staticmethod`.

        Raises:
            TypeError: If *fn* cannot be called, or is a generator function, or `shared` is a
                strategy for the other kind of functions.
        """
        if isinstance(fn, classmethod | staticmethod):
            return rewrapped(fn, self)
        check_callable(fn, "a rate limit")
        self._bound.recorder.appear()
        return wrap(self._bound, fn)

    def _layer(self, fn: Callable[..., Any], builder: PipelineBuilder) -> Callable[..., Any]:
        """Wrap a function as a layer of a pipeline."""
        bound = attrs.evolve(self._bound, recorder=builder.shared_recorder(self._bound.recorder))
        return wrap(builder.bind(bound), fn)

    def call(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call *fn* when its turn comes, without decorating it.

        Args:
            fn: A function or an async function.
            *args: The arguments for *fn*.
            **kwargs: The keyword arguments for *fn*.

        Returns:
            The result of *fn*; an awaitable if *fn* is async.

        Raises:
            RateLimitedError: If there is no turn in time; *fn* is not called.
            Exception: The exception that *fn* raises.

        Example:
            >>> from mainstay import RateLimit
            >>> RateLimit("search", 10).call(str.upper, "found")
            'FOUND'
        """
        return self(fn)(*args, **kwargs)

    # By hand.

    def acquire(self, cost: float = 1) -> None:
        """Take turns in sync code, and wait for them if necessary.

        In the metrics this is a call, which succeeds when it has its turns.

        Args:
            cost: The number of turns, above 0 and at most *burst*. With *shared*, a whole number of
                at most *rate*; while the store fails, a *cost* above *burst* is rejected.

        Raises:
            RateLimitedError: If the turns do not come in time. In a thread whose event loop is
                running, the method never waits.
            DeadlineExpiredError: If the surrounding deadline leaves no time.
            TypeError: If *cost* is not a number, or *shared* is a strategy for async code.
            ValueError: If *cost* is out of range.

        Example:
            >>> from mainstay import RateLimit
            >>> upload = RateLimit("upload", 1_000_000, burst=500_000)  # bytes a second
            >>> upload.acquire(cost=len(b"a part of a file"))
        """
        turns = self._checked_cost(cost)
        self._check_kind("`acquire`", is_async=False)
        call = self._bound.begin()
        call.enter(turns)
        call.succeeded()

    async def acquire_async(self, cost: float = 1) -> None:
        """Take turns in async code, and wait for them without blocking the event loop.

        Args:
            cost: As for `acquire`.

        Raises:
            RateLimitedError: If the turns do not come in time.
            DeadlineExpiredError: If the surrounding deadline leaves no time.
            UnsupportedLoopError: Outside asyncio.
            TypeError: If *cost* is not a number, or *shared* is a strategy for sync code.
            ValueError: If *cost* is out of range.

        Example:
            >>> import asyncio
            >>> from mainstay import RateLimit
            >>> asyncio.run(RateLimit("upload", 10, burst=5).acquire_async(cost=3))
        """
        turns = self._checked_cost(cost)
        self._check_kind("`acquire_async`", is_async=True)
        require_asyncio(self.name)
        call = self._bound.begin()
        await call.aenter(turns)
        call.succeeded()

    def _checked_cost(self, cost: float) -> float:
        turns = to_number(cost, "cost", zero=False)
        engine = self._bound.engine
        if engine.shared is None:
            most, what = engine.burst, "`burst`"
        else:
            most, what = engine.rate, "`rate`"
            if turns != int(turns):
                raise ValueError(f"`cost` must be a whole number with `shared`, not {cost!r}")
        if turns > most:
            raise ValueError(f"`cost` must be at most {what}, which is {most:g}, not {cost!r}")
        return turns

    def _check_kind(self, what: str, *, is_async: bool) -> None:
        shared = self._bound.engine.shared
        if shared is not None:
            shared.check_kind(is_async=is_async, what=what)

    # Blocks.

    def __enter__(self) -> Self:
        self._check_kind("`with limit:`", is_async=False)
        call = self._bound.begin()
        call.enter()
        self._blocks.enter(call)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._leave(error)

    def _leave(self, error: BaseException | None) -> None:
        call = self._blocks.leave(3)  # the code around `__exit__`, or `__aexit__`
        if call is None:
            raise RuntimeError("`with limit:` was left and had not been entered")
        if error is None:
            call.succeeded()
        else:
            call.raised(error)

    async def __aenter__(self) -> Self:
        self._check_kind("`async with limit:`", is_async=True)
        require_asyncio(self.name)
        call = self._bound.begin()
        await call.aenter()
        self._blocks.enter(call)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._leave(error)


def _check_interval(rate: float, per: float, given_rate: object, given_per: object) -> None:
    """Raise, unless turns are so far apart that a clock can tell, and come in a lifetime."""
    if not _LEAST_SECONDS <= per / rate <= _MOST_SECONDS:
        raise ValueError(
            f"`per` / `rate`, the seconds from one turn to the next, must be from 1e-9 to 1e9, "
            f"which `rate` {given_rate!r} and `per` {given_per!r} are not"
        )


def _shared_turns(strategy: Any, name: str, rate: float, per: float) -> "SharedTurns":
    from mainstay._limits.shared_turns import SharedTurns  # noqa: PLC0415 - few limits have one

    return SharedTurns(strategy, name, rate, per)
