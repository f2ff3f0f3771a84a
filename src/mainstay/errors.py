"""Every error that mainstay raises itself, in one tree.

    MainstayError
    ├── ResultRefusedError        retry: the last result was refused by `on_result`
    ├── DeadlineExpiredError      a policy was entered with no time left (also a TimeoutError)
    ├── UnsupportedLoopError      an async policy ran outside asyncio
    ├── CircuitOpenError          a circuit breaker let no call through
    └── AllMembersFailedError     no member of a pool could answer (also an ExceptionGroup)

Wherever one exception of the user's own is true, that one is raised instead. All of these
carry what they know as attributes and can be pickled as far as those can.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

__all__ = [
    "AllMembersFailedError",
    "CircuitOpenError",
    "DeadlineExpiredError",
    "MainstayError",
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


class CircuitOpenError(MainstayError):
    """A circuit breaker is open, or a member of a pool is ejected; nothing was called."""

    if TYPE_CHECKING:  # what they are made with is kept in `args`: an open breaker has to be quick

        def __init__(self, component: str, retry_after: float | None) -> None: ...

    @property
    def component(self) -> str:
        """The name of the breaker; of the pool and its member, as "pool/member"."""
        return str(self.args[0])

    @property
    def retry_after(self) -> float | None:
        """Seconds until a call may be let through again; None if only the user can say."""
        seconds: float | None = self.args[1]
        return seconds

    def __str__(self) -> str:
        when = "until it is closed by hand"
        if self.retry_after is not None:
            when = f"for another {self.retry_after:.3f} s, which `.retry_after` has"
        return f"{self.component}: open {when}, so it was not called"


class AllMembersFailedError(MainstayError, ExceptionGroup[Exception]):
    """No member of a pool could answer: one exception for each that was tried.

    If none was tried, there is one for each member that says why not: what opening it raised, or a
    `CircuitOpenError`. Each has a note with the member's name.

    Attributes:
        component: The name of the pool.
        retry_after: Seconds until an ejected member is tried again; None if none is ejected.
    """

    component: str
    retry_after: float | None

    def __new__(
        cls, component: str, exceptions: Sequence[Exception], retry_after: float | None = None
    ) -> Self:
        """Make a group; unlike other exceptions, groups take what they hold here."""
        self = super().__new__(cls, f"{component}: no member could answer", exceptions)
        self.component = component
        self.retry_after = retry_after
        return self

    def __init__(self, *_args: object, **_named: object) -> None:
        """Everything has been set when it was made."""

    def derive(self, excs: Sequence[Exception]) -> "AllMembersFailedError":  # type: ignore[override]  # narrower
        """Make a group of some of the exceptions, for `split`, `subgroup` and ``except*``."""
        return AllMembersFailedError(self.component, excs, self.retry_after)

    def __reduce__(self) -> tuple[Any, ...]:
        args = self.component, list(self.exceptions), self.retry_after
        return type(self), args, self.__dict__
