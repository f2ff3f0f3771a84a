"""Every error that mainstay raises itself, in one tree.

    MainstayError
    ├── ResultRefusedError        retry: the last result was refused by `on_result`
    ├── DeadlineExpiredError      a policy was entered with no time left (also a TimeoutError)
    ├── TimedOutError             a call took longer than its own limit (also a TimeoutError)
    ├── UnsupportedLoopError      an async policy ran outside asyncio
    ├── RejectedError             refused before the function ran
    │   ├── CircuitOpenError      a circuit breaker is open
    │   ├── BulkheadFullError     a bulkhead has no place for the call
    │   ├── RateLimitedError      a rate limit has no turn for the call
    │   └── NoMemberError         no member of a pool could be called (also the next one)
    ├── AllMembersFailedError     every member of a pool that was called failed (an ExceptionGroup)
    ├── AllCopiesFailedError      redundant: no copy answered (an ExceptionGroup)
    ├── NoDecisionError           redundant: the answers did not decide (an ExceptionGroup)
    └── CheckpointError           a checkpointed run was used in a way that it cannot be
        ├── RunBusyError          another process or thread works on the run
        ├── LeaseLostError        somebody else took the run over; nothing was saved
        ├── SourceChangedError    what is iterated over is not what it was
        ├── CodeChangedError      the function is not what it was when the run began
        ├── PoisonedRunError      the run killed its process too often
        ├── RunCompleteError      the run has ended, and `on_complete` or the call forbids more
        ├── RunInterruptedError   `interrupt_all` was called; the run was saved and released
        ├── CorruptCheckpointError    nothing that was saved can be read
        ├── UnsaveableValueError  a value cannot be saved
        ├── UnknownTypeError      a type that nobody allowed would have to be built
        ├── StoreUnavailableError     the store cannot be read or written now
        └── StoreSchemaError      the store was made by a newer mainstay, or by something else

Wherever one exception of the user's own is true, that one is raised instead. All of these
carry what they know as attributes and can be pickled as far as those can.

It is one list, in the order of the tree, and longer than other files for that reason alone: no
class knows more than the one it is below. The classes are written out, without attrs, because an
`except` clause must not load anything: to name an error costs this file alone.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

__all__ = [
    "AllCopiesFailedError",
    "AllMembersFailedError",
    "BulkheadFullError",
    "CheckpointError",
    "CircuitOpenError",
    "CodeChangedError",
    "CorruptCheckpointError",
    "DeadlineExpiredError",
    "LeaseLostError",
    "MainstayError",
    "NoDecisionError",
    "NoMemberError",
    "PoisonedRunError",
    "RateLimitedError",
    "RejectedError",
    "ResultRefusedError",
    "RunBusyError",
    "RunCompleteError",
    "RunInterruptedError",
    "SourceChangedError",
    "StoreSchemaError",
    "StoreUnavailableError",
    "TimedOutError",
    "UnknownTypeError",
    "UnsaveableValueError",
    "UnsupportedLoopError",
]


class MainstayError(Exception):
    """The base of every error that mainstay raises itself.

    Example:
        >>> from mainstay import CircuitBreaker, MainstayError
        >>> breaker = CircuitBreaker("search", on=OSError)
        >>> breaker.open()
        >>> try:
        ...     breaker.call(str)
        ... except MainstayError as error:
        ...     type(error).__name__, error.component
        ('CircuitOpenError', 'search')
    """


class ResultRefusedError(MainstayError):
    """A retried function kept returning results that `on_result` refused.

    Attributes:
        component: The name of the policy.
        result: The last result, which was refused.
        attempts: The number of attempts.
        elapsed: Seconds from the start of the first attempt.

    Example:
        >>> from mainstay import ResultRefusedError, retry
        >>> is_empty = lambda page: page == ""
        >>> try:
        ...     retry(on=OSError, on_result=is_empty, attempts=3, name="fetch").call(str)
        ... except ResultRefusedError as error:
        ...     error.result, error.attempts
        ('', 3)
    """

    def __init__(self, component: str, result: object, attempts: int, elapsed: float) -> None:
        super().__init__(component, result, attempts, elapsed)
        self.component = component
        self.result = result
        self.attempts = attempts
        self.elapsed = elapsed

    def __str__(self) -> str:
        return (
            f"{self.component}: `on_result` refused the last of "
            f"{_counted(self.attempts, 'result')} after {self.elapsed:.3f} s; it is in `.result`"
        )


class DeadlineExpiredError(MainstayError, TimeoutError):
    """The time of a `deadline` is over.

    Either a policy was called with no time left, and called nothing; or an ``async with deadline``
    block was interrupted: then ``__cause__`` is the last exception of the policy in the block.

    Attributes:
        component: The name of the policy; for an interrupted block, the name of the code around it.
        seconds: The time that the interrupted block had; None if nothing was called.

    Example:
        >>> from mainstay import DeadlineExpiredError, deadline, retry
        >>> with deadline(0.0):
        ...     try:
        ...         retry(on=OSError, name="fetch").call(str)
        ...     except DeadlineExpiredError as error:
        ...         isinstance(error, TimeoutError), error.component
        (True, 'fetch')
    """

    def __init__(self, component: str, seconds: float | None = None) -> None:
        super().__init__(component, seconds)
        self.component = component
        self.seconds = seconds

    def __str__(self) -> str:
        if self.seconds is not None:
            return f"{self.component}: the {self.seconds} s of `deadline` are over"
        return (
            f"{self.component}: no time left of the surrounding `deadline(...)`: not called; "
            f"give the deadline more seconds, or check `remaining()` before the call"
        )


class TimedOutError(MainstayError, TimeoutError):
    """A call, or an attempt, took longer than its own limit: `timeout` or `attempt_timeout`.

    A `TimeoutError` of other code is never turned into this one.

    Attributes:
        component: The name of the policy.
        seconds: The limit, in seconds.

    Example:
        >>> import asyncio
        >>> from mainstay import TimedOutError, timeout
        >>> @timeout(0.01, name="fetch")
        ... async def fetch() -> None:
        ...     await asyncio.sleep(60)
        >>> try:
        ...     asyncio.run(fetch())
        ... except TimedOutError as error:
        ...     isinstance(error, TimeoutError), error.component, error.seconds
        (True, 'fetch', 0.01)
    """

    def __init__(self, component: str, seconds: float, what: str = "the call") -> None:
        super().__init__(component, seconds, what)
        self.component = component
        self.seconds = seconds
        self._what = what

    def __str__(self) -> str:
        return f"{self.component}: {self._what} took longer than {self.seconds:.3f} s"


class UnsupportedLoopError(MainstayError):
    """An async policy ran without an asyncio event loop, for example under trio.

    Attributes:
        component: The name of the policy.

    Example:
        >>> from mainstay import UnsupportedLoopError, retry
        >>> async def fetch() -> str:
        ...     return "page"
        >>> try:
        ...     retry(on=OSError, name="fetch").call(fetch).send(None)
        ... except UnsupportedLoopError as error:
        ...     error.component
        'fetch'
    """

    def __init__(self, component: str) -> None:
        super().__init__(component)
        self.component = component

    def __str__(self) -> str:
        return f"{self.component}: async policies need a running asyncio (or uvloop) event loop"


class RejectedError(MainstayError):
    """A policy refused the call before the function ran.

    The error says nothing about the health of what would have been called, so a breaker or pool
    around the policy does not count it. A `retry` whose `on` matches it waits for `retry_after`.

    Attributes:
        component: The name of the policy.
        retry_after: Seconds until a call may be let through again; None if that is unknown.

    Example:
        >>> from mainstay import CircuitBreaker, RejectedError
        >>> breaker = CircuitBreaker("search", on=OSError)
        >>> breaker.open()
        >>> try:
        ...     breaker.call(str.upper, "found")
        ... except RejectedError as refused:
        ...     print(refused.component, refused.retry_after)
        search None
    """

    if TYPE_CHECKING:

        @property
        def component(self) -> str:
            """The name of the policy."""
            ...

        @property
        def retry_after(self) -> float | None:
            """Seconds until a call may be let through again."""
            ...


class CircuitOpenError(RejectedError):
    """A circuit breaker is open; nothing was called.

    Example:
        >>> from mainstay import CircuitBreaker, CircuitOpenError, Detect
        >>> breaker = CircuitBreaker("search", on=OSError, detect=Detect(consecutive=1))
        >>> def search() -> str:
        ...     raise OSError("no answer")
        >>> for _ in range(2):
        ...     try:
        ...         breaker.call(search)
        ...     except CircuitOpenError as error:
        ...         print("ask again later:", 0 < error.retry_after <= 5)
        ...     except OSError as error:
        ...         print(error)
        no answer
        ask again later: True
    """

    if TYPE_CHECKING:  # what they are made with is kept in `args`: an open breaker has to be quick

        def __init__(self, component: str, retry_after: float | None, /) -> None: ...

    @property
    def component(self) -> str:
        """The name of the breaker."""
        return str(self.args[0])

    @property
    def retry_after(self) -> float | None:
        """Seconds until the next trial; None if the breaker was opened by `open`."""
        seconds: float | None = self.args[1]
        return seconds

    def __str__(self) -> str:
        then = "it was opened by hand, and `close()` lets calls through again"
        if self.retry_after is not None:
            then = f"next trial in {self.retry_after:.1f} s (`.retry_after`)"
        return f"circuit breaker {self.component} is open: not called; {then}"


class BulkheadFullError(RejectedError):
    """A bulkhead has no place for the call; nothing was called.

    Attributes:
        component: The name of the bulkhead, or of the `timeout` whose threads are all busy.
        reason: As in `give_ups_total`: "full" (at once), "wait" (after `max_wait`), or "shed" (less
            time left than a call usually takes).
        retry_after: Seconds until a place may be free; None if that is unknown.

    Example:
        >>> from mainstay import Bulkhead, BulkheadFullError
        >>> orders = Bulkhead("orders", limit=1)
        >>> with orders:
        ...     try:
        ...         orders.call(str)
        ...     except BulkheadFullError as error:
        ...         error.component, error.reason, error.retry_after
        ('orders', 'full', 0.0)
    """

    def __init__(
        self, component: str, reason: str, retry_after: float | None, why: str = ""
    ) -> None:
        super().__init__(component, reason, retry_after, why)

    @property
    def component(self) -> str:
        """The name of the bulkhead."""
        return str(self.args[0])

    @property
    def reason(self) -> str:
        """Why the call got no place, as in `give_ups_total`."""
        return str(self.args[1])

    @property
    def retry_after(self) -> float | None:
        """Seconds until a place may be free; None if that is unknown."""
        seconds: float | None = self.args[2]
        return seconds

    def __str__(self) -> str:
        then = f"; try again in {self.retry_after:.3f} s" if self.retry_after else ""
        return f"{self.component} is full ({self.reason}): not called{then}{self.args[3]}"


class RateLimitedError(RejectedError):
    """A rate limit has no turn for the call; nothing was called.

    Attributes:
        component: The name of the rate limit.
        retry_after: Seconds until the next turn; None if that is unknown.

    Example:
        >>> from mainstay import RateLimit, RateLimitedError
        >>> mail = RateLimit("mail", 1, per=60.0)
        >>> mail.call(str.upper, "sent")
        'SENT'
        >>> try:
        ...     mail.call(str.upper, "again")
        ... except RateLimitedError as error:
        ...     59 < error.retry_after <= 60
        True
    """

    def __init__(self, component: str, retry_after: float | None) -> None:
        super().__init__(component, retry_after)

    @property
    def component(self) -> str:
        """The name of the rate limit."""
        return str(self.args[0])

    @property
    def retry_after(self) -> float | None:
        """Seconds until the next turn; None if that is unknown."""
        seconds: float | None = self.args[1]
        return seconds

    def __str__(self) -> str:
        then = "" if self.retry_after is None else f"; the next turn is in {self.retry_after:.3f} s"
        return f"rate limit {self.component} is reached: not called{then}"


class AllMembersFailedError(MainstayError, ExceptionGroup[Exception]):
    """Every member that a call tried has failed; the group has the exception of each attempt.

    A pool with ``raises="group"`` raises this error; other pools raise the last exception itself.
    Each exception has a note with the name of its member.

    Attributes:
        component: The name of the pool.
        retry_after: Seconds until an ejected member is tried again; None if none is ejected.
        attempts: The number of members that were called.
        elapsed: Seconds from the start of the call.
        members: The names of the members, in the order of `exceptions`.

    Example:
        >>> from mainstay import AllMembersFailedError, FailoverPool, Member
        >>> members = [Member("a", 1), Member("b", 2)]
        >>> pool = FailoverPool("db", members, on=OSError, raises="group")
        >>> def total(db: int) -> int:
        ...     raise OSError(f"number {db} is gone")
        >>> try:
        ...     pool.call(total)
        ... except AllMembersFailedError as failed:
        ...     [str(error) for error in failed.exceptions]
        ['number 1 is gone', 'number 2 is gone']
    """

    component: str
    retry_after: float | None
    attempts: int
    elapsed: float
    members: tuple[str, ...]

    def __new__(
        cls,
        component: str,
        exceptions: Sequence[Exception],
        retry_after: float | None = None,
        attempts: int = 0,
        elapsed: float = 0.0,
        members: Sequence[str] = (),
    ) -> Self:
        """Make a group; unlike other exceptions, groups take what they hold here."""
        text = cls._text(component, exceptions, members, elapsed)
        if retry_after is not None:
            text += f"; next trial in {retry_after:.1f} s (`.retry_after`)"
        self = super().__new__(cls, text, exceptions)
        self.component = component
        self.retry_after = retry_after
        self.attempts = attempts
        self.elapsed = elapsed
        self.members = tuple(members)
        return self

    def __init__(self, *_args: object, **_named: object) -> None:
        """Everything has been set when it was made."""

    @staticmethod
    def _text(
        component: str, errors: Sequence[Exception], members: Sequence[str], elapsed: float
    ) -> str:
        if len(errors) == 1:
            failed = "the only member that was called failed"
        elif len(errors) == 2:  # noqa: PLR2004 - English has a word for it
            failed = "both of 2 members failed"
        else:
            failed = f"all of {len(errors)} members failed"
        return f"pool {component}: {failed} ({_why_each(errors, members)}) in {elapsed:.3f} s"

    def derive(self, excs: Sequence[Exception]) -> Self:  # type: ignore[override]  # narrower
        """Make a group of some of the exceptions, for `split`, `subgroup` and ``except*``."""
        names = dict(zip(map(id, self.exceptions), self.members, strict=False))
        known = [names[id(each)] for each in excs if id(each) in names]
        members = known if len(known) == len(excs) else ()
        return type(self)(
            self.component, excs, self.retry_after, self.attempts, self.elapsed, members
        )

    def __reduce__(self) -> tuple[Any, ...]:
        errors = list(self.exceptions)
        args = (
            self.component,
            errors,
            self.retry_after,
            self.attempts,
            self.elapsed,
            self.members,
        )
        return type(self), args, self.__dict__


class NoMemberError(RejectedError, AllMembersFailedError):
    """No member of a pool could be called: all are ejected, drained, or could not be opened.

    Raised whatever the `raises` of the pool says, since the function never ran. `exceptions` has
    one exception for each member, which says why the member was not called: the exception of
    `open`, or a `MainstayError`. The `on` of a policy around the pool sees this error as one
    exception, and not its parts.

    Attributes:
        component: The name of the pool.
        retry_after: Seconds until an ejected member is tried again; None if none is ejected.
        attempts: 0.
        elapsed: Seconds from the start of the call.
        members: The names of the members, in the order of `exceptions`.

    Example:
        >>> from mainstay import FailoverPool, Member, NoMemberError
        >>> pool = FailoverPool("db", [Member("a", "server a")], on=OSError)
        >>> pool.drain("a")
        >>> try:
        ...     pool.call(print)
        ... except NoMemberError as refused:
        ...     print(refused.members, refused.retry_after)
        ('a',) None
    """

    component: str  # pyright: ignore[reportIncompatibleMethodOverride]  # of a group, it is set
    retry_after: float | None  # pyright: ignore[reportIncompatibleMethodOverride]  # as above

    @staticmethod
    def _text(
        component: str, errors: Sequence[Exception], members: Sequence[str], elapsed: float
    ) -> str:
        why = _why_each(errors, members, messages_of=MainstayError)
        return f"pool {component}: no member could be called ({why}) after {elapsed:.3f} s"


def _why_each(
    errors: Sequence[Exception],
    members: Sequence[str],
    messages_of: type[Exception] | tuple[()] = (),
) -> str:
    """Return what became of each member: its exception's class; its message if it is ours."""
    said = [str(each) if isinstance(each, messages_of) else type(each).__name__ for each in errors]
    if len(members) != len(said):
        return ", ".join(said)
    return ", ".join(
        what if what.startswith(f"member {name} ") else f"{name}: {what}"
        for name, what in zip(members, said, strict=True)
    )


