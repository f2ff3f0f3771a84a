"""The table of `transient`: what is known of builtins, of urllib, of SQLite, and of names alone."""

import copy
import errno
import pickle
import socket
import sqlite3
import ssl
import urllib.error
from email.message import Message

import pytest

from mainstay import (
    AllMembersFailedError,
    CircuitOpenError,
    DeadlineExpiredError,
    LeaseLostError,
    StoreUnavailableError,
    deadline,
    transient,
)
from mainstay._transient import policy
from mainstay._transient.libraries import TABLE

BOTH, AGAIN, FAILING, NEITHER = (True, True), (True, False), (False, True), (False, False)


class Unknown(Exception):
    """An exception of nobody known."""


def answers(error):
    return transient(error), transient.failing(error)


def named(package, name, *bases, **attributes):
    """Return an exception of a class that has this name in that package."""
    made = type(name, bases or (Exception,), {"__module__": package, **attributes})
    return made("said")


def pickled(value):
    return pickle.loads(pickle.dumps(value))  # noqa: S301 - its own


def caused(error, cause):
    error.__cause__ = cause
    return error


def http_error(status, **headers):
    message = Message()
    for name, value in headers.items():
        message[name.replace("_", "-")] = value
    return urllib.error.HTTPError("http://a.example", status, "said", message, None)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ConnectionRefusedError(), BOTH),
        (ConnectionResetError(), BOTH),
        (BrokenPipeError(), BOTH),
        (TimeoutError(), BOTH),
        (OSError(errno.EHOSTUNREACH, "no route"), BOTH),
        (OSError(errno.EMFILE, "too many files"), AGAIN),
        (OSError(errno.EADDRNOTAVAIL, "no port"), AGAIN),
        (OSError(errno.ENOSPC, "no space"), NEITHER),
        (OSError("no number"), NEITHER),
        (OSError("Multiple exceptions: [Errno 111] no, [Errno 113] no"), BOTH),
        (OSError("Multiple exceptions: [Errno 111] no, [Errno 13] no"), NEITHER),
        (OSError("Multiple exceptions: none has a number"), NEITHER),
        (FileNotFoundError(errno.ENOENT, "gone"), NEITHER),
        (socket.gaierror(socket.EAI_AGAIN, "again"), BOTH),
        (socket.gaierror(socket.EAI_NONAME, "no such name"), BOTH),
        (socket.gaierror(socket.EAI_SERVICE, "no such service"), NEITHER),
        (ssl.SSLError(1, "wrong version number"), BOTH),
        (ssl.SSLCertVerificationError(1, "expired"), NEITHER),
        (ValueError("nonsense"), NEITHER),
        (Exception("anything"), NEITHER),
        (Unknown(), NEITHER),
        (urllib.error.URLError(ConnectionRefusedError()), BOTH),
        (urllib.error.URLError(ssl.SSLCertVerificationError(1, "expired")), NEITHER),
        (urllib.error.URLError("unknown url type"), NEITHER),
        (CircuitOpenError("a", None), AGAIN),
        (CircuitOpenError("a", 2.0), (2.0, False)),
        (DeadlineExpiredError("a"), AGAIN),
        (StoreUnavailableError("a", "no disk"), BOTH),
    ],
    ids=repr,
)
def test_the_two_questions(error, expected):
    assert answers(error) == expected


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (408, AGAIN),
        (425, AGAIN),
        (429, AGAIN),
        (500, BOTH),
        (502, BOTH),
        (503, BOTH),
        (504, BOTH),
        (529, BOTH),
        (409, NEITHER),
        (404, NEITHER),
        (501, NEITHER),
    ],
)
def test_a_status_whose_method_nobody_knows(status, expected):
    assert answers(http_error(status)) == expected


