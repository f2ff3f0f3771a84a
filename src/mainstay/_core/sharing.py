"""Objects that calls share: pools, breakers, budgets. Each is one, and has no copy."""

from typing import NoReturn, SupportsIndex


class Shared:
    """Something with a state that all its users share, which a copy would divide."""

    __slots__ = ()

    def __reduce_ex__(self, protocol: SupportsIndex, /) -> NoReturn:
        raise TypeError(
            f"{self!r} cannot be copied or pickled: its state is shared by all that use it; make "
            f"it once in a module and import it from there, in each process"
        )
