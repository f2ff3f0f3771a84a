"""PgBouncer for tests: `pgbouncer` of the Debian package pgbouncer, in transaction mode.

Each transaction of a client may go to another session of the server, of which there are two.
"""

import shutil
import subprocess
import time

import psycopg

from support.pools import LONGEST
from support.postgres import directory, whose
from support.processes import LOOPBACK, free_port, require_tool

_SETTINGS = """
[databases]
postgres = host={host} port={server} user=postgres
[pgbouncer]
listen_addr = {host}
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 2
max_client_conn = 100
server_round_robin = 1
"""


class PgBouncer:
    """A pooler before a server.

    Args:
        server: A `Postgres`.
    """

    def __init__(self, server):
        self.port = free_port()
        self.url = f"postgresql://postgres@{LOOPBACK}:{self.port}/postgres"
        self._directory = directory()
        settings = self._directory / "pgbouncer.ini"
        settings.write_text(_SETTINGS.format(host=LOOPBACK, port=self.port, server=server.port))
        if owner := whose():
            shutil.chown(settings, **owner)
        self._process = subprocess.Popen(
            [require_tool("pgbouncer", package="pgbouncer"), "-q", settings],
            cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **whose(),
        )  # fmt: skip
        end = time.monotonic() + LONGEST
        while True:
            try:
                psycopg.connect(self.url).close()
            except psycopg.OperationalError:
                assert time.monotonic() < end, "the pooler never came up"
                time.sleep(0.02)
            else:
                return

    def remove(self):
        self._process.kill()
        self._process.wait()
        shutil.rmtree(self._directory, ignore_errors=True)
