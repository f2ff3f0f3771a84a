"""`WorkerPool`: daemon threads for calls that callers may abandon: copies, timed calls, stores.

The threads are daemon threads of the policy's own. Daemon threads, because a call that hangs must
not keep the process alive, which the threads of `concurrent.futures` do. Their own, because calls
that hang would starve everybody who shares them. The one that was idle last works next, so that as
few as possible stay warm, and one that has had nothing to do for `IDLE_SECONDS` ends.

A worker is taken from the pool, given one job, and released by the job itself, just before it
reports its result: the caller that wakes up finds the worker idle again. Its thread takes no lock
for that: a caller in a signal handler, who waits for it, may have come in where its own thread has
the lock.
"""

import contextlib
import sys
import threading
from collections.abc import Callable
from typing import TypeAlias

from mainstay._core.exits import end_with_subinterpreter
from mainstay._core.forks import reset_after_fork

IDLE_SECONDS = 5.0

Job: TypeAlias = Callable[["Worker"], object]
"""What a worker does once: must release the worker, whatever it raises."""


class Worker:
    """A thread that waits for a job.

    Attributes:
        ident: Its `threading.get_ident()`.
    """

    def __init__(self, pool: "WorkerPool") -> None:
        self._pool = pool
        self._job: Job | None = None
        self._lock = threading.Lock()  # free while there is a job to do
        self._lock.acquire()
        thread = threading.Thread(target=self._work, name="mainstay-worker", daemon=True)
        try:
            thread.start()
        except BaseException:  # of a signal handler, when the thread may run already
            self._lock.release()  # without a job it ends
            raise
        self.ident: int = thread.ident or 0

    def run(self, job: Job) -> None:
        """Run a job in the thread; only the caller that took the worker may do so."""
        self._job = job
        self._lock.release()

    def end(self) -> None:
        """End the thread; only the caller that took the worker may do so."""
        self._lock.release()  # without a job

    def _work(self) -> None:
        while True:
            if not self._lock.acquire(timeout=IDLE_SECONDS):
                if self._pool.retire(self):
                    return
                continue  # it was taken a moment ago
            job, self._job = self._job, None
            if job is None:
                return
            try:
                job(self)
            except BaseException:  # noqa: BLE001 - what would end the thread, which is idle by now
                args = *sys.exc_info(), threading.current_thread()
                threading.excepthook(threading.ExceptHookArgs(args))
            del job  # it holds the arguments and the result


class WorkerPool:
    """The threads of one policy: at most so many, made when they are needed."""

    def __init__(self, most: float) -> None:
        self._most = most
        self._reset_after_fork()
        reset_after_fork(self, WorkerPool._reset_after_fork)
        end_with_subinterpreter(self, WorkerPool.end)

    def _reset_after_fork(self) -> None:
        """Forget all threads: in a forked process they do not exist."""
        self._alive = 0
        self._idle: list[Worker] = []
        self._lock = threading.RLock()  # a signal handler may come back in on the same thread

    def take(self) -> Worker | None:
        """Return an idle worker, or a new one; None if there are too many already."""
        try:
            for worker in iter(self._idle.pop, None):  # where no signal handler comes in after it
                return worker
        except IndexError:
            pass
        counted = False
        try:
            with self._lock:
                if self._alive >= self._most:
                    return None
                self._alive += 1
                counted = True
            return Worker(self)
        except BaseException as error:  # also of a signal handler
            if counted:
                self._ended()
            if isinstance(error, RuntimeError):  # the system has no thread, or Python is ending
                return None
            raise

    def release(self, worker: Worker) -> None:
        """Make a worker idle again."""
        self._idle.append(worker)

    def end(self) -> None:
        """End the threads that are idle."""
        with contextlib.suppress(IndexError):
            while True:
                self._idle.pop().end()

    def retire(self, worker: Worker) -> bool:
        """Take an idle worker out for good; False if it was taken."""
        try:
            self._idle.remove(worker)
        except ValueError:
            return False
        self._ended()
        return True

    def _ended(self) -> None:
        with self._lock:
            self._alive -= 1
