"""What does `mainstay top` cost, and how soon is there something to see?

Ten endpoints of twenty components each, retries, breakers and pools that all are called all the
time, are watched every two seconds in a pseudo-terminal of 120 by 40. Processor time is that of
the process of `top`, from its tenth second on; the first picture is the first that has calls, from
the start of Python.
"""

import contextlib
import fcntl
import os
import pty
import select
import statistics
import struct
import subprocess
import sys
import termios
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest

import mainstay
from harness import Measure, Report, main

ENDPOINTS = 10
COMPONENTS = 20
EVERY = 2.0
SECONDS, QUICK_SECONDS = 40.0, 4.0
WARM = 10.0
STARTS = 7
TICKS = os.sysconf("SC_CLK_TCK")


def program(number: int) -> tuple[CollectorRegistry, list]:
    """Make the components of one endpoint: names that no other endpoint has."""
    registry = CollectorRegistry()
    metrics = mainstay.Metrics(registry)
    calls: list = []
    for place in range(COMPONENTS):
        name = f"component-{number}-{place:02}"
        if place % 4 == 0:
            members = [mainstay.Member(member, member) for member in ("a", "b", "c")]
            pool = mainstay.FailoverPool(name, members, on=OSError, metrics=metrics)
            calls.append((pool.call, str))
        elif place % 4 == 1:
            breaker = mainstay.CircuitBreaker(name, on=OSError, metrics=metrics)
            calls.append((breaker(int),))
        else:
            calls.append((mainstay.retry(on=OSError, name=name, metrics=metrics)(int),))
    return registry, calls


def serve(number: int) -> str:
    """Serve one endpoint, whose components are all called before each scrape."""
    registry, calls = program(number)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            """Answer."""
            for call, *arguments in calls:
                call(*arguments)
            body = generate_latest(registry)
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with contextlib.suppress(OSError):  # `top` was killed
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"127.0.0.1:{server.server_port}"


def start(urls: list[str]) -> tuple[subprocess.Popen, int]:
    """Start `top` in a pseudo-terminal; give the process and our side."""
    mine, its = pty.openpty()
    fcntl.ioctl(mine, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    command = [sys.executable, "-m", "mainstay", "top", *urls, "--every", str(EVERY)]
    env = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor"}
    process = subprocess.Popen(command, stdin=its, stdout=its, stderr=its, env=env)
    os.close(its)
    return process, mine


def read_until(side: int, ends: float, text: bytes = b"") -> bool:
    """Read what is drawn until a time, or until a text comes; True if it has come."""
    seen = b""
    while (left := ends - time.monotonic()) > 0:
        if select.select([side], [], [], left)[0]:
            seen = seen[-200:] + os.read(side, 1 << 20)
            if text and text in seen:
                return True
    return False


def cpu(process: subprocess.Popen) -> float:
    """Return seconds of processor time that a process has used."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def first_picture(urls: list[str]) -> float:
    """Return seconds until calls are shown."""
    began = time.monotonic()
    process, side = start(urls)
    if not read_until(side, began + 30, b"CALLS"):
        raise RuntimeError("top has shown nothing in 30 seconds")
    seconds = time.monotonic() - began
    process.kill()
    process.wait()
    os.close(side)
    return seconds


def share_of_a_core(urls: list[str], seconds: float, warm: float) -> float:
    """Return processor time over time."""
    process, side = start(urls)
    read_until(side, time.monotonic() + warm)
    before, began = cpu(process), time.monotonic()
    read_until(side, began + seconds)
    used = (cpu(process) - before) / (time.monotonic() - began)
    process.kill()
    process.wait()
    os.close(side)
    return used


def report(*, quick: bool = False) -> Report:
    """Measure both."""
    urls = [serve(number) for number in range(ENDPOINTS)]
    starts = [first_picture(urls) for _ in range(1 if quick else STARTS)]
    used = share_of_a_core(
        urls, QUICK_SECONDS if quick else SECONDS, QUICK_SECONDS if quick else WARM
    )
    result = Report()
    result.say(
        f"{ENDPOINTS} endpoints of {COMPONENTS} components, every {EVERY:g} s: "
        f"{used * 100:.1f} % of a core; first picture after {statistics.median(starts):.2f} s "
        f"(median of {len(starts)}, at most {max(starts):.2f} s)."
    )
    result.measures = [
        Measure("`top`, 10 endpoints of 20 components: share of a core", 15, 15, used * 100, " %"),
        Measure("`top`: first picture after start", 1.5, 1.5, statistics.median(starts), " s"),
    ]
    return result


if __name__ == "__main__":
    main(report, __doc__)
