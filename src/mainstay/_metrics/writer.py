"""The thread of a worker process of multiprocess mode, which writes what no call may write.

Nobody scrapes a worker, so its gauges are written at each change, through gauges of
prometheus_client. These take one lock for the whole process, which a thread cannot take twice: a
signal handler that comes in while its own thread holds it would wait for ever, and so would a
child that was forked while another thread does. So whoever makes a change only leaves word, in a
queue that a signal handler may use at any time, and this thread does the writing. No process is
forked while it does.

It begins when there is something to write, ends with what it works for, and is waited for, though
not long, when the process ends. What a full disk or a broken file costs is gauges, and no call.
"""

import atexit
import itertools
import logging
import os
import queue
import threading
import weakref
from collections.abc import Callable
from typing import TypeAlias

from mainstay._core.clock import monotonic

PERIOD = 1.0
"""Seconds between two times that the thread brings up to date what goes on with time alone."""

PATIENCE = 1.0
"""Seconds for which the end of a process, or a fork, waits for the thread at most."""

Job: TypeAlias = Callable[[], object]

_log = logging.getLogger("mainstay.metrics")

_writers: "weakref.WeakSet[Writer]" = weakref.WeakSet()
_writing = threading.RLock()
_held: list[bool] = []


class Writer:
    """Runs jobs one after the other in a daemon thread of its own, and *refresh* each second."""

    def __init__(self, refresh: Job) -> None:
        self._refresh = weakref.WeakMethod(refresh)
        self.start_anew()
        _writers.add(self)

    def start_anew(self) -> None:
        """Forget the jobs and the thread, which a forked child leaves to its parent."""
        self._jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self._starts = itertools.count()
        self._runs = False

    def do(self, job: Job) -> None:
        """Have the thread run *job*, without waiting for it."""
        self._jobs.put(job)
        self.start()

    def start(self) -> None:
        """Start the thread if it does not run; if that cannot be, the next one tries again."""
        if self._runs or next(self._starts):
            return
        thread = threading.Thread(
            target=_run, args=(self._refresh, self._jobs), name="mainstay-writer", daemon=True
        )
        try:
            thread.start()
            self._runs = True
        except RuntimeError:  # no more threads, or the interpreter ends
            self._starts = itertools.count()

    def finish(self) -> None:
        """Wait until all jobs so far are done, but not for long."""
        if self._runs:
            done = threading.Event()
            self.do(done.set)
            done.wait(PATIENCE)


def _run(refresh_of: "weakref.WeakMethod[Job]", jobs: "queue.SimpleQueue[Job]") -> None:
    due, warned = monotonic() + PERIOD, False
    while True:
        job: Job | None
        try:
            job = jobs.get(timeout=max(0.0, due - monotonic()))
        except queue.Empty:
            job = refresh_of()
            due = monotonic() + PERIOD
        if job is None:
            return
        with _writing:
            try:
                job()
            except Exception:  # noqa: BLE001 - whatever it is, the other gauges go on
                if not warned:
                    warned = True
                    _log.exception("gauges of this process are not written")
        del job  # it may be all that keeps alive what the thread works for


def finish_all() -> None:
    """Wait until everything that changed has been written, but not for long."""
    for writer in tuple(_writers):
        writer.finish()


def _hold() -> None:
    _held.append(_writing.acquire(timeout=PATIENCE))


def _let_go() -> None:
    if _held.pop():
        _writing.release()


def _start_anew() -> None:
    global _writing
    _held.clear()
    _writing = threading.RLock()


atexit.register(finish_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_hold, after_in_parent=_let_go, after_in_child=_start_anew)
