"""What a pool and a breaker show to Prometheus, from this process, from a fork, from files."""

import gc
import os
import subprocess
import sys
import textwrap

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from mainstay import CircuitBreaker, FailoverPool, Member, Metrics
from mainstay.testing import FakeClock, recorded
from support.pools import Lost


@pytest.fixture
def registry():
    return CollectorRegistry()


def fail(_resource):
    raise Lost


def test_closed_counters_start_at_zero_and_states_at_their_true_value(registry):
    metrics = Metrics(registry)
    members = [Member("a", "x"), Member("b", open=list, standby="cold")]
    pool = FailoverPool("db", members, on=Lost, metrics=metrics)
    breaker = CircuitBreaker("mail", on=Lost, metrics=metrics)

    def value(name, **labels):
        return registry.get_sample_value(f"mainstay_{name}", labels)

    for outcome in ("success", "error", "rejected", "cancelled", "timeout"):
        assert value("member_attempts_total", component="db", member="a", outcome=outcome) == 0
    assert value("ejections_total", component="db", member="a", cause="rate") == 0
    assert value("time_to_detect_seconds_count", component="db") == 0
    assert value("member_state", component="db", member="a", state="active") == 1
    assert value("member_state", component="db", member="a", state="ejected") == 0
    assert value("member_state", component="db", member="b", state="standby_cold") == 1
    assert value("breaker_state", component="mail", state="closed") == 1
    for component, policy in (("db", "failover"), ("mail", "breaker")):
        labels = {"component": component, "policy": policy}
        assert value("calls_total", **labels, outcome="success") == 0
        assert value("call_duration_seconds_count", **labels) is None  # not used by itself yet
        assert value("give_ups_total", **labels, reason="timeout") is None
    pool(fail), breaker(fail)
    assert value("give_ups_total", component="db", policy="failover", reason="no_member") == 0
    assert value("give_ups_total", component="mail", policy="breaker", reason="open") == 0
    assert value("call_duration_seconds_count", component="mail", policy="breaker") == 0


def test_states_that_run_out_by_themselves_are_shown_as_they_are_at_the_scrape(registry):
    breaker = CircuitBreaker("mail", on=Lost, metrics=Metrics(registry))
    labels = {"component": "mail", "state": "half_open"}
    with FakeClock() as clock:
        for _ in range(4):
            with pytest.raises(Lost):
                breaker.call(fail, 1)
        assert registry.get_sample_value("mainstay_breaker_state", labels) == 0
        clock.advance(5.0)
        assert registry.get_sample_value("mainstay_breaker_state", labels) == 1


def test_a_pool_that_is_gone_shows_no_state(registry):
    metrics = Metrics(registry)
    pool = FailoverPool("db", [Member("a", "x")], on=Lost, metrics=metrics)
    assert b"mainstay_member_state{" in generate_latest(registry)
    del pool
    gc.collect()
    assert b"mainstay_member_state{" not in generate_latest(registry)


def test_members_beyond_a_hundred_are_counted_together(registry):
    members = [Member(f"m{i}", i) for i in range(150)]
    pool = FailoverPool("db", members, on=Lost, metrics=Metrics(registry))
    assert pool.name == "db"
    text = generate_latest(registry).decode()
    shown = {line.split('member="')[1].split('"')[0] for line in text.splitlines()
             if line.startswith("mainstay_member_state{")}  # fmt: skip
    assert len(shown) == 101
    assert "_other" in shown
    dropped = registry.get_sample_value(
        "mainstay_series_dropped_total", {"metric": "mainstay_member_attempts_total"}
    )
    assert dropped >= 50


PROGRAM = """
    import os, sys
    from mainstay import CircuitBreaker, FailoverPool, Member

    class Lost(ConnectionError): ...

    pool = FailoverPool("db", [Member("a", "a"), Member("b", "b")], on=Lost)
    breaker = CircuitBreaker("mail", on=Lost)

    def use(resource):
        if resource == "a":
            raise Lost
        return resource

    child = os.fork()
    if child == 0:
        for _ in range(4):
            pool.call(use)
        for _ in range(4):
            try:
                breaker.call(use, "a")
            except Lost:
                pass
        sys.stdout.write("ready")
        sys.stdout.flush()
        sys.stdin.read()
        os._exit(0)
    os.waitpid(child, 0)
"""

READER = """
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.multiprocess import MultiProcessCollector
    registry = CollectorRegistry()
    MultiProcessCollector(registry)
    print(generate_latest(registry).decode())
"""


@pytest.mark.process
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_in_multiprocess_mode_the_states_of_all_living_processes_are_added_up(tmp_path):
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    program = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(PROGRAM)]
    with subprocess.Popen(program, env=environment, stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE) as worker:  # fmt: skip
        assert worker.stdout.read(5) == b"ready"
        reader = [sys.executable, "-c", textwrap.dedent(READER)]
        text = subprocess.run(
            reader, env=environment, capture_output=True, text=True, check=True
        ).stdout
        worker.stdin.close()
        assert worker.wait(30) == 0
    values = dict(line.rsplit(" ", 1) for line in text.split("\n") if line and line[0] != "#")
    state = 'mainstay_member_state{component="db",member="a",state="%s"}'
    assert (values[state % "active"], values[state % "ejected"]) == ("1.0", "1.0")
    state = 'mainstay_breaker_state{component="mail",state="%s"}'
    assert (values[state % "closed"], values[state % "open"]) == ("1.0", "1.0")
    assert values['mainstay_calls_total{component="db",outcome="recovered",policy="failover"}'] == (
        "4.0"
    )


@pytest.mark.process
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_after_a_fork_the_child_begins_with_a_closed_pool():
    program = """
        import os, threading
        from mainstay import FailoverPool, Member, Probe

        opened = []
        def open_():
            opened.append(os.getpid())
            return os.getpid()

        pool = FailoverPool("db", [Member("a", open=open_)], on=OSError,
                            probe=Probe(lambda _: True, every=30.0))
        held = threading.Event()
        def hold():
            with pool._engine.lock, pool._engine.opener.threads._lock:
                held.set()
                threading.Event().wait()
        assert pool.call(lambda pid: pid) == os.getpid()
        threading.Thread(target=hold, daemon=True).start()
        held.wait()
        child = os.fork()
        if child == 0:
            status = pool.status()
            ok = not status.members[0].open and pool.call(lambda pid: pid) == os.getpid()
            os._exit(0 if ok else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    """
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", textwrap.dedent(program)],
                          capture_output=True, text=True, timeout=60, check=False)  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_what_happens_to_a_pool_from_outside_is_counted_where_it_is_recorded(metrics):
    pool = FailoverPool("db", [Member("a", "x"), Member("b", "y")], on=Lost)
    breaker = CircuitBreaker("mail", on=Lost)

    def use(resource):
        if resource == "x":
            raise Lost

    with FakeClock(), recorded() as values:
        for _ in range(4):
            pool.call(use)
            with pytest.raises(Lost):
                breaker.call(use, "x")
    for name in ("ejections_total", "failovers_total", "time_to_detect_seconds_count",
                 "breaker_transitions_total", "member_attempts_total", "calls_total"):  # fmt: skip
        assert values.value(name) > 0
        assert metrics(name) == 0
    assert metrics("member_state", member="a", state="ejected") == 1
    assert metrics("breaker_state", state="open") == 1