def sqlite_error(code):
    error = sqlite3.OperationalError("said")
    error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (sqlite_error(5), AGAIN),
        (sqlite_error(6 | 1 << 8), AGAIN),  # an extended code
        (sqlite_error(1), NEITHER),
        (sqlite3.OperationalError("database is locked"), AGAIN),
        (sqlite3.OperationalError("no such table: a"), NEITHER),
        (sqlite3.IntegrityError("unique"), NEITHER),
        (named("psycopg.errors", "Error", sqlstate="40001"), AGAIN),
        (named("psycopg.errors", "Error", sqlstate="40P01"), AGAIN),
        (named("psycopg.errors", "Error", sqlstate="55P03"), AGAIN),
        (named("psycopg.errors", "Error", sqlstate="08006"), BOTH),
        (named("psycopg.errors", "Error", sqlstate="08P01"), NEITHER),
        (named("psycopg.errors", "Error", sqlstate="53300"), BOTH),
        (named("psycopg.errors", "Error", sqlstate="53100"), NEITHER),
        (named("psycopg.errors", "Error", sqlstate="23505"), NEITHER),
        (named("psycopg.errors", "Error", sqlstate="25P03"), AGAIN),
        (named("psycopg.errors", "Error", sqlstate="25P04"), FAILING),
        (named("psycopg.errors", "Error", sqlstate="57014"), FAILING),
        (named("psycopg.errors", "Error", sqlstate="57P05"), AGAIN),
        (named("psycopg.errors", "Error", sqlstate=None), NEITHER),
        (named("asyncpg.exceptions", "PostgresError", sqlstate="57P01"), BOTH),
    ],
)
def test_codes_of_databases(error, expected):
    assert answers(error) == expected


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("connection refused", BOTH),
        ("FATAL:  the database system is starting up", BOTH),
        ("FATAL:  the database system is not yet accepting connections", BOTH),
        ("FATAL:  sorry, too many clients already", BOTH),
        ('FATAL:  too many connections for role "guest"', BOTH),
        ("FATAL:  remaining connection slots are reserved for superusers", BOTH),
        ('FATAL:  database "closed" is not currently accepting connections', NEITHER),
        ("FATAL:  password authentication failed", NEITHER),
        ("SSL error: certificate verify failed", NEITHER),
    ],
)
def test_a_connection_to_postgresql_that_failed_without_a_code(message, expected):
    kind = type("OperationalError", (Exception,), {"__module__": "psycopg", "sqlstate": None})
    assert answers(kind(message)) == expected


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("connection is closed", BOTH),
        ("cannot perform operation: connection is closed", BOTH),
        ("cannot perform operation: another operation is in progress", NEITHER),
        ("pool is closed", NEITHER),
        ("connection already closed", BOTH),
        ("cursor already closed", NEITHER),
    ],
)
def test_an_error_of_a_driver_itself(message, expected):
    for package in ("asyncpg.exceptions", "psycopg2"):
        made = type("InterfaceError", (Exception,), {"__module__": package})
        assert answers(made(message)) == expected


def mysql_error(*args):
    return type("OperationalError", (named("pymysql.err", "MySQLError").__class__,), {})(*args)


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ((2003, "can't connect"), BOTH),
        ((2013, "lost"), BOTH),
        ((1213, "deadlock"), AGAIN),
        ((1205, "lock wait timeout"), AGAIN),
        ((0, ""), BOTH),  # the connection is closed
        ((1064, "syntax"), NEITHER),
        ((1290, "running with the --read-only option"), BOTH),
        ((1290, "running with the --secure-file-priv option"), NEITHER),
        ((3024, "execution time exceeded"), FAILING),
        ((4031, "inactivity"), AGAIN),
        ((), NEITHER),
    ],
)
def test_codes_of_mysql(args, expected):
    assert answers(mysql_error(*args)) == expected


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("BUSY Redis is busy running a script.", BOTH),
        ("NOREPLICAS Not enough good replicas to write.", BOTH),
        ("UNBLOCKED force unblock from blocking operation", BOTH),
        ("Command # 1 (SET a 1) of pipeline caused error: BUSY Redis is busy", BOTH),
        ("BUSYGROUP Consumer Group name already exists", NEITHER),
        ("", NEITHER),
    ],
)
def test_answers_of_redis(message, expected):
    made = type("ResponseError", (Exception,), {"__module__": "redis.exceptions"})
    assert answers(made(message)) == expected


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("UNAVAILABLE", BOTH),
        ("RESOURCE_EXHAUSTED", AGAIN),
        ("DEADLINE_EXCEEDED", FAILING),
        ("INTERNAL", FAILING),
        ("UNKNOWN", FAILING),
        ("DATA_LOSS", FAILING),
        ("ABORTED", NEITHER),
        ("NOT_FOUND", NEITHER),
    ],
)
def test_codes_of_grpc(code, expected):
    assert answers(grpc_error(code)) == expected


class Code:
    def __init__(self, name):
        self.name = name


