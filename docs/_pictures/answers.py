"""What a real Prometheus answers to the dashboard's first screen, over a run of the quickstart."""

import ast
import contextlib
import hashlib
import json
import re
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import attrs
from prometheus_client import start_http_server
from top import EXAMPLES, run_quickstart

from mainstay import ops

ROUNDS = 2
SCRAPED_EVERY = 1.0
RATES_OVER = 5
"""Seconds; Grafana's own choice would be four scrapes."""
PATIENCE = 30.0
CONFIGURATION = """
global: {{scrape_interval: 1s}}
scrape_configs: [{{job_name: shop, static_configs: [{{targets: ["127.0.0.1:{port}"]}}]}}]
"""

Json = dict[str, Any]
Point = tuple[float, float]


@attrs.frozen
class Answer:
    """One series that a panel shows.

    Attributes:
        query: The `refId` of the query that it answers.
        name: What the panel calls it.
        points: Times, in seconds since the beginning, and values.
    """

    query: str
    name: str
    points: list[Point]


@attrs.frozen
class Answers:
    """Everything on the screen.

    Attributes:
        seconds: How long the run was.
        panels: The answers of each panel, by its title.
        moments: The color and the times of each annotation.
    """

    seconds: float
    panels: dict[str, list[Answer]]
    moments: list[tuple[str, list[float]]]


def screen() -> tuple[list[Json], list[Json]]:
    """Return the panels of the first screen, and the annotations."""
    dashboard = json.loads(ops.dashboard())
    kinds = [panel["type"] for panel in dashboard["panels"]]
    end = kinds.index("row") if kinds[0] != "row" else kinds.index("row", 1)
    panels = [panel for panel in dashboard["panels"][:end] if panel["type"] != "row"]
    return panels, dashboard.get("annotations", {}).get("list", [])


def digest() -> str:
    """Return a text that changes with what the picture shows: the screen and the quickstart."""
    quickstart = ast.dump(ast.parse((EXAMPLES / "quickstart.py").read_text()))
    shown = json.dumps(screen(), sort_keys=True) + quickstart
    return hashlib.sha256(shown.encode()).hexdigest()[:16]


def collect() -> Answers:
    """Run the quickstart several times while Prometheus looks on, and ask."""
    panels, annotations = screen()
    server, thread = start_http_server(0, addr="127.0.0.1")
    with tempfile.TemporaryDirectory() as folder, _prometheus(folder, server.server_port) as url:
        ask = _Asking(url, began=time.time())
        _wait_for(lambda: ask.query("up", ""), "the first scrape")
        ask.began = time.time() + RATES_OVER / 2  # before that there are no rates
        for _ in range(ROUNDS):
            run_quickstart().join()
        ask.until = time.time()
        bad = [answer for panel in panels if panel["title"].endswith(" now")
               for answer in ask.panel(panel)]  # fmt: skip
        ask.until = ask.began + _worst(bad, ask.until - ask.began)
        answers = Answers(
            seconds=ask.until - ask.began,
            panels={panel["title"]: ask.panel(panel) for panel in panels},
            moments=[
                (each["iconColor"], sorted({at for answer in ask.query(each["expr"], "")
                                            for at in _rises(answer.points)}))
                for each in annotations
            ],
        )  # fmt: skip
    server.shutdown()
    server.server_close()
    thread.join()
    return answers


def _worst(answers: list[Answer], seconds: float) -> float:
    """Return the time in the second half at which most is wrong, and was just before."""
    count: dict[float, int] = {}
    for answer in answers:
        for at, _ in answer.points:
            count[at] = count.get(at, 0) + 1
    times = sorted(count)
    late = [(min(count[before], count[at]), at) for before, at in pairwise(times)
            if at >= seconds / 2]  # fmt: skip
    return max(late, default=(0, seconds))[1]


def _rises(points: list[Point]) -> list[float]:
    """Return when there were more events in the time before than at the point before."""
    before = [(0.0, 0.0), *points]
    return [at for (at, value), (_, last) in zip(points, before, strict=False) if value > last]


@attrs.define
class _Asking:
    """Asks a Prometheus about a span of time."""

    url: str
    began: float
    until: float = 0.0

    def panel(self, panel: Json) -> list[Answer]:
        """Return the answers to all queries of a panel."""
        return [
            attrs.evolve(answer, query=target["refId"])
            for target in panel["targets"]
            for answer in self.query(target["expr"], target["legendFormat"])
        ]

    def query(self, expression: str, legend: str) -> list[Answer]:
        """Return each series of an answer over time."""
        for name, value in {
            "$__rate_interval": f"{RATES_OVER}s",
            "$__range": f"{max(1, round(self.until - self.began))}s",
            "$job": ".+",
            "$component": ".+",
        }.items():
            expression = expression.replace(name, value)
        until = self.until or time.time()
        asked = {"query": expression, "start": self.began, "end": until, "step": SCRAPED_EVERY}
        with urllib.request.urlopen(
            f"{self.url}/api/v1/query_range?{urllib.parse.urlencode(asked)}"
        ) as response:
            series = json.load(response)["data"]["result"]
        return [
            Answer(
                "",
                re.sub(r"{{(\w+)}}", lambda found: labels.get(found[1], ""), legend),
                [(at - self.began, float(value)) for at, value in each["values"]],
            )
            for each in series
            if (labels := each["metric"]) is not None
        ]


@contextlib.contextmanager
def _prometheus(folder: str, port: int) -> Iterator[str]:
    """Run a Prometheus that reads the metrics at a port; its address."""
    program = shutil.which("prometheus")
    if program is None:
        raise FileNotFoundError("this needs `prometheus`: apt-get install prometheus")
    configuration = Path(folder) / "prometheus.yml"
    configuration.write_text(CONFIGURATION.format(port=port))
    with socket.create_server(("127.0.0.1", 0)) as probe:
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    command = [program, f"--config.file={configuration}", f"--storage.tsdb.path={folder}/data",
               f"--web.listen-address={address}", "--log.level=error"]  # fmt: skip
    with subprocess.Popen(command) as server:
        try:
            ready = f"http://{address}/-/ready"
            _wait_for(lambda: urllib.request.urlopen(ready).close() or True, "Prometheus")
            yield f"http://{address}"
        finally:
            server.terminate()


def _wait_for(ask: Callable[[], object], what: str) -> None:
    """Ask until there is an answer."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        with contextlib.suppress(OSError):
            if ask():
                return
        time.sleep(0.1)
    raise TimeoutError(f"{what} did not come within {PATIENCE:g} s")
