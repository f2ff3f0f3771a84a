"""Calls with a limit of time, around forks, under signal handlers and at the end of the process.

Argument: which of the functions below; each says what it prints.
"""

import asyncio
import atexit
import gc
import os
import signal
import sys
import threading
import time
import warnings

from mainstay import BulkheadFullError, TimedOutError, remaining, timeout
from mainstay.testing import recorded

THREADS = 4
FORKS = 30
HANDLED = 2_000
EVERY = 100e-6  # seconds between two signals


def hang() -> None:
    threading.Event().wait()


def exit_code_of(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def leave_behind(policy, fn, calls: int) -> int:
    """Make calls that are left behind; give how many were."""
    left = 0
    for _ in range(calls):
        try:
            policy.call(fn)
        except TimedOutError:
            left += 1
    return left


def fork_with_abandoned_threads() -> None:
    """Fork while all threads are left behind.

    Prints: how many the child has, how many calls it could make at once, and how many it has after
    those are left behind; how many the parent has then, and after its calls have ended.
    """
    go_on = threading.Event()
    with recorded() as metrics:
        policy = timeout(0.005, in_thread=True, threads=THREADS, name="it")
        assert leave_behind(policy, go_on.wait, THREADS) == THREADS
        child = os.fork()
        if child == 0:
            abandoned = metrics.value("abandoned_threads")
            left = leave_behind(policy, hang, THREADS)
            print(int(abandoned), left, int(metrics.value("abandoned_threads")), flush=True)
            os._exit(0)
        assert exit_code_of(child) == 0
        before = metrics.value("abandoned_threads")
        go_on.set()
        while metrics.value("abandoned_threads"):
            time.sleep(0.001)
        print(int(before), policy.call(str, "free"))


def fork_while_calls_run() -> None:
    """Fork again and again while threads make calls in threads.

    Prints: how many children could make as many calls as there are threads; whether the parent
    recorded each of its own.
    """
    stop, made = threading.Event(), [0] * THREADS
    with recorded() as metrics:
        work = timeout(30.0, in_thread=True, threads=THREADS, name="it")(str)

    def calls(number: int) -> None:
        while not stop.is_set():
            work()
            made[number] += 1

    callers = [threading.Thread(target=calls, args=(number,)) for number in range(THREADS)]
    for each in callers:
        each.start()
    exact = 0
    for _ in range(FORKS):
        child = os.fork()
        if child == 0:
            together = threading.Barrier(THREADS)
            meet = timeout(30.0, in_thread=True, threads=THREADS)(together.wait)
            inside = [threading.Thread(target=meet) for _ in range(THREADS)]
            for each in inside:
                each.start()
            for each in inside:
                each.join()
            before = metrics.value("calls_total", component="it")
            for _ in range(THREADS + 1):
                work()
            made_here = metrics.value("calls_total", component="it") - before
            os._exit(0 if made_here == THREADS + 1 else 1)
        exact += exit_code_of(child) == 0
    stop.set()
    for each in callers:
        each.join()
    print(exact, sum(made) == metrics.value("calls_total", component="it"))


def fork_inside() -> None:
    """Fork in a function that runs in a thread, as `multiprocessing` does.

    Prints: what a call in the child gives, and how much of the time it is told; what the parent's
    call gives.
    """
    policy = timeout(30.0, in_thread=True, threads=1, name="it")

    def forks() -> str:
        child = os.fork()
        if child == 0:
            left = remaining() or 0.0
            print(policy.call(str, "child"), 0 < left <= policy.seconds, flush=True)
            os._exit(0)
        assert exit_code_of(child) == 0
        return "parent"

    print(policy.call(forks))


def calls_in_signal_handlers() -> None:
    """Make calls in a signal handler that comes in while others are made, in each form.

    Prints for each form whether as many were recorded, and returned, as were begun.
    """
    with recorded() as metrics:
        told = timeout(30.0, name="told")(int)
        thread = timeout(30.0, in_thread=True, name="thread")(int)

        @timeout(30.0, name="task")
        async def task() -> int:
            return 0

    begun = dict.fromkeys(("told", "thread", "task"), 0)
    returned = dict.fromkeys(begun, 0)
    handled, handling = 0, False

    def call(name, fn) -> None:
        begun[name] += 1
        fn()
        returned[name] += 1

    def handle(_signal, _frame) -> None:
        nonlocal handled, handling
        if handling:  # each would take a thread more
            return
        handling = True
        handled += 1
        call("told", told)
        call("thread", thread)
        handling = False

    async def tasks() -> None:
        for _ in range(20):
            begun["task"] += 1
            await task()
            returned["task"] += 1

    # Python before 3.12 crashes if a context variable is set while it collects garbage in the
    # middle of setting one (python/cpython#148891), which the handler would come to do.
    gc.disable()
    signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, EVERY, EVERY)
    try:
        while handled < HANDLED:
            call("told", told)
            call("thread", thread)
            asyncio.run(tasks())
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    for name in begun:
        print(name, metrics.value("calls_total", component=name, outcome="success") == begun[name])
        print(begun[name] == returned[name])


def interrupts_of_a_wait() -> None:
    """Raise in a signal handler while the caller waits for its thread.

    Prints: whether that was raised; how many threads are left behind, while it runs and afterwards.
    """
    go_on, inside = threading.Event(), threading.Event()
    with recorded() as metrics:
        policy = timeout(30.0, in_thread=True, name="it")

        def work() -> None:
            inside.set()
            os.kill(os.getpid(), signal.SIGINT)
            go_on.wait()

        try:
            policy.call(work)
        except KeyboardInterrupt:
            print("interrupted", int(metrics.value("abandoned_threads")))
        go_on.set()
        while metrics.value("abandoned_threads"):
            time.sleep(0.001)
        print(int(metrics.value("calls_total", outcome="cancelled")))


def end_with_abandoned_threads() -> None:
    """End while calls that were left behind hang, and make one more at the very end.

    Prints: what that gives; then the time.
    """
    policy = timeout(0.005, in_thread=True, threads=THREADS + 1, name="it")
    spin = timeout(0.005, in_thread=True, name="spins")

    def spins() -> None:
        while True:
            pass

    def last() -> None:
        try:
            print(timeout(5.0, in_thread=True).call(str, "answered"))
        except BulkheadFullError:  # no more threads now, says newer Python
            print("full")
        print(time.time(), flush=True)

    atexit.register(last)
    assert leave_behind(policy, hang, THREADS) == THREADS
    assert leave_behind(spin, spins, 1) == 1


if __name__ == "__main__":
    warnings.simplefilter("ignore", DeprecationWarning)  # of forks while there are threads
    globals()[sys.argv[1]]()
