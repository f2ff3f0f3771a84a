"""The thread of a worker process of multiprocess mode, which writes what no call may write.

Nobody scrapes a worker, so its gauges are written at each change. To write one may take a while:
files are made, become longer, and those of processes that are gone are removed. And where the
gauges are those of prometheus_client (`multiprocess.files_work`), it takes one lock for the whole
process, for which a signal handler would wait for ever that comes in while its own thread holds it,
and so would a child that was forked while another thread does. So a change is only put into a
queue, which a signal handler may use at any time, and this thread does the writing. No process is
forked while it does.

It begins when there is something to write, ends with what it works for, and is waited for, though
not long, when the process ends. What a full disk or a broken file costs is gauges, and no call.
"""

import atexit
import itertools
import queue
import threading
import weakref
from collections.abc import Callable
from typing import TypeAlias

from mainstay._core.clock import monotonic
from mainstay._core.events import logger_of
from mainstay._core.exits import end_with_subinterpreter
from mainstay._core.forks import around_forks

PERIOD = 1.0
"""Seconds between two times that the thread brings up to date what goes on with time alone."""

PATIENCE = 1.0
"""Seconds for which the end of a process, or a fork, waits for the thread at most."""

Job: TypeAlias = Callable[[], object]


_writers: "weakref.WeakSet[Writer]" = weakref.WeakSet()
_writing = threading.RLock()
_held: list[bool] = []


class Writer:
    """Runs jobs one after the other in a daemon thread of its own.

    Args:
        refresh: A method that the thread calls each second, as long as its object lives.
    """

    def __init__(self, refresh: Job) -> None:
        self._refresh = weakref.WeakMethod(refresh)
        self.restart()
        _writers.add(self)
        end_with_subinterpreter(self, Writer.end)

    def restart(self) -> None:
        """Forget the jobs and the thread, which a forked child leaves to its parent."""
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._waiting: dict[Job, None] = {}
        self._starts = itertools.count()
        self._runs = False

    def do(self, job: Job) -> None:
        """Have the thread run *job* soon; a job that has not begun yet is not put in twice."""
        if job not in self._waiting:
            self._waiting[job] = None
            self._jobs.put(job)
        self.start()

    def start(self) -> None:
        """Start the thread if it does not run; if that cannot be, the next change tries again."""
        if self._runs or next(self._starts):
            return
        try:
            threading.Thread(
                target=_run,
                args=(self._refresh, self._jobs, self._waiting),
                name="mainstay-writer",
                daemon=True,
            ).start()
            self._runs = True
        except RuntimeError:  # no more threads, none that are daemons, or the interpreter ends
            self._starts = itertools.count()

    def finish(self) -> None:
        """Wait until all jobs so far are done, but not for long."""
        if self._runs:
            done = threading.Event()
            self.do(done.set)
            done.wait(PATIENCE)

    def end(self) -> None:
        """End the thread when all jobs so far are done; the next change starts another one."""
        if self._runs:
            self._jobs.put(None)
            self._runs = False
            self._starts = itertools.count()


def _run(
    refresh_of: "weakref.WeakMethod[Job]",
    jobs: "queue.SimpleQueue[Job | None]",
    waiting: dict[Job, None],
) -> None:
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
            waiting.pop(job, None)  # a change from here on may come too late to be seen
            try:
                job()
            except Exception:  # noqa: BLE001 - whatever it is, the other gauges go on
                if not warned:
                    warned = True
                    logger_of("metrics").exception("gauges of this process are not written")
        del job  # it may be all that keeps alive what the thread works for


def finish_all() -> None:
    """Wait until everything that changed has been written, but not for long."""
    for writer in tuple(_writers):
        writer.finish()


def _hold() -> None:
    _held.append(_writing.acquire(timeout=PATIENCE))


def _release() -> None:
    if _held.pop():
        _writing.release()


def _reset() -> None:
    global _writing
    _held.clear()
    _writing = threading.RLock()


atexit.register(finish_all)
around_forks(before=_hold, in_parent=_release, in_child=_reset)
