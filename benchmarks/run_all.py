"""Run every benchmark and write `results/<date>-<cpu>-<python>.md`.

Each script runs in a process of its own, one after another; with names of scripts only those, each
of which has a file of its own then, `results/<date>-<script>.md`.
With `--quick` the report is printed and not written, since its figures mean nothing.
"""

import argparse
import datetime as dt
import json
import os
import platform
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from harness import Measure, Report, goals

TODAY = dt.datetime.now(tz=dt.UTC).date()
HERE = Path(__file__).parent
SCRIPTS = (
    "overhead.py",
    "transient.py",
    "threads.py",
    "memory.py",
    "import_time.py",
    "checkpoint.py",
    "map.py",
    "postgres.py",
    "redis_store.py",
    "s3.py",
    "scrape.py",
    "failover.py",
    "breaker.py",
    "grey_failure.py",
    "false_ejections.py",
    "leaving_callers.py",
    "failover_redis.py",
    "stalls.py",
    "deadlines.py",
    "explain.py",
    "middlewares.py",
    "hangs.py",
    "redundant.py",
    "overload.py",
    "with_grpc.py",
    "with_opentelemetry.py",
    "overloaded_server.py",
    "fairness.py",
    "http_clients.py",
    "top.py",
    "comparison.py",
    "prometheus_acts.py",
    "features.py",
)
PACKAGES = ("mainstay", "prometheus_client", "attrs", "tenacity", "stamina", "backoff")


def run(script: str, *, quick: bool) -> Report:
    """Run one script and give its report."""
    command = [sys.executable, str(HERE / script), "--json", *(["--quick"] if quick else [])]
    answer = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    fields = json.loads(answer.stdout)
    return Report(fields["parts"], [Measure(**measure) for measure in fields["measures"]])


def cpu() -> str:
    """Return the name of the processor, as far as the system tells it."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or platform.machine()
    found = re.search(r"model name\s*: (.*)", text)
    return found[1] if found else platform.machine()


def document(reports: dict[str, Report]) -> str:
    """Write everything down: the goals, what they were measured with, and each script's tables."""
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    python = f"{platform.python_implementation()} {platform.python_version()}"
    measures = [measure for report in reports.values() for measure in report.measures]
    parts = [
        f"# Benchmarks, {TODAY}",
        f"{cpu()}, {os.cpu_count()} cores, {platform.system()}; {python}; {versions}.",
        "Written by `python benchmarks/run_all.py`; README.md says how to read it.",
        *([goals(measures)] if measures else []),
        *(f"## {script}\n\n" + "\n\n".join(report.parts) for script, report in reports.items()),
    ]
    return "\n\n".join(parts) + "\n"


def results_file(script: str | None) -> Path:
    """Name the file after the date and the script; of all, after the processor and the Python."""
    what = Path(script).stem if script else f"{cpu()}-python{platform.python_version()}"
    name = f"{TODAY}-{what}"
    return HERE / "results" / f"{re.sub(r'[^a-z0-9.]+', '-', name.lower())}.md"


def main() -> None:
    """Run everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scripts", nargs="*", metavar="script", help="which; all without any")
    parser.add_argument("--quick", action="store_true", help="a smoke run: writes nothing")
    options = parser.parse_args()
    unknown = {*options.scripts} - {*SCRIPTS}
    if unknown:
        parser.error(f"there is no {' or '.join(sorted(unknown))}, but {', '.join(SCRIPTS)}")
    reports = {script: run(script, quick=options.quick) for script in options.scripts or SCRIPTS}
    if options.quick:
        print(document(reports))
    elif options.scripts:
        for script, report in reports.items():
            write(results_file(script), document({script: report}))
    else:
        write(results_file(None), document(reports))


def write(path: Path, text: str) -> None:
    """Write one file of results."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
