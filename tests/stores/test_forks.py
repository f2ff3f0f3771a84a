"""Forks beside threads that use a store."""

import subprocess
import sys

import pytest

PROGRAM = """
import os, sys, threading
from mainstay import checkpoint_run
from mainstay.stores import SQLiteStore

store = SQLiteStore(sys.argv[1])
forked = []

def fork():
    for _ in range(8):
        child = os.fork()
        if not child:
            try:
                store.list()
                os._exit(0)
            finally:
                os._exit(1)
        forked.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

def save(name):
    with checkpoint_run(name, store=store) as cp:
        for _ in cp.iterate(range(40)):
            pass

threads = [threading.Thread(target=fork) for _ in range(2)]
threads += [threading.Thread(target=save, args=(str(number),)) for number in range(3)]
for each in threads:
    each.start()
for each in threads:
    each.join()
print(sum(forked), len(forked), [state for _, state in store.list()])
"""


@pytest.mark.process
def test_threads_that_fork_at_the_same_time_all_go_on(tmp_path):
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM, str(tmp_path / "runs.db")],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert ran.stdout == "0 16 ['done', 'done', 'done']\n"


IN_MEMORY = """
import os, threading
from mainstay import checkpoint_run
from mainstay.stores import MemoryStore

store, held, forked = MemoryStore(), threading.Event(), threading.Event()

def hold():
    with store._lock:
        held.set()
        forked.wait()

thread = threading.Thread(target=hold)
thread.start()
held.wait()
child = os.fork()
if not child:
    with checkpoint_run("in the child", store=store) as cp:
        cp.step("a", int)
    os._exit(0)
ends = threading.Timer(30.0, os.kill, (child, 9))
ends.start()
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
ends.cancel()
forked.set()
thread.join()
"""


@pytest.mark.process
def test_a_child_waits_for_no_thread_of_its_parent_that_used_the_store():
    """Known fault: a child hung if it was forked while another thread used a MemoryStore."""
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", IN_MEMORY],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert ran.stdout == "0\n"
