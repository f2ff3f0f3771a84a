"""Probes that ask Prometheus: an answer decides, and nothing else does."""

import asyncio
import contextlib
import threading
import time

import pytest

from mainstay import Detect, FailoverPool, Member, Probe
from mainstay._failover.hooks import UnknownHealthError
from support.pools import AT_ONCE, Lost, Site, state_of, wait_until
from support.processes import LOOPBACK, free_port
from support.scripted_http import ScriptedServer, drips, hangs, sampled, says, sends

URL = "http://prometheus:9090"


@pytest.mark.parametrize(
    ("args", "options", "error", "match"),
    [
        ((URL, ""), {}, ValueError, "`query` must not be empty"),
        ((URL, " \n"), {}, ValueError, "`query` must not be empty"),
        ((URL, None), {}, TypeError, "`query` must be a str"),
        ((URL, 1), {}, TypeError, "`query` must be a str"),
        ((None, "up"), {}, TypeError, "`url` must be a str"),
        (("prometheus:9090", "up"), {}, ValueError, "`url` must be a URL of HTTP"),
        ((URL, "up"), {"headers": "a: b"}, TypeError, "`headers`"),
        ((URL, "up"), {"headers": {"a": "b\n"}}, ValueError, "`headers`"),
        ((URL, "up"), {"missing": None}, ValueError, "`missing` must be 'unknown'"),
        ((URL, "up"), {"missing": "down"}, ValueError, "`missing` must be 'unknown'"),
        ((URL, "up"), {"missing": []}, ValueError, "`missing` must be 'unknown'"),
        ((URL, "up"), {"every": 0}, ValueError, "`every`"),
        ((URL, "up"), {"timeout": 0}, ValueError, "`timeout`"),
        ((URL, "up"), {"timeout": "1"}, TypeError, "`timeout`"),
        ((URL, "up"), {"rise": 0}, ValueError, "`rise`"),
        ((URL, "up"), {"fall": 0}, ValueError, "`fall`"),
        ((URL, "up"), {"jitter": 2}, ValueError, "`jitter`"),
    ],
)
def test_what_is_no_question_is_refused_when_it_is_made(args, options, error, match):
    with pytest.raises(error, match=match):
        Probe.promql(*args, **options)


def test_a_probe_shows_what_it_asks_and_no_login():
    url = "http://me:hunter2@prometheus:9090/x?token=hunter2"
    probe = Probe.promql(url, "up", headers={"X-Key": "hunter2"})
    assert "<query of prometheus:9090/x: up>" in repr(probe)
    assert "hunter2" not in repr(probe)
    assert (probe.every, probe.timeout, probe.rise, probe.fall, probe.jitter) == (5, 1, 2, 3, 0.1)


@pytest.mark.parametrize(
    ("values", "missing", "expected"),
    [
        (["1"], "unknown", True),
        (["-0.5"], "unknown", True),
        (["+Inf"], "failure", True),
        (["0"], "unknown", False),
        (["0"], "healthy", False),
        ([], "unknown", None),
        ([], "healthy", True),
        ([], "failure", False),
        (["NaN"], "unknown", None),
        (["NaN"], "healthy", True),
        (["NaN"], "failure", False),
    ],
)
def test_a_sample_is_an_answer_and_none_is_what_the_user_says(values, missing, expected):
    with ScriptedServer(sampled(*values)) as server:
        assert Probe.promql(server.url, "up", missing=missing).fn("resource") is expected


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("", "/api/v1/query?"),
        ("/", "/api/v1/query?"),
        ("/prom/", "/prom/api/v1/query?"),
        ("/api/v1/query", "/api/v1/query?"),
        ("?dedup=true", "/api/v1/query?dedup=true&"),
    ],
)
def test_the_question_goes_to_the_api(url, path):
    with ScriptedServer(sampled("1")) as server:
        probe = Probe.promql(server.url + url, "up{a={member}} > 0", headers={"X-Scope": "shop"})
        assert probe.fn.ask("ä&b", None) is True
    first, *lines = server.requests[0].splitlines()
    query = "query=up%7Ba%3D%22%C3%A4%26b%22%7D%20%3E%200&timeout=1.000"
    assert first == f"GET {path}{query} HTTP/1.1"
    assert "x-scope: shop" in lines


