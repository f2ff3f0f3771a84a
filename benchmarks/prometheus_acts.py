"""How soon does a pool leave a member whose errors only Prometheus sees, and come back to it?

Two members answer all calls; one of them begins to count errors in its own metrics. A real
Prometheus (Debian package prometheus) scrapes both every second, and works out the rate of errors
by a rule every second. One pool asks it, by `Probe.promql` with `every=1, fall=2, rise=2`; another
one is told by a real Alertmanager (package prometheus-alertmanager, no waits of its own) through
`Receiver`. The time is that from the first error that is counted until no call goes to the member,
and from the last one until calls do so again. Each round begins at a random moment of the second.
"""

import contextlib
import json
import random
import shutil
import socket
import statistics
import subprocess
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from wsgiref.simple_server import WSGIRequestHandler, make_server

import mainstay
from harness import Measure, Report, main
from mainstay.integrations.alertmanager import Receiver

ROUNDS, QUICK_ROUNDS = 12, 1
HOST = "127.0.0.1"
TOKEN = "of-the-benchmark"  # noqa: S105 - of nobody else
LIMIT = 60.0
DICE = random.Random(1)

CONFIG = """
global: {scrape_interval: 1s, evaluation_interval: 1s}
rule_files: [rules.yml]
alerting: {alertmanagers: [{static_configs: [{targets: ["%s"]}]}]}
scrape_configs:
- {job_name: a, static_configs: [{targets: ["%s"]}]}
- {job_name: b, static_configs: [{targets: ["%s"]}]}
"""
RULES = """
groups:
- name: members
  rules:
  - {record: "shop:errors:rate", expr: "rate(shop_errors_total[4s])"}
  - alert: Errors
    expr: shop:errors:rate > 0.1
    labels: {component: by-alerts, member: "{{ $labels.job }}"}
"""
ROUTES = """
route: {receiver: pool, group_by: ["..."], group_wait: 0s, group_interval: 1s}
receivers:
- name: pool
  webhook_configs: [{url: "%s", http_config: {authorization: {credentials: %s}}}]
"""


class Page(BaseHTTPRequestHandler):
    """The metrics of a member."""

    errors = 0.0
    since: float | None = None

    def do_GET(self) -> None:
        """Answer with the errors so far: ten a second while the member fails."""
        page = type(self)
        errors = page.errors + (10 * (time.monotonic() - page.since) if page.since else 0)
        body = f"# TYPE shop_errors_total counter\nshop_errors_total {errors}\n".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(body)

    @classmethod
    def fail(cls, *, fails: bool) -> None:
        """Begin to fail, or end."""
        if cls.since is not None:
            cls.errors += 10 * (time.monotonic() - cls.since)
        cls.since = time.monotonic() if fails else None

    def log_message(self, *_: object) -> None:
        """Log nothing."""


class Quiet(WSGIRequestHandler):
    """Handles a notification."""

    def log_message(self, *_: object) -> None:
        """Log nothing."""


def until(condition: Callable[[], object]) -> float:
    """Return the seconds until a condition holds."""
    began = time.monotonic()
    while True:
        with contextlib.suppress(OSError):  # a server that is not there yet
            if condition():
                return time.monotonic() - began
        if time.monotonic() - began > LIMIT:
            raise RuntimeError(f"waited {LIMIT:g} s in vain")
        time.sleep(0.01)


def ask(url: str) -> dict:
    """Return what a server answers."""
    with urllib.request.urlopen(url) as answer:  # noqa: S310 - an address of ours
        return json.loads(answer.read() or "{}")


