"""A web server of which one answer in a hundred, or each that says so, takes long.

Prints its port and serves until its standard input is closed.
"""

import itertools
import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SLOW = 0.5  # seconds
_numbers = itertools.count()


class Handler(BaseHTTPRequestHandler):
    """Answers with the path, sooner or later."""

    def do_GET(self) -> None:
        """Answer."""
        slow = self.path == "/first-is-slow" and next(_numbers) == 0
        time.sleep(SLOW if slow or self.path == "/slow" else 0.001)
        body = self.path.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        try:
            self.wfile.write(body)
        except OSError:  # the client lost interest
            self.close_connection = True

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
server.daemon_threads = True
threading.Thread(target=server.serve_forever, daemon=True).start()
print(server.server_port, flush=True)
sys.stdin.read()
os._exit(0)