LATE = 0.1
"""Seconds that a server has which does not answer in time; all others have `ENOUGH`."""
ENOUGH = 10.0

ERROR = b'{"status": "error", "errorType": "bad_data", "error": "parse error at char 3"}'
SILENCE = {
    "hangs": (hangs, "time", f"has not answered within {LATE} s"),
    "drips": (drips(b"HTTP/1.1 200 OK\r\n", b"x"), "time", f"has not answered within {LATE} s"),
    "closes": (sends(b""), "connection", "does not answer"),
    "garbage": (sends(b"SSH-2.0-OpenSSH\r\n"), "http", "does not answer in HTTP (BadStatusLine)"),
    "long": (says(b" " * 2_000_000), "length", "answers with more than 1024 KiB"),
    "redirect": (
        says(b"", status="302 Found", headers=["Location: http://me:hunter2@sso/?t=hunter2"]),
        "redirect",
        "redirects to ...@sso/?...: give that URL",
    ),
    "no login": (says(b"", status="401 Unauthorized"), "login", "another login (401 Unauthorized)"),
    "no right": (says(b"", status="403 Forbidden"), "login", "another login (403 Forbidden)"),
    "broken": (says(b"oh", status="503 Unavailable"), "answer", ": it answers 503"),
    "nowhere": (says(b"404", status="404 Not Found"), "answer", ": it answers 404"),
    "a page": (says(b"<html>hello"), "answer", ": its answer is no result of a query"),
    "packed": (
        says(b"?", headers=["Content-Encoding: gzip"]),
        "answer",
        "answers packed as gzip, which was not asked for",
    ),
    "no promql": (
        says(ERROR, status="400 Bad Request"),
        "query",
        ": bad_data: parse error at char 3",
    ),
    "series": (sampled("0", "0"), "series", ": the query gives 2 series, and it has to give one"),
    "missing": (sampled(), "missing", ": the query gives no sample"),
}


@pytest.mark.parametrize(("script", "kind", "text"), SILENCE.values(), ids=SILENCE)
def test_everything_else_is_unknown_and_said(script, kind, text):
    with ScriptedServer(script) as server:
        url = server.url.replace("//", "//me:hunter2@")
        timeout = LATE if kind == "time" else ENOUGH
        probe = Probe.promql(url, "up", timeout=timeout, headers={"X-Key": "hunter2"})
        with pytest.raises(UnknownHealthError) as unknown:
            probe.fn.ask("a", None)
    assert text in str(unknown.value)
    assert unknown.value.kind == kind
    assert "hunter2" not in str(unknown.value)
    assert str(unknown.value).startswith(LOOPBACK)


QUERY = "up{n={member}}"


@contextlib.contextmanager
def probed(pools, url, **options):
    """An open pool of two members, which others than their callers know to be well or not."""
    site = Site()
    members = [pools.member(site, "a"), pools.member(site, "b")]
    probe = Probe.promql(url, QUERY, **{"every": 0.02, "timeout": 0.3, "fall": 2, **options})
    pool = FailoverPool("db", members, on=Lost, probe=probe, failback=AT_ONCE,
                        detect=Detect(eject_for=0.05, max_eject=0.05))  # fmt: skip
    pools.enter(pool)
    try:
        yield pool, site
    finally:
        pools.close(pool)


def states(pool):
    return [each.state for each in pool.status().members]


