"""What the codes of databases say: SQLSTATE, MySQL, SQLite, MongoDB, Redis.

Source:
    PostgreSQL, "Error Codes"; MySQL, "Server Error Message Reference" and "Client Error Message
    Reference"; MariaDB, "Error Codes"; SQLite, "Result and Extended Result Codes"; MongoDB, "Error
    Codes", and "Retryable Reads" and "Retryable Writes" of its driver specifications; Redis,
    `createSharedObjects` in server.c, for errors that redis-py has no class for.
"""

from typing import Any

from mainstay._transient.answer import (
    IDLE,
    LASTING,
    MAY_PASS,
    MET,
    NOT_SENT,
    TOO_SLOW,
    Answer,
)

SQLSTATES = {
    "08": MAY_PASS,  # connection exception
    "08P01": LASTING,  # protocol violation
    "25006": MAY_PASS,  # read-only transaction: the primary has become a standby
    "25P03": IDLE,  # idle in a transaction for too long
    "25P04": TOO_SLOW,  # transaction timeout
    "40001": MET,  # serialization failure
    "40003": MAY_PASS,  # statement completion unknown
    "40P01": MET,  # deadlock
    "53": MAY_PASS,  # insufficient resources, too many connections
    "53100": LASTING,  # disk full
    "55P03": MET,  # lock not available
    "57014": TOO_SLOW,  # query canceled, mostly by `statement_timeout`
    "57P01": MAY_PASS,  # admin shutdown
    "57P02": MAY_PASS,  # crash shutdown
    "57P03": MAY_PASS,  # cannot connect now
    "57P05": IDLE,  # idle for too long
}
"""By code, or by its class, the first two characters."""

MYSQL = {
    1020: MET,  # MariaDB: a record has changed since it was read
    1040: MAY_PASS,  # too many connections
    1053: MAY_PASS,  # server shutdown in progress
    1152: MAY_PASS,  # aborted connection
    1158: MAY_PASS,  # network read error
    1159: MAY_PASS,  # network read timeout
    1160: MAY_PASS,  # network write error
    1161: MAY_PASS,  # network write timeout
    1203: MAY_PASS,  # too many connections of a user
    1205: MET,  # lock wait timeout
    1213: MET,  # deadlock
    1290: MAY_PASS,  # --read-only: the primary has become a replica; with other options: lasting
    1836: MAY_PASS,  # running in read-only mode
    1969: TOO_SLOW,  # MariaDB: `max_statement_time`
    2002: NOT_SENT,  # cannot connect through a socket
    2003: NOT_SENT,  # cannot connect
    2006: MAY_PASS,  # gone away
    2013: MAY_PASS,  # lost connection during a query
    2055: MAY_PASS,  # lost connection at a step
    3024: TOO_SLOW,  # `max_execution_time`
    3101: MET,  # group replication: another one's transaction came first
    3572: MET,  # `nowait`, and somebody has the lock
    4031: IDLE,  # disconnected because of inactivity
}

_READ_ONLY_MODE = 1290
_CLOSED = ("connection is closed", "connection already closed")

MONGO = {
    6: MAY_PASS,  # host unreachable
    7: MAY_PASS,  # host not found
    24: MET,  # lock timeout
    46: MET,  # lock busy
    50: TOO_SLOW,  # `maxTimeMS`
    89: MAY_PASS,  # network timeout
    91: MAY_PASS,  # shutdown in progress
    112: MET,  # write conflict
    134: MAY_PASS,  # read concern majority not available yet
    189: MAY_PASS,  # primary stepped down
    262: MAY_PASS,  # exceeded time limit, while it waited for a primary
    9001: MAY_PASS,  # socket exception
    10107: MAY_PASS,  # not writable primary
    11600: MAY_PASS,  # interrupted at shutdown
    11602: MAY_PASS,  # interrupted due to a change of state
    13435: MAY_PASS,  # not primary, and may not be read from
    13436: MAY_PASS,  # not primary or secondary
}

REDIS = {
    "BUSY": MAY_PASS,  # a script runs for too long
    "NOREPLICAS": MAY_PASS,  # too few replicas to write
    "UNBLOCKED": MAY_PASS,  # the primary has become a replica while a call was blocked
}
"""By the first word of the message."""

_BUSY, _LOCKED = 5, 6  # of SQLite, without the bits of the extended code
_LOCKED_WORDS = ("is locked", "is busy")

_PASSING_WORDS = (  # of what libpq says where the server refused a connection
    "the database system is",  # starting up, shutting down, in recovery, not accepting connections
    "too many clients",
    "too many connections",  # of a user or for a database
    "connection slots",
)


def by_sqlstate(code: object) -> Answer:
    """Return what a SQLSTATE says."""
    if not isinstance(code, str):
        return LASTING
    found = SQLSTATES.get(code) or SQLSTATES.get(code[:2]) or LASTING
    return found._replace(why=f"SQLSTATE {code}: {found.why}")


def by_libpq_message(message: str) -> Answer:
    """Return what a failed connection without SQLSTATE says: in English, whether it is fatal."""
    if "certificate verify failed" in message:
        return LASTING._replace(why="a certificate was refused")
    if "FATAL" in message and not any(word in message for word in _PASSING_WORDS):
        return LASTING._replace(why="the server refused the connection for good (FATAL)")
    return MAY_PASS._replace(why="the connection failed")


def by_interface_message(message: str) -> Answer:
    """Return what an `InterfaceError` of asyncpg or psycopg2 says, which has no code."""
    if message.endswith(_CLOSED):
        return MAY_PASS._replace(why="the connection was lost before")
    return LASTING


def by_mysql_code(error: Any) -> Answer:
    """Return what an exception of PyMySQL or mysqlclient says, whose first argument is the code."""
    code = error.args[0] if error.args else None
    found = MYSQL.get(code) if isinstance(code, int) else None
    if found is None and code == 0 and not any(error.args[1:]):  # a connection that is closed
        found = MAY_PASS
    if code == _READ_ONLY_MODE and "read-only" not in str(error.args[1:]):
        found = LASTING
    found = found or LASTING
    return found._replace(why=f"MySQL's code {code}: {found.why}")


def by_mongo_code(error: Any) -> Answer:
    """Return what an answer of MongoDB says, by its labels and its code."""
    code: Any = error.code
    found = MONGO.get(code, LASTING)
    if error.has_error_label("RetryableWriteError"):
        found = MAY_PASS
    elif found is LASTING and error.has_error_label("TransientTransactionError"):
        found = MET
    return found._replace(why=f"MongoDB's code {code}: {found.why}")


def by_redis_message(message: str) -> Answer:
    """Return what an answer of Redis says; redis-py adds which command of a pipeline it is of."""
    code = message.rpartition(" of pipeline caused error: ")[2].partition(" ")[0]
    found = REDIS.get(code)
    return LASTING if found is None else found._replace(why=f"Redis's {code}: {found.why}")


def by_sqlite_code(error: Any) -> Answer:
    """Return what an exception of sqlite3 says."""
    code = getattr(error, "sqlite_errorcode", None)
    if isinstance(code, int):
        met = code & 0xFF in (_BUSY, _LOCKED)
    else:  # a cursor's own errors have no code
        met = any(word in str(error) for word in _LOCKED_WORDS)
    return MET if met else LASTING
