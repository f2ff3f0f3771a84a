"""The table of classes: what an exception of each library says, known by its class's name.

A row is the package and the name of a class; the first class of an exception's MRO that has a row
counts. The row is an answer, or a reader that finds one in the exception. The last row of each
library is its base class, so that what is not named is known to be lasting.

    it could not have been sent (refused, DNS, handshake, no place in a pool)    NOT_SENT
    it may have been processed                                                  by the method
    the client's own table repeats it whatever the method (botocore, openai)    MAY_PASS

Source:
    Each library's own documentation of its exceptions; the tables of botocore's standard retry
    mode and of the OpenAI SDK; "gRPC status codes" and gRFC A6 (pushback).
"""

import errno
import re
from collections.abc import Callable
from typing import Any, TypeAlias

from mainstay._core.context import current_context
from mainstay._transient import databases
from mainstay._transient.answer import (
    BROKEN_OFF,
    CERTIFICATE,
    DAMAGED,
    DEADLINE,
    LASTING,
    LOCAL,
    MAY_PASS,
    MET,
    NOT_SENT,
    SENT,
    THROTTLED,
    UNKNOWN,
    Answer,
)
from mainstay._transient.delays import asked_delay
from mainstay._transient.statuses import IDEMPOTENT, StatusRules

Reader: TypeAlias = Callable[[Any, "Asking"], Answer]
Row: TypeAlias = Answer | Reader


class Asking:
    """What a reader may ask back.

    Args:
        rules: What counts for HTTP.
        answer: Judges another exception, which the first one wraps.
    """

    __slots__ = ("answer", "rules")

    def __init__(self, rules: StatusRules, answer: Callable[[BaseException], Answer]) -> None:
        self.rules = rules
        self.answer = answer

    def wall(self) -> float:
        """Return the seconds since 1970 by the caller's clock, which its waits go by."""
        return current_context().clock.wall()

    def wrapped(self, error: object) -> Answer:
        """Return what a wrapped exception says; something else says that it broke off."""
        return self.answer(error) if isinstance(error, BaseException) else BROKEN_OFF


# Connections.

_CERTIFICATE = ("ssl", "SSLCertVerificationError")
_DEEPEST = 16


def is_certificate_refused(error: BaseException) -> bool:
    """True if a refused certificate is what *error* came of, as a cause or in its context."""
    waiting: list[BaseException | None] = [error]
    for _ in range(_DEEPEST):
        here = waiting.pop() if waiting else None
        if here is None:
            if not waiting:
                return False
            continue
        if any((each.__module__, each.__name__) == _CERTIFICATE for each in type(here).__mro__):
            return True
        waiting += [here.__context__, here.__cause__]
    return False


def _connecting(error: BaseException, _ask: Asking) -> Answer:
    return CERTIFICATE if is_certificate_refused(error) else NOT_SENT


def _breaking(error: BaseException, _ask: Asking) -> Answer:
    return CERTIFICATE if is_certificate_refused(error) else BROKEN_OFF


def _wrapping(name: str) -> Reader:
    """Return the reader of an exception whose attribute *name* is another one."""

    def read(error: Any, ask: Asking) -> Answer:
        return CERTIFICATE if is_certificate_refused(error) else ask.wrapped(getattr(error, name))

    return read


