"""A shop in trouble, on loopback: what the examples of HTTP clients talk to.

GET  /orders   503 with "Retry-After: 0" at first, then the orders
POST /orders   503: whether the order was taken, nobody knows
GET  /report   drips for two seconds
GET  /down     503, always
"""

import contextlib
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Shop(BaseHTTPRequestHandler):
    """Answers one connection."""

    protocol_version = "HTTP/1.1"
    asked = 0

    def do_GET(self) -> None:
        """Answer in the way of the path."""
        if self.path == "/report":
            self.drip()
        elif self.path == "/orders":
            Shop.asked += 1
            self.say(503 if Shop.asked == 1 else 200, b"2 teas")
        else:
            self.say(503, b"down")

    def do_POST(self) -> None:
        """Take an order, or not."""
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(503)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def say(self, status: int, body: bytes) -> None:
        """Answer at once."""
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Retry-After", "0")
        self.end_headers()
        self.wfile.write(body)

    def drip(self) -> None:
        """Answer byte by byte."""
        self.send_response(200)
        self.send_header("Content-Length", "100")
        self.end_headers()
        with contextlib.suppress(OSError):
            for _ in range(100):
                self.wfile.write(b"x")
                time.sleep(0.02)

    def log_message(self, *_args: object) -> None:
        """Log nothing."""


@contextlib.contextmanager
def troubled_shop() -> Iterator[str]:
    """Open the shop for the time of a block, which gets its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Shop)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
