"""`Owner`: which process owns a run or a file that outlives it, and if it is provably dead.

A process id alone proves nothing: ids are used again, each container has ids of its own, and
`/proc` may hide the processes of other users. So an owner also has the boot of the machine, the
namespaces of its id and of its clocks, and the time of its start. It is provably dead if

    the machine has booted since, for what only this machine can reach
    the kernel knows no process with that id; on the same boot, in the same namespace of ids
    that process has ended, and was not yet waited for
    that process started at another time, by the same clock

Nothing else is a proof. Without a proof, the lease of a run counts, and a file of metrics stays.
"""

import functools
import os
import platform
import sys
from pathlib import Path

import attrs

_PROC = Path("/proc")


@attrs.frozen
class Owner:
    """A process, distinguished from every other one on this machine, earlier and later ones too.

    Attributes:
        boot: The boot of the machine, empty where the system does not tell.
        namespace: The namespaces of process ids and of time, as in ``pid:[1] time:[2]``, empty
            where there are none. Runs that older versions saved have the first only.
        pid: The process id.
        started: When it started, in ticks since the boot by the clock of its namespace; 0 where
            the system does not tell.
        host: The name of the machine, or of the container, for people; empty in runs that older
            versions saved.
    """

    boot: str
    namespace: str
    pid: int
    started: int
    host: str = attrs.field(default="", eq=False)

    def __str__(self) -> str:
        elsewhere = self.host and self.host != platform.node()
        return f"process {self.pid} on {self.host}" if elsewhere else f"process {self.pid}"


def this_process() -> Owner:
    """Return the calling process."""
    pid = os.getpid()
    boot, namespace = _boot_and_namespaces(pid)
    found = _read("self")
    return Owner(boot, namespace, pid, found.started if found else 0, platform.node())


def is_dead(owner: Owner, *, local: bool = True) -> bool:
    """Return True if *owner* is provably dead.

    Args:
        owner: The owner of a run or of a file.
        local: True if only this machine can reach what names it.
    """
    here = this_process()
    if owner.boot != here.boot and owner.boot and here.boot:
        return local
    is_here = local or (owner.boot == here.boot and owner.boot != "")
    if not is_here or not _counts_ids_alike(owner, here):
        return False
    if not _is_used(owner.pid):
        return True
    found = _read(str(owner.pid)) if _shows_own_ids() else None
    if found is None:
        return False  # hidden, or ended a moment ago
    return found.has_ended or (found.started != owner.started and _times_alike(owner, here))


def shares_clock(owner: Owner) -> bool | None:
    """Return True if the monotonic clock of *owner* is that of this process, None if unknown."""
    here = this_process()
    if owner.boot != here.boot:
        return False
    theirs, mine = part(owner.namespace, "time"), part(here.namespace, "time")
    if not theirs and mine and part(owner.namespace, "pid"):
        return None  # saved by an older version, which did not ask for it
    return not theirs or theirs == mine


@attrs.frozen
class _Process:
    """What `/proc` shows of a process."""

    started: int
    has_ended: bool


@functools.lru_cache(maxsize=1)
def _boot_and_namespaces(pid: int) -> tuple[str, str]:  # noqa: ARG001 - a forked child asks again
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        boot = ""
    return boot, " ".join(filter(None, (_namespace("self", "pid"), _namespace("self", "time"))))


def _namespace(process: str, kind: str) -> str:
    """Return a namespace of a process, empty where there is none or this process may not look."""
    try:
        return str((_PROC / process / "ns" / kind).readlink())
    except OSError:
        return ""


def part(namespace: str, kind: str) -> str:
    """Return what `Owner.namespace` has of one kind, "pid" or "time", or ""."""
    return next((each for each in namespace.split() if each.startswith(f"{kind}:")), "")


def _counts_ids_alike(owner: Owner, here: Owner) -> bool:
    """Return True if an id means the same process to both; unknown namespaces may be two."""
    ids = part(here.namespace, "pid")
    return part(owner.namespace, "pid") == ids and (ids != "" or sys.platform != "linux")


def _times_alike(owner: Owner, here: Owner) -> bool:
    """True if the saved start of the owner can be compared with that of the process.

    If the clock of the start was not saved, the clock of a process with the owner's id is used: if
    it is this process's clock, the owner would have written the same time.
    """
    theirs = part(owner.namespace, "time") or _namespace(str(owner.pid), "time")
    return owner.started > 0 and theirs == part(here.namespace, "time")


def _is_used(pid: int) -> bool:
    """Return False if the kernel knows no process with that id."""
    if pid <= 0 or sys.platform == "win32":
        return True  # ids up to 0 mean groups of processes; on Windows signal 0 is Ctrl-C
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # it lives, and is another user's, or asking is forbidden
        return True
    return True


def _shows_own_ids() -> bool:
    """Return True if `/proc` is that of our own namespace of process ids."""
    try:
        return str((_PROC / "self").readlink()) == str(os.getpid())
    except OSError:
        return False


def _read(process: str) -> _Process | None:
    """Return what `/proc` shows of a process, or None."""
    try:
        status = (_PROC / process / "stat").read_bytes()
        state, *fields = status.rpartition(b")")[2].split()
        # The main thread has ended; other threads may go on, or the parent has not waited for it.
        has_ended = state in b"XZ" and len([*(_PROC / process / "task").iterdir()]) <= 1
        return _Process(int(fields[18]), has_ended)
    except (OSError, ValueError, IndexError):
        return None
