"""The last good answer of each key, for a while: what `fallback(last_good=)` keeps.

    an answer comes     it is the newest of its key; the key that was answered longest ago goes,
                        if there are too many
    an answer is asked  the newest of that key, unless it is too old

Keys are told apart by value and type, in all their parts: 1, True and 1.0 are three keys.
"""

import threading
from collections import OrderedDict
from collections.abc import Hashable
from types import NoneType
from typing import Any

import attrs

from mainstay._core.forks import reset_after_fork, unlocked_copy
from mainstay._core.sharing import reset_with_all

_PLAIN = frozenset((NoneType, bool, int, float, str, bytes))
"""What has no parts, and is a key of most calls."""


@attrs.define(eq=False)
class GoodAnswer:
    """A good answer, in place of which a newer one is put.

    Attributes:
        value: What was returned.
        at: When, in seconds of the call's clock.
    """

    value: Any
    at: float


class LastGood:
    """The newest answer of each key, for a limited number of keys.

    Args:
        keep: The largest number of keys.
    """

    def __init__(self, keep: int) -> None:
        self._keep = keep
        self._found: OrderedDict[Hashable, GoodAnswer] = OrderedDict()
        self._lock = threading.RLock()  # a signal handler may come back in on the same thread
        reset_after_fork(self, LastGood._reset_after_fork)
        reset_with_all(self, LastGood._forget)

    def _forget(self) -> None:
        with self._lock:
            self._found.clear()

    def _reset_after_fork(self) -> None:
        self._lock = unlocked_copy(self._lock)

    def put(self, key: Hashable, value: Any, at: float) -> None:
        """Keep the answer of a call, unless a later one was faster."""
        with self._lock:
            found = self._found
            good = found.get(key)
            if good is None:
                found[key] = GoodAnswer(value, at)
                if len(found) > self._keep:
                    found.popitem(last=False)
            elif good.at <= at:
                good.value = value
                good.at = at
                found.move_to_end(key)

    def get(self, key: Hashable, now: float, age: float) -> tuple[Any, float] | None:
        """Return the newest answer of *key* that is at most *age* seconds old, and its age."""
        with self._lock:
            good = self._found.get(key)
            if good is None or now - good.at > age:
                return None
            return good.value, now - good.at

    def __len__(self) -> int:
        return len(self._found)


def key_of_call(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Hashable:
    """Return a key that tells a call from every other one, as `key_of` does.

    Raises:
        TypeError: If an argument, or a part of it, cannot be hashed.
    """
    if kwargs:
        return key_of(args), key_of(tuple(sorted(kwargs.items())))
    if len(args) == 1 and (kind := type(args[0])) in _PLAIN:
        return kind, args[0]
    return key_of(args)


def key_of(value: Any) -> Hashable:
    """Return a key that tells *value* from every other one, by value and type.

    So are the parts of tuples, frozen sets, dataclasses and attrs classes.

    Raises:
        TypeError: If it, or a part of it, cannot be hashed.
    """
    kind = type(value)
    if kind in _PLAIN:
        return kind, value
    if kind is tuple:
        kinds = tuple(map(type, value))
        if _PLAIN.issuperset(kinds):  # the arguments of most calls
            return kinds, value
    hash(value)
    if issubclass(kind, tuple):
        return kind, tuple(map(key_of, value))
    if issubclass(kind, frozenset):
        return kind, frozenset(map(key_of, value))
    names = [*getattr(kind, "__dataclass_fields__", ())]
    names += [each.name for each in getattr(kind, "__attrs_attrs__", ())]
    return kind, value, tuple(key_of(getattr(value, name)) for name in names)