def grpc_error(code, *trailers):
    return named(
        "grpc", "RpcError", code=lambda _: Code(code), trailing_metadata=lambda _: trailers
    )


def test_a_deadline_of_grpc_that_is_our_own_says_nothing_of_the_server():
    with deadline(0.0):
        assert answers(grpc_error("DEADLINE_EXCEEDED")) == NEITHER


@pytest.mark.parametrize(
    ("said", "expected"), [("250", 0.25), ("-1", False), ("soon", False), ("0", 0.0)]
)
def test_a_server_of_grpc_may_push_back(said, expected):
    assert transient(grpc_error("UNAVAILABLE", ("grpc-retry-pushback-ms", said))) == expected


class OldMetadata:
    """Trailers of grpc.aio as its older versions have them: pairs, which `dict` cannot read."""

    def keys(self):
        return iter(self)

    def __iter__(self):
        yield "grpc-retry-pushback-ms", "1500"

    def __getitem__(self, key):
        raise KeyError(key)


def test_the_trailers_of_an_older_grpc_are_read():
    error = named(
        "grpc",
        "RpcError",
        code=lambda _: Code("UNAVAILABLE"),
        trailing_metadata=lambda _: OldMetadata(),
    )
    assert transient(error) == 1.5


def test_an_error_of_grpc_without_a_code_is_unknown():
    assert answers(named("grpc", "RpcError")) == NEITHER


@pytest.mark.parametrize(
    ("code", "status", "expected"),
    [
        ("ThrottlingException", 400, AGAIN),
        ("RequestTimeout", 400, AGAIN),
        ("InternalError", 500, BOTH),
        ("ServiceUnavailable", 503, BOTH),
        ("NoSuchKey", 404, NEITHER),
    ],
)
def test_codes_of_botocore(code, status, expected):
    response = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    assert answers(named("botocore.exceptions", "ClientError", response=response)) == expected


@pytest.mark.parametrize(
    ("labels", "code", "expected"),
    [
        (("RetryableWriteError",), None, BOTH),
        (("TransientTransactionError",), 112, AGAIN),
        (("TransientTransactionError",), 251, AGAIN),
        ((), 112, AGAIN),
        ((), 50, FAILING),
        ((), 189, BOTH),
        ((), 11000, NEITHER),
    ],
)
def test_codes_of_mongodb(labels, code, expected):
    error = named(
        "pymongo.errors",
        "OperationFailure",
        code=code,
        has_error_label=lambda _, label: label in labels,
    )
    assert answers(error) == expected


class TestSdks:
    """What is named like the errors of the OpenAI SDK, whatever the package."""

    @staticmethod
    def error(status, package="some_sdk", **headers):
        response = type(
            "Response", (), {"headers": {k.replace("_", "-"): headers[k] for k in headers}}
        )
        return named(package, "APIStatusError", status_code=status, response=response)

    @pytest.mark.parametrize(
        ("status", "headers", "expected"),
        [
            (408, {}, AGAIN),
            (409, {}, AGAIN),
            (429, {"retry_after_ms": "1500"}, (1.5, False)),
            (500, {}, BOTH),
            (501, {}, BOTH),
            (500, {"x_should_retry": "false"}, FAILING),
            (400, {"x_should_retry": "true"}, AGAIN),
            (400, {}, NEITHER),
        ],
    )
    def test_a_status_is_judged_by_the_table_of_the_sdk(self, status, headers, expected):
        assert answers(self.error(status, **headers)) == expected

    def test_a_subclass_is_known_by_its_base(self):
        base = type(self.error(429))
        made = type("RateLimitError", (base,), {"__module__": "some_sdk"})
        assert answers(made()) == AGAIN

    def test_without_what_is_read_it_is_unknown(self):
        assert answers(named("some_sdk", "APIStatusError")) == NEITHER
        cause = ConnectionResetError()
        assert answers(caused(named("some_sdk", "APIConnectionError"), cause)) == BOTH

    def test_a_connection_that_failed_is_sent_again_unless_by_a_certificate(self):
        error = named("some_sdk", "APIConnectionError", request=object())
        assert answers(error) == BOTH
        assert answers(caused(error, ssl.SSLCertVerificationError(1, "expired"))) == NEITHER


