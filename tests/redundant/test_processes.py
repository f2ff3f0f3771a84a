"""Redundant calls among real processes: slow servers, exits with hung losers, nothing left over."""

import asyncio
import os
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from operator import gt
from pathlib import Path
from urllib.request import ProxyHandler, build_opener

import pytest

from mainstay import FailoverPool, Member, hedge, redundant
from mainstay._core import workers
from support.processes import PROGRAMS, environment, program

SLOW = 0.5  # seconds that the slow answer takes
PATIENCE = 20.0

pytestmark = [pytest.mark.process, pytest.mark.usefixtures("metrics")]


@contextmanager
def slow_server():
    """A server of which the first answer is slow, and its port."""
    server = subprocess.Popen(
        [sys.executable, PROGRAMS / "slow_server.py"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment({}),
    )
    with server:
        yield server, int(server.stdout.readline())
        server.stdin.close()


@pytest.fixture
def port():
    """The port of such a server."""
    with slow_server() as (_, port):
        yield port


opener = build_opener(ProxyHandler({}))


def get(port, path):
    with opener.open(f"http://127.0.0.1:{port}{path}", timeout=PATIENCE) as answer:
        return answer.read().decode()


async def aget(port, path):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(f"GET {path} HTTP/1.0\r\n\r\n".encode())
        await writer.drain()
        return (await reader.read()).decode().rpartition("\r\n")[2]
    finally:
        writer.close()


@pytest.fixture(params=["threads", "inline", "task"])
def hedged(request):
    """Make requests that are hedged: `hedged(**parameters)`, which gives what to call."""

    def make(**parameters):
        parameters |= {"start": hedge.after(0.05), "budget": None, "name": "it"}
        if request.param == "threads":
            return redundant(**parameters)(get)
        policy = redundant(primary=request.param, **parameters)
        return lambda *args: asyncio.run(policy.call(aget, *args))

    return make


def test_a_slow_answer_is_overtaken_by_that_of_a_second_request(port, hedged, metrics):
    began = time.monotonic()
    assert hedged()(port, "/first-is-slow") == "/first-is-slow"
    assert time.monotonic() - began < SLOW
    assert metrics.outcomes() == {"recovered": 1}


@pytest.fixture
def servers():
    """Two such servers, of which the second one is slow no more, and a pool of their ports."""
    with slow_server() as (first, one), slow_server() as (_, two):
        get(two, "/first-is-slow")
        yield first, FailoverPool("web", [Member("one", one), Member("two", two)], on=OSError)


def test_a_slow_server_is_overtaken_by_another_one_of_its_pool(servers, hedged, metrics):
    _, pool = servers
    assert hedged(pool=pool)("/first-is-slow") == "/first-is-slow"
    assert metrics("copy_wins_total", component="it", copy="two") == 1


def test_a_killed_server_is_replaced_in_each_call_until_its_pool_ejects_it(
    servers, hedged, metrics
):
    server, pool = servers
    fetch = hedged(pool=pool)
    server.kill()
    server.wait(PATIENCE)
    assert [fetch("/") for _ in range(6)] == ["/"] * 6
    assert metrics("hedges_total", reason="failed") == 4
    assert metrics("ejections_total", component="web", member="one", cause="consecutive") == 1
    assert metrics("copy_wins_total", component="it", copy="two") == 6


@pytest.mark.parametrize("kind", ["threads", "tasks"])
def test_hung_losers_do_not_hold_up_the_end_of_the_process(kind):
    """Known fault 8: executors keep the process until all losers have returned."""
    took = []
    while len(took) < 5 and min(took, default=1.0) >= 0.5:  # a busy machine may take that itself
        ended = float(program("hung_losers.py", kind))
        took.append(time.time() - ended)
    assert min(took) < 0.5


def descriptors():
    return len([*Path("/proc/self/fd").iterdir()])


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs Linux")
def test_ten_thousand_hedged_calls_leave_no_task_thread_or_socket(monkeypatch, metrics):
    monkeypatch.setattr(workers, "IDLE_SECONDS", 0.05)
    policy = redundant(start=hedge.after(0.0002), budget=None, name="it")
    fast = redundant(start=hedge.after(0.0002), budget=None, name="sync")(os.getpid)
    before = threading.active_count(), descriptors()

    @policy
    async def connect():
        reader, writer = await asyncio.open_connection(*address)
        try:
            await asyncio.sleep(0.0005)
            return await reader.read(1)
        finally:
            writer.close()

    async def greet(_reader, writer):
        writer.write(b"x")
        writer.close()

    async def main():
        nonlocal address
        server = await asyncio.start_server(greet, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()[:2]
        for _ in range(100):
            assert await asyncio.gather(*(connect() for _ in range(10))) == [b"x"] * 10
        pings = redundant(start=hedge.after(0.0002), budget=None, name="it")(asyncio.sleep)
        for _ in range(40):
            await asyncio.gather(*(pings(0.0005) for _ in range(100)))
        server.close()
        await server.wait_closed()
        await asyncio.sleep(0.05)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    address = None
    asyncio.run(main())
    for _ in range(5_000):
        assert fast() == os.getpid()
    assert metrics("calls_total") == 10_000
    assert metrics("hedges_total", component="it") > 1_000
    end = time.monotonic() + PATIENCE
    while any(map(gt, (threading.active_count(), descriptors()), before)):
        assert time.monotonic() < end
        time.sleep(0.01)