_PASSING_ERRNOS = frozenset(
    (
        errno.ECONNABORTED,
        errno.ECONNRESET,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.EINTR,
        errno.ENETDOWN,
        errno.ENETRESET,
        errno.ENETUNREACH,
        errno.EPIPE,
        errno.ESHUTDOWN,
        errno.ETIMEDOUT,
    )
)
_LOCAL_ERRNOS = frozenset(
    (errno.EADDRNOTAVAIL, errno.EAGAIN, errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
)


_SEVERAL = "Multiple exceptions: "
_NUMBER = re.compile(r"\[Errno (\d+)\]")


def _by_errno(error: Any, _ask: Asking) -> Answer:
    """Judge by the number; asyncio gives a text of several where no address of a name answered."""
    if error.errno is not None:
        return _of_errno(error.errno)
    said = str(error)
    numbers = _NUMBER.findall(said) if said.startswith(_SEVERAL) else ()
    answers = [_of_errno(int(number)) for number in numbers] or [LASTING]
    return next((answer for answer in answers if answer.again is False), answers[0])


def _of_errno(code: int) -> Answer:
    if code in _PASSING_ERRNOS:
        return BROKEN_OFF
    if code == errno.ECONNREFUSED:
        return NOT_SENT
    return LOCAL if code in _LOCAL_ERRNOS else LASTING


def _by_address(error: Any, _ask: Asking) -> Answer:
    import socket  # noqa: PLC0415 - only where a name was looked up

    nonsense = (socket.EAI_BADFLAGS, socket.EAI_FAMILY, socket.EAI_SERVICE, socket.EAI_SOCKTYPE)
    return LASTING if error.errno in nonsense else NOT_SENT


def _by_reason(error: Any, ask: Asking) -> Answer:
    """Judge an `urllib.error.URLError`, whose reason is another exception or a text."""
    reason = error.reason
    if not isinstance(reason, BaseException):
        return LASTING
    return CERTIFICATE if is_certificate_refused(error) else ask.answer(reason)


# HTTP.


def _sent(error: Any, ask: Asking) -> Answer:
    """Judge what broke off with the request on the wire, where the exception knows that."""
    try:
        request = error.request
    except Exception:  # noqa: BLE001 - httpx raises where none was set
        request = None
    method = getattr(request, "method", None)
    if method in IDEMPOTENT or ask.rules.may_repeat(method, getattr(request, "headers", None)):
        return BROKEN_OFF
    return SENT._replace(why=f"it broke off, and {method} is not safe to repeat")


def _by_response(error: Any, ask: Asking) -> Answer:
    """Judge an error of httpx or requests that has the response."""
    response = error.response
    if response is None:
        return UNKNOWN
    request = error.request
    return ask.rules.judge(
        response.status_code,
        getattr(request, "method", None),
        getattr(request, "headers", None),
        response.headers,
        ask.wall(),
    )


def _by_urllib_status(error: Any, ask: Asking) -> Answer:
    return ask.rules.judge(error.code, None, None, error.headers, ask.wall())


def _by_aiohttp_status(error: Any, ask: Asking) -> Answer:
    info = error.request_info
    method, sent = getattr(info, "method", None), getattr(info, "headers", None)
    return ask.rules.judge(error.status, method, sent, error.headers, ask.wall())


def _by_proxy(error: BaseException, _ask: Asking) -> Answer:
    """Judge httpx's `ProxyError`, whose message begins with the proxy's status if there is one."""
    status = str(error)[:3]
    return NOT_SENT if not status.isdigit() or status.startswith("5") else LASTING


def _by_requests_connection(error: Any, ask: Asking) -> Answer:
    """Judge requests' `ConnectionError`, whose argument is what urllib3 raised."""
    if is_certificate_refused(error):
        return CERTIFICATE
    inner = error.args[0] if error.args else None
    answer = ask.wrapped(inner)
    return _sent(error, ask) if answer is BROKEN_OFF else answer


def _by_sdk_connection(error: BaseException, _ask: Asking) -> Answer:
    if is_certificate_refused(error):
        return CERTIFICATE
    return MAY_PASS._replace(why="no answer, which the SDK repeats whatever was asked")


def _by_sdk_status(error: Any, ask: Asking) -> Answer:
    """Judge an answer as the OpenAI SDK and those generated like it do, whatever the method."""
    headers, status = error.response.headers, error.status_code
    told = headers.get("x-should-retry")
    passes = status in (408, 409, 429) or status >= 500  # noqa: PLR2004 - as in their tables
    failing = status >= 500  # noqa: PLR2004
    if told == "false" or (told != "true" and not passes):
        return Answer(False, failing, f"status {status}, which the SDK does not repeat")
    delay = asked_delay(headers, ask.wall(), throttled=status == 429)  # noqa: PLR2004
    return Answer(True if delay is None else delay, failing, f"status {status}, as its SDK does")


# gRPC.

_FAILING_CODES = frozenset(("DATA_LOSS", "DEADLINE_EXCEEDED", "INTERNAL", "UNKNOWN"))


def _by_grpc_code(error: Any, _ask: Asking) -> Answer:
    try:
        code = error.code().name
    except Exception:  # noqa: BLE001 - an `RpcError` of the program's own need not have one
        return UNKNOWN
    if code == "UNAVAILABLE":
        return _pushed_back(error, NOT_SENT._replace(why="gRPC UNAVAILABLE"))
    if code == "RESOURCE_EXHAUSTED":
        return _pushed_back(error, THROTTLED._replace(why="gRPC RESOURCE_EXHAUSTED"))
    if code == "DEADLINE_EXCEEDED" and current_context().left() <= 0:
        return DEADLINE
    if code in _FAILING_CODES:
        return DAMAGED._replace(why=f"gRPC {code}: {DAMAGED.why}")
    return LASTING._replace(why=f"gRPC {code} does not pass")


def _pushed_back(error: Any, answer: Answer) -> Answer:
    """Return *answer* with the server's own wait, which is in milliseconds, or negative: never."""
    try:
        trailers = dict(iter(error.trailing_metadata() or ()))  # in old versions it lacks `keys`
    except Exception:  # noqa: BLE001 - as above
        return answer
    said = trailers.get("grpc-retry-pushback-ms")
    if said is None:
        return answer
    if not str(said).isdigit():
        return answer._replace(again=False, why=f"{answer.why}, and the server forbids another")
    return answer._replace(again=int(said) / 1000.0)


# Databases and clouds.

_AWS_THROTTLES = frozenset(
    (
        "BandwidthLimitExceeded",
        "EC2ThrottledException",
        "LimitExceededException",
        "PriorRequestNotComplete",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "SlowDown",
        "ThrottledException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
        "TransactionInProgressException",
    )
)
_AWS_TRANSIENT = frozenset(("RequestTimeout", "RequestTimeoutException"))
_AWS_STATUSES = frozenset((500, 502, 503, 504))


def _by_aws_code(error: Any, ask: Asking) -> Answer:
    response = error.response
    code = response.get("Error", {}).get("Code")
    facts = response.get("ResponseMetadata", {})
    status = facts.get("HTTPStatusCode")
    delay = asked_delay(facts.get("HTTPHeaders"), ask.wall(), throttled=False)
    again = True if delay is None else delay
    if code in _AWS_THROTTLES or code in _AWS_TRANSIENT:
        return Answer(again, False, f"botocore repeats {code}")
    if code == "InternalError" or status in _AWS_STATUSES:
        return Answer(again, True, f"botocore repeats {code} with status {status}")
    return LASTING._replace(why=f"botocore does not repeat {code}")


def _by_sqlstate(error: Any, _ask: Asking) -> Answer:
    return databases.by_sqlstate(getattr(error, "sqlstate", None) or getattr(error, "pgcode", None))


def _by_postgresql(error: Any, _ask: Asking) -> Answer:
    """Judge psycopg's `OperationalError`, which has no SQLSTATE where there was no connection."""
    code = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
    if code is not None:
        return databases.by_sqlstate(code)
    if is_certificate_refused(error):
        return CERTIFICATE
    return databases.by_libpq_message(str(error))


def _by_interface_message(error: Any, _ask: Asking) -> Answer:
    return databases.by_interface_message(str(error.args[0]))


def _by_mysql_code(error: Any, _ask: Asking) -> Answer:
    if is_certificate_refused(error):
        return CERTIFICATE
    return databases.by_mysql_code(error)


def _by_redis_message(error: Any, _ask: Asking) -> Answer:
    return databases.by_redis_message(str(error))


def _by_sqlite_code(error: Any, _ask: Asking) -> Answer:
    return databases.by_sqlite_code(error)


def _by_driver(error: Any, ask: Asking) -> Answer:
    """Judge an error of SQLAlchemy by the one of the driver that it wraps."""
    answer = ask.answer(error.orig) if isinstance(error.orig, BaseException) else UNKNOWN
    if answer.again is False and error.connection_invalidated:
        return MAY_PASS._replace(why="SQLAlchemy has given the connection up")
    return answer


def _by_mongo_code(error: Any, _ask: Asking) -> Answer:
    return databases.by_mongo_code(error)


def _by_mongo_connection(error: BaseException, _ask: Asking) -> Answer:
    """Judge a connection that failed; of a certificate, pymongo keeps only the words."""
    return CERTIFICATE if "certificate verify failed" in str(error) else MAY_PASS


# Our own.


def _by_refusal(error: Any, _ask: Asking) -> Answer:
    delay = error.retry_after
    return Answer(True if delay is None else delay, False, "it was refused before it ran")


def _by_leaves(group: Any, ask: Asking) -> Answer:
    """Judge a group: by the first leaf that says no, else by the longest wait."""
    answers = [ask.answer(leaf) for leaf in group.exceptions]
    failing = any(each.failing for each in answers)
    lasting = next((each for each in answers if each.again is False), None)
    if lasting is not None:
        return lasting._replace(failing=failing)
    longest = max(answers, key=lambda each: -1.0 if each.again is True else each.again)
    return longest._replace(failing=failing)


_HTTPX: dict[str, Row] = {
    "ConnectError": _connecting,
    "ConnectTimeout": NOT_SENT,
    "PoolTimeout": NOT_SENT,
    "ProxyError": _by_proxy,
    "ReadTimeout": _sent,
    "WriteTimeout": _sent,
    "NetworkError": _sent,
    "RemoteProtocolError": _sent,
    "HTTPStatusError": _by_response,
    "HTTPError": LASTING,
    "TimeoutException": _sent,
    "ProtocolError": LASTING,
    "InvalidURL": LASTING,
    "StreamError": LASTING,
}
_SDK: dict[str, Row] = {
    "APIConnectionError": _by_sdk_connection,
    "APIStatusError": _by_sdk_status,
}

TABLE: dict[tuple[str, str], Row] = {
    # Python itself.
    ("builtins", "ConnectionRefusedError"): NOT_SENT,
    ("builtins", "ConnectionError"): BROKEN_OFF,
    ("builtins", "TimeoutError"): BROKEN_OFF,
    ("builtins", "OSError"): _by_errno,
    ("builtins", "ExceptionGroup"): _by_leaves,
    ("socket", "gaierror"): _by_address,
    ("socket", "herror"): NOT_SENT,
    ("ssl", "SSLCertVerificationError"): CERTIFICATE,
    ("ssl", "SSLError"): _connecting,
    ("asyncio", "IncompleteReadError"): BROKEN_OFF,
    ("urllib", "HTTPError"): _by_urllib_status,
    ("urllib", "ContentTooShortError"): BROKEN_OFF,
    ("urllib", "URLError"): _by_reason,
    ("http", "RemoteDisconnected"): BROKEN_OFF,
    ("http", "IncompleteRead"): BROKEN_OFF,
    ("http", "BadStatusLine"): BROKEN_OFF,
    ("http", "HTTPException"): LASTING,
    ("sqlite3", "OperationalError"): _by_sqlite_code,
    ("sqlite3", "Error"): LASTING,
    # HTTP clients.
    **{
        (package, name): row
        for package in ("httpx", "httpx2", "httpcore", "httpcore2")
        for name, row in _HTTPX.items()
    },
    ("requests", "ConnectTimeout"): NOT_SENT,
    ("requests", "SSLError"): _connecting,
    ("requests", "ProxyError"): _by_requests_connection,
    ("requests", "ConnectionError"): _by_requests_connection,
    ("requests", "Timeout"): _sent,
    ("requests", "ChunkedEncodingError"): _sent,
    ("requests", "HTTPError"): _by_response,
    ("requests", "RetryError"): _sent,
    ("requests", "RequestException"): LASTING,
    ("urllib3", "NewConnectionError"): NOT_SENT,
    ("urllib3", "ConnectTimeoutError"): NOT_SENT,
    ("urllib3", "EmptyPoolError"): NOT_SENT,
    ("urllib3", "SSLError"): _connecting,
    ("urllib3", "ProxyError"): _wrapping("original_error"),
    ("urllib3", "MaxRetryError"): _wrapping("reason"),
    ("urllib3", "TimeoutError"): BROKEN_OFF,
    ("urllib3", "ProtocolError"): BROKEN_OFF,
    ("urllib3", "IncompleteRead"): BROKEN_OFF,
    ("urllib3", "ResponseError"): BROKEN_OFF,
    ("urllib3", "HTTPError"): LASTING,
    ("aiohttp", "ClientConnectorCertificateError"): CERTIFICATE,
    ("aiohttp", "ClientConnectorError"): _connecting,
    ("aiohttp", "ConnectionTimeoutError"): NOT_SENT,
    ("aiohttp", "ServerFingerprintMismatch"): CERTIFICATE,
    ("aiohttp", "ClientConnectionError"): _sent,  # our middleware says what was sent
    ("aiohttp", "ClientPayloadError"): BROKEN_OFF,
    ("aiohttp", "ClientResponseError"): _by_aiohttp_status,
    ("aiohttp", "ClientError"): LASTING,
    # Those whose SDKs are generated; others of the kind are known by the names in `_SDK` alone.
    **{(package, name): row for package in ("openai", "anthropic") for name, row in _SDK.items()},
    ("openai", "OpenAIError"): LASTING,
    ("anthropic", "AnthropicError"): LASTING,
    # gRPC.
    ("grpc", "RpcError"): _by_grpc_code,
    # Clouds.
    ("botocore", "ClientError"): _by_aws_code,
    ("botocore", "SSLError"): _connecting,
    ("botocore", "ConnectionError"): NOT_SENT,
    ("botocore", "HTTPClientError"): MAY_PASS,
    ("botocore", "BotoCoreError"): LASTING,
    # Databases.
    ("redis", "AuthenticationError"): LASTING,
    ("redis", "AuthorizationError"): LASTING,
    ("redis", "ConnectionError"): _breaking,
    ("redis", "TimeoutError"): BROKEN_OFF,
    ("redis", "TryAgainError"): MAY_PASS,
    ("redis", "ClusterDownError"): MAY_PASS,
    ("redis", "ReadOnlyError"): MAY_PASS,
    ("redis", "WatchError"): MET,
    ("redis", "ResponseError"): _by_redis_message,
    ("redis", "RedisError"): LASTING,
    ("psycopg", "OperationalError"): _by_postgresql,
    ("psycopg", "Error"): _by_sqlstate,
    ("psycopg2", "OperationalError"): _by_postgresql,
    ("psycopg2", "InterfaceError"): _by_interface_message,
    ("psycopg2", "Error"): _by_sqlstate,
    ("psycopg_pool", "PoolTimeout"): NOT_SENT,
    ("psycopg_pool", "TooManyRequests"): NOT_SENT,
    ("psycopg_pool", "PoolClosed"): LASTING,
    ("asyncpg", "PostgresError"): _by_sqlstate,
    ("asyncpg", "InterfaceError"): _by_interface_message,
    ("asyncpg", "TargetServerAttributeNotMatched"): NOT_SENT,
    ("asyncpg", "InternalClientError"): LASTING,
    ("pymysql", "MySQLError"): _by_mysql_code,
    ("MySQLdb", "MySQLError"): _by_mysql_code,
    ("sqlalchemy", "DBAPIError"): _by_driver,
    ("sqlalchemy", "TimeoutError"): NOT_SENT,
    ("sqlalchemy", "DisconnectionError"): MAY_PASS,
    ("sqlalchemy", "SQLAlchemyError"): LASTING,
    ("sqlalchemy", "Error"): _by_sqlstate,  # what its dialects make of asyncpg's
    ("pymongo", "WaitQueueTimeoutError"): NOT_SENT,
    ("pymongo", "ConnectionFailure"): _by_mongo_connection,
    ("pymongo", "OperationFailure"): _by_mongo_code,
    ("pymongo", "PyMongoError"): LASTING,
    # Our own.
    ("mainstay", "RejectedError"): _by_refusal,
    ("mainstay", "TimedOutError"): MAY_PASS,
    ("mainstay", "DeadlineExpiredError"): DEADLINE._replace(again=True),
    ("mainstay", "StoreUnavailableError"): MAY_PASS,
    ("mainstay", "CheckpointError"): LASTING,
}
"""By the package and the name of a class."""

_SDK_ATTRIBUTES = {
    "APIStatusError": ("response", "status_code"),
    "APIConnectionError": ("request",),
}


def row_of(kind: type[BaseException]) -> Row:
    """Return the row of an exception's class, or `UNKNOWN`.

    A class that Python itself has is known: where it has no row, it is lasting.
    """
    for each in kind.__mro__:
        row = TABLE.get((str(each.__module__).partition(".")[0], each.__name__))
        if row is not None:
            return row
        if each.__name__ in _SDK_ATTRIBUTES:
            return _generated(each.__name__)
    return LASTING if kind.__module__ == "builtins" else UNKNOWN


def _generated(name: str) -> Reader:
    """Return the reader of a class that is named like the OpenAI SDK's."""
    wanted = _SDK_ATTRIBUTES[name]
    row: Any = _SDK[name]

    def read(error: Any, ask: Asking) -> Answer:
        if all(hasattr(error, each) for each in wanted):
            answer: Answer = row(error, ask)
            return answer
        return UNKNOWN

    return read