class TestCauses:
    def test_an_unknown_class_has_the_answer_of_its_cause(self):
        assert answers(caused(Unknown(), ConnectionResetError())) == BOTH
        assert answers(caused(Unknown(), caused(Unknown(), http_error(429)))) == AGAIN

    def test_a_known_class_is_never_looked_behind(self):
        assert answers(caused(ValueError(), ConnectionResetError())) == NEITHER
        assert answers(caused(FileNotFoundError(), ConnectionResetError())) == NEITHER

    def test_the_context_is_never_followed(self):
        error = Unknown()
        error.__context__ = ConnectionResetError()
        assert answers(error) == NEITHER

    def test_a_chain_without_end_is_given_up(self):
        first, second = Unknown(), Unknown()
        first.__cause__, second.__cause__ = second, first
        assert answers(first) == NEITHER

    def test_it_is_followed_eight_deep(self):
        error = ConnectionResetError()
        for _ in range(8):
            error = caused(Unknown(), error)
        assert answers(error) == BOTH
        assert answers(caused(Unknown(), error)) == NEITHER


class TestSqlalchemy:
    """It wraps what the driver raised, and says whether the connection is given up."""

    @staticmethod
    def error(orig, *, invalidated=False):
        attributes = {"orig": orig, "connection_invalidated": invalidated}
        return named("sqlalchemy.exc", "DBAPIError", **attributes)

    def test_the_error_of_the_driver_counts(self):
        assert answers(self.error(mysql_error(1213, "deadlock"))) == AGAIN
        assert answers(self.error(mysql_error(1064, "syntax"))) == NEITHER
        assert answers(self.error(None)) == NEITHER

    def test_a_connection_that_is_given_up_is_another_one_next_time(self):
        unknown = named("some_driver", "Error")
        assert answers(self.error(unknown, invalidated=True)) == BOTH
        assert answers(self.error(unknown)) == NEITHER


class TestCertificates:
    """What came of a refused certificate is lasting, wherever it stands in what was raised."""

    REFUSED = ssl.SSLCertVerificationError(1, "expired")

    @pytest.mark.parametrize(
        "error",
        [
            named("redis.exceptions", "ConnectionError"),
            named("psycopg", "OperationalError", sqlstate=None),
            mysql_error(2003, "can't connect"),
            named("httpx", "ConnectError"),
            named("requests.exceptions", "ConnectionError"),
        ],
        ids=lambda error: type(error).__module__,
    )
    def test_it_is_found_in_cause_and_context(self, error):
        assert answers(error) == BOTH
        assert answers(caused(error, self.REFUSED)) == NEITHER
        between = OSError("handshake")
        between.__context__ = self.REFUSED
        assert answers(caused(error, between)) == NEITHER

    def test_pymongo_keeps_only_the_words(self):
        made = type("AutoReconnect", (Exception,), {"__module__": "pymongo.errors"})
        made = type("ConnectionFailure", (made,), {"__module__": "pymongo.errors"})
        assert answers(made("certificate verify failed: self-signed")) == NEITHER
        assert answers(made("connection closed")) == BOTH

    def test_a_chain_without_end_is_given_up(self):
        first, second = OSError("one"), OSError("two")
        first.__cause__, second.__cause__ = second, first
        assert answers(caused(named("httpx", "ConnectError"), first)) == BOTH


@pytest.mark.parametrize(
    ("said", "expected"), [("502 Bad Gateway", BOTH), ("407 who are you", NEITHER), ("", BOTH)]
)
def test_a_proxy_of_httpx(said, expected):
    assert answers(type("ProxyError", (Exception,), {"__module__": "httpx"})(said)) == expected


def test_a_request_that_nobody_set():
    def missing(_self):
        raise RuntimeError("the request is not set")

    assert answers(named("httpx", "ReadTimeout", request=property(missing))) == BOTH


def test_an_answer_that_is_not_there():
    error = named("requests.exceptions", "HTTPError", response=None)
    assert answers(error) == NEITHER
    assert answers(caused(error, ConnectionResetError())) == BOTH


@pytest.mark.parametrize(
    ("method", "headers", "expected"),
    [("GET", {}, BOTH), ("POST", {}, FAILING), ("POST", {"Idempotency-Key": "a"}, BOTH)],
)
def test_the_method_is_read_where_the_error_has_it(method, headers, expected):
    request = type("Request", (), {"method": method, "headers": headers})
    response = type("Response", (), {"status_code": 500, "headers": {}})
    for package in ("httpx", "requests.exceptions"):
        kind = "HTTPStatusError" if package == "httpx" else "HTTPError"
        assert answers(named(package, kind, request=request, response=response)) == expected
    info = named("aiohttp", "ClientResponseError", request_info=request, status=500, headers={})
    assert answers(info) == expected


