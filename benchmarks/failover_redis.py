"""What do callers notice when one of three real Redis servers is killed, or stops answering?

Four threads read from the first of three `redis-server` (Debian package redis-server); after a
second it is killed with SIGKILL, or stopped with SIGSTOP: alive, but silent. Measured are the
failed calls in the fifteen seconds that follow, the time to the first answer of another server, and
the longest call. Beside our pool: redis-py's own `MultiDBClient`, with its defaults. All clients
wait 0.5 seconds for an answer; those of our pool do not retry by themselves.
"""

import contextlib
import logging
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator

import redis
from redis.backoff import NoBackoff
from redis.multidb.client import MultiDBClient
from redis.multidb.config import DatabaseConfig, MultiDbConfig
from redis.retry import Retry

import mainstay
from harness import Measure, Report, main

THREADS = 4
PATIENCE = 0.5
WATCHED = 15.0
ERRORS = (redis.ConnectionError, redis.TimeoutError)


@contextlib.contextmanager
def farm(command: str) -> Iterator[list[tuple[int, subprocess.Popen]]]:
    """Run three servers; give the port and the process of each."""
    servers = []
    with tempfile.TemporaryDirectory() as directory:
        for _ in range(3):
            with socket.socket() as found:
                found.bind(("127.0.0.1", 0))
                port = found.getsockname()[1]
            process = subprocess.Popen(
                [command, "--port", str(port), "--bind", "127.0.0.1", "--save", "",
                 "--dir", directory],
                stdout=subprocess.DEVNULL,
            )  # fmt: skip
            servers.append((port, process))
        for port, _ in servers:
            name(port)
        try:
            yield servers
        finally:
            for _, process in servers:
                process.kill()
                process.wait()


def name(port: int) -> None:
    """Let a server know its port, as soon as it answers."""
    while True:
        with contextlib.suppress(redis.ConnectionError), redis.Redis(port=port) as client:
            client.set("name", str(port))
            return
        time.sleep(0.01)


@contextlib.contextmanager
def with_mainstay(ports: list[int]) -> Iterator[Callable[[], str]]:
    """Read through a pool."""

    def client(port: int) -> redis.Redis:
        return redis.Redis(port=port, socket_timeout=PATIENCE, retry=Retry(NoBackoff(), 0),
                           decode_responses=True)  # fmt: skip

    members = [
        mainstay.Member(str(port), open=lambda port=port: client(port), close=redis.Redis.close)
        for port in ports
    ]
    pool = mainstay.FailoverPool("cache", members, on=ERRORS, metrics=mainstay.Metrics(None))
    with pool:
        yield mainstay.failover(pool)(lambda client: client.get("name"))


@contextlib.contextmanager
def with_multi_db(ports: list[int]) -> Iterator[Callable[[], str]]:
    """Read through redis-py's own client for several databases."""
    options = {"socket_timeout": PATIENCE, "decode_responses": True, "host": "127.0.0.1"}
    databases = [
        DatabaseConfig(client_kwargs={**options, "port": port}, weight=3.0 - i)
        for i, port in enumerate(ports)
    ]
    client = MultiDBClient(MultiDbConfig(databases_config=databases))
    try:
        yield lambda: client.get("name")
    finally:
        client.close()


def outage(
    make: Callable, number: signal.Signals, command: str, watched: float
) -> tuple[int, float, float]:
    """Give the failed calls, the seconds to the first answer elsewhere, and the longest call."""
    answers: list[tuple[float, str]] = []
    failed: list[Exception] = []
    longest = [0.0]
    stop = threading.Event()
    with farm(command) as servers, make([port for port, _ in servers]) as read:

        def work() -> None:
            while not stop.is_set():
                started = time.monotonic()
                try:
                    answers.append((started, read()))
                except Exception as error:  # noqa: BLE001 - counted, whatever it is
                    failed.append(error)
                longest.append(time.monotonic() - started)
                time.sleep(0.002)

        threads = [threading.Thread(target=work, daemon=True) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        time.sleep(1.0)
        port, process = servers[0]
        struck = time.monotonic()
        process.send_signal(number)
        found = None
        while time.monotonic() < struck + watched:
            elsewhere = any(name != str(port) for _, name in answers[-20:])
            if found is None and elsewhere:
                found = time.monotonic() - struck
            time.sleep(0.001)
        stop.set()
        for thread in threads:
            thread.join(2 * watched)
        process.send_signal(signal.SIGCONT)
    return len(failed), watched if found is None else found, max(longest)


def report(*, quick: bool = False) -> Report:
    """Strike the servers down."""
    result = Report()
    command = shutil.which("redis-server")
    if command is None:
        result.say("Left out: needs redis-server, of the Debian package redis-server.")
        return result
    logging.disable(logging.CRITICAL)
    rows = []
    watched = 1.0 if quick else WATCHED
    kinds = {"mainstay": with_mainstay, "redis-py MultiDBClient": with_multi_db}
    signals = (signal.SIGKILL,) if quick else (signal.SIGKILL, signal.SIGSTOP)
    for number in signals:
        for who, make in kinds.items():
            print(who, number.name, "...", file=sys.stderr)
            failed, first, longest = outage(make, number, command, watched)
            shown = f"{first:.3f} s" if first < watched else "none"
            rows.append([f"{who}, {number.name}", failed, shown, f"{longest:.3f} s"])
            if who == "mainstay" and number is signal.SIGKILL:
                result.measures += [
                    Measure("failed calls after SIGKILL", 0, 0, failed, ""),
                    Measure("first answer elsewhere after SIGKILL", 100, 20, first * 1e3, " ms"),
                ]
    header = ["client, signal", "failed calls", "first answer elsewhere", "longest call"]
    result.table("One of three servers, for fifteen seconds", header, rows)
    return result


if __name__ == "__main__":
    main(report, __doc__)
