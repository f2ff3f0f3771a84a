"""Starts the program of `cp.map`, kills it or a worker of it, and reads what its items came to."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from mainstay._checkpoint.document import opened
from mainstay.stores import SQLiteStore
from mainstay.stores.base import RunId
from programs import map_jobs

PATIENCE = 60.0


class MapRun:
    """One run, over any number of attempts.

    Attributes:
        log: Where its items say what they do.
        begun: How many items the attempts before have begun.
    """

    def __init__(self, directory, **plan):
        self.log = Path(directory) / "log"
        self.log.touch()
        self._errors = Path(directory) / "errors"
        self._url = f"sqlite:///{Path(directory) / 'runs.db'}"
        self._plan = {"log": str(self.log), "seconds": 0.0, **plan}
        self._process = None

    def start(self, **changes):
        """Start an attempt, in a session of its own, which dies as a whole."""
        plan = json.dumps(self._plan | changes)
        # A worker of Dask that is started anew while the cluster ends logs that nobody answers.
        environment = {**os.environ, "DASK_LOGGING__DISTRIBUTED": "critical"}
        with self._errors.open("w") as errors:  # no pipe, which workers would keep open
            self._process = subprocess.Popen(
                [sys.executable, map_jobs.__file__, self._url, plan],
                start_new_session=True,
                stderr=errors,
                env=environment,
            )
        return self

    def lines(self, word):
        """What was said of one kind: the rests of the lines."""
        words = [line.partition(" ") for line in self.log.read_text().splitlines()]
        return [rest for first, _, rest in words if first == word]

    def begun(self):
        """The items that have begun, in the order of time, as often as they did."""
        return [int(rest.split()[0]) for rest in self.lines("begin")]

    def wait_until(self, happened):
        """Wait until something is true of this run."""
        until = time.monotonic() + PATIENCE
        while not happened():
            assert self._process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.002)

    def kill(self):
        """Kill it and all its workers at once, as the end of a machine would."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):  # nothing of it is left
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def kill_a_worker(self):
        """Kill a worker that has begun an item and not ended it."""
        open_items = {}
        for line in self.log.read_text().splitlines():
            word, _, rest = line.partition(" ")
            if word == "begin":
                open_items[rest] = int(rest.split()[1])
            elif word == "end":
                open_items.pop(rest, None)
        victims = {*open_items.values()} - {self._process.pid}
        if victims:
            os.kill(victims.pop(), signal.SIGKILL)
        return bool(victims or open_items)

    def signal(self, number):
        self._process.send_signal(number)

    def ended(self):
        """Wait for its end: its exit code, and what it wrote to stderr."""
        process = self._process
        try:
            process.wait(PATIENCE)
        finally:
            self.kill()  # workers may live on
        return process.returncode, self._errors.read_text()

    def saved(self):
        """The items that are done by the newest save."""
        store = SQLiteStore(self._url.removeprefix("sqlite:///"))
        try:
            latest = store.load(RunId("run", "key")).latest
            state = opened(latest).state if latest else []
            return state if isinstance(state, list) else []
        finally:
            store.close()

    def result(self):
        """What came out at the end."""
        [result] = self.lines("result")
        return json.loads(result)
