"""The collectors in everything that exports metrics: Flask, WSGI, ASGI, a file, a Pushgateway."""

import asyncio
import functools
import importlib.util
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from socketserver import BaseServer

import pytest
from prometheus_client import (
    CollectorRegistry,
    make_asgi_app,
    push_to_gateway,
    start_http_server,
    write_to_textfile,
)
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from mainstay import HostCollector, Metrics, StoreCollector, checkpoint_run, retry
from support.monitoring import fetch, process, prometheus, until
from support.processes import LOOPBACK, free_port, require_tool

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "flask_exporter.py"
OPENMETRICS = "application/openmetrics-text; version=1.0.0"
CALL = 'mainstay_calls_total{component="work",outcome="success",policy="retry"} 1.0'


@pytest.fixture
def registry():
    """Give a private registry with all three collectors, after one call and one run."""
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    registry.register(HostCollector())
    registry.register(StoreCollector("memory://exporters"))
    retry(on=OSError, name="work", metrics=metrics).call(int)
    with checkpoint_run("nightly", store="memory://exporters", metrics=metrics):
        pass
    return registry


def assert_complete(text):
    assert CALL in text
    assert 'mainstay_checkpoint_runs{component="run",state="done"}' in text
    assert "mainstay_host_memory_usage_ratio 0." in text


@pytest.mark.parametrize(
    "collector", [HostCollector, lambda **named: StoreCollector("memory://", **named)]
)
def test_a_prefix_that_prometheus_refuses_is_refused(collector):
    with pytest.raises(ValueError, match=r"`namespace` must consist of .*, not '1 bad'"):
        collector(namespace="1 bad")
    with pytest.raises(TypeError, match="`namespace` must be a str, not 5"):
        collector(namespace=5)


def test_behind_start_http_server(registry, monkeypatch):
    soon = functools.partialmethod(BaseServer.serve_forever, 0.01)  # it ends, instead of in 0.5 s
    monkeypatch.setattr(BaseServer, "serve_forever", soon)
    server, thread = start_http_server(0, addr=LOOPBACK, registry=registry)
    text, _ = fetch(f"http://{LOOPBACK}:{server.server_port}/metrics")
    server.shutdown()
    server.server_close()
    thread.join()
    assert_complete(text)


def test_in_an_asgi_app(registry):
    app, sent = make_asgi_app(registry), []

    async def receive():
        return {"type": "http.request", "body": b""}

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": []}
    asyncio.run(app(scope, receive, send))
    assert_complete(b"".join(each.get("body", b"") for each in sent).decode())


def test_through_a_text_file(registry, tmp_path):
    path = tmp_path / "mainstay.prom"
    write_to_textfile(str(path), registry)
    assert_complete(path.read_text())


def test_through_a_pushgateway(registry):
    pushed = []

    class Gateway(BaseHTTPRequestHandler):
        def do_PUT(self):
            pushed.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args):
            pass

    with HTTPServer((LOOPBACK, 0), Gateway) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        push_to_gateway(f"{LOOPBACK}:{server.server_port}", job="nightly", registry=registry)
        thread.join()
    assert_complete(pushed[0])


@pytest.mark.process
def test_the_names_and_texts_are_what_promtool_wants(registry, tmp_path):
    promtool = require_tool("promtool", package="prometheus")
    path = tmp_path / "mainstay.prom"
    write_to_textfile(str(path), registry)
    done = subprocess.run(
        [promtool, "check", "metrics"],
        input=path.read_text(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# The Flask exporter of the docs.


@pytest.fixture(scope="module")
def app():
    specification = importlib.util.spec_from_file_location("flask_exporter", EXAMPLE)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module.app.test_client()


def test_flask_answers_in_the_format_that_is_asked_for(app):
    plain = app.get("/metrics")
    assert plain.content_type.startswith("text/plain; version=")
    assert "mainstay_component_up" in plain.text
    modern = app.get("/metrics", headers={"Accept": OPENMETRICS})
    assert modern.content_type.startswith("application/openmetrics-text; version=1.0.0")
    families = {each.name for each in text_string_to_metric_families(modern.text)}
    assert {"mainstay_calls", "mainstay_host_memory_usage_ratio"} <= families


def test_flask_takes_note_of_outages(app):
    up = 'mainstay_component_up{component="warehouse"}'
    assert app.post("/warehouse/down").status_code == 204
    assert f"{up} 0.0" in app.get("/metrics").text
    assert app.post("/warehouse/up").status_code == 204
    assert f"{up} 1.0" in app.get("/metrics").text
    refused = app.post("/warehouse/up")
    assert (refused.status_code, "without a `fail`" in refused.text) == (400, True)


@pytest.mark.process
def test_the_flask_exporter_is_scraped_by_a_real_prometheus(tmp_path):
    port = free_port()
    with process([sys.executable, str(EXAMPLE), str(port)], tmp_path / "flask.log"):
        until(lambda: fetch(f"http://{LOOPBACK}:{port}/stock/tea"), "the exporter")
        text, headers = fetch(f"http://{LOOPBACK}:{port}/metrics", Accept=OPENMETRICS)
        assert headers["Content-Type"].startswith("application/openmetrics-text")
        assert text.endswith("# EOF\n")
        with prometheus(tmp_path / "prometheus", targets={"flask": port}) as server:
            for name in ("cpu", "memory", "disk"):
                share = f"mainstay_host_{name}_usage_ratio"
                ((_, value), *_) = until(lambda share=share: server.query(share), share)
                assert 0 <= value <= 1
            calls = 'sum(mainstay_calls_total{component="stock"})'
            assert server.query(calls) == [({}, 1.0)]
            (target,) = server.api("targets")["activeTargets"]
            assert (target["health"], target["lastError"]) == ("up", "")
