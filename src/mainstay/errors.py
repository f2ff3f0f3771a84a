"""Every error that mainstay raises itself, in one tree.

    MainstayError
    ├── ResultRefusedError        retry: the last result was refused by `on_result`
    ├── DeadlineExpiredError      a policy was entered with no time left (also a TimeoutError)
    ├── UnsupportedLoopError      an async policy ran outside asyncio
    ├── AllCopiesFailedError      redundant: no copy answered (also an ExceptionGroup)
    └── NoDecisionError           redundant: the answers did not decide (also an ExceptionGroup)

Wherever one exception of the user's own is true, that one is raised instead. All of these
carry what they know as attributes and can be pickled as far as those can.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Self

__all__ = [
    "AllCopiesFailedError",
    "DeadlineExpiredError",
    "MainstayError",
    "NoDecisionError",
    "ResultRefusedError",
    "UnsupportedLoopError",
]


class MainstayError(Exception):
    """The base of every error that mainstay raises itself."""


class ResultRefusedError(MainstayError):
    """A retried function kept returning results that `on_result` refused.

    Attributes:
        component: The name of the policy.
        result: The last result, the one that was refused.
        attempts: How many calls were made.
        elapsed: Seconds from the start of the first call.
    """

    def __init__(self, component: str, result: object, attempts: int, elapsed: float) -> None:
        super().__init__(component, result, attempts, elapsed)
        self.component = component
        self.result = result
        self.attempts = attempts
        self.elapsed = elapsed

    def __str__(self) -> str:
        return (
            f"{self.component}: `on_result` refused the last of {self.attempts} result(s) "
            f"after {self.elapsed:.3f} s; it is in `.result`"
        )


class DeadlineExpiredError(MainstayError, TimeoutError):
    """A policy was entered when the deadline around it had already passed; nothing was called.

    Attributes:
        component: The name of the policy.
    """

    def __init__(self, component: str) -> None:
        super().__init__(component)
        self.component = component

    def __str__(self) -> str:
        return (
            f"{self.component}: no time left of the surrounding `deadline(...)`, so it was not "
            f"called; give it more seconds, or check `remaining()` before"
        )


class UnsupportedLoopError(MainstayError):
    """An async policy ran where no asyncio event loop does, such as under trio.

    Attributes:
        component: The name of the policy.
    """

    def __init__(self, component: str) -> None:
        super().__init__(component)
        self.component = component

    def __str__(self) -> str:
        return f"{self.component}: async policies need a running asyncio (or uvloop) event loop"


class _CopiesError(MainstayError, ExceptionGroup[Exception]):
    """What the copies of a redundant call came to: one exception with a note for each of them."""

    def __new__(
        cls,
        component: str,
        exceptions: Sequence[Exception],
        elapsed: float,
        _answers: Mapping[str, Any],
    ) -> Self:
        return super().__new__(cls, cls._text(component, len(exceptions), elapsed), exceptions)

    def __init__(
        self,
        component: str,
        exceptions: Sequence[Exception],
        elapsed: float,
        answers: Mapping[str, Any],
    ) -> None:
        # What pickling makes it from again.
        Exception.__init__(self, component, exceptions, elapsed, answers)
        self.component = component
        self.elapsed = elapsed
        self.answers = answers

    def derive(self, excs: Sequence[Exception], /) -> Self:  # type: ignore[override]  # of Exceptions alone
        """Make one of the same kind with other exceptions, for `split` and ``except*``."""
        return type(self)(self.component, excs, self.elapsed, self.answers)

    @staticmethod
    def _text(component: str, copies: int, elapsed: float) -> str:
        raise NotImplementedError


class AllCopiesFailedError(_CopiesError):
    """No copy of a redundant call answered.

    It is an `ExceptionGroup` of the copies' own exceptions, in the order in which the copies
    started; a note on each says which copy, and when. One that was still running when the time
    was up is a `TimeoutError`.

    Attributes:
        component: The name of the policy.
        elapsed: Seconds from the start of the first copy.
        answers: Empty.
    """

    @staticmethod
    def _text(component: str, copies: int, elapsed: float) -> str:
        return (
            f"{component}: all {copies} copies failed in {elapsed:.3f} s; "
            f"the notes of the exceptions in `.exceptions` say when"
        )


class NoDecisionError(_CopiesError):
    """Copies of a redundant call answered, but not so that the vote could be decided.

    It is an `ExceptionGroup` with one exception for each copy, in the order in which the copies
    started, with a note that says what became of it. A copy that failed has its own exception, one
    that answered a `MainstayError`.

    Attributes:
        component: The name of the policy.
        elapsed: Seconds from the start of the first copy.
        answers: What was answered, by the copy: its number from 0 as a `str`. Where the policy has
            `dispose`, it has been called with them.
    """

    @staticmethod
    def _text(component: str, copies: int, elapsed: float) -> str:
        return (
            f"{component}: no decision by {copies} copies in {elapsed:.3f} s; their answers are "
            f"in `.answers`, and notes in `.exceptions` say what became of each"
        )
