"""The servers that the quickstart depends on: real HTTP, each in a process of its own.

    SteadyServer    answers every request; made to be killed
    BusyServer      answers 503 with "Retry-After: 1" for a part of the time
    SlowServer      takes a long time for one answer in fifty
    WrongServer     answers every request, with something else than the others
    SmallServer     takes eight requests at once, and dies of the ninth

`python servers.py KIND PORT` is such a process, of kind steady, busy, slow, wrong or small. It
prints its port, 0 having asked for a free one, and ends when its standard input does: no parent can
leave it behind, however it dies.
"""

import contextlib
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

HOST = "127.0.0.1"
BUSY_SECONDS = 0.8
BUSY_EVERY = 2.5
SLOW_SECONDS = 0.5
SLOW_EVERY = 50  # requests
MOST_AT_ONCE = 8  # requests


class Server:
    """A server process, from `with` to the end of its block.

    Attributes:
        port: Where it listens; the same one after a restart.
    """

    kind: str
    port = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.kill()

    @property
    def url(self) -> str:
        """The address of its only page."""
        return f"http://{HOST}:{self.port}/"

    def start(self) -> None:
        """Start the process and wait until it listens."""
        command = [sys.executable, __file__, self.kind, str(self.port)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
        self.port = int(self.process.stdout.readline())  # type: ignore[union-attr]  # it is a pipe

    def kill(self) -> None:
        """End the process with SIGKILL: connections break in the middle of a request."""
        with self.process:  # which waits for it, and closes the pipes
            self.process.kill()


class SteadyServer(Server):
    """Answers every request."""

    kind = "steady"


class BusyServer(Server):
    """Answers 503 with a Retry-After header for a part of the time."""

    kind = "busy"


class SlowServer(Server):
    """Takes a long time for one answer in fifty."""

    kind = "slow"


class WrongServer(Server):
    """Answers every request, with something else than the others."""

    kind = "wrong"


class SmallServer(Server):
    """Takes eight requests at once, and dies of the ninth."""

    kind = "small"

    @property
    def is_up(self) -> bool:
        """Whether the process still runs."""
        return self.process.poll() is None


class SteadyPage(BaseHTTPRequestHandler):
    """A page that is always there."""

    body = b"here you are\n"

    def do_GET(self) -> None:
        """Answer as the protocol of the base class wants it."""
        self.answer(200)

    def answer(self, status: int, **headers: str) -> None:
        """Send an answer with a short body."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *args: object) -> None:
        """Leave the terminal to the quickstart."""


class BusyPage(SteadyPage):
    """A page whose server has too much to do every now and then."""

    def do_GET(self) -> None:
        """Answer, or say when to come back."""
        if time.monotonic() % BUSY_EVERY < BUSY_SECONDS:
            self.answer(503, Retry_After="1")
        else:
            self.answer(200)


class SlowPage(SteadyPage):
    """A page that now and then takes a hundred times as long, for no reason of its visitor's."""

    requests = itertools.count(1)

    def do_GET(self) -> None:
        """Answer, sooner or later."""
        if next(self.requests) % SLOW_EVERY == 0:
            time.sleep(SLOW_SECONDS)
        with contextlib.suppress(OSError):  # the client may have lost interest
            self.answer(200)


class WrongPage(SteadyPage):
    """A page that is always there, and never right."""

    body = b"something else\n"


class SmallPage(SteadyPage):
    """A page that takes some memory to make, of which there is enough for eight visitors."""

    at_once = 0
    lock = threading.Lock()

    def do_GET(self) -> None:
        """Answer after some work, unless too many are here: then the process is killed."""
        with self.lock:
            SmallPage.at_once += 1
            if SmallPage.at_once > MOST_AT_ONCE:
                os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.02)
        with self.lock:  # before the answer, after which the visitor may be back
            SmallPage.at_once -= 1
        self.answer(200)


class Listener(ThreadingHTTPServer):
    """A thread for each connection, and room for many that wait."""

    request_queue_size = 128
    daemon_threads = True


PAGES = {
    "steady": SteadyPage,
    "busy": BusyPage,
    "slow": SlowPage,
    "wrong": WrongPage,
    "small": SmallPage,
}


def main(kind: str, port: str) -> None:
    """Serve until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent
    page = PAGES[kind]
    with Listener((HOST, int(port)), page) as listener:
        print(listener.server_port, flush=True)
        threading.Thread(target=listener.serve_forever, daemon=True).start()
        sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
