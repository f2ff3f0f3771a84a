"""Servers on loopback that do what faulty servers do, each in a thread of the test's process."""

import contextlib
import socket
import struct
import threading

RESET = struct.pack("ii", 1, 0)  # SO_LINGER: closing sends a reset


class FaultyServer:
    """Takes connections, and treats each as *behave* does, until its block ends.

    Attributes:
        port: Where it listens.
    """

    def __init__(self, behave):
        self._behave = behave
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._accept)]

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/"

    def __enter__(self):
        self._threads[0].start()
        return self

    def __exit__(self, *_exc_info):
        self._over.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(10)

    def _accept(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(connection,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection):
        with connection, contextlib.suppress(OSError):
            connection.settimeout(5)
            self._behave(connection, self._over)


def resets(connection, _over):
    connection.recv(1 << 16)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)


def closes(connection, _over):
    connection.recv(1 << 16)


def cuts(connection, _over):
    connection.recv(1 << 16)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc")


def hangs(connection, over):
    connection.recv(1 << 16)
    over.wait(5)


def speaks_no_tls(connection, _over):
    connection.recv(1 << 16)
    connection.sendall(b"HTTP/1.0 400 no\r\n\r\n")


def answers(status, *headers):
    """Return what answers each request with *status* and *headers*, and an empty document."""
    lines = [f"HTTP/1.1 {status} Said", "Content-Type: application/json", "Content-Length: 2"]
    text = "\r\n".join([*lines, "Connection: close", *headers, "", "{}"]).encode()

    def behave(connection, _over):
        connection.recv(1 << 16)
        connection.sendall(text)

    return behave


def free_port():
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]
