"""Takes away what only Linux has, so that what is left can be tried: a plugin for pytest.

    MAINSTAY_SYSTEM=macos python -m pytest -p support.elsewhere tests/retry
    MAINSTAY_SYSTEM=windows python -m pytest -p support.elsewhere tests/retry

Without `/proc`, without the functions and modules that the system does not have, and with its name
where mainstay asks for that. The standard library is that of Linux all the same: what of it needs
what is taken away is imported before. It is no such system, and only shows that nothing of ours
needs more.
"""

import asyncio
import builtins
import concurrent.futures
import io
import multiprocessing
import os
import select
import selectors
import signal
import sqlite3
import subprocess
import sys
import tempfile
import uuid
from types import SimpleNamespace

import pytest

MODULES = {"macos": (), "windows": ("fcntl", "grp", "pwd", "resource", "termios", "tty")}
OF_LINUX = ("posix_fallocate", "posix_fadvise", "sched_getaffinity", "memfd_create", "pidfd_open")
OF_POSIX = (
    *("fork", "forkpty", "register_at_fork", "posix_spawn", "getpgid"),
    *("fchmod", "fchown", "chown", "killpg", "statvfs", "mkfifo", "setsid"),
    *("O_CLOEXEC", "O_DIRECTORY", "O_NOFOLLOW", "O_NONBLOCK"),
)
OF_SELECT = ("poll", "epoll", "POLLIN", "POLLOUT", "POLLERR", "POLLHUP", "POLLPRI")
OF_SELECTORS = ("EpollSelector", "PollSelector")
SIGNALS = ("SIGKILL", "SIGWINCH", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGHUP", "SIGCHLD")
OF_SIGNAL = (*SIGNALS, "setitimer", "alarm", "pthread_kill", "pthread_sigmask", "sigwait")

FREE = 2**31 - 1
"""An id that no process has."""

PRELOADED = (asyncio, concurrent.futures, multiprocessing, sqlite3, subprocess, tempfile, uuid)


def take_away(system: str) -> None:
    """Let this process be as on *system*, "macos" or "windows"."""
    for name in OF_LINUX:
        _remove(os, name)
    _hide_proc()
    if system == "windows":
        for name in OF_POSIX:
            _remove(os, name)
        for name in OF_SIGNAL:
            _remove(signal, name)
        for name in OF_SELECT:
            _remove(select, name)
        for name in OF_SELECTORS:
            _remove(selectors, name)
        for name in MODULES[system]:
            sys.modules[name] = None
        _let_kill_be_of_windows()
    _tell_ours(system)


def _tell_ours(system):
    """Let mainstay know which system it is on, and its tests who is dead there.

    Where nothing but a free id proves a death, a dead process is one with such an id. On Windows
    nothing does: a test is skipped where it would need that.
    """
    from mainstay._core import owner  # noqa: PLC0415 - only now: it is to find nothing

    owner.sys = SimpleNamespace(platform={"macos": "darwin", "windows": "win32"}[system])
    owner.is_dead = _skipping_without_a_proof(owner.is_dead)
    from support import store_conformance  # noqa: PLC0415 - as above

    store_conformance.DEAD = owner.Owner(boot="", namespace="", pid=FREE, started=0)


def _skipping_without_a_proof(is_dead):
    def asked(owner, *, local=True):
        answer = is_dead(owner, local=local)
        if local and owner.pid == FREE and not answer:
            pytest.skip("nothing proves here that a process is dead")
        return answer

    return asked


def _remove(module, name):
    if hasattr(module, name):
        delattr(module, name)


def _hide_proc():
    """Let nobody find anything below /proc."""

    def without_proc(function):
        def checked(path, *args, **kwargs):
            if isinstance(path, str | bytes | os.PathLike):
                named = os.fsdecode(os.fspath(path))
                if named == "/proc" or named.startswith("/proc/"):
                    raise FileNotFoundError(2, "No such file or directory", named)
            return function(path, *args, **kwargs)

        return checked

    io.open = builtins.open = without_proc(builtins.open)
    for name in ("open", "stat", "lstat", "readlink", "listdir", "scandir", "access"):
        setattr(os, name, without_proc(getattr(os, name)))


def _let_kill_be_of_windows():
    """Signal 0 asks nothing there: it is Ctrl-C, for every process of the console."""
    kill = os.kill

    def kill_of_windows(pid, number):
        assert number != 0, "os.kill(pid, 0) is Ctrl-C on Windows"
        kill(pid, number)

    os.kill = kill_of_windows


if "MAINSTAY_SYSTEM" in os.environ:
    take_away(os.environ["MAINSTAY_SYSTEM"])
