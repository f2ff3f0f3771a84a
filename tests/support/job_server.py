"""A process that forks a child for each job of `checkpoint_jobs`, so that Python starts once."""

import json
import subprocess
import sys

from programs import checkpoint_jobs


class JobServer:
    """A process that runs jobs in children of its own, one after the other."""

    def __init__(self):
        self._process = subprocess.Popen(
            [sys.executable, checkpoint_jobs.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(self, url, **plan):
        """Start a job; give its process id."""
        self._process.stdin.write(json.dumps([url, plan]) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline().removeprefix("pid "))

    def run(self, url, **plan):
        """Run a job: its exit status, and the lines that it printed."""
        self.start(url, **plan)
        return self.ended()

    def ended(self):
        """Wait for the job: its exit status, and the lines that it printed."""
        lines = []
        for line in self._process.stdout:
            word, _, rest = line.rstrip("\n").partition(" ")
            if word == "status":
                return int(rest), lines
            lines.append((word, rest))
        raise AssertionError("the server has died")

    def close(self):
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()