class TestGroups:
    def test_every_leaf_has_to_pass(self):
        good, bad = ConnectionResetError(), ValueError()
        assert answers(ExceptionGroup("all", [good, http_error(429)])) == BOTH
        assert answers(ExceptionGroup("all", [good, bad])) == FAILING
        assert answers(ExceptionGroup("all", [ExceptionGroup("in", [bad])])) == NEITHER

    def test_the_longest_wait_counts(self):
        errors = [
            http_error(429, Retry_After="2"),
            http_error(429, Retry_After="3"),
            TimeoutError(),
        ]
        assert transient(ExceptionGroup("all", errors)) == 3.0


class TestConfigured:
    def test_other_statuses(self):
        judge = transient.configured(statuses=(418,))
        assert (judge(http_error(418)), judge(http_error(503))) == (True, False)

    def test_other_classes(self):
        judge = transient.configured(also=(Unknown,))
        assert (judge(Unknown()), judge.failing(Unknown())) == (True, True)
        assert judge(caused(named("a", "Wrapper"), Unknown())) is True

    @pytest.mark.parametrize(
        ("parameters", "said"),
        [
            ({"statuses": 503}, "`statuses` must be numbers"),
            ({"statuses": ("503",)}, "`statuses` must be whole numbers, not '503'"),
            ({"statuses": (True,)}, "`statuses` must be whole numbers, not True"),
            ({"statuses": (42,)}, "`statuses` must be from 100 to 599, not 42"),
            ({"any_method": 1}, "`any_method` must be a bool, not 1"),
            ({"also": ("Unknown",)}, "`also` must be a tuple of exception classes"),
            ({"also": (KeyboardInterrupt,)}, "`also` must be a tuple of exception classes"),
        ],
    )
    def test_nonsense_is_refused(self, parameters, said):
        with pytest.raises((TypeError, ValueError), match=said):
            transient.configured(**parameters)

    def test_it_can_be_copied_and_pickled(self):
        assert pickled(transient) is transient
        assert copy.deepcopy(transient) is copy.copy(transient) is transient
        again = pickled(transient.configured(also=(OSError,)))
        assert again(FileNotFoundError()) is True
        assert (repr(transient), repr(again)) == ("transient", "transient.configured(...)")


@pytest.mark.parametrize(("package", "name"), TABLE)
def test_a_class_that_has_changed_is_left_alone(package, name):
    """Of a version that nobody knows, an exception may lack what is read of it."""
    error = named(package, name)
    assert isinstance(transient(error), bool)
    assert answers(caused(error, ValueError()))[1] in (True, False)


def test_what_cannot_be_read_is_neither_and_why_says_so():
    error = caused(named("botocore.exceptions", "ClientError"), ConnectionResetError())
    assert answers(error) == NEITHER
    said = "its library is of a version that is not known here ('ClientError' object has no attrib"
    assert said in transient.why(error)


def test_the_rows_of_many_classes_are_not_kept_for_ever():
    for _ in range(policy._MOST + 1):
        assert transient(type("Made", (ConnectionResetError,), {})()) is True
    assert len(policy._rows) <= policy._MOST


def test_why_says_what_was_decided():
    said = "status 503 passes, and asks for 2.000 s"
    said = f"HTTPError: may be sent again after 2.000 s, failing: {said}"
    assert transient.why(http_error(503, Retry_After="2")) == said
    said = "ValueError: may not be sent again, not failing: it would fail again"
    assert transient.why(ValueError()) == said


def test_a_group_of_ours_is_judged_by_its_leaves():
    group = AllMembersFailedError("a", [ConnectionResetError()], None)
    assert answers(group) == BOTH


def test_a_run_that_was_lost_is_lost():
    assert answers(LeaseLostError("a", "key", 1)) == NEITHER


def test_a_class_without_a_hash_is_judged_like_any_other():
    class Equal(type):
        def __eq__(cls, other):
            return isinstance(other, Equal)

        __hash__ = None

    class Odd(Exception, metaclass=Equal):
        pass

    class OddReset(ConnectionResetError, metaclass=Equal):
        pass

    assert answers(Odd()) == NEITHER
    assert answers(caused(Odd(), TimeoutError())) == BOTH
    assert answers(OddReset()) == BOTH
