"""A real Prometheus and a real Alertmanager say which members are to be left."""

import asyncio
import contextlib
import re
import signal
import socketserver
import subprocess
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

import pytest
import yaml

from mainstay import Detect, FailoverPool, Member, Probe
from mainstay._metrics.promql import query_about
from mainstay.integrations.alertmanager import Receiver
from support.monitoring import alertmanager, prometheus, serving, until
from support.pools import AT_ONCE, Lost, state_of, use
from support.processes import LOOPBACK, require_tool

pytestmark = pytest.mark.process

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "fail-over-on-prometheus.md"
TOKEN = "what-alertmanager-sends"  # noqa: S105 - of tests
MEMBERS = ["a", "b"]
RULES = {
    "groups": [
        {
            "name": "members",
            "rules": [
                {"record": "shop:errors:rate", "expr": "rate(shop_errors_total[4s])"},
                {
                    "alert": "Errors",
                    "expr": "shop:errors:rate > 0.1",
                    "labels": {"component": "by-alerts", "member": "{{ $labels.job }}"},
                },
            ],
        }
    ]
}


class MemberPage(BaseHTTPRequestHandler):
    """The metrics of a member: its callers get answers, and its errors are in here alone."""

    errors = 0
    failing = False

    def do_GET(self):
        cls = type(self)
        cls.errors += 5 * cls.failing
        body = f"# TYPE shop_errors_total counter\nshop_errors_total {cls.errors}\n".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(body)

    def log_message(self, *args):
        pass


class Quiet(WSGIRequestHandler):
    def log_message(self, *args):
        pass


