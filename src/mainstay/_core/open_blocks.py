"""`OpenBlocks`: which call ends when a block of a shared object is left, in whatever order.

A shared object, as in ``with breaker:``, may be open any number of times at once, and ``__exit__``
is not told which of its blocks is left. The call that ends is, in this order,

1. the call of the frame that is leaving: the frame of the ``with`` statement is the same on entry
   and exit, also in a generator that is closed elsewhere or read alternately with another one;
2. the innermost call of the context, since an `ExitStack` enters and leaves in frames of its own;
3. the call that was entered last.
"""

import itertools
import sys
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from mainstay._core.threads import values_now

if TYPE_CHECKING:
    from types import CodeType

C = TypeVar("C")

_AROUND: ContextVar[tuple[tuple["OpenBlocks[Any]", Any], ...]] = ContextVar(
    "mainstay_blocks", default=()
)
"""The blocks around the calling code, the innermost first: of which object, and their calls.

Those that were left elsewhere are over, and are taken out when the next one is entered.
"""


class OpenBlocks(Generic[C]):
    """The calls of one object whose blocks are open."""

    __slots__ = ("_open",)

    def __init__(self) -> None:
        self._open: dict[C, tuple[C, int, CodeType]] = {}

    def enter(self, call: C, depth: int = 2) -> None:
        """Record that the block of *call* is entered, by the code *depth* frames up."""
        frame = sys._getframe(depth)  # noqa: SLF001 - rule 1
        around = [pair for pair in _AROUND.get() if pair[1] in pair[0]._open]  # noqa: SLF001 - of this class
        self._open[call] = call, id(frame), frame.f_code
        _AROUND.set(((self, call), *around))

    def leave(self, depth: int = 2) -> C | None:
        """Return the call whose block is left, by the code *depth* frames up; None if none is."""
        frame = sys._getframe(depth)  # noqa: SLF001 - rule 1
        place, code = id(frame), frame.f_code
        newest_first = values_now(self._open)[::-1]
        around = _AROUND.get()
        rules = (
            (call for call, at, by in newest_first if at == place and by is code),
            (call for owner, call in around if owner is self and call in self._open),
            (call for call, _, _ in newest_first),
        )
        call: C | None = next(itertools.chain(*rules), None)
        if call is not None:
            del self._open[call]
            _AROUND.set(tuple(pair for pair in around if pair[1] is not call))
        return call
