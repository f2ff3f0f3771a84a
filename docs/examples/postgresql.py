"""A PostgreSQL primary and its streaming standby as one pool: writes move to the standby."""

from collections.abc import Callable

import psycopg
from psycopg_pool import ConnectionPool

from mainstay import Failback, FailoverPool, Member, Probe, failover, transient


def connect(url: str) -> ConnectionPool:
    """Open a pool of connections to one server."""
    pool = ConnectionPool(url, timeout=2.0, open=False)
    pool.open(wait=True, timeout=5.0)
    return pool


def answers(pool: ConnectionPool) -> bool:
    """Say whether the server answers, whatever its role."""
    with pool.connection(timeout=1.0) as connection:
        return connection.execute("select 1").fetchone() == (1,)


def orders_pool(primary: str, standby: str, stop_primary: Callable[[], object]) -> FailoverPool:
    """Make a pool of two servers.

    Args:
        primary: The URL of the primary.
        standby: The URL of its standby.
        stop_primary: Returns when the primary can take no more writes; raises if it cannot tell.
    """

    def take_over(_old: str, _new: str) -> None:
        stop_primary()
        with psycopg.connect(standby, autocommit=True) as connection:
            connection.execute("select pg_promote(wait => true)")

    return FailoverPool(
        "orders-db",
        [
            Member("db1", open=lambda: connect(primary), close=ConnectionPool.close),
            Member("db2", open=lambda: connect(standby), close=ConnectionPool.close, standby="hot"),
        ],
        on=transient,
        probe=Probe(answers, every=2.0),
        fence=take_over,
        failback=Failback("manual"),
    )


def placing(orders: FailoverPool) -> Callable[[str], int]:
    """Make the function that places an order and gives its number."""

    @failover(orders, rerun=False)
    def place(pool: ConnectionPool, what: str) -> int:
        with pool.connection() as connection:
            statement = "insert into orders (what) values (%s) returning number"
            row = connection.execute(statement, [what]).fetchone()
        return int(row[0]) if row else 0

    return place
