"""Who holds a run, and whether that process is provably dead.

A process id alone proves nothing: ids are used again, and each container counts its own. So an
owner also names the boot of the machine, the namespace that its id belongs to, and when the
process started. It is provably dead if

    the machine has booted since, for a store that only this machine can reach
    the id is free, or belongs to a process with another start, or to one that has ended and was
    not yet waited for; on the same boot and in the same namespace

Everything else is not a proof, and then the lease counts.
"""

import functools
import os
from pathlib import Path

import attrs

_PROC = Path("/proc")


@attrs.frozen
class Owner:
    """A process, told from every other one on this machine, before and after.

    Attributes:
        boot: The boot of the machine, empty where the system does not tell.
        namespace: The namespace of process ids, empty where there are none.
        pid: The process id.
        started: When it started, in ticks since the boot; 0 where the system does not tell.
    """

    boot: str
    namespace: str
    pid: int
    started: int

    def __str__(self) -> str:
        return f"process {self.pid}"


def this_process() -> Owner:
    """Name the calling process."""
    pid = os.getpid()
    boot, namespace = _surroundings(pid)
    return Owner(boot, namespace, pid, _started(pid) or 0)


def is_dead(owner: Owner, *, local: bool = True) -> bool:
    """Whether *owner* is provably dead.

    Args:
        owner: Who held a run.
        local: Whether only this machine can reach the store that says so.
    """
    here = this_process()
    if not owner.boot or not here.boot:
        return owner.namespace == here.namespace and not _id_in_use(owner.pid)
    if owner.boot != here.boot:
        return local
    return owner.namespace == here.namespace and _started(owner.pid) != owner.started


@functools.lru_cache(maxsize=1)
def _surroundings(pid: int) -> tuple[str, str]:  # noqa: ARG001 - a forked child asks anew
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        return boot, str((_PROC / "self/ns/pid").readlink())
    except OSError:
        return "", ""


def _started(pid: int) -> int | None:
    """Give the start of a process that runs, None if there is none."""
    try:
        status = (_PROC / str(pid) / "stat").read_bytes()
        state, *fields = status.rpartition(b")")[2].split()
        if state in b"XZ" and len([*(_PROC / str(pid) / "task").iterdir()]) <= 1:
            return None  # ended, and its parent has not asked how
        return int(fields[18])
    except (OSError, ValueError, IndexError):
        return None


def _id_in_use(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
