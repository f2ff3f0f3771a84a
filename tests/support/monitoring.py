"""Real servers for tests: Prometheus, Alertmanager, a webhook, and programs that are scraped.

Each is a process of its own on a free port of the loopback, and ends with its `with` block, by its
own process id. What they say is waited for by asking again, never by sleeping for long enough.
"""

import json
import queue
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import yaml

from support.processes import LOOPBACK, PROGRAMS, free_port, require_tool

PAUSE = 0.1
PATIENCE = 60.0
RULE_GROUPS = ("calls", "errors", "dependability", "alerts")


def until(ask, what, patience=PATIENCE):
    """Ask until the answer is true, and give it."""
    give_up = time.monotonic() + patience
    while True:
        try:
            answer = ask()
        except OSError:  # not listening yet
            answer = None
        if answer:
            return answer
        assert time.monotonic() < give_up, f"waited {patience:.0f} s in vain for {what}"
        time.sleep(PAUSE)


def fetch(url, **headers):
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 - addresses of ours
    with urllib.request.urlopen(request) as response:  # noqa: S310 - as above
        return response.read().decode(), response.headers


def post(url, value):
    """Send a value as JSON."""
    body = json.dumps(value).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(url, data=body, headers=headers)  # noqa: S310 - as above
    with urllib.request.urlopen(request) as response:  # noqa: S310 - as above
        return response.read().decode()


@contextmanager
def process(command, log):
    """Run a server until the block ends."""
    with log.open("w") as output:
        server = subprocess.Popen(command, stdout=output, stderr=output)
        try:
            yield server
        finally:
            server.terminate()
            server.wait(PATIENCE)


class Prometheus:
    """Asks a server, which is a process, for what it knows."""

    def __init__(self, url, process):
        self.url = url
        self.process = process

    def api(self, path, **parameters):
        text, _ = fetch(f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}")
        return json.loads(text)["data"]

    def query(self, expression, **parameters):
        """Give labels and value of each series of an instant answer."""
        answer = self.api("query", query=expression, **parameters)["result"]
        return [(each["metric"], float(each["value"][1])) for each in answer]

    def ready(self):
        return fetch(f"{self.url}/-/ready")


@contextmanager
def prometheus(folder, *, targets=(), rules=(), alertmanager=None, data="data", every="1s"):
    """Run a Prometheus that scrapes *targets*: from a job's name to its port."""
    folder.mkdir(exist_ok=True)
    binary = require_tool("prometheus", package="prometheus")
    config = {
        "global": {"scrape_interval": every, "evaluation_interval": every},
        "rule_files": [str(each) for each in rules],
        "scrape_configs": [
            {"job_name": job, "static_configs": [{"targets": [f"{LOOPBACK}:{port}"]}]}
            for job, port in dict(targets).items()
        ],
    }
    if alertmanager is not None:
        target = {"targets": [alertmanager.removeprefix("http://")]}
        config["alerting"] = {"alertmanagers": [{"static_configs": [target]}]}
    path = folder / "prometheus.yml"
    path.write_text(yaml.safe_dump(config))
    url = f"http://{LOOPBACK}:{free_port()}"
    command = [
        binary,
        f"--config.file={path}",
        f"--storage.tsdb.path={folder / data}",
        "--storage.tsdb.retention.time=90d",
        f"--web.listen-address={url.removeprefix('http://')}",
        "--enable-feature=exemplar-storage",
    ]
    with process(command, folder / "prometheus.log") as running:
        server = Prometheus(url, running)
        until(server.ready, "Prometheus")
        yield server


@contextmanager
def alertmanager(folder, webhook, token=None, inhibit_rules=()):
    """Run an Alertmanager that passes everything on to a webhook at once, with a token."""
    folder.mkdir(exist_ok=True)
    binary = require_tool("prometheus-alertmanager", package="prometheus-alertmanager")
    receiver = {"url": webhook}
    if token is not None:
        receiver["http_config"] = {"authorization": {"credentials": token}}
    config = {
        "route": {
            "receiver": "webhook",
            "group_by": ["..."],
            "group_wait": "0s",
            "group_interval": "1s",
        },
        "receivers": [{"name": "webhook", "webhook_configs": [receiver]}],
        "inhibit_rules": list(inhibit_rules),
    }
    path = folder / "alertmanager.yml"
    path.write_text(yaml.safe_dump(config))
    url = f"http://{LOOPBACK}:{free_port()}"
    command = [
        binary,
        f"--config.file={path}",
        f"--storage.path={folder / 'alertmanager'}",
        f"--web.listen-address={url.removeprefix('http://')}",
        "--cluster.listen-address=",
    ]
    with process(command, folder / "alertmanager.log"):
        until(lambda: fetch(f"{url}/-/ready"), "Alertmanager")
        yield url


@contextmanager
def page(text):
    """Serve a text to whoever asks: the port, and a function that ends that."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *args):
            pass

    with HTTPServer((LOOPBACK, 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()

        def end():
            server.shutdown()
            server.server_close()
            thread.join()

        try:
            yield server.server_port, end
        finally:
            end()


@contextmanager
def serving(server):
    """Run a server of HTTP in a thread; give where it is."""
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://{LOOPBACK}:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def webhook():
    """Take in what an Alertmanager sends: its address, and a queue of alerts."""
    alerts = queue.Queue()

    class Page(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            for alert in body["alerts"]:
                alerts.put(alert)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args):
            pass

    with serving(HTTPServer((LOOPBACK, 0), Page)) as url:
        yield url, alerts


class Program:
    """A program of `tests/programs` that prints its port first, and ends with its input."""

    def __init__(self, name, *arguments):
        command = [sys.executable, str(PROGRAMS / name), *arguments]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
        self.port = int(self._process.stdout.readline())

    def tell(self, line):
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        with self._process:
            self._process.stdin.close()
            assert self._process.wait(PATIENCE) == 0


def promtool_test(rule_file, tests, evaluation_interval="1m"):
    """Run unit tests of promtool; they are written beside the rules."""
    promtool = require_tool("promtool", package="prometheus")
    unit_tests = rule_file.parent / "tests.yml"
    unit_tests.write_text(
        yaml.safe_dump(
            {
                "rule_files": [str(rule_file)],
                "evaluation_interval": evaluation_interval,
                "group_eval_order": [f"mainstay-{name}" for name in RULE_GROUPS],
                "tests": tests,
            }
        )
    )
    done = subprocess.run(
        [promtool, "test", "rules", unit_tests], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
