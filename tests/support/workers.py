"""Workers of task queues that do the jobs of `docs/examples`, and die as a whole or in part."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from mainstay.stores import store_of

TESTS = Path(__file__).parents[1]
EXAMPLES = TESTS.parent / "docs" / "examples"
PATIENCE = 60.0


class Workers:
    """The workers of one test, and the store of their runs.

    Args:
        directory: Of what the workers say.
        url: Of the store; None for a file in the directory.
        **variables: More of their environment.
    """

    def __init__(self, directory, url=None, **variables):
        url = url or f"sqlite:///{directory / 'jobs.db'}"
        self.store = store_of(url)
        self._log = directory / "log"
        self._log.touch()
        path = [str(EXAMPLES), str(TESTS), os.environ.get("PYTHONPATH", "")]
        self._environment = {
            **os.environ,
            "MAINSTAY_STORE": url,
            "PYTHONPATH": os.pathsep.join(path),
            **variables,
        }
        self._started = []

    def start(self, *arguments, **variables):
        """Start Python with *arguments*, in a session of its own, which dies as a whole."""
        with self._log.open("a") as log:
            worker = subprocess.Popen(
                [sys.executable, *arguments],
                env=self._environment | variables,
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._started.append(worker)
        return worker

    def run(self, *arguments):
        """Run Python with *arguments* to its end."""
        assert self.start(*arguments).wait(PATIENCE) == 0, self.said()

    def kill(self, worker):
        """Kill a worker and all its processes at once, as the end of a machine would."""
        with contextlib.suppress(ProcessLookupError):  # nothing of it is left
            os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()

    def kill_all(self):
        """End what was started."""
        for worker in self._started:
            self.kill(worker)
        self.store.close()

    def said(self):
        """What all of them said."""
        return self._log.read_text()

    def record(self):
        """What the store knows of the run, once there is one."""
        return next((record for record, _ in self.store.list()), None)

    def wait_until(self, happened):
        """Wait until something is true."""
        until = time.monotonic() + PATIENCE
        while not happened():
            assert time.monotonic() < until, self.said()
            time.sleep(0.02)

    def until_in_the_middle(self):
        """Wait until the run has saved items, and give what the store knows of it."""
        self.wait_until(lambda: (record := self.record()) and self.store.load(record.run).latest)
        assert self.record().status == "running"
        return self.record()

    def until_done(self):
        """Wait until the run is done, and give what the store knows of it."""
        self.wait_until(lambda: self.record().status == "done")
        return self.record()
