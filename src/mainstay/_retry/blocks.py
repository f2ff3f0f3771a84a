"""The block forms: `for attempt in policy` and `async for attempt in policy`.

The loop statement waits, and gets the next attempt. The `with` statement is the attempt: its end
decides what follows, so that `return` and `break` in it count as a success.
"""

from types import TracebackType
from typing import TYPE_CHECKING, NoReturn, Self

from mainstay._core.exceptions import is_a
from mainstay._core.watching import around, watchers
from mainstay._retry.call import RetryCall, watched_attempt

if TYPE_CHECKING:
    from contextlib import ExitStack

    from mainstay._core.interrupts import TaskTimeout


class Block:
    """The attempts of one block, as both loop statements ask for them."""

    __slots__ = ("_call", "_last_error", "_open", "_wait")

    def __init__(self, call: RetryCall) -> None:
        self._call = call
        self._open = False
        self._wait: float | None = 0.0
        self._last_error: Exception | None = None

    def __iter__(self) -> "Block":
        return self

    def __next__(self) -> "Attempt":
        wait = self._wait_for_next()
        if wait is None:
            raise StopIteration
        if wait:
            self._call.sleep(wait)
        return self._attempt()

    def attempt_ended(self, wait: float | None, error: Exception | None) -> None:
        """Record what follows an attempt: seconds until the next one, or None for the last one."""
        self._open = False
        self._wait = wait
        self._last_error = error

    def _wait_for_next(self) -> float | None:
        if self._open:
            raise RuntimeError(
                "the block form is `for attempt in policy:` with a `with attempt:` "
                "in it around what is to be retried; the last attempt had none"
            )
        return self._wait

    def _attempt(self) -> "Attempt":
        self._open = True
        # An attempt keeps the error no longer than it lasts: its traceback leads to the frame
        # that the attempt is a variable of.
        error, self._last_error = self._last_error, None
        return Attempt(self, self._call, error)


class AsyncBlock(Block):
    """The attempts of a block in async code."""

    __slots__ = ()

    def __aiter__(self) -> "AsyncBlock":
        return self

    async def __anext__(self) -> "Attempt":
        wait = self._wait_for_next()
        if wait is None:
            raise StopAsyncIteration
        if wait:
            await self._call.asleep(wait)
        return self._attempt()


class Attempt:
    """One attempt of a block: a context manager around the code to retry.

    Use a plain ``with``, also in async code.

    Attributes:
        number: The number of this attempt, from 1.
        last_error: Inside the block, the exception of the previous attempt; None in the first
            attempt.

    Example:
        >>> from mainstay import retry
        >>> for attempt in retry(on=OSError, wait=0):
        ...     with attempt:
        ...         if attempt.number < 2:
        ...             raise OSError("refused")
        >>> attempt.number
        2
    """

    __slots__ = (
        "_block",
        "_call",
        "_entered",
        "_limit",
        "_timeout",
        "_watch",
        "last_error",
        "number",
    )

    def __init__(self, block: Block, call: RetryCall, last_error: Exception | None) -> None:
        self._block = block
        self._call = call
        self._limit = 0.0
        self._entered = False
        self._timeout: TaskTimeout | None = None
        self._watch: ExitStack | None = None
        self.last_error = last_error
        self.number: int = call.made + 1

    @property
    def elapsed(self) -> float:
        """Seconds since the start of the first attempt."""
        return self._call.elapsed()

    def __aenter__(self) -> NoReturn:
        raise TypeError("write `with attempt:`, without `async`, in async code too")

    __aexit__ = __aenter__

    def __enter__(self) -> Self:
        if self._entered:
            raise RuntimeError("an attempt can be entered once; the loop yields the next attempt")
        self._entered = True
        limit = self._call.attempt_limit()
        if limit is not None:
            self._limit = limit
            from mainstay._core.interrupts import TaskTimeout  # noqa: PLC0415 - the policy has loaded it

            self._timeout = TaskTimeout(self._call.context.clock, limit)
        if watchers and self._call.made:
            self._watch = around(watched_attempt(self._call))
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        call = self._call
        self.last_error = None
        if self._watch is not None:
            self._watch.__exit__(exc_type, error, traceback)
        self._block.attempt_ended(None, None)
        ours = self._timeout is not None and self._timeout.stop(error)
        if error is None:
            call.accept(None, refused=False)
        elif ours:
            expired = call.attempt_timed_out(self._limit)
            if not self._goes_on(expired):
                raise expired from error
            return True
        elif is_a(error, Exception):
            return self._goes_on(error)
        else:
            call.interrupted(error)
        return False

    def _goes_on(self, error: Exception) -> bool:
        """True if another attempt follows *error*, which then goes no further."""
        wait = self._call.after(error, self._call.verdict(error))
        if wait is None:
            return False
        self._block.attempt_ended(wait, error)
        return True
