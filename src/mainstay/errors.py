"""Every error that mainstay raises itself, in one tree.

    MainstayError
    ├── ResultRefusedError        retry: the last result was refused by `on_result`
    ├── DeadlineExpiredError      a policy was entered with no time left (also a TimeoutError)
    └── UnsupportedLoopError      an async policy ran outside asyncio

Wherever one exception of the user's own is true, that one is raised instead. All of these
carry what they know as attributes and can be pickled as far as those can.
"""

__all__ = [
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
