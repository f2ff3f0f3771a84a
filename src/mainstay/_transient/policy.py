"""`transient`: which errors are temporary, for whichever client is used."""

from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Self

from mainstay._transient.answer import LASTING, MAY_PASS, UNKNOWN, Answer
from mainstay._transient.libraries import Asking, Row, row_of
from mainstay._transient.statuses import STATUSES, StatusRules

_DEEPEST_CAUSE = 8
_MOST = 1_000  # classes whose rows are remembered; then all are forgotten

_NO_ERROR: Any = None  # a check of the arguments at each call would cost as much as the verdict

_rows: dict[type[BaseException], Row] = {}


def _look_up(kind: type[BaseException]) -> Row:
    if not issubclass(kind, BaseException):
        raise TypeError(
            f"`transient` takes an exception, not a {kind.__name__}; write on=transient, or "
            f"on=transient.configured(...)"
        )
    if len(_rows) >= _MOST:
        _rows.clear()
    row = row_of(kind)
    with suppress(TypeError):
        _rows[kind] = row
    return row


class Transient:
    """A predicate for `on` that matches temporary errors.

    The answers come from a table of the exception classes of builtins, urllib, httpx, requests,
    urllib3, aiohttp, gRPC, botocore, redis, psycopg, asyncpg, PyMySQL, SQLAlchemy, sqlite3,
    pymongo, openai, anthropic, and of clients that are generated like the last two. None of these
    libraries is imported. Other classes are not temporary; but an exception of an unknown class
    that was raised ``from`` another exception has the answer of that other exception.

    A request that was not sent may be sent again. A request that may have been processed may be
    sent again if its method is idempotent (RFC 9110), or it has an ``Idempotency-Key``. **If the
    exception does not tell the method (builtins, urllib, aiohttp's timeouts, databases), the call
    is retried**: by decorating a function you say that it may be called again.

    There are two questions. `retry`, `fallback`, and pools that look for another member call the
    predicate: *may the request be sent again?* Breakers, and pools that judge the health of a
    member, call `failing`: *is the server failing?* A POST that timed out is a failure of the
    server, and yet may not be sent again.

    Example:
        >>> import httpx
        >>> from mainstay import retry, transient
        >>> @retry(on=transient)
        ... def fetch(url: str) -> str:
        ...     return httpx.get(url).raise_for_status().text
        >>> fetch("http://shop.example/lamps")
        'page of http://shop.example/lamps'
        >>> transient(ConnectionResetError()), transient(FileNotFoundError())
        (True, False)
    """

    __slots__ = ("_also", "_asking", "_rules")

    def __init__(
        self,
        rules: StatusRules = StatusRules(),  # noqa: B008 - frozen
        also: tuple[type[Exception], ...] = (),
    ) -> None:
        self._rules = rules
        self._also = also
        self._asking = Asking(rules, self._answer)

    def __repr__(self) -> str:
        return "transient" if self is transient else "transient.configured(...)"

    def __call__(self, error: BaseException = _NO_ERROR, /) -> bool | float:
        """Return whether the same may be sent again.

        Args:
            error: What an attempt raised. Of a group, every leaf has to pass.

        Returns:
            True, False, or after how many seconds, as the server asks in ``Retry-After`` and the
            like.
        """
        return self._answer(error).again

    def failing(self, error: BaseException, /) -> bool:
        """Return True if the error says that the server is failing.

        These errors say nothing about the health of the server: statuses 408, 409, 425 and 429,
        throttling, `RejectedError`, `DeadlineExpiredError`, and conflicts between two callers, such
        as deadlocks and lock timeouts.

        Example:
            >>> from mainstay import CircuitOpenError, transient
            >>> transient.failing(TimeoutError()), transient.failing(CircuitOpenError("a", None))
            (True, False)
        """
        return self._answer(error).failing

    def why(self, error: BaseException, /) -> str:
        """Return in words what the predicate decides about *error*, and why.

        Example:
            >>> from mainstay import transient
            >>> transient.why(ConnectionRefusedError())
            'ConnectionRefusedError: may be sent again, failing: nothing was sent'
        """
        answer = self._answer(error)
        again = "may not be sent again"
        if answer.again is not False:
            again = "may be sent again"
            if answer.again is not True:
                again += f" after {answer.again:.3f} s"
        state = "failing" if answer.failing else "not failing"
        return f"{type(error).__name__}: {again}, {state}: {answer.why}"

    def configured(
        self,
        *,
        statuses: Iterable[int] = STATUSES,
        any_method: bool = False,
        also: tuple[type[Exception], ...] = (),
    ) -> "Transient":
        """Return a predicate with other settings.

        Args:
            statuses: The HTTP statuses that are temporary, each from 100 to 599. The default is
                408, 425, 429, 500, 502, 503, 504 and 529.
            any_method: True to send requests of every method again, also if they may have been
                processed.
            also: More exception classes that are temporary.

        Raises:
            TypeError: If an argument has the wrong type.
            ValueError: If a status is out of range.

        Example:
            >>> from mainstay import transient
            >>> class Flaky(Exception):
            ...     pass
            >>> transient.configured(also=(Flaky,))(Flaky())
            True
        """
        if not isinstance(any_method, bool):
            raise TypeError(f"`any_method` must be a bool, not {any_method!r}")
        return Transient(StatusRules(_checked_statuses(statuses), any_method), _checked_also(also))

    def _answer(self, error: BaseException) -> Answer:
        depth = 0
        while True:
            kind: Any = type(error)  # which type checkers do not take for hashable
            if self._also and issubclass(kind, self._also):
                return MAY_PASS._replace(why=f"{'its cause' if depth else 'it'} is in `also`")
            row: Any  # `type(row) is` narrows for mypy alone
            try:
                row = _rows[kind]
            except (KeyError, TypeError):  # new, or a class whose own metaclass has no hash
                row = _look_up(kind)
            answer = row if type(row) is Answer else self._read(row, error)
            if answer is not UNKNOWN:
                return answer
            cause = error.__cause__
            depth += 1
            if cause is None or depth > _DEEPEST_CAUSE:
                return UNKNOWN
            error = cause

    def _read(self, row: Any, error: BaseException) -> Answer:
        """Return what *row* finds in *error*, which may lack what is read."""
        try:
            answer: Answer = row(error, self._asking)
        except Exception as missing:  # noqa: BLE001 - of a version that nobody knows, anything
            return LASTING._replace(
                why=f"its library is of a version that is not known here ({missing})"
            )
        return answer

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce__(self) -> str | tuple[Any, ...]:
        return "transient" if self is transient else (Transient, (self._rules, self._also))


transient: Transient = Transient()


def statuses_of(on: Transient) -> frozenset[int]:
    """Return the statuses that pass."""
    return on._rules.statuses  # noqa: SLF001 - of this module


def _checked_also(also: object) -> tuple[type[Exception], ...]:
    classes: tuple[Any, ...] = also if isinstance(also, tuple) else (also,)
    for each in classes:
        if not (isinstance(each, type) and issubclass(each, Exception)):
            raise TypeError(f"`also` must be a tuple of exception classes, not {also!r}")
    return classes


def _checked_statuses(statuses: Iterable[object]) -> frozenset[int]:
    try:
        found: frozenset[Any] = frozenset(statuses)
    except TypeError:
        raise TypeError(
            f"`statuses` must be numbers such as (429, 503), not {statuses!r}"
        ) from None
    for each in found:
        if not isinstance(each, int) or isinstance(each, bool):
            raise TypeError(f"`statuses` must be whole numbers, not {each!r}")
        if not 100 <= each <= 599:  # noqa: PLR2004 - RFC 9110
            raise ValueError(f"`statuses` must be from 100 to 599, not {each}")
    return found
