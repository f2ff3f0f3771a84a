"""Build the documentation of the installed version beside those of others, with a selector.

    python docs/versions.py SITE                 into SITE/0.1.0/, after the version
    python docs/versions.py SITE --name dev      into SITE/dev/

SITE is a folder that a web server shows. Each version stays as it was built with its own code; only
`SITE/versions.json`, which the selector in the sidebar of every page reads, and `SITE/index.html`,
which leads to the newest version, are written anew each time.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

DOCS = Path(__file__).parent
NUMBERED = re.compile(r"[0-9]+(\.[0-9]+)*")
INDEX = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>mainstay</title>
<meta http-equiv="refresh" content="0; url={newest}/"><link rel="canonical" href="{newest}/">
</head><body><a href="{newest}/">mainstay {newest}</a></body></html>
"""


def build(site: Path, name: str) -> int:
    """Build the pages of the installed version into a folder of the site; give the exit code."""
    folder = site / name
    shutil.rmtree(folder, ignore_errors=True)
    options = ["-n", "-W", "--keep-going", "-q", "-d", str(site / ".doctrees")]
    command = [sys.executable, "-m", "sphinx", *options, str(DOCS), str(folder)]
    try:
        return subprocess.run(command, check=False).returncode
    finally:
        shutil.rmtree(site / ".doctrees", ignore_errors=True)


def in_order(names: list[str]) -> list[str]:
    """Return names of versions, the newest first; what is no number, as dev, comes last."""

    def numbers(name: str) -> list[int]:
        return [int(each) for each in name.split(".")] if NUMBERED.fullmatch(name) else []

    return sorted(names, key=lambda name: (numbers(name), name), reverse=True)


def list_versions(site: Path) -> list[str]:
    """Write what lists the versions of the site; return them, the newest first."""
    names = in_order([page.parent.name for page in site.glob("*/index.html")])
    (site / "versions.json").write_text(json.dumps(names))
    (site / "index.html").write_text(INDEX.format(newest=names[0]))
    return names


def main() -> int:
    """Build one version, and list all; give the exit code."""
    parser = argparse.ArgumentParser(description="Build the documentation beside other versions.")
    parser.add_argument("site", type=Path, metavar="SITE", help="a folder, made if there is none")
    parser.add_argument(
        "--name",
        default=version("mainstay"),
        help="what the version is called in the site (default: %(default)s)",
    )
    options = parser.parse_args()
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.]*", options.name):
        parser.error(f"--name must be letters, digits and dots, not {options.name!r}")
    options.site.mkdir(parents=True, exist_ok=True)
    code = build(options.site, options.name)
    if code == 0:
        print(f"{options.site}: {', '.join(list_versions(options.site))}")
    return code


if __name__ == "__main__":
    sys.exit(main())
