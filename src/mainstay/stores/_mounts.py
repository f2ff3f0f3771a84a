"""Which file system a path is on, as far as it matters to SQLite."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import attrs

_MOUNTS = Path("/proc/self/mountinfo")
_SHARED = frozenset({
    "9p", "acfs", "afs", "alluxio-fuse", "beegfs", "blobfuse", "blobfuse2", "ceph", "ceph-fuse",
    "cephfs", "cifs", "coda", "cosfs", "curlftpfs", "davfs", "davfs2", "drvfs", "fakeowner",
    "fhgfs", "gcsfuse", "gfs", "gfs2", "glusterfs", "goofys", "gpfs", "grpcfuse", "hdfs", "hgfs",
    "juicefs", "lizardfs", "lustre", "mfs", "moosefs", "mount.davfs", "mountpoint-s3", "ncpfs",
    "nfs", "nfs3", "nfs4", "obsfs", "ocfs2", "orangefs", "ossfs", "osxfs", "panfs", "prl_fs",
    "pvfs2", "quobyte", "rclone", "s3backer", "s3fs", "s3ql", "seaweedfs", "smb2", "smb3",
    "smbfs", "smbnetfs", "sshfs", "vboxsf", "virtiofs", "vmhgfs", "vmhgfs-fuse", "weed",
    "wekafs", "yas3fs",
})  # fmt: skip
"""Types of file systems that several machines may have mounted, without the prefix ``fuse.``."""


@attrs.frozen
class _Mount:
    """Where something is mounted, of which type, and what."""

    point: Path
    kind: str
    source: str

    @property
    def is_shared(self) -> bool:
        """True if other machines may have it mounted as well."""
        names = {self.kind.removeprefix("fuse.")}
        if self.kind.startswith("fuse"):  # not every one gives its type
            names.add(self.source.partition(":")[0])
        return not _SHARED.isdisjoint(name.lower() for name in names)


def network_file_system(path: Path, mounts: Path = _MOUNTS) -> str | None:
    """Return the type of the network file system that *path* is on, or None if it is on none.

    Where the system does not tell, the answer is None.
    """
    found = _mount_of(path, mounts)
    return found.kind if found is not None and found.is_shared else None


def is_mounted_alone(path: Path, mounts: Path = _MOUNTS) -> bool:
    """Return True if the file is a mount by itself, without the directory that it was in."""
    found = _mount_of(path, mounts)
    return found is not None and found.point == path.resolve()


def _mount_of(path: Path, mounts: Path) -> _Mount | None:
    try:
        real = path.resolve()  # first of all: this may mount what is mounted on demand
        listed = mounts.read_bytes()
    except (OSError, RuntimeError):  # the latter up to Python 3.12, for links in a circle
        return None
    around = [each for each in _mounts_in(listed) if real.is_relative_to(each.point)]
    # Of two at the same place the later one hides the other.
    return max(reversed(around), key=lambda each: len(each.point.parts), default=None)


def _mounts_in(listed: bytes) -> Iterator[_Mount]:
    for line in listed.split(b"\n"):
        before, _, after = line.partition(b" - ")
        fields, kinds = before.split(b" "), after.split(b" ")
        if len(fields) > 4 and len(kinds) > 1:  # noqa: PLR2004 - the fifth field is the mount point
            yield _Mount(Path(_decoded(fields[4])), _decoded(kinds[0]), _decoded(kinds[1]))


def _decoded(field: bytes) -> str:
    r"""Return a field as a name; the system writes some bytes as ``\040``."""
    return os.fsdecode(re.sub(rb"\\([0-7]{3})", lambda found: bytes([int(found[1], 8)]), field))