def test_what_prometheus_says_ejects_and_readmits(pools, metrics):
    def script(connection, stop):
        about_a = "n%3D%22a%22" in server.here.request
        answer = sampled("0" if broken and about_a else "1")
        answer(connection, stop)

    broken = [True]
    with ScriptedServer(script) as server, probed(pools, server.url, every=0.05) as (pool, site):
        pools.until(lambda: states(pool) == ["ejected", "active"])
        assert pools.call(pool, site.use) == "b1"
        broken.clear()
        pools.until(lambda: states(pool) == ["active", "active"])
        assert pools.call(pool, site.use)[0] == "a"
    assert metrics("ejections_total", member="a", cause="probe") >= 1


@pytest.mark.parametrize(("script", "kind", "text"), SILENCE.values(), ids=SILENCE)
def test_prometheus_out_of_order_ejects_nobody(pools, metrics, caplog, script, kind, text):
    before, timeout = asking(), LATE if kind == "time" else ENOUGH
    with ScriptedServer(script) as server:
        with probed(pools, server.url, fall=1, timeout=timeout, every=0.005) as (pool, site):
            pools.until(lambda: len(server.requests) >= 4)
            assert states(pool) == ["active", "active"]
            assert pools.call(pool, site.use) == "a1"
        wait_until(lambda: asking() <= before)
    said = [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]
    assert len(said) == 1
    assert said[0].startswith("db: probe of member ")
    assert text in said[0]


def asking():
    """Return the threads that ask Prometheus, those of other pools in the process included."""
    ours = "mainstay-probe", "mainstay-ask"
    return {each for each in threading.enumerate() if each.name.startswith(ours)}


def test_nobody_is_ejected_where_no_prometheus_is(pools, metrics, caplog):
    with probed(pools, f"http://{LOOPBACK}:{free_port()}", fall=1) as (pool, _):
        pools.until(lambda: "Connection refused" in caplog.text)
        assert states(pool) == ["active", "active"]


def test_a_cold_standby_starts_without_being_asked_about(pools, metrics):
    """Prometheus has not looked at it yet, and says that it is down."""
    site = Site()
    members = [pools.member(site, "a"), pools.member(site, "b", standby="cold")]
    with ScriptedServer(sampled("0")) as server:
        probe = Probe.promql(server.url, QUERY, every=1e6)
        pool = FailoverPool("db", members, on=Lost, probe=probe)
        pools.eject(pool, site, "a")
        assert pools.call(pool, site.use) == "b1"
        pools.close(pool)
    assert not any("%22b%22" in each for each in server.requests)


def test_a_name_that_is_looked_up_for_too_long_ejects_nobody(metrics, monkeypatch, caplog):
    """The resolver cannot be ended; it is left behind, and asked once only."""
    stop = []

    def getaddrinfo(*_args, **_options):
        stop.append(None)
        end = time.monotonic() + 60
        while len(stop) < 10 and time.monotonic() < end:
            time.sleep(0.001)
        raise OSError

    monkeypatch.setattr("socket.getaddrinfo", getaddrinfo)
    probe = Probe.promql("http://slow.invalid", "up", every=0.01, timeout=0.02, fall=1)
    with FailoverPool("db", [Member("a", "a0"), Member("b", "b0")], on=Lost, probe=probe) as pool:
        wait_until(lambda: "slow.invalid has not answered within 0.02 s" in caplog.text)
        assert [state_of(pool, name) for name in "ab"] == ["active", "active"]
        assert len(stop) <= 2
        stop.extend([None] * 10)


def test_an_async_pool_goes_on_while_prometheus_is_slow(metrics):
    async def main():
        async with FailoverPool(
            "db", [site.amember("a")], on=Lost,
            probe=Probe.promql(server.url, "up", every=0.01, timeout=30.0),
        ) as pool:  # fmt: skip
            while not server.requests:  # noqa: ASYNC110 - polls
                await asyncio.sleep(0.001)
            return await pool.call(use)

    async def use(resource):
        return resource

    site = Site()
    with ScriptedServer(hangs) as server:
        assert asyncio.run(main()) == "a1"
        server._stop.set()