class _CopiesError(MainstayError, ExceptionGroup[Exception]):
    """What the copies of a redundant call came to: one exception with a note for each of them."""

    def __new__(
        cls,
        component: str,
        exceptions: Sequence[Exception],
        elapsed: float,
        answers: Mapping[str, Any],  # noqa: ARG004 - as `__init__` takes it
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
        """Make a group of some of the exceptions, for `split`, `subgroup` and ``except*``."""
        return type(self)(self.component, excs, self.elapsed, self.answers)

    def __reduce__(self) -> tuple[Any, ...]:
        args = self.component, list(self.exceptions), self.elapsed, self.answers
        return type(self), args, self.__dict__

    @staticmethod
    def _text(component: str, copies: int, elapsed: float) -> str:
        raise NotImplementedError


class AllCopiesFailedError(_CopiesError):
    """No copy of a redundant call answered; the group has the exception of each copy.

    A policy with ``raises="group"`` raises this error; other policies raise the last exception
    itself. The exceptions are in the order in which the copies started; a note on each says which
    copy raised it, and when. A copy that was still running when the time was up has a
    `TimeoutError`.

    Attributes:
        component: The name of the policy.
        elapsed: Seconds from the start of the first copy.
        answers: Always empty, since no copy answered.

    Example:
        >>> from mainstay import AllCopiesFailedError, hedge, redundant
        >>> def look_up(key: str) -> str:
        ...     raise OSError("no answer")
        >>> try:
        ...     redundant(start=hedge.together(), raises="group").call(look_up, "lamp")
        ... except AllCopiesFailedError as failed:
        ...     [str(error) for error in failed.exceptions]
        ['no answer', 'no answer']
    """

    @staticmethod
    def _text(component: str, copies: int, elapsed: float) -> str:
        which = "the only copy" if copies == 1 else f"all {copies} copies"
        return (
            f"{component}: {which} failed in {elapsed:.3f} s; "
            f"the notes of the exceptions in `.exceptions` say when"
        )


class NoDecisionError(_CopiesError):
    """Copies of a redundant call answered, but the vote could not be decided.

    The error is an `ExceptionGroup` with one exception for each copy, in the order in which the
    copies started. A copy that failed has its own exception, a copy that answered has a
    `MainstayError`; a note on each says how the copy ended.

    Attributes:
        component: The name of the policy.
        elapsed: Seconds from the start of the first copy.
        answers: The answers by copy: the keys are the numbers of the copies from 0, as `str`, or
            with a `pool` the names of the members. If the policy has `dispose`, it has been called
            with each answer.

    Example:
        >>> from mainstay import NoDecisionError, redundant, vote
        >>> policy = redundant(alternatives=[lambda: 8], decide=vote.unanimous())
        >>> try:
        ...     policy.call(lambda: 7)
        ... except NoDecisionError as error:
        ...     sorted(error.answers.items())
        [('0', 7), ('1', 8)]
    """

    @staticmethod
    def _text(component: str, copies: int, elapsed: float) -> str:
        return (
            f"{component}: no decision by {copies} copies in {elapsed:.3f} s; the answers are in "
            f"`.answers`, and a note on each of `.exceptions` says how the copy ended"
        )


class CheckpointError(MainstayError):
    """A checkpointed run was used in a way that is not possible; the message says how.

    Example:
        >>> from mainstay import CheckpointError, checkpoint_run
        >>> with checkpoint_run("May", store="memory://used-up") as cp:
        ...     pass
        >>> try:
        ...     with checkpoint_run("May", store="memory://used-up", on_complete="raise"):
        ...         pass
        ... except CheckpointError as error:
        ...     type(error).__name__
        'RunCompleteError'
    """


class RunBusyError(CheckpointError):
    """Another process, thread or task works on the run.

    Attributes:
        component: The name of the policy, which is the name of the run.
        key: The key of the run.
        owner: The owner of the run, for people.
        seconds_left: Seconds until the lease of the owner ends, unless it is renewed.
        retry_after: The same number, under the name of the HTTP header: when to try again.

    Example:
        >>> from mainstay import RunBusyError, checkpoint_run
        >>> with checkpoint_run("May", store="memory://busy"):
        ...     try:
        ...         with checkpoint_run("May", store="memory://busy"):
        ...             pass
        ...     except RunBusyError as error:
        ...         error.key, 0 < error.seconds_left <= 30
        ('May', True)
    """

    def __init__(self, component: str, key: str, owner: str, seconds_left: float) -> None:
        super().__init__(component, key, owner, seconds_left)
        self.component = component
        self.key = key
        self.owner = owner
        self.seconds_left = seconds_left
        self.retry_after = seconds_left

    def __str__(self) -> str:
        return (
            f"{self.component}: {self.owner} works on run {self.key!r}, with a lease for another "
            f"{self.seconds_left:.1f} s; try again then, or use on_busy='wait' or 'return'"
        )


class LeaseLostError(CheckpointError):
    """Another owner took the run over while this process was silent; nothing was saved.

    Or a failover of the store lost what was saved before: then the next attempt goes on from what
    is left, since a save on top of it would hide that something is missing.

    Attributes:
        component: The name of the policy, which is the name of the run.
        key: The key of the run.
        token: The fencing token that is no longer valid.

    Example:
        >>> from mainstay import LeaseLostError, checkpoint_run
        >>> from mainstay.testing import FakeClock
        >>> with FakeClock() as clock:
        ...     try:
        ...         with checkpoint_run("May", store="memory://lost", lease=10.0) as cp:
        ...             clock.advance(60)  # as if this process had been stopped
        ...             with checkpoint_run("May", store="memory://lost"):
        ...                 pass
        ...             cp.save()
        ...     except LeaseLostError as error:
        ...         error.key, error.token
        ('May', 1)
    """

    def __init__(self, component: str, key: str, token: int) -> None:
        super().__init__(component, key, token)
        self.component = component
        self.key = key
        self.token = token

    def __str__(self) -> str:
        return (
            f"{self.component}: run {self.key!r} was taken over, or a failover of its store lost "
            f"saves, so token {self.token} saves nothing any more; stop here, or give the run a "
            f"longer `lease`"
        )


class SourceChangedError(CheckpointError):
    """The source of an iteration is not what it was when the run was saved.

    Attributes:
        component: The name of the policy, which is the name of the run.
        key: The key of the run.
        iteration: The name of the iteration.
        position: The number of items that had been done.
        problem: What differs, and what to do about it.

    Example:
        >>> from mainstay import SourceChangedError, checkpoint_run
        >>> def first(rows: list[str]) -> str:
        ...     with checkpoint_run("May", store="memory://changed") as cp:
        ...         for row in cp.iterate(rows):
        ...             if row == "b":
        ...                 raise OSError("the disk is full")
        ...     return rows[0]
        >>> for rows in (["a", "b"], ["another", "b"]):
        ...     try:
        ...         first(rows)
        ...     except SourceChangedError as error:
        ...         print("another source after", error.position, "row")
        ...     except OSError as error:
        ...         print(error)
        the disk is full
        another source after 1 row
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
            f"after {_counted(self.position, 'item')}: {self.problem}"
        )


class CodeChangedError(CheckpointError):
    """The function is not what it was when the run was saved.

    Attributes:
        component: The name of the policy, which is the name of the run.
        key: The key of the run.
        problem: What differs.
        advice: What to do about it.

    Example:
        >>> from mainstay import CodeChangedError, checkpoint_run
        >>> def import_rows(version: str) -> None:
        ...     with checkpoint_run(
        ...         "May", store="memory://code", version=version, on_code_change="raise"
        ...     ) as cp:
        ...         for row in cp.iterate("ab"):
        ...             if row == "b":
        ...                 raise OSError("the disk is full")
        >>> for version in ("1", "2"):
        ...     try:
        ...         import_rows(version)
        ...     except CodeChangedError as error:
        ...         print(error.problem)
        ...     except OSError as error:
        ...         print(error)
        the disk is full
        it was version '1' and is version '2'
    """

    def __init__(
        self,
        component: str,
        key: str,
        problem: str,
        advice: str = "give `on_code_change` a function that migrates the state, or 'ignore', or "
        "forget the run",
    ) -> None:
        super().__init__(component, key, problem, advice)
        self.component = component
        self.key = key
        self.problem = problem
        self.advice = advice

    def __str__(self) -> str:
        return (
            f"{self.component}: run {self.key!r} was saved by other code: {self.problem}; "
            f"{self.advice}"
        )


class PoisonedRunError(CheckpointError):
    """The run's process died too often in a row without any progress.

    Attributes:
        component: The name of the policy, which is the name of the run.
        key: The key of the run.
        crashes: The number of deaths in a row.

    Example:
        >>> from mainstay import PoisonedRunError
        >>> error = PoisonedRunError("nightly", "May", 3)
        >>> error.component, error.key, error.crashes
        ('nightly', 'May', 3)
    """

    def __init__(self, component: str, key: str, crashes: int) -> None:
        super().__init__(component, key, crashes)
        self.component = component
        self.key = key
        self.crashes = crashes

    def __str__(self) -> str:
        return (
            f"{self.component}: run {self.key!r} died {_counted(self.crashes, 'time')} in a row "
            f"without progress and is not run again; find out why, then forget the run"
        )


class RunCompleteError(CheckpointError):
    """The run has ended already.

    Attributes:
        component: The name of the policy, which is the name of the run.
        key: The key of the run.

    Example:
        >>> from mainstay import RunCompleteError, checkpoint_run
        >>> for _ in range(2):
        ...     try:
        ...         with checkpoint_run("May", store="memory://once", on_complete="raise"):
        ...             print("done")
        ...     except RunCompleteError as error:
        ...         print(error.key, "had been done before")
        done
        May had been done before
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


class RunInterruptedError(CheckpointError):
    """The run was interrupted by `interrupt_all`: its progress is saved, and the run is released.

    Attributes:
        component: The name of the policy, which is the name of the run.
        key: The key of the run.

    Example:
        >>> from mainstay import RunInterruptedError, checkpoint_run, interrupt_all
        >>> try:
        ...     with checkpoint_run("May", store="memory://interrupt") as cp:
        ...         for day in cp.iterate(range(1, 32)):
        ...             interrupt_all()
        ... except RunInterruptedError as error:
        ...     error.key
        'May'
    """

    def __init__(self, component: str, key: str) -> None:
        super().__init__(component, key)
        self.component = component
        self.key = key

    def __str__(self) -> str:
        return (
            f"{self.component}: run {self.key!r} was interrupted by interrupt_all(); what was done "
            f"is saved, and another attempt goes on from there, here or on another machine"
        )


class CorruptCheckpointError(CheckpointError):
    """The saved data is damaged, and no earlier save can be read.

    Attributes:
        place: The damaged data: a run, a result or a table.
        problem: What is wrong with it.

    Example:
        >>> from mainstay import CorruptCheckpointError
        >>> error = CorruptCheckpointError("run 'May' of nightly", "it is cut short")
        >>> error.place, error.problem
        ("run 'May' of nightly", 'it is cut short')
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
        path: Where the value is, such as "state.rows[3].lock".
        problem: Why the value cannot be saved, and what to do about it.

    Example:
        >>> from mainstay import UnsaveableValueError, checkpoint_run
        >>> try:
        ...     with checkpoint_run("May", store="memory://unsaveable") as cp:
        ...         cp.state({"rows": [1, object()]})
        ... except UnsaveableValueError as error:
        ...     error.path
        "state['rows'][1]"
    """

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(path, problem)
        self.path = path
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.path} cannot be saved: {self.problem}"


