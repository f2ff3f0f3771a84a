"""SIGTERM: save at the next boundary, release, and then end as by SIGTERM.

The handler is installed only in place of the default handler, only in the main thread, and only
while a run goes on there. It only sets flags. A second SIGTERM ends the process at once. If several
runs go on in the main thread, the first one that comes to a boundary ends the process; the others
keep their last save, and their leases are released, too.

Runs are held by weak references: a run that an exception of another handler left without an end
does not keep SIGTERM from the process.
"""

import contextlib
import os
import signal
import threading
from types import FrameType
from typing import Literal, Protocol
from weakref import ref

from mainstay._core.forks import around_forks
from mainstay.errors import CheckpointError


class Stoppable(Protocol):
    """A run as SIGTERM sees it."""

    @property
    def at_boundary(self) -> bool:
        """True if all that is done is saved."""
        ...

    def stop_soon(self) -> None:
        """Save at the next boundary."""
        ...

    def release(self, how: Literal["sigterm"], /) -> None:
        """Release the run."""
        ...


_watched: list[ref[Stoppable]] = []
_requested = False


def _going_on() -> list[Stoppable]:
    return [run for each in _watched if (run := each()) is not None]


def watch(run: Stoppable) -> None:
    """Make SIGTERM wait for the boundaries of *run*, if it may."""
    if threading.current_thread() is not threading.main_thread():
        return
    handler = signal.getsignal(signal.SIGTERM)
    if handler not in (signal.SIG_DFL, _on_sigterm) and not _going_on():
        return
    _watched.append(ref(run))  # first: `unwatch` restores the handler of a run that is there
    if handler is signal.SIG_DFL:
        try:
            signal.signal(signal.SIGTERM, _on_sigterm)
        except ValueError:  # no subinterpreter may handle signals
            _watched.clear()


def unwatch(run: Stoppable) -> None:
    """Restore what was before the first run; end now if that was requested meanwhile.

    A run that was begun in the main thread may end in another one, as where a generator is closed.
    No handler can be restored there. The one that is left ends the process, since no run goes on,
    until the next run of the main thread restores what was before.
    """
    if not any(each is run for each in _going_on()):
        return
    _watched[:] = [each for each in _watched if each() not in (run, None)]
    if _watched:
        return
    if threading.current_thread() is threading.main_thread():
        if _requested:
            _end()
        _restore()
    elif _requested:
        os.kill(os.getpid(), signal.SIGTERM)


def is_requested() -> bool:
    """True if SIGTERM has arrived, so that the process has to end."""
    return _requested


def end_if_requested(run: Stoppable) -> None:
    """End the process if SIGTERM came and *run*, which was saved just now, is at a boundary."""
    if not (_requested and run.at_boundary):
        return
    going_on = _going_on()
    if any(each is run for each in going_on):
        for each in going_on:
            with contextlib.suppress(CheckpointError):  # the lease will end by itself
                each.release("sigterm")
        _end()


def _on_sigterm(signum: int, frame: FrameType | None) -> None:  # noqa: ARG001 - as handlers are
    global _requested
    going_on = _going_on()
    if _requested or not going_on:
        _end()
    _requested = True
    for run in going_on:
        run.stop_soon()


def _end() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGTERM)
    # Still there: the first process of a container, which signals of its own do not end.
    os._exit(128 + signal.SIGTERM)


def _restore() -> None:
    if signal.getsignal(signal.SIGTERM) is _on_sigterm:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _after_fork_in_child() -> None:
    """Forget the parent's runs: a child that is asked to end does so."""
    if _watched:
        _watched.clear()
        _restore()


around_forks(in_child=_after_fork_in_child)
