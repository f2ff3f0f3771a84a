"""A child that was forked while another thread held a lock goes on all the same."""

import os

import pytest

from support.processes import python

pytestmark = pytest.mark.process

HELD = """
import os, threading
from mainstay import CircuitBreaker, RetryBudget, hedge, redundant, retry

def hold(lock):
    held = threading.Event()
    def run():
        with lock:
            held.set()
            threading.Event().wait()
    threading.Thread(target=run, daemon=True).start()
    held.wait()

budget = RetryBudget()
policy = retry(on=OSError, budget=budget)
hedged = redundant(start=hedge.quantile(0.5))
bound = hedged(int)
breaker = CircuitBreaker("it", on=OSError)
hold(budget._lock)
[latency] = hedged._latencies.values()
hold(latency._lock)
hold(breaker._bound.engine._lock)
child = os.fork()
if not child:
    policy.call(int)
    for _ in range(30):
        bound()
    for _ in range(4):
        try:
            breaker.call(os.stat, "/no such file")
        except FileNotFoundError:
            pass
    assert breaker.state == "open"
    os._exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_child_finds_free_the_locks_that_calls_take():
    assert python("-W", "ignore", "-c", HELD).split() == ["0"]
