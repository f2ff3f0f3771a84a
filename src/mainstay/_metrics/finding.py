"""How what is made at first use is found again, without a lock."""

from collections.abc import Callable
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


def find_or_make(known: dict[K, V], key: K, make: Callable[[], V]) -> V:
    """Give what is known by *key*; if nothing is, what *make* gives.

    Two threads, or a thread and its signal handler, may make it at the same time. Then the one
    that is kept first stands, for both of them.
    """
    found = known.get(key)
    return known.setdefault(key, make()) if found is None else found
