"""psycopg against a server whose transactions meet.

pip install mainstay 'psycopg[binary,pool]'
python psycopg_client.py postgresql://...
"""

import sys
from concurrent.futures import ThreadPoolExecutor

from prometheus_client import REGISTRY
from psycopg import Connection, IsolationLevel
from psycopg.errors import QueryCanceled
from psycopg_pool import ConnectionPool

from mainstay import deadline, remaining, retry, transient


def limit(connection: Connection) -> None:
    """Let no statement of this transaction take longer than the time that is left."""
    milliseconds = int(remaining(10.0) * 1000) or 1
    connection.execute("select set_config('statement_timeout', %s, true)", [str(milliseconds)])


@retry(on=transient, attempts=10, name="transfer")
def transfer(pool: ConnectionPool, source: str, target: str, amount: int) -> None:
    """Move money: one whole transaction for each attempt, in a connection of its own."""
    with pool.connection(timeout=remaining(10.0)) as connection:
        limit(connection)
        change = "update accounts set amount = amount + %s where owner = %s"
        connection.execute(change, [-amount, source])
        connection.execute(change, [amount, target])


@retry(on=transient, name="report")
def report(pool: ConnectionPool) -> None:
    """Ask for what takes longer than anybody waits for."""
    with pool.connection(timeout=remaining(10.0)) as connection:
        limit(connection)
        connection.execute("select pg_sleep(5)")


def serializable(connection: Connection) -> None:
    """Let the server refuse what would not be as one transaction after the other."""
    connection.isolation_level = IsolationLevel.SERIALIZABLE


def main(url: str) -> None:
    """Move money from many threads, and ask for a report."""
    with ConnectionPool(url, min_size=4, configure=serializable) as pool:
        with pool.connection() as connection:
            connection.execute("create table accounts (owner text primary key, amount int)")
            connection.execute("insert into accounts values ('ada', 100), ('bob', 100)")

        def move(number: int) -> None:
            transfer(pool, *(("ada", "bob") if number % 2 else ("bob", "ada")), 1)

        with ThreadPoolExecutor(4) as threads:
            list(threads.map(move, range(40)))
        with pool.connection() as connection:
            print(connection.execute("select * from accounts order by owner").fetchall())

        try:
            with deadline(0.5):
                report(pool)
        except QueryCanceled as error:
            print("report:", error)

    labels = {"component": "transfer", "policy": "retry", "outcome": "recovered"}
    recovered = REGISTRY.get_sample_value("mainstay_calls_total", labels) or 0
    print("some were tried again:", recovered > 0)


if __name__ == "__main__":
    main(sys.argv[1])
