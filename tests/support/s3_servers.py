"""Object stores for tests: moto's server, which writes under conditions, in a process of its own.

What a server here keeps is in its memory: what a service promises of its disks no test shows.
"""

import http.client
import os
import subprocess
import sys
import time
from urllib.parse import quote

from support.pools import LONGEST
from support.processes import LOOPBACK, free_port

KEY = "AKIA/TEST"
SECRET = "hun+ter/2"  # noqa: S105 - that it is shown nowhere is a test


class S3Server:
    """A server process on a port of its own, with one bucket.

    Args:
        *command: What starts it, with "{port}" for the port.
    """

    def __init__(self, *command):
        self.port = free_port()
        self.endpoint = f"http://{LOOPBACK}:{self.port}"
        words = command or ("-m", "moto.server", "-H", LOOPBACK, "-p", "{port}")
        self.process = subprocess.Popen(
            [sys.executable, *(each.format(port=self.port) for each in words)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "AWS_EC2_METADATA_DISABLED": "true"},
        )
        end = time.monotonic() + LONGEST
        while self.ask("PUT", "/bucket") != 200:
            assert self.process.poll() is None, "the server does not start"
            assert time.monotonic() < end, "the server never came up"
            time.sleep(0.05)

    def ask(self, method, path):
        """Send a request that is not signed, and give the status of the answer; 0 without one."""
        connection = http.client.HTTPConnection(LOOPBACK, self.port, timeout=LONGEST)
        try:
            connection.request(method, path)
            return connection.getresponse().status
        except OSError:
            return 0
        finally:
            connection.close()

    def empty(self):
        """Remove all objects."""
        assert self.ask("POST", "/moto-api/reset") == 200
        assert self.ask("PUT", "/bucket") == 200

    def url(self, prefix="jobs", *, port=None, user=(KEY, SECRET)):
        """Give the URL of a store in the bucket, by way of another port if there is one."""
        key = ":".join(quote(each, safe="") for each in user)
        endpoint = f"http://{LOOPBACK}:{port or self.port}"
        return f"s3://{key}@bucket/{prefix}?endpoint={endpoint}&region=us-east-1"

    def stop(self):
        """End it."""
        self.process.kill()
        self.process.wait()
