"""Real servers of applications, and clients that count, for the tests of the middlewares."""

import contextlib
import http.client
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

from support.processes import LOOPBACK, PROGRAMS, environment, free_port

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
LONGEST = 30.0  # seconds, on a machine that is busy


class Process:
    """A program that serves on a port, until its block ends."""

    def __init__(self, *command, port, **variables):
        self.command = [sys.executable, *command]
        self.port = port
        self.variables = variables
        self.process = None

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_exc_info):
        self.end()

    def start(self):
        """Start it, and wait until it takes connections."""
        self.process = subprocess.Popen(
            self.command,
            env=environment(self.variables),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            eventually(self.is_up)
        except BaseException:
            self.kill()
            raise

    def is_up(self):
        assert self.process.poll() is None, f"{self.command} ended by itself"
        connection = http.client.HTTPConnection(LOOPBACK, self.port, timeout=5)
        try:
            connection.connect()
        except OSError:
            return False
        finally:
            connection.close()
        return True

    def kill(self):
        """Kill it and all that it has started by SIGKILL."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(LONGEST)
        self.process.stdin.close()

    def end(self):
        """Ask it to end; kill what is left after a while."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(10)
        self.kill()


def eventually(holds):
    """Poll until it holds."""
    end = time.monotonic() + LONGEST
    while not holds():
        assert time.monotonic() < end, "it has not come about"
        time.sleep(0.02)


def stock_server(port=None):
    port = port or free_port()
    return Process(str(PROGRAMS / "stock_server.py"), str(port), port=port)


def uvicorn(app, *options, directory=EXAMPLES, **variables):
    port = free_port()
    return Process(
        *("-m", "uvicorn", app, "--app-dir", str(directory), "--host", LOOPBACK),
        *("--port", str(port), "--log-level", "warning", *options),
        port=port,
        **variables,
    )


def gunicorn(app, *options, directory=EXAMPLES, **variables):
    port = free_port()
    return Process(
        *("-m", "gunicorn", app, "--chdir", str(directory), "--bind", f"{LOOPBACK}:{port}"),
        *("--log-level", "warning", *options),
        port=port,
        **variables,
    )


class Browser:
    """One customer, who keeps its connection."""

    def __init__(self, port):
        self.port = port
        self.connection = None

    def get(self, path, headers=None, method="GET"):
        """Return status, headers and body."""
        for fresh in (False, True):
            if self.connection is None or fresh:
                self.connection = http.client.HTTPConnection(LOOPBACK, self.port, timeout=LONGEST)
            try:
                self.connection.request(method, path, headers=headers or {})
                answer = self.connection.getresponse()
                return answer.status, answer.headers, answer.read()
            except (http.client.RemoteDisconnected, ConnectionError):
                if fresh:  # one that was idle may have been closed, before it took the request
                    raise
        raise AssertionError


def get(port, path, headers=None, method="GET"):
    browser = Browser(port)
    try:
        return browser.get(path, headers, method)
    finally:
        browser.connection.close()


def load(port, paths, customers=8, begun=None):
    """Let customers get all paths, in turns; return how often they got which status."""
    statuses, todo, lock = Counter(), iter(paths), threading.Lock()

    def buy():
        browser = Browser(port)
        while True:
            with lock:
                path = next(todo, None)
            if path is None:
                browser.connection.close()
                return
            status, _, _ = browser.get(path)
            with lock:
                statuses[status] += 1
            if begun is not None:
                begun(statuses.total())

    threads = [threading.Thread(target=buy) for _ in range(customers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONGEST * 2)
    return statuses


def samples(port, name, path="/metrics"):
    """Return the samples of a metric: their labels as a dict, and their value."""
    _, _, body = get(port, path)
    found = re.findall(rf"^mainstay_{name}\{{(.*)\}} (\S+)$", body.decode(), re.MULTILINE)
    return [(dict(re.findall(r'(\w+)="([^"]*)"', labels)), float(value)) for labels, value in found]


def outcomes(port, component, policy, path="/metrics"):
    """Return how the calls of a component ended, leaving out what never happened."""
    return {
        labels["outcome"]: value
        for labels, value in samples(port, "calls_total", path)
        if (labels["component"], labels["policy"]) == (component, policy) and value
    }
