"""The programs of the how-tos about databases, clouds and processes, run as they are."""

import re
import subprocess
import sys

import pytest

from support.postgres import Postgres
from support.redis_servers import RedisServer
from support.source import ROOT

pytestmark = pytest.mark.process

PAGES = {  # by the name of the program: the page, and the libraries that it needs
    "psycopg_client": ("psycopg", "psycopg_pool"),
    "sqlalchemy_client": ("sqlalchemy", "sqlalchemy"),
    "redis_client": ("redis-py", "redis"),
    "botocore_client": ("botocore", "botocore"),
    "openai_client": ("openai", "openai"),
    "process_pool": ("process-pool", "mainstay"),
}


@pytest.fixture
def address(tmp_path):
    """Gives a program the server that it needs, by the program's name."""
    servers = []

    def start(name):
        if name == "redis_client":
            servers.append(RedisServer(tmp_path))
            return [servers[0].url]
        if name in ("psycopg_client", "sqlalchemy_client"):
            servers.append(Postgres())
            url = servers[0].url
            return [url if name[0] == "p" else url.replace("postgresql:", "postgresql+psycopg:")]
        return []

    yield start
    for server in servers:
        (server.remove if isinstance(server, Postgres) else server.stop)()


@pytest.mark.parametrize("name", PAGES)
def test_the_program_says_what_the_page_shows(library, address, name):
    page, needed = PAGES[name]
    library(needed)
    text = (ROOT / "docs" / "how-to" / f"{page}.md").read_text()
    (shown,) = re.findall(r"^```text\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    command = [sys.executable, ROOT / "docs" / "examples" / f"{name}.py", *address(name)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (run.returncode, run.stderr) == (0, "")
    seconds = re.compile(r"after \d\.\d s")
    assert seconds.sub("after ... s", run.stdout) == seconds.sub("after ... s", shown)
