"""Steps under a pool's lock, and what has to wait until the lock has been left.

    with outbox.step():
        ...                     # change the pool; `outbox.add(act)` what runs code of the user's

Nothing of the user's runs under the lock: what is to be started, closed or told is added here, and
done by the thread that leaves the outermost step. The lock may be taken again by the same thread,
since steps consist of steps, and a signal handler may call a pool while the thread that it
interrupted is in one.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Outbox:
    """The lock of a pool, and what is to be done without it, in order."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin with a lock that nobody holds and nothing to do, as in a forked child."""
        self.lock = threading.RLock()
        self._steps = 0
        self._acts: deque[Callable[[], object]] = deque()

    @contextmanager
    def step(self) -> Iterator[None]:
        """Hold the lock for a block; then, in the outermost one, do what was added."""
        outermost = False
        try:
            with self.lock:
                outermost = not self._steps
                self._steps += 1
                try:
                    yield
                finally:
                    self._steps -= 1
        finally:
            if outermost and self._acts:
                self.drain()

    def add(self, act: Callable[[], object]) -> None:
        """Have *act* done when the lock has been left."""
        self._acts.append(act)

    def drain(self) -> None:
        """Do what was added."""
        while self._acts:
            try:
                act = self._acts.popleft()
            except IndexError:  # another thread was first
                return
            act()
