"""Places where SQLite cannot keep what it promises: shared file systems, mounts, links."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mainstay.errors import StoreUnavailableError
from mainstay.stores import SQLiteStore
from mainstay.stores._mounts import is_mounted_alone, network_file_system


@pytest.fixture
def mounts(tmp_path):
    """Write the mounts of a system: what `/proc/self/mountinfo` has."""
    path = tmp_path / "mountinfo"

    def write(*lines):
        path.write_bytes(
            b"22 1 8:1 / / rw - ext4 /dev/vda rw\n"
            + b"".join(b"30 22 0:40 / %s rw - %s rw\n" % line for line in lines)
        )
        return path

    return write


@pytest.mark.parametrize(
    "kind",
    [
        "nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "virtiofs", "ceph", "fuse.ceph",
        "fuse.ceph-fuse", "lustre", "gpfs", "glusterfs", "fuse.glusterfs", "beegfs",
        "fuse.sshfs", "fuse.s3fs", "fuse.juicefs", "fuse.JuiceFS", "juicefs", "ocfs2", "gfs2",
        "fuse.gcsfuse", "vboxsf", "fuse.vmhgfs-fuse", "prl_fs", "fuse.rclone", "fuse.goofys",
        "fuse.mountpoint-s3", "fuse.blobfuse2", "fuse.seaweedfs", "fuse.mfs", "fuse.davfs",
        "orangefs", "wekafs", "fuse.osxfs", "fuse.grpcfuse",
    ],
)  # fmt: skip
def test_a_file_system_that_machines_share_is_known(mounts, kind):
    listed = mounts((b"/mnt", b"%s server:/share" % kind.encode()))
    assert network_file_system(Path("/mnt/jobs.db"), listed) == kind


@pytest.mark.parametrize(
    ("kind", "source"), [("fuse", "JuiceFS:jobs"), ("fuse", "s3fs"), ("fuse.mount", "gcsfuse")]
)
def test_a_user_space_file_system_is_known_by_what_it_mounts(mounts, kind, source):
    listed = mounts((b"/mnt", f"{kind} {source}".encode()))
    assert network_file_system(Path("/mnt/jobs.db"), listed) == kind


@pytest.mark.parametrize(
    "kind",
    [
        "ext4", "xfs", "btrfs", "zfs", "tmpfs", "overlay", "f2fs", "bcachefs", "fuseblk",
        "fuse.fuse-overlayfs", "fuse.mergerfs", "fuse.gocryptfs",
    ],
)  # fmt: skip
def test_a_file_system_of_this_machine_is_none(mounts, kind):
    listed = mounts((b"/mnt", b"%s /dev/vdb" % kind.encode()))
    assert network_file_system(Path("/mnt/jobs.db"), listed) is None


@pytest.mark.parametrize(
    ("point", "directory"),
    [
        ("/mnt/données".encode(), "/mnt/données"),
        ("/mnt/日本語".encode(), "/mnt/日本語"),
        (rb"/mnt/share\040a", "/mnt/share a"),
        (rb"/mnt/d\303\240ta", "/mnt/dàta"),
        (rb"/mnt/back\134slash", "/mnt/back\\slash"),
        (rb"/mnt/tab\011", "/mnt/tab\t"),
        (b"/mnt/latin\xe9", os.fsdecode(b"/mnt/latin\xe9")),
    ],
)
def test_a_mount_point_is_found_whatever_its_letters(mounts, point, directory):
    listed = mounts((point, b"nfs4 server:/share"))
    assert network_file_system(Path(directory) / "jobs.db", listed) == "nfs4"
    assert network_file_system(Path("/mnt/jobs.db"), listed) is None


def test_the_last_of_two_mounts_at_one_place_counts(mounts):
    both = [(b"/mnt", b"nfs4 server:/share"), (b"/mnt", b"ext4 /dev/vdb")]
    assert network_file_system(Path("/mnt/jobs.db"), mounts(*both)) is None
    assert network_file_system(Path("/mnt/jobs.db"), mounts(*reversed(both))) == "nfs4"


# One file by two names, each with a log of its own.


def test_a_file_with_a_second_name_is_refused(tmp_path):
    SQLiteStore(tmp_path / "runs.db").list()
    (tmp_path / "other.db").hardlink_to(tmp_path / "runs.db")
    for name in ("runs.db", "other.db"):
        with pytest.raises(StoreUnavailableError, match="2 hard links"):
            SQLiteStore(tmp_path / name).list()
    (tmp_path / "other.db").unlink()
    assert SQLiteStore(tmp_path / "runs.db").list() == []


def test_a_second_name_is_allowed_with_the_risk_of_a_network(tmp_path):
    SQLiteStore(tmp_path / "runs.db").list()
    (tmp_path / "other.db").hardlink_to(tmp_path / "runs.db")
    assert SQLiteStore(tmp_path / "runs.db", network=True).list() == []


def test_a_file_that_is_mounted_by_itself_is_refused(mounts, tmp_path, monkeypatch):
    listed = mounts((os.fsencode(tmp_path / "runs.db"), b"ext4 /dev/vda"))
    assert is_mounted_alone(tmp_path / "runs.db", listed)
    assert not is_mounted_alone(tmp_path / "other.db", listed)
    monkeypatch.setattr("mainstay.stores._opening.is_mounted_alone", lambda _path: True)
    with pytest.raises(StoreUnavailableError, match="mount the directory"):
        SQLiteStore(tmp_path / "runs.db").list()


@pytest.mark.process
def test_a_real_mount_of_a_file_by_itself_is_refused(tmp_path):
    unshare = ["unshare", "--mount"]
    if (
        shutil.which("unshare") is None
        or subprocess.run([*unshare, "true"], check=False).returncode
    ):
        pytest.skip("may not mount")
    SQLiteStore(tmp_path / "runs.db").list()
    (tmp_path / "wörk").mkdir()
    (tmp_path / "wörk" / "runs.db").touch()
    program = (
        "import sys; from mainstay.stores import SQLiteStore\n"
        "try:\n    SQLiteStore(sys.argv[1]).list()\nexcept Exception as error:\n    print(error)"
    )
    ran = subprocess.run(
        [*unshare, "sh", "-ec", 'mount --bind "$1" "$2"; exec "$3" -c "$4" "$2"', "-",
         tmp_path / "runs.db", tmp_path / "wörk" / "runs.db", sys.executable, program],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "mount the directory" in ran.stdout
