"""`Shared`: objects that calls share and that remember calls, such as pools, breakers and budgets.

They cannot be copied or pickled. Tests reset all of them: each class registers here how.
"""

import weakref
from collections.abc import Callable
from typing import Any, ClassVar, NoReturn, SupportsIndex, TypeVar

T = TypeVar("T")

_owners: "weakref.WeakKeyDictionary[Any, Callable[[Any], object]]" = weakref.WeakKeyDictionary()


class Shared:
    """Something with a state that all its users share, which a copy would divide."""

    __slots__ = ()
    _IN_PLACE_OF_COPIES: ClassVar[str] = (
        "make it once in a module and import it from there, in each process"
    )
    """What to do where a copy is wanted."""

    def __reduce_ex__(self, protocol: SupportsIndex, /) -> NoReturn:
        raise TypeError(
            f"{self!r} cannot be copied or pickled: its state is shared by all that use it; "
            f"{self._IN_PLACE_OF_COPIES}"
        )


def reset_with_all(owner: T, reset: Callable[[T], object]) -> None:
    """Have `reset_all` call *reset* with *owner*, as long as that lives."""
    _owners[owner] = reset


def reset_all() -> None:
    """Reset everything in the process that remembers calls: for tests."""
    for owner, reset in tuple(_owners.items()):
        reset(owner)
