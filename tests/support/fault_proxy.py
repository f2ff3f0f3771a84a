"""A proxy on the loopback between a client and a server, which fails at one message.

A message is what the client sends at once. The fault happens at the message with the number that
was asked for, counted over all connections from the call of `fail_at`, and once.

    before   cut before the message is passed on
    after    pass the message on, and cut before anything of the answer
    middle   pass the message on, and cut in the middle of the answer
    hole     keep the connection, and pass nothing on any more, of this and of all others
    delay    hold the message back until `release`

Connections are ended by `shutdown`: `close` would leave one open that another thread reads from.
"""

import contextlib
import socket
import threading

from support.processes import LOOPBACK

FAULTS = ("before", "after", "middle")
_CHUNK = 1 << 16


class FaultProxy:
    """Passes connections on to a port, until told otherwise.

    Args:
        port: Of the server.

    Attributes:
        port: Of the proxy.
        messages: How many were sent by clients since `fail_at`, or since the start.
        has_failed: Set when the fault has happened.
    """

    def __init__(self, port):
        self._target = port
        self._listener = socket.create_server((LOOPBACK, 0))
        self.port = self._listener.getsockname()[1]
        self.messages = 0
        self.has_failed = threading.Event()
        self._fault, self._at = None, 0
        self._passes, self._released = True, threading.Event()
        self._refuses = False
        self._lock = threading.Lock()
        self._sockets, self._threads = set(), []
        self._accepting = self._start(self._accept)

    def fail_at(self, number, fault):
        """Fail at the message with that number from now on, from 1."""
        with self._lock:
            self.messages, self._fault, self._at = 0, fault, number
            self.has_failed.clear()
            self._released.clear()

    def release(self):
        """Pass on what was held back, and everything again; cut what went into the hole."""
        self._fault = None
        self._released.set()
        if not self._passes:
            self._passes = True
            self.cut()

    def refuse(self):
        """Refuse new connections from now on."""
        self._refuses = True

    def cut(self):
        """Cut all connections."""
        for each in [*self._sockets]:
            _shut(each)

    def close(self):
        """End all connections and threads."""
        _shut(self._listener)
        self._listener.close()
        self._accepting.join()  # or a connection that it makes meanwhile would not be cut
        self.release()
        self.cut()
        for thread in self._threads:
            thread.join()
        for each in self._sockets:
            each.close()

    def _start(self, target, *args):
        thread = threading.Thread(target=target, args=args)
        self._threads.append(thread)
        thread.start()
        return thread

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                if self._refuses:
                    client.close()
                    continue
                try:
                    server = socket.create_connection((LOOPBACK, self._target))
                except OSError:
                    client.close()
                    continue
                for each in (client, server):
                    each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._sockets |= {client, server}
                state = {"answers": None}
                self._start(self._pass_requests, client, server, state)
                self._start(self._pass_answers, client, server, state)

    def _pass_requests(self, client, server, state):
        with contextlib.suppress(OSError):
            while data := client.recv(_CHUNK):
                with self._lock:
                    self.messages += 1
                    fault = self._fault if self.messages == self._at else None
                    if fault is not None:
                        self._fault = None
                if fault is not None:
                    self.has_failed.set()
                if fault == "before":
                    break
                if fault in ("after", "middle"):
                    state["answers"] = fault
                if fault == "hole":
                    self._passes = False
                if fault == "delay":
                    self._released.wait()
                if self._passes:
                    server.sendall(data)
        self._end(client, server)

    def _pass_answers(self, client, server, state):
        with contextlib.suppress(OSError):
            while data := server.recv(_CHUNK):
                if state["answers"] == "after":
                    break
                if state["answers"] == "middle":
                    client.sendall(data[: len(data) // 2])
                    break
                if self._passes:
                    client.sendall(data)
        self._end(client, server)

    def _end(self, *both):
        for each in both:
            _shut(each)


def _shut(connection):
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
