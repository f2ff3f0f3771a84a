"""Is what was built what is in git? Run as `python .ci/contents.py WHEEL SDIST` in the checkout.

The wheel has the package and nothing else, with `py.typed`; the sdist has every file in git, so
that its tests, its documentation and its own check run without the repository.
"""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import PurePosixPath

OF_BUILD = {"PKG-INFO"}
NOT_BUILT = {".gitignore"}
"""The build backend adds it by itself, or leaves it out."""


def in_git() -> set[str]:
    """Return the names of all files in git."""
    listed = subprocess.run(["git", "ls-files", "-z"], check=True, stdout=subprocess.PIPE)
    return {name for name in listed.stdout.decode().split("\0") if name}


def in_wheel(path: str) -> set[str]:
    """Return the names of the files of a wheel, but for what describes it."""
    with zipfile.ZipFile(path) as wheel:
        names = [PurePosixPath(name) for name in wheel.namelist()]
    return {str(name) for name in names if not name.parts[0].endswith(".dist-info")}


def in_sdist(path: str) -> set[str]:
    """Return the names of the files of an sdist, without its folder."""
    with tarfile.open(path) as sdist:
        names = [PurePosixPath(member.name) for member in sdist if member.isfile()]
    return {"/".join(name.parts[1:]) for name in names}


def main(wheel: str, sdist: str) -> int:
    """Compare, and say what differs."""
    files = in_git()
    package = {name.removeprefix("src/") for name in files if name.startswith("src/")}
    differences = {
        "not in the wheel": (package | {"mainstay/py.typed"}) - in_wheel(wheel),
        "only in the wheel": in_wheel(wheel) - package,
        "not in the sdist": files - in_sdist(sdist) - NOT_BUILT,
        "only in the sdist": in_sdist(sdist) - files - OF_BUILD - NOT_BUILT,
    }
    for what, names in differences.items():
        for name in sorted(names):
            print(f"{what}: {name}", file=sys.stderr)
    return any(differences.values())


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
