"""PostgreSQL servers for tests: `postgres` of the Debian package postgresql, on the loopback.

The server refuses to run as root. There it runs as the user `postgres`, which the package makes.
"""

import atexit
import functools
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import psycopg

from support.pools import LONGEST
from support.processes import LOOPBACK, free_port, require_tool

OPTIONS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "fsync": "off",
    "log_min_messages": "panic",
}


def command(name):
    """Find a command of the server, which Debian keeps off the path."""
    newest = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return str(newest[-1]) if newest else require_tool(name, package="postgresql")


def run(name, *arguments):
    subprocess.run([command(name), *arguments], check=True, capture_output=True, cwd="/", **whose())


def whose():
    """Give as whom the server runs."""
    return {"user": "postgres", "group": "postgres"} if os.geteuid() == 0 else {}


def directory():
    """Make a directory that the server may write into."""
    path = Path(tempfile.mkdtemp(prefix="mainstay-postgres-"))
    if owner := whose():
        shutil.chown(path, **owner)
    return path


@functools.cache
def empty():
    """Make the files of a new server, once: that takes ten times as long as to copy them."""
    path = directory()
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    run("initdb", "--pgdata", path / "data", "--username", "postgres", "--auth", "trust",
        "--no-sync")  # fmt: skip
    return path / "data"


class Postgres:
    """One server: a primary, or the standby of another one.

    Args:
        standby_of: The primary.
        for_ever_starting: True for one that looks for an archive which never comes.
        refuses: True for one that answers, but takes no connections.
        site: The `Site` that it is at, if it is not here.
        **settings: Of its command line, besides `OPTIONS`.
    """

    def __init__(
        self, *, standby_of=None, for_ever_starting=False, refuses=False, site=None, **settings
    ):
        self.directory = directory()
        self.data = self.directory / "data"
        self.port = free_port()
        host = LOOPBACK if site is None else site.hosts[0]
        self.url = f"postgresql://postgres@{host}:{self.port}/postgres?connect_timeout=2"
        self._site = site
        if standby_of is None:
            subprocess.run(["/bin/cp", "-a", empty(), self.data], check=True, **whose())
        else:
            run("pg_basebackup", "--pgdata", self.data, "--dbname", standby_of.url,
                "--write-recovery-conf", "--checkpoint", "fast", "--no-sync")  # fmt: skip
        if for_ever_starting:
            signal_file = self.data / "recovery.signal"
            signal_file.touch()
            if owner := whose():
                shutil.chown(signal_file, **owner)
            settings = {"restore_command": "sleep 60", **settings}
        if site is not None:
            settings = {"listen_addresses": "*", **settings}
            with (self.data / "pg_hba.conf").open("a") as rules:
                rules.write("host all all samenet trust\n")
        settings = {**OPTIONS, **settings}
        self._settings = [
            each for key, value in settings.items() for each in ("-c", f"{key}={value}")
        ]
        self.start(refuses=refuses or for_ever_starting)

    def start(self, *, refuses=False):
        """Start it, and wait until it answers."""
        inside = [] if self._site is None else self._site.inside("postgres")
        self.process = subprocess.Popen(
            [*inside, command("postgres"), "-D", self.data, "-p", str(self.port), *self._settings],
            cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            **({} if inside else whose()),
        )  # fmt: skip
        self._wait(refuses=refuses)

    def _wait(self, *, refuses):
        end = time.monotonic() + LONGEST
        while True:
            try:
                self.ask("select 1")
            except psycopg.OperationalError as error:
                if refuses and "FATAL" in str(error):
                    return
                assert time.monotonic() < end, "the server never came up"
                time.sleep(0.02)
            else:
                return

    def ask(self, statement):
        with psycopg.connect(self.url, autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def crash(self):
        """End it at once with all its processes, as a crash of the machine would."""
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait(LONGEST)

    def signal_all(self, number):
        """Send a signal to all its processes."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        for pid in (self.process.pid, *map(int, children.split())):
            os.kill(pid, number)

    def stop(self):
        """End it at once; its own processes end when they notice."""
        self.process.kill()
        self.process.wait()

    def remove(self):
        """End it with all its processes, so that nobody writes any more, and remove its files."""
        if self.process.poll() is None:
            self.crash()
        shutil.rmtree(self.directory, ignore_errors=True)
