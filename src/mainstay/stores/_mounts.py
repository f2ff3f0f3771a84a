"""Which file system a path is on, as far as it matters to SQLite."""

from pathlib import Path

_MOUNTS = Path("/proc/self/mountinfo")
_SHARED = frozenset({
    "9p", "afs", "beegfs", "ceph", "cifs", "fuse.glusterfs", "fuse.s3fs", "fuse.sshfs", "glusterfs",
    "gpfs", "lustre", "ncpfs", "nfs", "nfs4", "smb3", "smbfs", "virtiofs",
})  # fmt: skip


def network_file_system(path: Path, mounts: Path = _MOUNTS) -> str | None:
    """Return the type of the network file system that *path* is on, or None if it is on none.

    Where the system does not tell, the answer is None.
    """
    try:
        lines = mounts.read_text(errors="replace").splitlines()
        real = path.resolve()
    except (OSError, RuntimeError):  # the latter up to Python 3.12, for links in a circle
        return None
    best, found = -1, ""
    for line in lines:
        before, _, after = line.partition(" - ")
        fields, kinds = before.split(), after.split()
        if len(fields) > 4 and kinds:  # noqa: PLR2004 - the fifth field is the mount point
            point = Path(fields[4].encode().decode("unicode_escape"))
            if real.is_relative_to(point) and len(point.parts) >= best:
                best, found = len(point.parts), kinds[0]
    return found if found in _SHARED else None
