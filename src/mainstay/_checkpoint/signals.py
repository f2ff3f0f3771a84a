"""SIGTERM: save at the next boundary, release, and then end as by SIGTERM.

Only over the default handler, only in the main thread, and only while a run goes on there. The
handler sets flags and nothing else. A second SIGTERM acts at once. Where several runs go on in the
main thread, the first one that comes to a boundary ends the process; the others keep what they
saved last, and their leases are released, too.
"""

import contextlib
import os
import signal
import threading
from typing import TYPE_CHECKING

from mainstay.errors import CheckpointError

if TYPE_CHECKING:
    from types import FrameType

    from mainstay._checkpoint.run import Run

_watched: "list[Run]" = []
_asked = False


def watch(run: "Run") -> None:
    """Let SIGTERM wait for the boundaries of *run*, if it may."""
    if threading.current_thread() is not threading.main_thread():
        return
    if not _watched:
        if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
            return
        signal.signal(signal.SIGTERM, _on_sigterm)
    _watched.append(run)


def unwatch(run: "Run") -> None:
    """Restore what was before the first run; end now if that was asked for meanwhile."""
    if not any(each is run for each in _watched):
        return
    _watched[:] = [each for each in _watched if each is not run]
    if not _watched:
        if _asked:
            _end()
        if signal.getsignal(signal.SIGTERM) is _on_sigterm:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def end_if_asked(run: "Run") -> None:
    """End the process if SIGTERM came and *run*, which was saved just now, is at a boundary."""
    if _asked and run.at_boundary and any(each is run for each in _watched):
        for each in _watched:
            with contextlib.suppress(CheckpointError):  # the lease will end by itself
                each.release("sigterm")
        _end()


def _on_sigterm(signum: int, frame: "FrameType | None") -> None:  # noqa: ARG001 - as handlers are
    global _asked
    if _asked:
        _end()
    _asked = True
    for run in _watched:
        run.schedule.hurry(for_good=True)


def _end() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGTERM)


def _after_fork_in_child() -> None:
    """The runs are the parent's: a child that is asked to end does so."""
    if _watched:
        _watched.clear()
        if signal.getsignal(signal.SIGTERM) is _on_sigterm:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
