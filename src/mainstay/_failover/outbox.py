"""`Outbox`: actions that have to wait until the lock of a pool is free.

    with self.outbox, self.lock:
        ...  # change the pool; `self.outbox.add(act)` for what runs code of the user's

No code of the user's runs under the lock: starts, closes and events are added here instead. The
`with` statement leaves the lock first and then runs what was added, also after an exception.
"""

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from mainstay._core.context import helper_context


class Outbox:
    """What is to be done, in order, by the thread that leaves the lock."""

    def __init__(self) -> None:
        self._acts: deque[Callable[[], object]] = deque()

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_exc_info: object) -> None:
        while self._acts:
            try:
                act = self._acts.popleft()
            except IndexError:  # another thread was first
                return
            act()

    def add(self, act: Callable[[], object]) -> None:
        """Have *act* done when the lock has been left."""
        self._acts.append(act)

    def add_helper(self, begin: Callable[..., object], /, *args: Any) -> None:
        """Have a helper begin when the lock has been left, in a context of its own."""
        self.add(partial(helper_context().run, begin, *args))

    def clear(self) -> None:
        """Forget what was added, as in a forked child."""
        self._acts.clear()
