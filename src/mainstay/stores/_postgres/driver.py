"""psycopg, imported when a store is made, and only then."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType

_MISSING = (
    "PostgresStore needs psycopg 3.2 or newer, which the extra `postgres` brings: "
    "pip install 'mainstay[postgres]'"
)


def psycopg() -> "ModuleType":
    """Return psycopg.

    Raises:
        ImportError: If psycopg is not installed, or finds no libpq; with what to do.
    """
    try:
        import psycopg  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise ImportError(_MISSING) from error
    return psycopg
