"""What works on other systems than Linux, as far as Linux can show that.

Each test runs in a process from which all is taken away that the system does not have:
`tests/support/elsewhere.py`. The rest of the tests needs Linux, or the tools of a POSIX system.
"""

import os
import subprocess
import sys
import textwrap

import pytest

from support.postgres import Postgres
from support.redis_servers import DURABLE, RedisServer
from support.source import ROOT, modules

pytestmark = pytest.mark.process

SHARE = (
    "tests/retry/test_calls.py",
    "tests/retry/test_blocks.py",
    "tests/breaker",
    "tests/failover/test_calls.py",
    "tests/limits/test_timeout.py",
    "tests/checkpoint/test_iterate.py",
    "tests/checkpoint/test_metrics.py",
    "tests/checkpoint/test_state.py",
    "tests/metrics/test_gauges.py",
    "tests/stores/test_stores.py",
)
"""The core of each policy, checkpoints and their stores, gauges in files."""

ONLY_POSIX = {"mainstay._top.show"}


def run_on(system, *command):
    """Run a command of Python where *system* is played; give its exit code and what it said."""
    done = subprocess.run(
        [sys.executable, *command],
        env=os.environ | {"MAINSTAY_SYSTEM": system, "PYTHONPATH": path()},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def path():
    """Return the path of modules, with those of the tests."""
    return os.pathsep.join(filter(None, (str(ROOT / "tests"), os.environ.get("PYTHONPATH"))))


@pytest.mark.parametrize("system", ["macos", "windows"])
def test_every_module_can_be_imported(system):
    names = [name for name in modules() if system == "macos" or name not in ONLY_POSIX]
    program = (
        "import support.elsewhere, importlib, sys\n"
        "for name in sys.argv[1:]:\n"
        "    try:\n"
        "        importlib.import_module(name)\n"
        "    except ModuleNotFoundError as error:\n"
        "        if error.name.partition('.')[0] == 'mainstay': raise\n"  # an extra is missing
    )
    assert len(names) > 100
    assert run_on(system, "-c", program, *names) == (0, "")


def test_the_live_view_says_what_it_needs():
    program = "import support.elsewhere; from mainstay.__main__ import main; main(['top', 'a'])"
    code, said = run_on("windows", "-c", program)
    assert "top needs a terminal as Linux and macOS have" in said
    assert "Traceback" not in said
    assert code == 2


@pytest.fixture(scope="module")
def urls(tmp_path_factory):
    """Where stores on servers are."""
    postgres = Postgres()
    server = RedisServer(tmp_path_factory.mktemp("redis"), *DURABLE)
    yield {"postgres": postgres.url, "redis": server.url}
    server.stop()
    postgres.remove()


@pytest.mark.parametrize("kind", ["postgres", "redis"])
@pytest.mark.parametrize("system", ["macos", "windows"])
def test_stores_on_servers_can_be_used(urls, system, kind):
    program = """
        import support.elsewhere, asyncio, sys
        from mainstay import checkpoint_run

        url, system = sys.argv[1:]

        async def in_tasks():
            async with checkpoint_run(system + " in tasks", store=url) as cp:
                return await cp.step("two", lambda: 2)

        with checkpoint_run(system, store=url) as cp:
            print(cp.step("one", lambda: 1), asyncio.run(in_tasks()))
    """
    found = run_on(system, "-c", textwrap.dedent(program), urls[kind], system)
    assert found == (0, "1 2\n")


@pytest.mark.parametrize("system", ["macos", "windows"])
def test_a_share_of_the_tests_passes(system):
    options = ("-p", "support.elsewhere", "-p", "no:xdist", "-p", "no:cacheprovider", "-q")
    command = ("-m", "pytest", *options, "-m", "not process", *SHARE)
    code, said = run_on(system, *command)
    assert code == 0, said[-3_000:]
    passed = int(said.split(" passed")[0].split()[-1])
    assert passed > 1_000
