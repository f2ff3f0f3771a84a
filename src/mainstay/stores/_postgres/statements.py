"""The statements of the store: what PostgreSQL reads and writes, each one round trip.

How a save is safe at the price of one statement: a change of the run's row checks token and grant
and locks the row by itself. A result alone locks the row with FOR SHARE, with which an acquisition,
which changes the token, conflicts; what has waited for the lock looks again, so that nobody who
lost the run meanwhile writes to it.

The last two documents are in two columns, which are written in turns: what is not written is not
written again, not even to the log. No column that a save changes is in an index, so that the new
version of a row lies beside the old one.

An acquisition is one statement where no owner need be looked for: for a run that is not there, or
that was left. A run that somebody has is read, and taken by a second one if it still is as it was
read. Results are read by a statement of its own behind that, in the same transaction, which locks
the row: what they are is not what they were when the first one began, and may have waited.

Times are the server's, unless the statements were made for those of a test.
"""

from collections.abc import Iterable

import attrs

from mainstay.stores._postgres.address import quoted
from mainstay.stores._postgres.wire import Statement, parsed

COLUMNS = (
    "name", "key", "life", "token", "granted", "sequence", "status", "boot", "namespace", "pid",
    "started", "host", "session", "since", "expires", "seen", "saved", "attempt", "crashes", "exit",
    "error", "arguments", "created", "updated",
)  # fmt: skip
PAGE = 1000

