"""Work in other processes, of which one is killed.

python process_pool.py
"""

import multiprocessing
import os
import signal
import tempfile
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from prometheus_client import REGISTRY

from mainstay import deadline, remaining, retry, transient
from mainstay.testing import Faults

WORKERS = multiprocessing.get_context("spawn")
broken = Faults([ConnectionResetError("lost")], then="page")


@retry(on=transient, name="fetch")
def fetch(url: str) -> str:
    """Fetch a page: what may fail for a moment is retried where it fails, in the worker."""
    return f"{broken()} of {url}"


def work(url: str, seconds: float, first_time: Path) -> str:
    """Do the work of one worker, within the time that its caller has left."""
    if url == "b" and not first_time.exists():
        first_time.touch()
        os.kill(os.getpid(), signal.SIGKILL)  # as the kernel does when memory is short
    with deadline(seconds):
        return fetch(url)


@retry(on=BrokenProcessPool, attempts=3, wait=0.1, name="fetch_all")
def fetch_all(urls: list[str], first_time: Path) -> list[str]:
    """Fetch all pages: a pool that has lost a worker is of no more use, so each attempt has one."""
    with ProcessPoolExecutor(2, mp_context=WORKERS) as pool:
        waiting = [pool.submit(work, url, remaining(30.0), first_time) for url in urls]
        return [each.result() for each in waiting]


def main() -> None:
    """Fetch three pages, with a worker that dies in the middle."""
    with tempfile.TemporaryDirectory() as directory, deadline(60.0):
        print(fetch_all(["a", "b", "c"], Path(directory) / "first time"))
    labels = {"component": "fetch_all", "policy": "retry", "outcome": "recovered"}
    print("recovered:", REGISTRY.get_sample_value("mainstay_calls_total", labels))


if __name__ == "__main__":
    main()
