"""One connection to a server, as steps that threads and tasks take.

What is sent goes in libpq's pipeline mode: all statements of an exchange, and the preparation of
those that are sent a second time, travel together, and are one transaction. An exchange is done
when the server says that it is ready again, which is after the commit.
"""

import contextlib
import os
from collections.abc import Mapping, Sequence
from typing import Any

from mainstay.stores._postgres.address import conninfo
from mainstay.stores._postgres.driver import psycopg
from mainstay.stores._postgres.failures import Failure, not_connected
from mainstay.stores._postgres.waiting import READ, WRITE, Steps, ready
from mainstay.stores._postgres.wire import DECODERS, Bound, Reply, parsed

# Numbers of libpq.
_COMMAND_OK, _TUPLES_OK, _PIPELINE_SYNC, _PIPELINE_ABORTED = 1, 2, 10, 11
_SQLSTATE, _MESSAGE = ord("C"), ord("M")
_BINARY = 1
_PREPARED_FROM = 2
_LOST = "the connection was lost"

_FACTS = parsed(
    "facts",
    "SELECT pg_backend_pid() = :pid, date_part('epoch', pg_postmaster_start_time())::float8,"
    " current_setting('default_transaction_isolation'),"
    " (SELECT count(set_config(name, value, false)) FROM (VALUES ('enable_seqscan', 'off'),"
    "  ('enable_bitmapscan', 'off'), ('jit', 'off'),"
    "  ('plan_cache_mode', 'force_generic_plan'),"
    "  ('default_transaction_isolation', 'read committed')) AS wanted (name, value)"
    "  WHERE pg_backend_pid() = :pid)",
)
"""Whether the connection is direct: a pooler answers with a process id of its own. If it is, plans
use the indexes, whatever size the tables had when a statement was prepared; each is made once, as
that takes longer than a save; and nothing is compiled: what it costs to read a table as a whole is
set so high that it would be. And what waited for a row of a run reads all that is kept beside it as
it is then, not as it was before."""

_NEWEST = ("read committed", "read uncommitted")
_TOO_OLD = (
    "behind a pooler, default_transaction_isolation must be 'read committed', or a run that is "
    "taken over could miss its last save; have ALTER ROLE ... SET default_transaction_isolation = "
    "'read committed' run for the user, or give the store a direct connection"
)


