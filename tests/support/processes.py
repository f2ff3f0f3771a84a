"""What tests need besides this process: tools of the system, and programs of their own.

A tool that pip cannot bring makes a test skip and say which Debian package has it. With
`MAINSTAY_REQUIRE_SERVICES=1`, which CI sets, the same is a failure.
"""

import os
import random
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

import pytest

PROGRAMS = Path(__file__).parents[1] / "programs"
LONGEST_RUN = 60.0  # seconds, on a machine that is busy
LOOPBACK = "127.0.0.1"
PORTS = range(20_000, 32_000)  # below those that Linux gives to clients
DICE = random.SystemRandom()  # two runs of the tests with one seed want different ports


def do_without(reason: str) -> NoReturn:
    """Skip the test, or fail it where services are required."""
    if os.environ.get("MAINSTAY_REQUIRE_SERVICES") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


def require_tool(name: str, *, package: str) -> str:
    """Find a command, or skip the test; where services are required, fail it."""
    path = shutil.which(name)
    if path is not None:
        return path
    do_without(f"needs the command {name}, which the Debian package {package} brings")


def require_node_package(name: str) -> Path:
    """Find a package of npm that `NODE_PATH` leads to, or skip the test, as above."""
    for folder in os.environ.get("NODE_PATH", "").split(os.pathsep):
        if folder and (path := Path(folder, name)).is_dir():
            return path
    do_without(
        f"needs the npm package {name}: run `npm ci` in tests/grafana, and let NODE_PATH be its "
        f"node_modules"
    )


def free_port() -> int:
    """Find a port for a server that starts later; until then no client is given it."""
    while True:
        with socket.socket() as probe:
            port = DICE.choice(PORTS)
            try:
                probe.bind((LOOPBACK, port))
            except OSError:  # somebody has it
                continue
            return port


def python(*arguments: str, **variables: str) -> str:
    """Run Python in a process of its own, with more environment, and give what it printed."""
    return _run(arguments, environment(variables))


def program(name: str, *arguments: str, **variables: str) -> str:
    """Run a program of `tests/programs` and give what it printed."""
    return _run((str(PROGRAMS / name), *arguments), environment(variables))


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Give this process's environment with *variables* added."""
    return {**os.environ, **variables}


def _run(arguments: Sequence[str], env: Mapping[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        env=env,
        capture_output=True,
        text=True,
        timeout=LONGEST_RUN,
        check=False,
    )
    assert done.returncode == 0, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert done.stderr == ""
    return done.stdout