class ThreadingWsgi(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True


@contextlib.contextmanager
def pages():
    """Serve the metrics of the members: their ports, and the pages."""
    with contextlib.ExitStack() as stack:
        found = {name: type("Page", (MemberPage,), {}) for name in MEMBERS}
        ports = {}
        for name, page in found.items():
            server = ThreadingHTTPServer((LOOPBACK, 0), page)
            stack.enter_context(serving(server))
            ports[name] = server.server_port
        yield ports, found


def healthy(url, **options):
    """A probe that asks a rule of Prometheus."""
    query = "shop:errors:rate{job={member}} < bool 0.1"
    return Probe.promql(url, query, **{"every": 0.5, "fall": 2, **options})


def pool_of(name, probe=None):
    return FailoverPool(name, [Member(each, each) for each in MEMBERS], on=Lost, probe=probe,
                        failback=AT_ONCE, detect=Detect(eject_for=1.0, max_eject=1.0))  # fmt: skip


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    """Prometheus that scrapes the members, and Alertmanager that tells a pool of alerts."""
    folder = tmp_path_factory.mktemp("prometheus")
    rules = folder / "rules.yml"
    rules.write_text(yaml.safe_dump(RULES))
    pool = pool_of("by-alerts")
    receiver = ThreadingWsgi((LOOPBACK, 0), Quiet)
    receiver.set_app(Receiver([pool], token=TOKEN))
    with (
        pages() as (ports, found),
        serving(receiver) as webhook,
        alertmanager(folder, webhook, TOKEN) as manager,
        prometheus(folder, targets=ports, rules=[rules], alertmanager=manager) as server,
    ):
        until(lambda: len(server.query("shop:errors:rate")) == 2, "the rates of both members")
        yield server, found, pool


@pytest.fixture
def failing(system):
    """The page of the first member, which begins to fail and is mended in the end."""
    server, found, _ = system
    page = found["a"]
    rate = 'shop:errors:rate{job="a"}'
    until(lambda: server.query(rate)[0][1] == 0, "a member that is well")
    yield page
    page.failing = False


def test_a_member_whose_errors_only_prometheus_sees_is_left_and_comes_back(system, failing):
    server, _, _ = system
    with pool_of("by-queries", healthy(server.url)) as pool:
        assert pool.call(use) == "a"
        failing.failing = True
        until(lambda: state_of(pool, "a") == "ejected", "the ejection")
        assert pool.call(use) == "b"
        failing.failing = False
        until(lambda: state_of(pool, "a") == "active", "the readmission")
        assert pool.call(use) == "a"
        assert state_of(pool, "b") == "active"


def test_an_async_pool_leaves_it_and_comes_back_too(system, failing):
    server, _, _ = system

    async def state_is(pool, state):
        while state_of(pool, "a") != state:  # noqa: ASYNC110 - polls
            await asyncio.sleep(0.05)

    async def acall(resource):
        return resource

    async def afence(_old, _new):
        """Makes the pool async."""

    async def main():
        pool = FailoverPool("async", [Member(each, each) for each in MEMBERS], on=Lost,
                            probe=healthy(server.url), fence=afence, failback=AT_ONCE,
                            detect=Detect(eject_for=1.0, max_eject=1.0))  # fmt: skip
        async with pool:
            failing.failing = True
            await asyncio.wait_for(state_is(pool, "ejected"), 60)
            answers = [await pool.call(acall)]
            failing.failing = False
            await asyncio.wait_for(state_is(pool, "active"), 60)
            return [*answers, await pool.call(acall)]

    assert asyncio.run(main()) == ["b", "a"]


def test_a_member_that_an_alert_names_is_drained_until_the_alert_is_over(system, failing):
    _, _, pool = system
    assert pool.call(use) == "a"
    failing.failing = True
    until(lambda: state_of(pool, "a") == "draining", "the alert")
    assert pool.call(use) == "b"
    failing.failing = False
    until(lambda: state_of(pool, "a") == "active", "the end of the alert")
    assert pool.call(use) == "a"


@pytest.mark.parametrize(
    ("query", "missing", "text"),
    [
        ("up{job={member}", "failure", "bad_data"),
        ("up", "failure", "the query gives 2 series"),
        ("up[1m]", "failure", "the query gives a range"),
        ("'0'", "failure", "the query gives a text"),
        ("up{job={member}} * on(x) group_left up", "failure", "execution"),
        ("nothing{job={member}}", "unknown", "the query gives no sample"),
        ("0 / (up{job={member}} - 1)", "unknown", "the query gives no sample"),
    ],
)
def test_a_query_that_says_nothing_of_a_member_ejects_nobody(
    system, query, missing, text, caplog, monkeypatch
):
    server, _, _ = system
    probe = Probe.promql(server.url, query, missing=missing, every=0.05, fall=1)
    with pool_of("silent", probe) as pool:
        until(lambda: text in caplog.text, text)
        assert [state_of(pool, name) for name in MEMBERS] == ["active", "active"]


@pytest.mark.parametrize("query", ["up{job={member}} + 1", "scalar(up{job={member}})", "1"])
def test_one_number_is_an_answer(system, query):
    server, _, _ = system
    assert Probe.promql(server.url, query).fn.ask("a", None) is True
    assert Probe.promql(server.url, f"({query}) < bool 0").fn.ask("a", None) is False


@pytest.mark.parametrize("name", ['a"b', "a'b", "a`b", "a\\b", "a\nb", "ä €", "a.b", "{member}"])
@pytest.mark.parametrize("place", ["{member}", '"{member}"', "'{member}'", "`{member}`"])
def test_every_name_of_a_member_comes_through(system, name, place):
    server, _, _ = system
    labelled = f'label_replace(vector(1), "name", {place}, "", "")'
    (found,) = server.query(query_about(labelled, name))
    assert found[0]["name"] == name
    matched = f"count(({labelled}) and on(name) ({labelled}))"
    assert Probe.promql(server.url, matched).fn.ask(name, None) is True


def test_the_settings_in_the_docs_are_taken(tmp_path):
    rules, routes = re.findall(r"^```yaml\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    for text, tool, package, *command in [
        (rules, "promtool", "prometheus", "check", "rules"),
        (routes, "amtool", "prometheus-alertmanager", "check-config"),
    ]:
        path = tmp_path / f"{tool}.yml"
        path.write_text(text)
        done = subprocess.run(
            [require_tool(tool, package=package), *command, path],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        assert "2 rules" in done.stdout or "2 receivers" in done.stdout


def test_prometheus_stopped_and_killed_ejects_nobody(tmp_path, caplog):
    caplog.set_level("DEBUG", "mainstay.failover")

    def unknown(text):
        return sum(text in each for each in caplog.messages)

    rules = tmp_path / "rules.yml"
    rules.write_text(yaml.safe_dump(RULES))
    with (
        pages() as (ports, found),
        prometheus(tmp_path, targets=ports, rules=[rules]) as server,
        pool_of("db", healthy(server.url, every=0.1, timeout=0.3, fall=1)) as pool,
    ):
        found["a"].failing = True
        until(lambda: state_of(pool, "a") == "ejected", "the ejection")
        server.process.send_signal(signal.SIGSTOP)
        try:
            until(lambda: unknown("has not answered within 0.3 s") >= 6, "some silence")
            assert [state_of(pool, name) for name in MEMBERS] == ["ejected", "active"]
        finally:
            server.process.send_signal(signal.SIGCONT)
        found["a"].failing = False
        until(lambda: state_of(pool, "a") == "active", "the readmission")
        server.process.kill()
        until(lambda: unknown("Connection refused") >= 6, "some refusals")
        assert [state_of(pool, name) for name in MEMBERS] == ["active", "active"]
        assert pool.call(use) == "a"