class Session:
    """A connection, once `connecting` has been through.

    Attributes:
        direct: False if a pooler is between this process and the server.
        since: When the server started, in seconds since 1970 by its clock.
        usable: False if what went over the connection last was not answered.
        notified: What was heard and is to be taken out.
    """

    def __init__(self) -> None:
        self.direct = True
        self.since = 0.0
        self.usable = False
        self.notified: list[str] = []
        self._connection: Any = None
        self._uses: dict[bytes, int] = {}
        self._prepares = False
        self._errors: type[Exception] = psycopg().Error

    def connecting(self, parameters: Mapping[str, str]) -> Steps[None]:
        """Connect to one server.

        Raises:
            Failure: If that cannot be done.
        """
        library = psycopg()
        pq, poll = library.pq, library.pq.PollingStatus
        connection = pq.PGconn.connect_start(conninfo(parameters))
        self._connection = connection
        while True:
            status = connection.connect_poll()
            if status == poll.READING:
                yield connection.socket, READ
            elif status == poll.WRITING:
                yield connection.socket, WRITE
            elif status == poll.OK:
                break
            else:
                raise not_connected(connection.get_error_message())
        connection.nonblocking = 1
        connection.enter_pipeline_mode()
        pid = connection.backend_pid
        self.usable = True
        facts = yield from self.exchange([_FACTS.bound({"pid": pid})], prepare=False)
        self.direct, self.since, isolation, _ = facts[0].rows[0]
        if not self.direct and isolation not in _NEWEST:
            raise Failure(_TOO_OLD, retryable=False)

    def exchange(self, queries: Sequence[Bound], *, prepare: bool) -> Steps[list[Reply]]:
        """Send statements as one transaction, and return their answers.

        Args:
            queries: The statements, with their values.
            prepare: True to prepare those that are sent again.

        Raises:
            Failure: If one fails, and with it all of them; or if the connection is lost, when they
                may have been done or not.
        """
        self.usable = self._prepares = False
        try:
            sent = [self._send(query, prepare=prepare and self.direct) for query in queries]
            connection = self._connection
            connection.pipeline_sync()
            while connection.flush():
                yield connection.socket, READ | WRITE
                connection.consume_input()
            answers: list[Reply] = []
            failure: Failure | None = None
            for results in sent:
                for rank in range(results):
                    result = yield from self._result()
                    found = _answer(result)
                    if isinstance(found, Failure):
                        failure = failure or found
                    elif rank == results - 1:
                        answers.append(found)
            ready = yield from self._result(separated=False)
            end = _answer(ready)
            failure = failure or (end if isinstance(end, Failure) else None)
        except self._errors as error:
            raise self.lost(str(error)) from None
        # After a failure nobody knows what was prepared before the server met it.
        self.usable = failure is None or not self._prepares
        if failure is not None:
            raise failure
        return answers

    def take(self) -> None:
        """Take what the server has sent by itself.

        Raises:
            Failure: If the connection is lost.
        """
        try:
            self._connection.consume_input()
            while (told := self._connection.notifies()) is not None:
                self.notified.append(told.extra.decode(errors="replace"))
        except self._errors as error:
            raise self.lost(str(error)) from None

    @property
    def descriptor(self) -> int:
        """The descriptor of the socket."""
        number: int = self._connection.socket
        return number

    @property
    def is_open(self) -> bool:
        """True if the connection can be used again, as far as this side knows."""
        connection = self._connection
        if not self.usable or connection.status != 0:
            return False
        if _is_silent(connection.socket):
            return True
        with contextlib.suppress(Failure):
            self.take()
            return connection.status == 0 and _is_silent(connection.socket)
        return False

    def lost(self, message: str) -> Failure:
        """Return the failure for a connection that was lost."""
        self.usable = False
        said = "; ".join(dict.fromkeys(filter(None, map(str.strip, message.splitlines()))))
        return Failure(f"{_LOST}: {said}" if said else _LOST, "08006")

    def close(self) -> None:
        """Close the connection; also from another thread than that which waits for it."""
        self.usable = False
        if self._connection is not None:
            self._connection.finish()

    def abandon(self) -> None:
        """Abandon a connection that is the parent's: close this side's copy, and say nothing."""
        self.usable = False
        with contextlib.suppress(OSError, self._errors):
            os.close(self._connection.socket)

    def _send(self, query: Bound, *, prepare: bool) -> int:
        """Send a statement; return how many results it has."""
        connection, what = self._connection, query.statement
        uses = self._uses.get(what.name, 0)
        if not prepare or uses + 1 < _PREPARED_FROM:
            connection.send_query_params(what.text, query.values, what.types, what.formats, _BINARY)
            if prepare:
                self._uses[what.name] = uses + 1
            return 1
        if uses < _PREPARED_FROM:
            connection.send_prepare(what.name, what.text, what.types)
            self._uses[what.name] = _PREPARED_FROM
            self._prepares = True
        connection.send_query_prepared(what.name, query.values, what.formats, _BINARY)
        return 1 if uses >= _PREPARED_FROM else 2

    def _result(self, *, separated: bool = True) -> Steps[Any]:
        """Return the next result; after each but the last, libpq says that there are no more."""
        connection = self._connection
        while connection.is_busy():
            yield connection.socket, READ
            connection.consume_input()
        result = connection.get_result()
        if result is None:
            raise self.lost(connection.get_error_message())
        if separated:
            while connection.is_busy():
                yield connection.socket, READ
                connection.consume_input()
            connection.get_result()
        return result


def _answer(result: Any) -> Reply | Failure:
    """Return what a result says."""
    status = result.status
    if status == _TUPLES_OK:
        decoders = [DECODERS[result.ftype(column)] for column in range(result.nfields)]
        get = result.get_value
        rows = [
            tuple(
                None if (value := get(row, column)) is None else decode(value)
                for column, decode in enumerate(decoders)
            )
            for row in range(result.ntuples)
        ]
        return Reply(rows, len(rows))
    if status in (_COMMAND_OK, _PIPELINE_SYNC):
        return Reply([], result.command_tuples or 0)
    if status == _PIPELINE_ABORTED:
        return Failure("a statement before failed")
    code = (result.error_field(_SQLSTATE) or b"").decode()
    said = result.error_field(_MESSAGE)
    if said is None:  # libpq speaks, not the server
        message = result.get_error_message()
        return Failure(f"{_LOST}: {' '.join(message.split())}", "08006")
    return Failure(said.decode(errors="replace"), code)


def _is_silent(descriptor: int) -> bool:
    """Return True if nothing is there to read: an idle server says nothing but good-bye."""
    return not ready([(descriptor, READ)], 0)
