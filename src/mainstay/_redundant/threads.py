"""The threads that copies of plain functions run in: daemon threads of the policy's own.

Daemon threads, because a copy that hangs must not keep the process alive, which the threads of
`concurrent.futures` do. Their own, because losers that hang would starve whoever shares them. The
one that was idle last works next, so that as few as possible stay warm, and one that has had
nothing to do for `IDLE_SECONDS` ends.

A worker is taken, given one job, and put back by the job itself, just before it tells its result:
the caller that wakes up finds the worker idle again.
"""

import sys
import threading
from collections.abc import Callable
from typing import TypeAlias

from mainstay._core.forks import reset_after_fork

IDLE_SECONDS = 5.0

Job: TypeAlias = Callable[["Worker"], object]
"""What a worker does once: must put the worker back, whatever it raises."""


class Worker:
    """A thread that waits for a job.

    Attributes:
        ident: Its `threading.get_ident()`.
    """

    __slots__ = ("_crew", "_job", "_lock", "ident")

    def __init__(self, crew: "Crew") -> None:
        self._crew = crew
        self._job: Job | None = None
        self._lock = threading.Lock()  # free while there is a job to do
        self._lock.acquire()
        thread = threading.Thread(target=self._work, name="mainstay-redundant", daemon=True)
        thread.start()
        self.ident: int = thread.ident or 0

    def give(self, job: Job) -> None:
        """Let it do a job. Only for whoever took it."""
        self._job = job
        self._lock.release()

    def _work(self) -> None:
        while True:
            if not self._lock.acquire(timeout=IDLE_SECONDS):
                if self._crew.retire(self):
                    return
                continue  # it was taken a moment ago
            job, self._job = self._job, None
            if job is not None:
                try:
                    job(self)
                except BaseException:  # noqa: BLE001 - what would end the thread, which is idle by now
                    args = *sys.exc_info(), threading.current_thread()
                    threading.excepthook(threading.ExceptHookArgs(args))
            del job  # it holds the arguments and the result


class Crew:
    """The threads of one policy: at most so many, made when they are needed."""

    __slots__ = ("__weakref__", "_alive", "_idle", "_lock", "_most")

    def __init__(self, most: int) -> None:
        self._most = most
        self.start_anew()
        reset_after_fork(self, Crew.start_anew)

    def start_anew(self) -> None:
        """Forget all threads: in a forked process they do not exist."""
        self._alive = 0
        self._idle: list[Worker] = []
        self._lock = threading.RLock()  # a signal handler may come back in on the same thread

    def take(self) -> Worker | None:
        """Take an idle worker, or a new one; None if there are too many already."""
        with self._lock:
            if self._idle:
                return self._idle.pop()
            if self._alive >= self._most:
                return None
            self._alive += 1
        try:
            return Worker(self)
        except RuntimeError:  # the system gives no more threads, or the interpreter is ending
            with self._lock:
                self._alive -= 1
            return None

    def put_back(self, worker: Worker) -> None:
        """Let a worker be taken again."""
        with self._lock:
            self._idle.append(worker)

    def retire(self, worker: Worker) -> bool:
        """Let an idle worker end; False if it was taken."""
        with self._lock:
            if worker not in self._idle:
                return False
            self._idle.remove(worker)
            self._alive -= 1
            return True
