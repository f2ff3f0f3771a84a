"""What a store promises, checked before the first run in it: once in each process.

A store that is not fenced would let two owners write, so it is refused. What weakens another
promise is said in the log, and the store is used.
"""

import os
import weakref

from mainstay._core.events import logger_of
from mainstay.errors import StoreUnavailableError
from mainstay.stores.base import Store

_checked: "weakref.WeakKeyDictionary[Store, int]" = weakref.WeakKeyDictionary()


def are_checked(store: Store) -> bool:
    """True if the promises of *store* were checked in this process."""
    return _checked.get(store) == os.getpid()


def check_promises(store: Store) -> None:
    """Have *store* say what it can promise, unless it did so in this process.

    Raises:
        StoreUnavailableError: If it cannot keep a second owner from writing.
    """
    if are_checked(store):
        return
    promises = store.probe()
    reasons = "; ".join(promises.problems)
    if not promises.fenced:
        raise StoreUnavailableError(store.url, reasons or "it cannot refuse a second owner")
    if reasons:
        logger_of("checkpoint").warning("%s: %s", store.url, reasons)
    _checked[store] = os.getpid()