class UnknownTypeError(CheckpointError):
    """A saved value has a type that the program did not allow to be built.

    Attributes:
        path: Where the value is, such as "state.rows[3]".
        type_name: The type, as ``module.qualname``; "pickled value" for a pickled value.

    Example:
        >>> from mainstay import UnknownTypeError
        >>> error = UnknownTypeError("state.rows[3]", "shop.Order")
        >>> error.path, error.type_name
        ('state.rows[3]', 'shop.Order')
    """

    def __init__(self, path: str, type_name: str) -> None:
        super().__init__(path, type_name)
        self.path = path
        self.type_name = type_name

    def __str__(self) -> str:
        if self.type_name == "pickled value":
            return f"{self.path} was pickled, and is unpickled only with allow_pickle=True"
        return (
            f"{self.path} is a {self.type_name}, which is not among the types that may be built; "
            f"name the type in the annotations, or allow it with register_type({self.type_name})"
        )


class StoreUnavailableError(CheckpointError):
    """The store cannot be read or written now; its content is unchanged.

    Attributes:
        store: The store, as a URL.
        problem: The message of the store.
        retryable: True if the same request may succeed a moment later. A run repeats such a
            request while its lease lasts.

    Example:
        >>> from mainstay import StoreUnavailableError, recover
        >>> try:
        ...     recover("sqlite:////no/such/directory/jobs.db")
        ... except StoreUnavailableError as error:
        ...     error.store
        'sqlite:////no/such/directory/jobs.db'
    """

    def __init__(self, store: str, problem: str, retryable: bool = False) -> None:  # noqa: FBT001, FBT002 - as it is pickled
        super().__init__(store, problem, retryable)
        self.store = store
        self.problem = problem
        self.retryable = retryable

    def __str__(self) -> str:
        return (
            f"{self.store} is not available: {self.problem}; its content is unchanged; try again "
            f"when the problem is solved"
        )


class StoreSchemaError(CheckpointError):
    """The store was made by a newer mainstay, or by another program.

    Attributes:
        store: The store, as a URL.
        problem: What does not fit.

    Example:
        >>> from mainstay import StoreSchemaError
        >>> print(StoreSchemaError("sqlite:///runs.db", "it has schema 9; upgrade mainstay"))
        sqlite:///runs.db cannot be used as a store: it has schema 9; upgrade mainstay
    """

    def __init__(self, store: str, problem: str) -> None:
        super().__init__(store, problem)
        self.store = store
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.store} cannot be used as a store: {self.problem}"


def _counted(number: int, noun: str) -> str:
    """Return a number of things in words; written out here, since errors import nothing."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
