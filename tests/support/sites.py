"""A place that is joined to this one by cables, which can be pulled: a network namespace."""

import contextlib
import os
import subprocess

import pytest

from support.processes import DICE, require_tool

NET = "198.18"  # and 198.19: reserved for tests of networks by RFC 2544


class Site:
    """A network namespace, and pairs of virtual cards between it and this one.

    Skips the test where the system does not let it be made, as in most containers.

    Args:
        cables: How many.

    Attributes:
        hosts: The address of the site, over each cable.
    """

    def __init__(self, cables=2):
        self._ip = require_tool("ip", package="iproute2")
        self.name = f"mainstay{os.getpid()}-{DICE.randrange(10_000)}"
        self.hosts = []
        self._cables = []
        try:
            self._do("netns", "add", self.name)
            self._do("-n", self.name, "link", "set", "lo", "up")
            for _ in range(cables):
                self._lay()
        except subprocess.CalledProcessError as refused:
            with contextlib.suppress(subprocess.CalledProcessError):
                self.remove()
            pytest.skip(f"no network can be made here: {refused.stderr.strip()}")

    def _do(self, *arguments):
        subprocess.run([self._ip, *arguments], check=True, capture_output=True, text=True)

    def _lay(self):
        number = DICE.randrange(2**16)
        here, there = f"mst{number:x}h", f"mst{number:x}t"
        third, fourth = divmod(number & 0xFFFC, 256)
        self._do("link", "add", here, "type", "veth", "peer", "name", there, "netns", self.name)
        self._do("addr", "add", f"{NET}.{third}.{fourth + 1}/30", "dev", here)
        self._do("-n", self.name, "addr", "add", f"{NET}.{third}.{fourth + 2}/30", "dev", there)
        self._do("link", "set", here, "up")
        self._do("-n", self.name, "link", "set", there, "up")
        self.hosts.append(f"{NET}.{third}.{fourth + 2}")
        self._cables.append(there)

    def inside(self, user=None):
        """Give what comes before a command that runs there."""
        as_user = ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups"] if user else []
        return [self._ip, "netns", "exec", self.name, *as_user]

    def pull(self, cable=0):
        """Pull a cable: nothing passes, and nobody is told."""
        self._do("-n", self.name, "link", "set", self._cables[cable], "down")

    def plug(self, cable=0):
        """Put a cable back."""
        self._do("-n", self.name, "link", "set", self._cables[cable], "up")

    def remove(self):
        """Remove it with its cables, once nothing runs there."""
        self._do("netns", "delete", self.name)
