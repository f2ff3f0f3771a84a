"""The tables of the store, and how a schema comes to have them.

Any number of processes may come to a new database at once: each that has something to migrate does
so in one transaction, behind a lock that lasts as long, and looks again once it has the lock.

The columns have no CHECK: the server parses the text of each again at every save, whichever columns
change, which is a fifth of what a save of a document costs it.
"""

from collections.abc import Generator, Sequence

from mainstay.errors import StoreSchemaError
from mainstay.stores._postgres.address import quoted
from mainstay.stores._postgres.failures import DENIED, READ_ONLY, Failure
from mainstay.stores._postgres.wire import Bound, Reply, parsed

_MIGRATIONS = (
    """
    CREATE TABLE {schema}.run (
        id int8 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        name text COLLATE "C" NOT NULL, key text COLLATE "C" NOT NULL, life text NOT NULL,
        token int8 NOT NULL, granted text NOT NULL, sequence int8 NOT NULL,
        status text NOT NULL,
        boot text NOT NULL, namespace text NOT NULL, pid int8 NOT NULL, started int8 NOT NULL,
        host text NOT NULL, session int8 NOT NULL, since float8 NOT NULL,
        expires float8 NOT NULL, seen float8 NOT NULL, saved float8 NOT NULL,
        attempt int8 NOT NULL, crashes int8 NOT NULL, error text NOT NULL, exit text NOT NULL,
        arguments bytea, created float8 NOT NULL, updated float8 NOT NULL, ended float8,
        awaited bool NOT NULL DEFAULT FALSE,
        generation int8 NOT NULL DEFAULT 0, odd bytea, even bytea,
        UNIQUE (name, key)
    ) WITH (fillfactor = 50);
    CREATE INDEX run_ended ON {schema}.run (name, ended) WHERE ended IS NOT NULL;
    CREATE INDEX run_open ON {schema}.run (name, key) WHERE ended IS NULL;
    CREATE TABLE {schema}.result (
        run int8 NOT NULL, number int8 NOT NULL, slot bytea NOT NULL, value bytea NOT NULL,
        PRIMARY KEY (run, number)
    );
    CREATE TABLE {schema}.forgotten (token int8 NOT NULL);
    INSERT INTO {schema}.forgotten VALUES (0)
    """,
)
"""The steps from each version of the schema to the next; the table `version` counts those made."""

LATEST = len(_MIGRATIONS)
# To read these tables is to hear what others have made; to_regclass() may not have heard of it.
_IS_MISSING = "SELECT NOT EXISTS (SELECT FROM pg_{} WHERE {})"
_VERSION = "schemaname = :name AND tablename = 'version'"
_LOCK = 0x6D7363792D7067  # "mscy-pg"

Exchanges = Generator[Sequence[Bound], list[Reply], None]


def checking(url: str, schema: str) -> Exchanges:
    """Find the tables that the store needs, or make them: the exchanges of that.

    Raises:
        StoreSchemaError: If the tables are of a newer mainstay, or cannot be made.
    """
    try:
        [versions] = yield [_query("version", f"SELECT version FROM {quoted(schema)}.version")]
    except Failure as failure:
        if failure.code not in ("42P01", "3F000"):
            raise
    else:
        if _checked(versions, url) == LATEST:
            return
    yield from migrating(url, schema)


def migrating(url: str, schema: str) -> Exchanges:
    """Bring the tables up to date: the exchanges of that, in one transaction.

    Raises:
        StoreSchemaError: If the tables are of a newer mainstay, or cannot be made.
    """
    inside = quoted(schema)
    version = f"{inside}.version"
    try:
        [_, _, spaces, tables] = yield [
            _query("begin", "BEGIN ISOLATION LEVEL READ COMMITTED"),
            _query("migration", f"SELECT pg_advisory_xact_lock({_LOCK}) IS NULL"),
            _query("spaces", _IS_MISSING.format("namespace", "nspname = :name"), name=schema),
            _query("tables", _IS_MISSING.format("tables", _VERSION), name=schema),
        ]
        if spaces.rows[0][0]:
            yield [_query("space", f"CREATE SCHEMA {inside}")]
        if tables.rows[0][0]:
            yield [
                _query("made", f"CREATE TABLE {version} (version int8 NOT NULL)"),
                _query("zero", f"INSERT INTO {version} VALUES (0)"),
            ]
        [versions] = yield [_query("version", f"SELECT version FROM {version}")]
        steps = [
            each
            for step in _MIGRATIONS[_checked(versions, url) :]
            for each in step.format(schema=inside).split(";")
        ]
        yield [
            *(_query("step", each) for each in steps),
            _query("made", f"UPDATE {version} SET version = {LATEST}"),
            _query("commit", "COMMIT"),
        ]
    except Failure as failure:
        if failure.code not in (DENIED, READ_ONLY):
            raise
        raise StoreSchemaError(
            url,
            f"its tables are not there, or not those of this mainstay, and cannot be made "
            f"({failure.problem}); have PostgresStore.migrate(url) run once by a user who may",
        ) from None


def _query(label: str, text: str, **values: object) -> Bound:
    return parsed(label, text).bound(values)


def _checked(versions: Reply, url: str) -> int:
    """Return the version of the tables."""
    found = [version for (version,) in versions.rows]
    if len(found) != 1:
        raise StoreSchemaError(url, "its table version is another program's; name another schema")
    if found[0] > LATEST:
        raise StoreSchemaError(
            url,
            f"it has schema {found[0]}, and this mainstay knows {LATEST}; upgrade mainstay",
        )
    version: int = found[0]
    return version
