"""The how-to of PostgreSQL, with a real primary that is killed and a real standby."""

import contextlib
import importlib.util
from pathlib import Path

import psycopg
import pytest

from mainstay import current_lease
from support.pools import state_of, wait_until
from support.postgres import Postgres

pytestmark = pytest.mark.process

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "postgresql.py"


def example():
    """Import the program that the page shows."""
    spec = importlib.util.spec_from_file_location("example_postgresql", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def pair():
    with contextlib.ExitStack() as stack:
        primary = Postgres()
        stack.callback(primary.remove)
        primary.ask("create table orders (number serial primary key, what text)")
        standby = Postgres(standby_of=primary)
        stack.callback(standby.remove)
        yield primary, standby


def test_writes_move_to_the_standby_once_the_primary_is_stopped(pair, metrics):
    primary, standby = pair
    stopped = []

    def stop_primary():
        primary.stop()
        stopped.append(standby.ask("select pg_is_in_recovery()"))

    shown = example()
    with shown.orders_pool(primary.url, standby.url, stop_primary) as orders:
        place = shown.placing(orders)
        assert place("book") == 1
        wait_until(lambda: standby.ask("select what from orders") == [("book",)])
        primary.stop()

        def placed():
            with contextlib.suppress(psycopg.OperationalError, ExceptionGroup):
                return place("lamp") > 1
            return False

        wait_until(placed)
        assert stopped == [[(True,)]]  # once, and before the promotion
        assert standby.ask("select what from orders order by number") == [("book",), ("lamp",)]
        assert state_of(orders, "db1") == "ejected"
        assert orders.status().serving == ("db2",)
        assert orders.call(lambda _pool: current_lease().epoch) == 1
    assert metrics("failovers_total", from_member="db1", to_member="db2", reason="ejected") == 1
