"""Where checkpointed runs are kept: the `Store` protocol, and the stores that come with mainstay.

`SQLiteStore` is the embedded default, `PostgresStore`, `RedisStore` and `S3Store` are for many
machines, and `MemoryStore` is for tests. `store_of` finds the store that a URL, or
`$MAINSTAY_STORE`, names. To write one, read `mainstay.stores.base`.
"""

import functools
import os
import re
from importlib import import_module
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from mainstay._core.threads import get_or_create
from mainstay._core.words import masked
from mainstay.stores.base import Promises, Store
from mainstay.stores.memory import MemoryStore
from mainstay.stores.sqlite import UNUSABLE, SQLiteStore

if TYPE_CHECKING:
    from mainstay.stores.postgres import PostgresStore
    from mainstay.stores.redis import RedisStore
    from mainstay.stores.s3 import S3Store

__all__ = [
    "MemoryStore",
    "PostgresStore",
    "Promises",
    "RedisStore",
    "S3Store",
    "SQLiteStore",
    "Store",
    "store_of",
]

_VARIABLE = "MAINSTAY_STORE"
_URL = re.compile(
    r"sqlite:///(?P<path>[^?#\0-\x1f\x7f]+)(\?mode=(?P<mode>0?[0-7]{3}))?"
    r"|memory://[^?#\0-\x1f\x7f\ud800-\udfff]*"
)

_SERVERS = {
    "postgresql": "PostgresStore",
    "postgres": "PostgresStore",
    "redis": "RedisStore",
    "rediss": "RedisStore",
    "s3": "S3Store",
}
"""The stores on servers, by the scheme of their URLs."""

_AT_FIRST_USE = {
    "PostgresStore": "mainstay.stores.postgres",
    "RedisStore": "mainstay.stores.redis",
    "S3Store": "mainstay.stores.s3",
}
"""Where the stores are that not everybody uses: they are imported when they are asked for."""

_named: dict[str, Store] = {}


def store_of(store: object = None) -> Store:
    """Return the store that a value of `store=` means.

    The same URL means the same store object everywhere in a process.

    Args:
        store: A `Store`, a URL (``sqlite:///jobs.db``, ``sqlite:////var/lib/jobs.db``,
            ``sqlite:///jobs.db?mode=0660``, ``postgresql://app@db1,db2/jobs``,
            ``redis://host/0``, ``s3://bucket/prefix``, ``memory://``), or None for the URL in
            `$MAINSTAY_STORE`.

    Raises:
        TypeError: If *store* is none of these.
        ValueError: If the URL is of no known kind of store, or *store* and `$MAINSTAY_STORE` are
            both missing.
        ImportError: If the store needs an extra of mainstay that is not installed.

    Example:
        >>> from mainstay.stores import store_of
        >>> store_of("sqlite:///jobs.db")
        SQLiteStore('jobs.db')
    """
    if store is None:
        store = os.environ.get(_VARIABLE)
        if not store:
            raise ValueError(
                f"`store` must be given, or ${_VARIABLE} set, to a URL such as sqlite:///jobs.db"
            )
    if isinstance(store, str):
        return get_or_create(_named, store, functools.partial(_opened, store))
    if isinstance(store, type) or not isinstance(store, Store):
        raise TypeError(f"`store` must be a Store, a URL or None, not {store!r}")
    return store


def __getattr__(name: str) -> object:
    if name in _AT_FIRST_USE:
        return _imported(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _imported(name: str) -> Any:
    return getattr(import_module(_AT_FIRST_USE[name]), name)


def _opened(url: str) -> Store:
    scheme, separator, _ = url.partition("://")
    if separator and scheme in _SERVERS:
        store: Store = _imported(_SERVERS[scheme])(url)
        return store
    parts = _URL.fullmatch(url)
    if parts is not None and parts["path"] is None:
        return MemoryStore()
    path = "" if parts is None else _decoded(parts["path"])
    if parts is None or not path:
        raise ValueError(
            f"`store` must be a URL such as sqlite:///jobs.db (relative), sqlite:////var/jobs.db "
            f"(absolute), sqlite:///jobs.db?mode=0660, postgresql://app@db1,db2/jobs, "
            f"redis://host/0, s3://bucket/prefix or memory://, with %3F and %23 for ? and # in a "
            f"name, not {masked(url)!r}"
        )
    return SQLiteStore(path, mode=int(parts["mode"] or "0600", 8))


def _decoded(path: str) -> str:
    """Return the name of a file out of a URL, or "" if no file can have it."""
    try:
        name = unquote(path, errors="strict")
    except UnicodeDecodeError:
        return ""
    return "" if UNUSABLE.search(name) else name