@contextlib.contextmanager
def running(*command: str) -> Iterator[None]:
    """Run a server."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def free_address() -> str:
    """Return an address that nobody listens at."""
    with socket.socket() as found:
        found.bind((HOST, 0))
        return f"{HOST}:{found.getsockname()[1]}"


def serve(server: ThreadingHTTPServer) -> str:
    """Serve in a thread; return where."""
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"{HOST}:{server.server_port}"


def pool_of(name: str, probe: mainstay.Probe | None = None) -> mainstay.FailoverPool[str]:
    """Make a pool whose calls all succeed."""
    members = [mainstay.Member(member, member) for member in "ab"]
    return mainstay.FailoverPool(
        name, members, on=OSError, probe=probe, failback=mainstay.Failback("grace", grace=0.0),
        detect=mainstay.Detect(eject_for=1.0, max_eject=1.0),
    )  # fmt: skip


@contextlib.contextmanager
def system() -> Iterator[tuple[type[Page], dict[str, mainstay.FailoverPool[str]]]]:
    """Run all of it: the page of the member that fails, and the pools by how they learn of it."""
    pages = [type("Page", (Page,), {}) for _ in range(2)]
    targets = [serve(ThreadingHTTPServer((HOST, 0), page)) for page in pages]
    prometheus, manager = free_address(), free_address()
    query = "shop:errors:rate{job={member}} < bool 0.1"
    probe = mainstay.Probe.promql(f"http://{prometheus}", query, every=1, fall=2, rise=2)
    asks, told = pool_of("by-queries", probe), pool_of("by-alerts")
    webhook = make_server(HOST, 0, Receiver([told], token=TOKEN), handler_class=Quiet)
    url = f"http://{serve(webhook)}/"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "prometheus.yml").write_text(CONFIG % (manager, *targets))
        (folder / "rules.yml").write_text(RULES)
        (folder / "alertmanager.yml").write_text(ROUTES % (url, TOKEN))
        with (
            running(
                "prometheus-alertmanager", f"--config.file={folder}/alertmanager.yml",
                f"--storage.path={folder}/alerts", f"--web.listen-address={manager}",
                "--cluster.listen-address=",
            ),
            running(
                "prometheus", f"--config.file={folder}/prometheus.yml",
                f"--storage.tsdb.path={folder}/data", f"--web.listen-address={prometheus}",
            ),
        ):  # fmt: skip
            rates = f"http://{prometheus}/api/v1/query?query=shop:errors:rate"
            until(lambda: len(ask(rates)["data"]["result"]) == len(pages))
            with asks, told:
                yield pages[0], {"`Probe.promql`": asks, "`Receiver`": told}


def times(page: type[Page], pools: dict[str, mainstay.FailoverPool[str]]) -> dict[str, list[float]]:
    """Return when each pool left the member, and when it came back."""
    found: dict[str, list[float]] = {}
    for fails, member in ((True, "b"), (False, "a")):
        time.sleep(DICE.uniform(5.0, 6.0))
        page.fail(fails=fails)
        began = time.monotonic()
        left = dict(pools)
        while left:
            until(lambda: any(pool.call(str) == member for pool in left.values()))  # noqa: B023 - at once
            for how in [how for how, pool in left.items() if pool.call(str) == member]:
                del left[how]
                found.setdefault(how, []).append(time.monotonic() - began)
    return found


def report(*, quick: bool = False) -> Report:
    """Measure both ways."""
    result = Report()
    missing = [each for each in ("prometheus", "prometheus-alertmanager") if not shutil.which(each)]
    if missing:
        result.say(f"Left out: {' and '.join(missing)} is not on this machine.")
        return result
    rounds = QUICK_ROUNDS if quick else ROUNDS
    with system() as (page, pools):
        found = [times(page, pools) for _ in range(rounds)]
    for how in pools:
        leaves, comes = ([each[how][which] for each in found] for which in (0, 1))
        result.say(
            f"{how}: leaves the member after {statistics.median(leaves):.1f} s, at most "
            f"{max(leaves):.1f} s, and is back after {statistics.median(comes):.1f} s, at most "
            f"{max(comes):.1f} s (medians of {rounds})."
        )
        goal = 10.0 if "promql" in how else None
        result.measures.append(
            Measure(
                f"{how}: from the condition to leaving the member", goal, goal, max(leaves), " s"
            )
        )
    return result


if __name__ == "__main__":
    main(report, __doc__)
