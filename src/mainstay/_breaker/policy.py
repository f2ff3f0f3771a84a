"""`CircuitBreaker`: the detector of pools, around a function or a block of a single service."""

from collections.abc import Callable
from types import TracebackType
from typing import Any, ClassVar, NoReturn, ParamSpec, Self, TypeVar

import attrs

from mainstay._breaker.calls import BoundBreaker, BreakerCall, wrap
from mainstay._breaker.engine import POLICY, BreakerEngine
from mainstay._core.arguments import check_callable
from mainstay._core.context import current_context
from mainstay._core.detector import Detect
from mainstay._core.failures import Classes, checked_on_result, verdict_judge_of
from mainstay._core.functions import checked_name, rewrapped
from mainstay._core.misuse import shows_use
from mainstay._core.open_blocks import OpenBlocks
from mainstay._core.sharing import Shared
from mainstay._metrics.collector import Metrics, metrics_of
from mainstay._metrics.pipeline import PipelineBuilder
from mainstay.events import BreakerState

P = ParamSpec("P")
R = TypeVar("R")


class CircuitBreaker(Shared):
    """Stops calls to a service that fails too often, and tries single calls until it works again.

    A closed breaker lets all calls through and measures their failures by the rules of *detect*. An
    open breaker rejects all calls, for a time that grows with each failed trial. Then the next call
    is a trial: its success closes the breaker, and its failure opens the breaker for longer. Soon
    after a successful trial, a single error opens the breaker again. Cancelled calls, and
    exceptions that *on* does not match, change nothing.

    Use a breaker as a decorator, by `call`, or as ``with breaker:``, in sync and in async code. Any
    number of threads and tasks may use one breaker at the same time; no lock is held while your
    code runs.

    Args:
        name: The `component` label. Not empty.
        on: What counts as a failure: a subclass of `Exception`, a tuple of such classes, or a plain
            function that takes the exception and returns True or False; a delay, as `retry` takes,
            counts as True.
        detect: When the breaker opens, and for how long.
        on_result: A predicate for results: True means that the call counts as a failure, as for a
            client that returns responses with status 503. The call returns the result all the
            same. A plain function.
        metrics: Where to record. None for `default_metrics()`.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If *name* is empty.

    Metrics:
        `calls_total`, `call_duration_seconds`, `give_ups_total`, `errors_total` with
        ``policy="breaker"``, `breaker_state`, `breaker_transitions_total`. A rejected call counts
        as ``outcome="rejected"``, with ``reason="open"``.

    Example:
        >>> import httpx
        >>> from mainstay import CircuitBreaker, CircuitOpenError, Detect, transient
        >>> breaker = CircuitBreaker("search", on=transient, detect=Detect(consecutive=2))
        >>> @breaker
        ... def search(word: str) -> str:
        ...     return httpx.get(f"http://no.such.example/{word}").raise_for_status().text
        >>> for _ in range(3):
        ...     try:
        ...         search("lamp")
        ...     except (httpx.HTTPError, CircuitOpenError) as error:
        ...         print(type(error).__name__, breaker.state)
        ConnectError closed
        ConnectError open
        CircuitOpenError open
    """

    _kind: ClassVar[str] = POLICY

    @shows_use(
        "CircuitBreaker('db', on=...), where `on` says what counts as a failure",
        elsewhere={
            "exceptions": "`on=`",
            "expected_exception": "`on=`",
            "exclude": "`on=`, which says what counts",
            "failure_threshold": "`detect=Detect(consecutive=...)`",
            "fail_max": "`detect=Detect(consecutive=...)`",
            "threshold": "`detect=Detect(consecutive=...)`",
            "success_threshold": "`detect=Detect(trials=...)`",
            "reset_timeout": "`detect=Detect(eject_for=...)`",
            "recovery_timeout": "`detect=Detect(eject_for=...)`",
            "timeout_duration": "`detect=Detect(eject_for=...)`",
            "timeout": "a `timeout` inside the breaker",
            "fallback_function": "`mainstay.fallback` around the breaker",
            "listeners": "`mainstay.on_event`",
        },
    )
    def __init__(
        self,
        name: str,
        *,
        on: Classes | Callable[[Exception], object],
        detect: Detect = Detect(),  # noqa: B008 - frozen
        on_result: Callable[[Any], object] | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        if not isinstance(detect, Detect):
            raise TypeError(f"`detect` must be a Detect, not {detect!r}")
        judge = verdict_judge_of(on)
        engine = BreakerEngine(checked_name(name), detect, metrics_of(metrics))
        self._bound = BoundBreaker(engine, judge, checked_on_result(on_result), engine.recorder)
        self._blocks: OpenBlocks[BreakerCall] = OpenBlocks()

    @property
    def name(self) -> str:
        """The name of the breaker."""
        return self._bound.engine.name

    @property
    def state(self) -> BreakerState:
        """The state: "closed", "open", or "half_open" while a trial runs or may begin."""
        return self._bound.engine.state(current_context().clock.now())

    @property
    def failures(self) -> int:
        """The number of calls that have failed in a row since the breaker last closed."""
        return self._bound.engine.detector.failures

    @property
    def retry_after(self) -> float | None:
        """Seconds until the next trial; None if the breaker is closed, or was opened by `open`."""
        if self.state == "closed":
            return None
        return self._bound.engine.retry_after(current_context().clock.now())

    @property
    def last_error(self) -> Exception | None:
        """The last exception that counted as a failure; None before one, and after `close`."""
        return self._bound.engine.last_error

    def reset(self) -> None:
        """Reset the breaker to its initial state; meant for tests that share a breaker."""
        self._bound.engine.close()

    def __repr__(self) -> str:
        return f"<CircuitBreaker {self.name!r}: {self.state}>"

    def open(self) -> None:
        """Reject all calls until `close`.

        Example:
            >>> from mainstay import CircuitBreaker
            >>> breaker = CircuitBreaker("search", on=OSError)
            >>> breaker.open()
            >>> breaker.state
            'open'
            >>> breaker.close()
            >>> breaker.state
            'closed'
        """
        self._bound.engine.open()

    def close(self) -> None:
        """Close the breaker, whatever opened it, and forget all failures."""
        self._bound.engine.close()

    def __call__(self, fn: Callable[P, R], /) -> Callable[P, R]:
        """Wrap a function; signature and kind, sync or async, stay.

        Args:
            fn: A function, async function, method, `classmethod` or `staticmethod`.

        Raises:
            TypeError: If *fn* cannot be called, or is a generator function.
        """
        if isinstance(fn, classmethod | staticmethod):
            return rewrapped(fn, self)
        check_callable(fn, "a circuit breaker")
        self._bound.recorder.appear()
        return wrap(self._bound, fn)

    def _layer(self, fn: Callable[..., Any], builder: PipelineBuilder) -> Callable[..., Any]:
        """Wrap a function as a layer of a pipeline."""
        bound = attrs.evolve(self._bound, recorder=builder.shared_recorder(self._bound.recorder))
        return wrap(builder.bind(bound), fn)

    def call(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call *fn* through the breaker, without decorating it.

        Args:
            fn: A function or an async function.
            *args: The arguments for *fn*.
            **kwargs: The keyword arguments for *fn*.

        Returns:
            The result of *fn*; an awaitable if *fn* is async.

        Raises:
            CircuitOpenError: If the breaker is open; *fn* is not called.
            Exception: The exception that *fn* raises.

        Example:
            >>> from mainstay import CircuitBreaker
            >>> CircuitBreaker("search", on=OSError).call(str.upper, "found")
            'FOUND'
        """
        return self(fn)(*args, **kwargs)

    def __aenter__(self) -> NoReturn:
        raise TypeError("write `with breaker:`, without `async`, in async code too")

    __aexit__ = __aenter__

    def __enter__(self) -> Self:
        self._blocks.enter(self._bound.begin())
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        call = self._blocks.leave()
        if call is None:
            raise RuntimeError("`with breaker:` was left and had not been entered")
        if error is None:
            call.succeeded()
        else:
            call.raised(error)
