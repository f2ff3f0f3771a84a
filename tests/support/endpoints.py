"""Endpoints that `mainstay top` is pointed at: of a program in trouble, and of worse."""

import contextlib
import gzip
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from support.processes import LOOPBACK, PROGRAMS, free_port

METRICS = b"""# TYPE mainstay_calls_total counter
mainstay_calls_total{component="shop",policy="retry",outcome="success"} %d
"""


class Answers(BaseHTTPRequestHandler):
    """Answers in the way of the path; `/metrics` counts how often it was asked."""

    protocol_version = "HTTP/1.1"
    asked = 0
    stop: threading.Event

    def do_GET(self) -> None:
        """Answer."""
        answer = getattr(self, f"answer_{self.path.strip('/').replace('-', '_')}", None)
        if answer is None:
            self.say(b"", status=404)
        else:
            answer()

    def say(self, body: bytes, *, status: int = 200, **headers: str) -> None:
        """Answer at once."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(body)

    def answer_metrics(self) -> None:
        type(self).asked += 1
        self.say(METRICS % (10 * self.asked))

    def answer_slow(self) -> None:
        self.stop.wait(0.8)
        self.answer_metrics()

    def answer_page(self) -> None:
        self.say(b"<html>Hello</html>")

    def answer_others(self) -> None:
        self.say(b"# TYPE up gauge\nup 1\n")

    def answer_namespace(self) -> None:
        self.say((METRICS % 1).replace(b"mainstay", b"shop"))

    def answer_redirect(self) -> None:
        self.say(b"", status=302, Location="http://me:secret@elsewhere.example/metrics")

    def answer_login(self) -> None:
        login = self.headers.get("Authorization") == "Basic bWU6c2VjcmV0"
        self.say(METRICS % 1 if login else b"", status=200 if login else 401)

    def answer_gzip(self) -> None:
        self.say(gzip.compress(METRICS % 1), Content_Encoding="gzip")

    def answer_bad_gzip(self) -> None:
        self.say(METRICS % 1, Content_Encoding="gzip")

    def answer_half_gzip(self) -> None:
        self.say(gzip.compress(METRICS % 1)[:-9], Content_Encoding="gzip")

    def answer_bomb(self) -> None:
        self.say(gzip.compress(bytes(33 * 2**20), 1), Content_Encoding="gzip")

    def answer_brotli(self) -> None:
        self.say(b"?", Content_Encoding="br")

    def answer_protobuf(self) -> None:
        self.say(b"?", Content_Type="application/vnd.google.protobuf; encoding=delimited")

    def answer_bytes(self) -> None:
        self.say(b"\xff\xfe\x00")

    def answer_nothing(self) -> None:
        self.say(b"")

    def answer_half(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        self.wfile.write(METRICS % 1)
        self.close_connection = True

    def answer_long(self) -> None:
        """Send 100 MB, as long as somebody reads."""
        self.send_response(200)
        self.send_header("Content-Length", str(100_000_000))
        self.end_headers()
        with contextlib.suppress(OSError):
            for _ in range(1_000):
                self.wfile.write(b"#" * 99_999 + b"\n")
        self.close_connection = True

    def answer_drip(self) -> None:
        """Send a byte now and then, without an end."""
        self.send_response(200)
        self.end_headers()
        with contextlib.suppress(OSError):
            while not self.stop.wait(0.05):
                self.wfile.write(b"#")
        self.close_connection = True

    def answer_hang(self) -> None:
        self.stop.wait(60)
        self.close_connection = True

    def answer_no_http(self) -> None:
        self.wfile.write(b"SSH-2.0-OpenSSH\r\n")
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@contextlib.contextmanager
def answers() -> Iterator[str]:
    """Serve every kind of answer; the URL ends where a path begins."""
    handler = type("Handler", (Answers,), {"stop": threading.Event(), "asked": 0})
    server = ThreadingHTTPServer((LOOPBACK, 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://{LOOPBACK}:{server.server_port}"
    finally:
        handler.stop.set()
        server.shutdown()
        thread.join()
        server.server_close()


@contextlib.contextmanager
def trouble() -> Iterator[str]:
    """Run the program in trouble, until something of everything is in its metrics."""
    port = free_port()
    command = [sys.executable, str(PROGRAMS / "top_target.py"), str(port)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            yield f"{LOOPBACK}:{port}"
        finally:
            process.kill()


def eventually(condition, seconds: float = 20.0) -> None:
    """Poll until a condition holds."""
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, "it never came"
        time.sleep(0.02)
