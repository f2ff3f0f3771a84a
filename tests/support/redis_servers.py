"""Redis servers for tests: `redis-server` of the Debian package redis-server, on the loopback."""

import os
import signal
import subprocess
import time

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from support.pools import LONGEST
from support.processes import LOOPBACK, free_port, require_tool

DURABLE = ("--appendonly", "yes", "--appendfsync", "always")
"""What `RedisStore` wants of a server."""


class RedisServer:
    """One server process on a port of its own.

    Args:
        directory: Where it works.
        *options: Of its command line.
        site: The `Site` that it is at, if it is not here.
    """

    def __init__(self, directory, *options, site=None):
        self.port = free_port()
        self.host = LOOPBACK if site is None else site.hosts[0]
        self.url = f"redis://{self.host}:{self.port}"
        self._inside = [] if site is None else site.inside()
        self._bind = ["--bind", LOOPBACK] if site is None else ["--protected-mode", "no"]
        self.directory = directory
        self.options = options
        self.process = None
        self.start()

    def start(self):
        """Start it, and wait until it answers, be it with an error."""
        binary = require_tool("redis-server", package="redis-server")
        self.process = subprocess.Popen(
            [*self._inside, binary, "--port", str(self.port), *self._bind, "--save", "",
             "--dir", self.directory, *self.options],
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        end = time.monotonic() + LONGEST
        while True:
            try:
                with redis.Redis(self.host, self.port, retry=Retry(NoBackoff(), 0)) as client:
                    client.set("name", str(self.port))
            except (redis.AuthenticationError, redis.BusyLoadingError, redis.ResponseError):
                return
            except redis.ConnectionError:
                assert self.process.poll() is None, "the server does not start"
                assert time.monotonic() < end, "the server never came up"
                time.sleep(0.01)
            else:
                return

    def signal(self, number):
        os.kill(self.process.pid, number)

    def kill(self):
        self.signal(signal.SIGKILL)
        self.process.wait()

    def stop(self):
        if self.process.poll() is None:
            self.signal(signal.SIGCONT)
            self.kill()
