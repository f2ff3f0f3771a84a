"""SQLAlchemy against a server that ends its connections.

pip install mainstay sqlalchemy 'psycopg[binary]'
python sqlalchemy_client.py postgresql+psycopg://...
"""

import sys

from prometheus_client import REGISTRY
from sqlalchemy import Engine, create_engine, event, select, text
from sqlalchemy.exc import DBAPIError, NoResultFound
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from mainstay import deadline, remaining, retry, transient


class Base(DeclarativeBase):
    """The tables."""


class Item(Base):
    """What the shop has."""

    __tablename__ = "stock"

    name: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int]


def connect_to(url: str) -> Engine:
    """Make the engine: one for the program."""
    engine = create_engine(url, pool_timeout=2.0, connect_args={"connect_timeout": 2})

    @event.listens_for(engine, "begin")
    def limit(connection) -> None:  # noqa: ANN001 - of SQLAlchemy's event
        """Let no statement take longer than the time that is left."""
        milliseconds = int(remaining(10.0) * 1000) or 1
        connection.exec_driver_sql(f"set local statement_timeout = {milliseconds}")

    return engine


@retry(on=transient, name="sell")
def sell(engine: Engine, name: str) -> int:
    """Sell one: a session and a transaction for each attempt, and objects that it has read."""
    with Session(engine) as session, session.begin():
        item = session.execute(select(Item).filter_by(name=name).with_for_update()).scalar_one()
        item.number -= 1
        return item.number


def end_connections(engine: Engine) -> None:
    """Do what an administrator does before an upgrade."""
    with engine.connect() as connection:
        mine = "pid <> pg_backend_pid() and usename = current_user"
        connection.execute(
            text(f"select pg_terminate_backend(pid) from pg_stat_activity where {mine}")  # noqa: S608 - no input
        )


def main(url: str) -> None:
    """Sell, through connections that the server has ended meanwhile."""
    engine, administrator = connect_to(url), create_engine(url)
    Base.metadata.create_all(engine)
    with Session(engine) as session, session.begin():
        session.add(Item(name="lamp", number=3))

    print("left:", sell(engine, "lamp"))
    end_connections(administrator)
    print("left:", sell(engine, "lamp"))

    try:
        sell(engine, "no such thing")
    except NoResultFound as error:
        print("not sold:", error)

    try:
        with deadline(0.5), Session(administrator) as other, other.begin():
            other.execute(select(Item).with_for_update())  # and somebody else wants it
            sell(engine, "lamp")
    except DBAPIError as error:
        print("not sold:", type(error.orig).__name__)

    labels = {"component": "sell", "policy": "retry", "outcome": "recovered"}
    print("recovered:", REGISTRY.get_sample_value("mainstay_calls_total", labels))
    engine.dispose()
    administrator.dispose()


if __name__ == "__main__":
    main(sys.argv[1])
