"""The check of a store's promises before its first run, once in each process.

A store that is not fenced would let two owners write, and is refused. Problems that weaken another
promise are logged, and the store is used.
"""

import weakref
from collections.abc import Callable

from mainstay._core.events import logger_of
from mainstay._core.forks import around_forks
from mainstay.errors import StoreUnavailableError
from mainstay.stores.base import Store

_checked: dict[int, Callable[[], Store | None]] = {}
"""By the id of a store: what returns the store while it lives. A store need not have a hash."""


def are_checked(store: Store) -> bool:
    """True if the promises of *store* were checked in this process."""
    known = _checked.get(id(store))
    return known is not None and known() is store


def check_promises(store: Store) -> None:
    """Check what *store* can promise, unless this process has done so already.

    Raises:
        StoreUnavailableError: If the store cannot keep a second owner from writing.
    """
    if are_checked(store):
        return
    promises = store.probe()
    reasons = "; ".join(promises.problems)
    if not promises.fenced:
        raise StoreUnavailableError(store.url, reasons or "it cannot refuse a second owner")
    if reasons:
        logger_of("checkpoint").warning("%s: %s", store.url, reasons)
    number, forget = id(store), _checked.pop  # at the end of the process there are no globals
    try:
        _checked[number] = weakref.ref(store, lambda _: forget(number, None))
    except TypeError:  # its class has `__slots__`, and none for weak references
        _checked[number] = lambda: store


around_forks(in_child=_checked.clear)
