"""A rate limit that many processes share: a strategy of the package `limits`, asked within a time.

A store that does not answer would block the call for as long as its client waits, possibly for
ever. So the store is asked in a thread or task, which is abandoned after `PATIENCE` seconds.
"""

import asyncio
import contextvars
import math
from concurrent.futures import Future
from typing import Any

import attrs

from mainstay._core.clock import wall_time
from mainstay._core.forks import reset_after_fork
from mainstay._core.threads import retrieve_exception
from mainstay._core.words import kind_in_words
from mainstay._core.workers import Worker, WorkerPool

PATIENCE = 1.0
"""Seconds that a call waits for the store at most."""

MOST_HUNG = 8
"""Threads that may wait for a store that does not answer; then it is not asked until one ends."""

_KEY = "mainstay"


@attrs.frozen
class StoreAnswer:
    """What the store said.

    Attributes:
        admitted: True if the call may go through.
        retry_after: Seconds until it may, if the store says when; at most `per`.
    """

    admitted: bool
    retry_after: float | None = None


class SharedTurns:
    """The turns that a strategy gives.

    Args:
        strategy: Of `limits.strategies`, or of `limits.aio.strategies`.
        name: Of the rate limit.
        rate: How many turns there are in *per*. A whole number.
        per: Seconds. A whole number.

    Attributes:
        patience: Seconds that a call waits for the store at most.
        rate: As given.
        is_async: True if the strategy is one for async code.

    Raises:
        TypeError: If *strategy* is none of these, or *rate* or *per* is not whole.
    """

    patience: float = PATIENCE

    def __init__(self, strategy: object, name: str, rate: float, per: float) -> None:
        self.is_async: bool = _is_async(strategy)
        self.rate = _whole(rate, "rate")
        self._per = _whole(per, "per")
        from limits import RateLimitItemPerSecond  # noqa: PLC0415 - an extra

        self._name = name
        self._strategy: Any = strategy
        self._item = RateLimitItemPerSecond(self.rate, self._per, namespace=_KEY)
        self._workers = WorkerPool(math.inf)  # `_hung` limits those that are left behind
        self._forget_hung()
        reset_after_fork(self, SharedTurns._forget_hung)

    def _forget_hung(self) -> None:
        self._hung: set[Future[StoreAnswer]] = set()

    def check_kind(self, *, is_async: bool, what: str) -> None:
        """Raise, unless the strategy is for this kind of code.

        One for sync code would block the event loop, and nobody would await one for async code.

        Raises:
            TypeError: If the strategy is for the other kind of code.
        """
        if is_async is not self.is_async:
            here, needed = ("async", "limits.aio") if is_async else ("sync", "limits")
            raise TypeError(
                f"rate limit {self._name}: {what} is {here} code, where `shared` must be of "
                f"{needed}.strategies, not {kind_in_words(self._strategy)}"
            )

    # def

    def ask(self, cost: int, seconds: float) -> StoreAnswer:
        """Ask the store for *cost* turns.

        Raises:
            TimeoutError: If it has not answered within *seconds*, or too many are asking already.
            RuntimeError: If no thread can be started.
            Exception: What the strategy or its store raises.
        """
        if len(self._hung) >= MOST_HUNG:
            raise TimeoutError(f"{MOST_HUNG} calls still wait for an answer of the store")
        worker = self._workers.take()
        if worker is None:
            raise RuntimeError("no thread can be started to ask the store")
        answer: Future[StoreAnswer] = Future()
        context = contextvars.copy_context()

        def job(worker: Worker) -> None:
            try:
                said = context.run(self._ask, cost)
            except BaseException as error:  # noqa: BLE001 - raised where it is waited for
                self._workers.release(worker)
                answer.set_exception(error)
            else:
                self._workers.release(worker)  # first: the caller may ask again at once
                answer.set_result(said)

        worker.run(job)
        try:
            return answer.result(seconds)
        finally:
            if not answer.done():
                self._hung.add(answer)
                answer.add_done_callback(self._hung.discard)

    def _ask(self, cost: int) -> StoreAnswer:
        if self._strategy.hit(self._item, self._name, cost=cost):
            return StoreAnswer(admitted=True)
        try:
            reset = self._strategy.get_window_stats(self._item, self._name).reset_time
        except Exception:  # noqa: BLE001 - the answer that counts is there
            return StoreAnswer(admitted=False)
        return self._refusal(reset)

    # async def

    async def aask(self, cost: int, seconds: float) -> StoreAnswer:
        """As `ask`, for a strategy of `limits.aio`."""
        answer = asyncio.ensure_future(self._aask(cost))
        try:
            await asyncio.wait((answer,), timeout=seconds)
        finally:
            if not answer.done():
                answer.cancel()
                answer.add_done_callback(retrieve_exception)
        if not answer.done():
            raise TimeoutError(f"no answer within {seconds:.3f} s")
        return answer.result()

    async def _aask(self, cost: int) -> StoreAnswer:
        if await self._strategy.hit(self._item, self._name, cost=cost):
            return StoreAnswer(admitted=True)
        try:
            stats = await self._strategy.get_window_stats(self._item, self._name)
        except Exception:  # noqa: BLE001 - the answer that counts is there
            return StoreAnswer(admitted=False)
        return self._refusal(stats.reset_time)

    def _refusal(self, reset: float) -> StoreAnswer:
        # By the wall clock, as the strategies have it; so a step of that could say anything.
        return StoreAnswer(
            admitted=False, retry_after=min(max(0.0, reset - wall_time()), self._per)
        )


def _is_async(strategy: object) -> bool:
    try:
        from limits import strategies  # noqa: PLC0415 - an extra
        from limits.aio import strategies as aio_strategies  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise TypeError(
            f"`shared` takes a strategy of the package limits, which is not installed "
            f"(pip install 'mainstay[limits]'), not {kind_in_words(strategy)}"
        ) from error
    if isinstance(strategy, aio_strategies.RateLimiter):
        return True
    if isinstance(strategy, strategies.RateLimiter):
        return False
    raise TypeError(
        f"`shared` must be a strategy of limits.strategies, or of limits.aio.strategies for async "
        f"code, such as SlidingWindowCounterRateLimiter(storage), not "
        f"{kind_in_words(strategy)}"
    )


def _whole(value: float, parameter: str) -> int:
    if value != int(value):
        raise ValueError(
            f"`{parameter}` must be a whole number of at least 1 with `shared`, not {value!r}"
        )
    return int(value)
