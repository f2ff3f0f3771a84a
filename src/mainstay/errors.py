"""Every error that mainstay raises itself, in one tree.

    MainstayError
    ├── ResultRefusedError        retry: the last result was refused by `on_result`
    ├── DeadlineExpiredError      a policy was entered with no time left (also a TimeoutError)
    ├── UnsupportedLoopError      an async policy ran outside asyncio
    └── CheckpointError           a checkpointed run was used in a way that it cannot be
        ├── RunBusyError          another process or thread works on the run
        ├── LeaseLostError        somebody else took the run over; nothing was saved
        ├── SourceChangedError    what is iterated over is not what it was
        ├── CodeChangedError      the function is not what it was when the run began
        ├── PoisonedRunError      the run killed its process too often
        ├── RunCompleteError      the run has ended, and `on_complete` or the call forbids more
        ├── CorruptCheckpointError    nothing that was saved can be read
        ├── UnsaveableValueError  a value cannot be saved
        ├── UnknownTypeError      a type that nobody allowed would have to be built
        ├── StoreUnavailableError     the store cannot be read or written now
        └── StoreSchemaError      the store was made by a newer mainstay, or is none

Wherever one exception of the user's own is true, that one is raised instead. All of these
carry what they know as attributes and can be pickled as far as those can.
"""

__all__ = [
    "CheckpointError",
    "CodeChangedError",
    "CorruptCheckpointError",
    "DeadlineExpiredError",
    "LeaseLostError",
    "MainstayError",
    "PoisonedRunError",
    "ResultRefusedError",
    "RunBusyError",
    "RunCompleteError",
    "SourceChangedError",
    "StoreSchemaError",
    "StoreUnavailableError",
    "UnknownTypeError",
    "UnsaveableValueError",
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


class CheckpointError(MainstayError):
    """A checkpointed run was used in a way that it cannot be; the message says how."""


class RunBusyError(CheckpointError):
    """Another process, thread or task works on the run.

    Attributes:
        component: The name of the policy, which is the name of the run.
        key: The key of the run.
        owner: Who works on it, for people.
        seconds_left: Seconds until its lease ends unless it is renewed.
    """

    def __init__(self, component: str, key: str, owner: str, seconds_left: float) -> None:
        super().__init__(component, key, owner, seconds_left)
        self.component = component
        self.key = key
        self.owner = owner
        self.seconds_left = seconds_left

    def __str__(self) -> str:
        return (
            f"{self.component}: {self.owner} works on run {self.key!r}, with a lease for another "
            f"{self.seconds_left:.1f} s; wait for it, or use on_busy='wait' or 'return'"
        )


class LeaseLostError(CheckpointError):
    """Somebody else took the run over while this process was silent; nothing was saved.

    Attributes:
        component: The name of the policy, which is the name of the run.
        key: The key of the run.
        token: The fencing token that is no longer valid.
    """

    def __init__(self, component: str, key: str, token: int) -> None:
        super().__init__(component, key, token)
        self.component = component
        self.key = key
        self.token = token

    def __str__(self) -> str:
        return (
            f"{self.component}: run {self.key!r} was taken over, so token {self.token} saves "
            f"nothing any more; stop here, or give the run a longer `lease`"
        )


class SourceChangedError(CheckpointError):
    """What is iterated over is not what it was when the run was saved.

    Attributes:
        component: The name of the policy, which is the name of the run.
        key: The key of the run.
        iteration: The name of the iteration.
        position: How many items had been done.
        problem: What differs.
    """

    def __init__(
        self, component: str, key: str, iteration: str, position: int, problem: str
    ) -> None:
        super().__init__(component, key, iteration, position, problem)
        self.component = component
        self.key = key
        self.iteration = iteration
        self.position = position
        self.problem = problem

    def __str__(self) -> str:
        return (
            f"{self.component}: iteration {self.iteration!r} of run {self.key!r} cannot go on "
            f"after {self.position} item(s): {self.problem}; restore the source, or forget the run"
        )


class CodeChangedError(CheckpointError):
    """The function is not what it was when the run was saved.

    Attributes:
        component: The name of the policy, which is the name of the run.
        key: The key of the run.
        problem: What differs.
    """

    def __init__(self, component: str, key: str, problem: str) -> None:
        super().__init__(component, key, problem)
        self.component = component
        self.key = key
        self.problem = problem

    def __str__(self) -> str:
        return (
            f"{self.component}: run {self.key!r} was saved by other code: {self.problem}; give "
            f"`on_code_change` a function that migrates the state, or 'ignore', or forget the run"
        )


class PoisonedRunError(CheckpointError):
    """The run's process died too often in a row without any progress.

    Attributes:
        component: The name of the policy, which is the name of the run.
        key: The key of the run.
        crashes: How many deaths in a row.
    """

    def __init__(self, component: str, key: str, crashes: int) -> None:
        super().__init__(component, key, crashes)
        self.component = component
        self.key = key
        self.crashes = crashes

    def __str__(self) -> str:
        return (
            f"{self.component}: run {self.key!r} died {self.crashes} time(s) in a row without "
            f"progress and is not run again; find out why, then forget it"
        )


class RunCompleteError(CheckpointError):
    """The run has ended already.

    Attributes:
        component: The name of the policy, which is the name of the run.
        key: The key of the run.
    """

    def __init__(self, component: str, key: str) -> None:
        super().__init__(component, key)
        self.component = component
        self.key = key

    def __str__(self) -> str:
        return (
            f"{self.component}: run {self.key!r} has ended, so nothing more can be done in it; "
            f"use another key, or on_complete='rerun'"
        )


class CorruptCheckpointError(CheckpointError):
    """What was saved is damaged, and no older generation of it can be read.

    Attributes:
        place: What is damaged.
        problem: How.
    """

    def __init__(self, place: str, problem: str) -> None:
        super().__init__(place, problem)
        self.place = place
        self.problem = problem

    def __str__(self) -> str:
        return (
            f"{self.place} is damaged: {self.problem}; restore the store from a backup, or forget "
            f"the run and begin it again"
        )


class UnsaveableValueError(CheckpointError):
    """A value cannot be saved.

    Attributes:
        path: Where it is, such as "state.rows[3].lock".
        problem: Why.
    """

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(path, problem)
        self.path = path
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.path} cannot be saved: {self.problem}"


class UnknownTypeError(CheckpointError):
    """A saved value is of a type that nobody allowed to be built.

    Attributes:
        path: Where it is, such as "state.rows[3]".
        type_name: The type, `module.qualname`.
    """

    def __init__(self, path: str, type_name: str) -> None:
        super().__init__(path, type_name)
        self.path = path
        self.type_name = type_name

    def __str__(self) -> str:
        return (
            f"{self.path} is a {self.type_name}, which is not among the types that may be built; "
            f"name it in the annotations, or allow it with register_type({self.type_name})"
        )


class StoreUnavailableError(CheckpointError):
    """The store cannot be read or written now; what it held before is as it was.

    Attributes:
        store: The store, as a URL.
        problem: What it said.
    """

    def __init__(self, store: str, problem: str) -> None:
        super().__init__(store, problem)
        self.store = store
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.store} is not available: {self.problem}"


class StoreSchemaError(CheckpointError):
    """The store was made by a newer mainstay, or by something else.

    Attributes:
        store: The store, as a URL.
        problem: What does not fit.
    """

    def __init__(self, store: str, problem: str) -> None:
        super().__init__(store, problem)
        self.store = store
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.store} cannot be used as a store: {self.problem}"