_OWNER = ("boot", "namespace", "pid", "started", "host", "session", "since")
_MUTABLE = COLUMNS[2:]
_WALL = "date_part('epoch', clock_timestamp())"
_NOW = ":now"
_RUN = "name = :name AND key = :key"
_GRANTED = f"{_RUN} AND token = :token AND granted = :granted"
_OWNED = f"{_GRANTED} AND status = 'running'"
_WAS = (
    f"{_RUN} AND token = :was_token AND granted = :was_granted AND status = :was_status "
    "AND sequence = :was_sequence AND expires = :was_expires AND seen = :was_seen"
)
_LATEST = "CASE generation % 2 WHEN 1 THEN odd ELSE even END"
_PREVIOUS = "CASE generation % 2 WHEN 1 THEN even ELSE odd END"
_LOCKED = (
    "SELECT classid::int8 << 32 | objid::int8 FROM pg_locks WHERE locktype = 'advisory' "
    "AND objsubid = 1 AND pg_locks.granted "
    "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)
_KEPT = (
    "('tcp_keepalives_idle', '2'), ('tcp_keepalives_interval', '1'), ('tcp_keepalives_count', '3'),"
    " ('idle_session_timeout', '0'), ('client_connection_check_interval', '1s')"
)
# A lock of before the server started proves nothing: all are gone with the server.
_SESSION_GONE = (
    "CASE WHEN status = 'running' AND session <> 0 "
    "AND since = date_part('epoch', pg_postmaster_start_time()) "
    f"THEN session NOT IN ({_LOCKED}) ELSE FALSE END"
)
_RENEWED = (
    f"expires = {_NOW} + :lease, seen = {_NOW}, updated = {_WALL}, "
    "sequence = greatest(sequence, :sequence)"
)
_PROGRESSED = f"{_RENEWED}, saved = {_NOW}, crashes = 0"
_SAVED = (
    f"{_PROGRESSED}, generation = generation + 1, "
    "odd = CASE generation % 2 WHEN 0 THEN :document ELSE odd END, "
    "even = CASE generation % 2 WHEN 1 THEN :document ELSE even END"
)
_FINISHED = (
    f"{_PROGRESSED}, generation = generation + 1, odd = :document, even = :document, "
    f"status = 'done', ended = {_WALL}"
)
CHANGES = {"renew": _RENEWED, "progress": _PROGRESSED, "save": _SAVED, "finish": _FINISHED}
"""What a change does to the row of its run."""


def names(columns: Iterable[str], form: str = "{}") -> str:
    """Return columns as a list in a statement."""
    return ", ".join(form.format(each) for each in columns)


@attrs.frozen(eq=False)
class Statements:
    """All statements, for the tables of one schema.

    Attributes:
        enter: Begins a run that is not there, resumes one that was left, or reads the one that is.
        take: Writes the record of a run that is as it was read.
        results: Reads a page of the results of a run.
        in_order: Has the rest of a transaction read results in their order, without sorting them.
        documents: Reads the documents of a run.
        step: Saves one result, if the lease is fresh; by whether it builds on a result.
        changes: Changes of a run, by kind, by how many results they put, whether they drop any, and
            whether they build on a result.
        standing: Reads how a run stands.
        kept: Reads results by their numbers.
        renew: Renews many leases.
        release: Releases a run.
        forget: Removes a run that is as it was read.
        find: Reads the record of a run.
        count: Counts the runs that are not running.
        surplus: Finds finished runs beyond the newest ones.
        old: Finds finished runs that ended long ago.
        await_: Asks that the end of a run be told.
        listen: Asks for the notifications of the store.
        facts: Reads what the server promises.
        lock: Takes the lock of a process.
    """

    schema: str
    channel: str
    enter: Statement
    take: Statement
    results: Statement
    in_order: Statement
    documents: Statement
    step: dict[bool, Statement]
    changes: dict[tuple[str, str, bool, bool], Statement]
    standing: Statement
    kept: Statement
    renew: Statement
    release: Statement
    forget: Statement
    find: Statement
    count: Statement
    surplus: Statement
    old: Statement
    await_: Statement
    listen: Statement
    facts: Statement
    lock: Statement
    pages: dict[tuple[bool, bool, bool], Statement]


def statements(schema: str, *, now: str = _WALL) -> Statements:
    """Return the statements for the tables in *schema*.

    Args:
        schema: The name of the schema.
        now: The present time, in a statement; ``:now`` to give it with each.
    """

    def statement(name: str, text: str) -> Statement:
        return parsed(name, text.replace(_NOW, now))

    inside = quoted(schema)
    run, result, forgotten = (f"{inside}.{table}" for table in ("run", "result", "forgotten"))
    channel = f"mainstay {schema}"
    record = names(COLUMNS, "run.{}")
    notify = "CASE WHEN owned.awaited THEN pg_notify(:channel, :payload) END"
    made = (
        ":life, greatest(forgotten.token, :above) + 1, :granted, 0, 'running', "
        ":boot, :namespace, :pid, :started, "
        f":host, :session, :since, {_NOW} + :lease, {_NOW}, {_NOW}, 1, 0, '', '', :arguments, "
        f"{_WALL}, {_WALL}"
    )
    dropped = f"DELETE FROM {result} AS result USING owned WHERE result.run = owned.id"
    put = f"INSERT INTO {result} (run, number, slot, value) SELECT owned.id, "
    puts = {
        "none": "",
        "one": f"{put}:number, :slot, :value FROM owned",
        "many": (f"{put}many.* FROM owned, unnest(:numbers, :slots, :values) AS many"),
    }

    # What a save builds on; most name no result, and not to look for one saves a fifth of the time.
    builds = {
        False: "sequence >= :after",
        True: f"sequence >= :after AND EXISTS (SELECT FROM {result} AS result "
        "WHERE result.run = run.id AND result.number = :after_result)",
    }

    def change(kind: str, many: str, drops: bool, on_result: bool) -> Statement:  # noqa: FBT001 - parts of a key
        update = (
            f"UPDATE {run} AS run SET {CHANGES[kind]} WHERE {_OWNED} AND sequence < :below "
            f"AND {builds[on_result]}"
        )
        notifies = kind == "finish"
        name = f"{kind}_{many}_{drops}_{on_result}"
        if many == "none" and not drops and not notifies:
            return statement(name, update)
        parts = [f"owned AS ({update} RETURNING id, awaited)"]
        if drops:
            parts.append(f"dropped AS ({dropped} AND number = ANY (:drops))")
        if many != "none":
            parts.append(f"put AS ({puts[many]})")
        told = f"{notify} IS NULL" if notifies else "1"
        return statement(name, f"WITH {', '.join(parts)} SELECT {told}::text FROM owned")

    def page(name: bool, after: bool, status: bool) -> Statement:  # noqa: FBT001 - parts of a key
        conditions = [
            *(["run.name = :name"] if name else []),
            *(["(run.name, run.key) > (:after_name, :after_key)"] if after else []),
            *(["run.status IN (:status, 'running')"] if status else []),
        ]
        where = f"WHERE {' AND '.join(conditions)} " if conditions else ""
        return statement(
            f"page_{name}_{after}_{status}",
            f"SELECT {_NOW}, {_SESSION_GONE}, {record} FROM {run} AS run {where}"
            "ORDER BY run.name, run.key LIMIT :limit",
        )

    both = (False, True)
    return Statements(
        schema=schema,
        channel=channel,
        enter=statement(
            "enter",
            f"""
            WITH made AS (
                INSERT INTO {run} AS run ({names(COLUMNS)})
                SELECT :name, :key, {made} FROM (
                    SELECT token FROM {forgotten}
                    WHERE NOT EXISTS (SELECT FROM {run} WHERE {_RUN}) FOR SHARE
                ) AS forgotten
                ON CONFLICT (name, key) DO NOTHING RETURNING {record}
            ), was AS (
                SELECT id, greatest(0, seen - saved) AS idle FROM {run}
                WHERE {_RUN} AND status = 'interrupted' FOR UPDATE
            ), resumed AS (
                UPDATE {run} AS run SET {names(_OWNER, "{0} = :{0}")}, token = token + 1,
                    granted = :granted, sequence = 0, status = 'running',
                    expires = {_NOW} + :lease, seen = {_NOW}, saved = {_NOW},
                    attempt = attempt + 1, crashes = 0,
                    arguments = coalesce(:arguments, arguments), updated = {_WALL}, awaited = FALSE
                FROM was WHERE run.id = was.id
                RETURNING was.idle, {_LATEST}, {_PREVIOUS}, {record}
            )
            SELECT 'begun', {_NOW}, {_WALL}, FALSE, 0, NULL::bytea, NULL::bytea, made.* FROM made
            UNION ALL
            SELECT 'resumed', {_NOW}, {_WALL}, FALSE, resumed.* FROM resumed
            UNION ALL
            SELECT 'found', {_NOW}, {_WALL}, {_SESSION_GONE}, 0,
                CASE WHEN status = 'done' OR run.granted = :granted THEN {_LATEST} END,
                CASE WHEN status = 'done' OR run.granted = :granted THEN {_PREVIOUS} END,
                {record}
            FROM {run} AS run WHERE {_RUN} AND NOT EXISTS (SELECT FROM resumed)
            """,
        ),
        take=statement(
            "take",
            f"""
            WITH taken AS (
                UPDATE {run} SET {names(_MUTABLE, "{0} = :{0}")}, ended = NULL,
                    awaited = FALSE,
                    odd = CASE WHEN :began THEN NULL ELSE odd END,
                    even = CASE WHEN :began THEN NULL ELSE even END,
                    generation = CASE WHEN :began THEN 0 ELSE generation END
                WHERE {_WAS} RETURNING id, {_LATEST} AS latest, {_PREVIOUS} AS previous
            ), dropped AS (
                DELETE FROM {result} AS result USING taken
                WHERE :began AND result.run = taken.id
            )
            SELECT latest, previous FROM taken
            """,
        ),
        results=statement(
            "results",
            f"SELECT number, slot, value FROM {result} AS result WHERE result.run = ("
            f"SELECT id FROM {run} WHERE {_RUN} AND (:granted = '' OR granted = :granted "
            f"OR status = 'done')) AND number > :after ORDER BY number LIMIT {PAGE}",
        ),
        in_order=statement(
            "in_order", "SELECT set_config('enable_bitmapscan', 'off', TRUE) IS NULL"
        ),
        documents=statement("documents", f"SELECT {_LATEST}, {_PREVIOUS} FROM {run} WHERE {_RUN}"),
        step={
            on_result: statement(
                f"step_{on_result}",
                f"INSERT INTO {result} (run, number, slot, value) "
                f"SELECT id, :number, :slot, :value FROM {run} AS run WHERE {_OWNED} "
                f"AND crashes = 0 AND expires > {_NOW} + :fresh AND {builds[on_result]} FOR SHARE",
            )
            for on_result in both
        },
        changes={
            (kind, many, drops, on_result): change(kind, many, drops, on_result)
            for kind in CHANGES
            for many in puts
            for drops in both
            for on_result in both
        },
        standing=statement("standing", f"SELECT status, sequence FROM {run} WHERE {_GRANTED}"),
        kept=statement(
            "kept",
            f"SELECT number, slot, value FROM {result} AS result WHERE result.run = "
            f"(SELECT id FROM {run} WHERE {_OWNED}) AND number = ANY (:numbers)",
        ),
        renew=statement(
            "renew_many",
            f"""
            UPDATE {run} AS run SET expires = {_NOW} + convert_from(lease.seconds, 'UTF8')::float8,
                seen = {_NOW}, updated = {_WALL}
            FROM unnest(:names, :keys, :tokens, :grants, :leases)
                AS lease (name, key, token, granted, seconds)
            WHERE run.name = convert_from(lease.name, 'UTF8')
                AND run.key = convert_from(lease.key, 'UTF8') AND run.token = lease.token
                AND run.granted = convert_from(lease.granted, 'UTF8') AND run.status = 'running'
            RETURNING run.name, run.key
            """,
        ),
        release=statement(
            "release",
            f"WITH owned AS (UPDATE {run} SET status = 'interrupted', exit = :exit, "
            f"error = :error, crashes = 0, seen = {_NOW}, updated = {_WALL} WHERE {_OWNED} "
            f"RETURNING id, awaited), dropped AS ({dropped} AND number = ANY (:drops)) "
            f"SELECT {notify} IS NULL FROM owned",
        ),
        forget=statement(
            "forget",
            f"WITH found AS (SELECT id, token FROM {run} WHERE {_WAS} FOR UPDATE), "
            f"remembered AS (UPDATE {forgotten} AS forgotten SET token = "
            "greatest(forgotten.token, found.token) FROM found), "
            f"dropped AS (DELETE FROM {result} AS result USING found "
            "WHERE result.run = found.id) "
            f"DELETE FROM {run} AS run USING found WHERE run.id = found.id",
        ),
        find=statement(
            "find", f"SELECT {_NOW}, {_SESSION_GONE}, {record} FROM {run} AS run WHERE {_RUN}"
        ),
        count=statement(
            "count",
            f"SELECT name, 'done', count(*) FROM {run} WHERE ended IS NOT NULL GROUP BY name "
            f"UNION ALL SELECT name, status, count(*) FROM {run} WHERE ended IS NULL "
            "AND status <> 'running' GROUP BY name, status",
        ),
        surplus=statement(
            "surplus",
            f"SELECT name, key FROM (SELECT name, key FROM {run} WHERE name = :name "
            "AND ended IS NOT NULL ORDER BY ended DESC OFFSET :offset) AS surplus "
            "WHERE key <> :key",
        ),
        old=statement(
            "old",
            f"SELECT name, key FROM {run} WHERE name = :name AND ended IS NOT NULL "
            f"AND key <> :key AND ended < {_WALL} - :seconds",
        ),
        await_=statement(
            "await", f"UPDATE {run} SET awaited = TRUE WHERE {_RUN} AND status = 'running'"
        ),
        listen=statement("listen", f"LISTEN {quoted(channel)}"),
        facts=statement(
            "promises",
            "SELECT current_setting('fsync'), current_setting('full_page_writes'), "
            "current_setting('synchronous_commit'), current_setting('synchronous_standby_names'), "
            "pg_is_in_recovery(), (SELECT count(*) FROM pg_stat_replication), "
            "current_setting('transaction_read_only')",
        ),
        lock=statement(
            "lock",
            f"WITH kept AS MATERIALIZED (SELECT count(set_config(name, wanted.value, FALSE)) "
            f"FROM (VALUES {_KEPT}) AS wanted (name, value) JOIN pg_settings USING (name)) "
            "SELECT pg_advisory_lock(:lock) IS NULL, count FROM kept",
        ),
        pages={
            (name, after, status): page(name, after, status)
            for name in both
            for after in both
            for status in both
        },
    )
