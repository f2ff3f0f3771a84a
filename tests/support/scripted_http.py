"""A server that answers in bytes of the test's own: HTTP, and what only looks like it."""

import contextlib
import json
import socket
import threading

from support.processes import LOOPBACK


class ScriptedServer:
    """Answers each request by what `script` does with its connection; with a context, over TLS.

    Attributes:
        script: Called with the connection, and an event that is set at the end.
        requests: The heads of the requests so far.
        here: In a thread that runs the script, `request` is the head of the one that it answers.
    """

    def __init__(self, script, context=None):
        self.script = script
        self._context = context
        self.requests = []
        self.here = threading.local()
        self._stop = threading.Event()
        self._listener = socket.create_server((LOOPBACK, 0))
        self.port = self._listener.getsockname()[1]
        scheme = "http" if context is None else "https"
        self.url = f"{scheme}://{LOOPBACK}:{self.port}"
        self._threads = [threading.Thread(target=self._accept)]

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                thread = threading.Thread(target=self._serve, args=(connection,))
                self._threads.append(thread)
                thread.start()

    def _serve(self, connection):
        with contextlib.ExitStack() as stack:
            stack.enter_context(contextlib.suppress(OSError))
            stack.callback(connection.close)
            if self._context is not None:
                connection = self._context.wrap_socket(connection, server_side=True)
                stack.callback(connection.close)
            head = b""
            while b"\r\n\r\n" not in head:
                piece = connection.recv(65536)
                if not piece:
                    return
                head += piece
            self.here.request = head.decode()
            self.requests.append(self.here.request)
            self.script(connection, self._stop)

    def __enter__(self):
        self._threads[0].start()
        return self

    def __exit__(self, *exc_info):
        self._stop.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join()


def says(body, *, status="200 OK", headers=()):
    """Answer at once."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    answer = "\r\n".join(lines).encode() + body

    def script(connection, _stop):
        connection.sendall(answer)

    return script


def sends(data):
    """Send some bytes, and close."""
    return lambda connection, _stop: connection.sendall(data)


def drips(data, piece=b" "):
    """Send some bytes, and then one more now and then, without an end."""

    def script(connection, stop):
        connection.sendall(data)
        while not stop.wait(0.02):
            connection.sendall(piece)

    return script


def hangs(connection, stop):
    """Answer nothing."""
    del connection
    stop.wait(60)


def sampled(*values):
    """Answer as Prometheus does whose query gives these samples."""
    result = [{"metric": {"n": str(n)}, "value": [1.5, each]} for n, each in enumerate(values)]
    data = {"resultType": "vector", "result": result}
    return says(json.dumps({"status": "success", "data": data}).encode())
