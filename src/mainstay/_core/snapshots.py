"""Looking at a dict that changes meanwhile, without a lock."""

from collections.abc import Mapping
from typing import Any, TypeVar

V = TypeVar("V")


def values_now(mapping: Mapping[Any, V]) -> list[V]:
    """Give the values of a dict that a garbage collection may change at any moment.

    A collection, and what its callbacks let other threads do, can come in wherever Python makes an
    object that it tracks. In `dict.copy` of Python 3.11 that is between the copy of the entries and
    that of their number, and iterating over such a copy raises RuntimeError; in `tuple` it is when
    the iteration has begun. Here the list is made first and the iterator next, which looks at the
    dict only then, and nothing more is made until its end.
    """
    return [*mapping.values()]
