"""What a server or a connection said, and whether the same request may succeed a moment later."""

import re
from collections.abc import Mapping

from mainstay.errors import CheckpointError
from mainstay.stores._failure import ServerFailure

UNIQUE_VIOLATION = "23505"
READ_ONLY = "25006"
NO_TABLE = "42P01"
NO_SCHEMA = "3F000"
NO_COLUMN = "42703"
DENIED = "42501"
TOO_LONG = "54000"
UNPREPARED = frozenset({"26000", "42P05", "08P01"})
"""What a pooler causes that gives each transaction to another session of the server."""

_PASSES = frozenset({
    "25006",  # a primary that is a standby now: a new connection finds the new one
    "40001", "40P01",  # serialization, deadlock
    "53000", "53200", "53300",  # no memory, no connection left
    "55000", "55P03",  # not in the state for it, locked
    "57014",  # a timeout of the server's
    "57P01", "57P02", "57P03", "57P05",  # stopped, crashed, starting, idle for too long
    "0A000",  # a prepared statement of before a change of the tables
    "26000", "42P05", "08P01",  # as UNPREPARED
})  # fmt: skip
_MIGRATE = "; have PostgresStore.migrate(url) run by a user who may make tables"
_HINTS: Mapping[str, str] = {
    NO_TABLE: _MIGRATE,
    NO_SCHEMA: _MIGRATE,
    NO_COLUMN: _MIGRATE,
    DENIED: (
        "; grant the user USAGE on the schema, and SELECT, INSERT, UPDATE and DELETE on all its "
        "tables"
    ),
    "53100": "; free some of the disk of the server",
    "22P05": "; the database must have the encoding UTF8",
    READ_ONLY: "; name all servers in the URL, with target_session_attrs=read-write",
}
_LASTING = re.compile(
    r"password authentication failed|authentication failed|no password supplied"
    r"|does not exist|no pg_hba\.conf entry|permission denied|not permitted to log in"
    r"|root certificate|certificate verify|server does not support SSL|no such user"
    r"|no such database|not allowed to connect|certificate authentication"
    r"|Name or service not known|unsupported startup parameter|invalid connection option"
    r"|invalid (integer |\w+ )?value|definition of service|unrecognized configuration parameter"
)
"""What of a failure to connect will not pass: libpq gives no code of it."""


class Failure(ServerFailure):
    """What PostgreSQL or a connection said; its code is the SQLSTATE."""

    HINTS = _HINTS
    CORRUPT = frozenset({"XX001", "XX002"})
    FOREIGN = frozenset({NO_TABLE, NO_SCHEMA, NO_COLUMN})

    def __init__(self, problem: str, code: str = "", *, retryable: bool | None = None) -> None:
        passes = code in _PASSES or code.startswith("08")
        super().__init__(problem, code, retryable=passes if retryable is None else retryable)

    def told(self, url: str) -> CheckpointError | ValueError:
        """Return the failure as the error that users of the store at *url* see."""
        if self.code == TOO_LONG:
            return ValueError(
                f"name and key of a run must be below 2,600 bytes together in PostgreSQL: "
                f"{self.problem}"
            )
        return super().told(url)


def not_connected(message: str) -> Failure:
    """Return the failure to connect that libpq describes by *message*."""
    problem = "; ".join(dict.fromkeys(filter(None, map(str.strip, message.splitlines()))))
    return Failure(problem, retryable=_LASTING.search(problem) is None)
