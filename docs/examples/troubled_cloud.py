"""A cloud in trouble, on loopback: what the examples of SDKs talk to.

Of each path the first answer is a failure, and the others are good.
"""

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SLOW_DOWN = (
    b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
)
TOO_MANY = {"error": {"message": "Rate limit reached", "type": "requests", "code": "rate_limit"}}
ANSWER = {
    "id": "1",
    "object": "chat.completion",
    "created": 0,
    "model": "some-model",
    "choices": [
        {
            "index": 0,
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": "A lamp."},
        }
    ],
}


class Cloud(BaseHTTPRequestHandler):
    """Answers one connection."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Give an object of a store, as S3 does."""
        if self.is_first():
            self.say(503, SLOW_DOWN, "application/xml")
        else:
            self.say(200, b"a lamp")

    def do_POST(self) -> None:
        """Complete a chat, as OpenAI does."""
        self.rfile.read(int(self.headers["Content-Length"]))
        if self.is_first():
            self.say(429, json.dumps(TOO_MANY).encode(), "application/json", "250")
        else:
            self.say(200, json.dumps(ANSWER).encode(), "application/json")

    def is_first(self) -> bool:
        """True once for each path."""
        seen: set[str] = self.server.seen  # type: ignore[attr-defined]
        first = self.path not in seen
        seen.add(self.path)
        return first

    def say(self, status: int, body: bytes, kind: str = "text/plain", wait: str = "") -> None:
        """Answer."""
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if wait:
            self.send_header("Retry-After-Ms", wait)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args: object) -> None:
        """Log nothing."""


@contextlib.contextmanager
def troubled_cloud() -> Iterator[str]:
    """Open the cloud for the time of a block, which gets its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Cloud)
    server.seen = set()  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
