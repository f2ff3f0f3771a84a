"""A server on loopback that answers each request as a script says, and keeps what it was sent."""

import contextlib
import socket
import ssl
import struct
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import attrs

RESET = struct.pack("ii", 1, 0)  # SO_LINGER: closing sends a reset


@attrs.frozen
class Seen:
    """A request as it came."""

    method: str
    headers: dict
    body: bytes


class Scripted:
    """Answers the next request with the next of *script*, and the last one again and again.

    Each is a status, or a function of the handler and of this. With a *certificate*, a file that
    has the key as well, it speaks TLS.

    Attributes:
        seen: The requests.
    """

    def __init__(self, *script, certificate=None):
        self._script = script
        self._scheme = "http" if certificate is None else "https"
        self.seen = []
        self.over = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one_request(self):
                with contextlib.suppress(OSError, ValueError):  # a connection that is gone
                    super().handle_one_request()
                    return
                self.close_connection = True

            def answer(self):
                place = len(outer.seen)
                body = read_body(self)
                headers = {name.lower(): value for name, value in self.headers.items()}
                outer.seen.append(Seen(self.command, headers, body))
                step = outer._script[min(place, len(outer._script) - 1)]
                if callable(step):
                    step(self, outer)
                else:
                    says(step)(self, outer)

            do_GET = do_POST = do_PUT = answer  # noqa: N815 - as http.server calls them

            def log_message(self, *_args):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    @property
    def url(self):
        return f"{self._scheme}://{self.host}/"

    @property
    def host(self):
        return f"127.0.0.1:{self._server.server_port}"

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_exc_info):
        self.over.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)


def read_body(handler):
    if handler.headers.get("Transfer-Encoding") == "chunked":
        pieces = []
        while size := int(handler.rfile.readline(), 16):
            pieces.append(handler.rfile.read(size))
            handler.rfile.readline()
        handler.rfile.readline()
        return b"".join(pieces)
    return handler.rfile.read(int(handler.headers.get("Content-Length", 0)))


def says(status, body=b"said", **headers):
    """Answer with a status, a body, and headers with - for _ in their names."""

    def step(handler, _server):
        handler.send_response(status)
        for name, value in {"Content-Length": len(body), **headers}.items():
            handler.send_header(name.replace("_", "-"), str(value))
        handler.end_headers()
        handler.wfile.write(body)

    return step


def resets(handler, _server):
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    handler.close_connection = True
    handler.wfile.close()
    handler.connection.close()


def cuts(handler, _server):
    """Answer with a tenth of the body that was announced."""
    handler.send_response(200)
    handler.send_header("Content-Length", "400")
    handler.end_headers()
    handler.wfile.write(b"said" * 10)
    handler.close_connection = True


def hangs(_handler, server):
    server.over.wait(5)


class Slow:
    """Takes a request in after a while, and does not answer it.

    Args:
        seconds: How long it lets each connection wait.
    """

    def __init__(self, seconds):
        self._seconds = seconds
        self._over = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve)

    @property
    def url(self):
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}/"

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_exc_info):
        self._over.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        self._listener.close()

    def _serve(self):
        with contextlib.suppress(OSError):
            connection, _ = self._listener.accept()
            with connection:
                self._over.wait(self._seconds)
                connection.settimeout(0.1)
                with contextlib.suppress(TimeoutError):
                    while connection.recv(1 << 20):
                        pass
                self._over.wait(5)


def drips(every, seconds, *, chunked=False):
    """Answer at once, with a body of which a byte comes each *every* seconds, for *seconds*."""

    def step(handler, server):
        handler.send_response(200)
        pieces = round(seconds / every)
        if chunked:
            handler.send_header("Transfer-Encoding", "chunked")
        else:
            handler.send_header("Content-Length", str(pieces))
        handler.end_headers()
        for _ in range(pieces):
            handler.wfile.write(b"1\r\nx\r\n" if chunked else b"x")
            if server.over.wait(every):
                return
        if chunked:
            handler.wfile.write(b"0\r\n\r\n")

    return step
