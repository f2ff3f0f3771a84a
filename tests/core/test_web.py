"""One answer of a server of HTTP: what is asked, and that time and length are limits."""

import socket
import ssl
import subprocess
import time

import pytest

from mainstay._core import web
from mainstay._core.web import WebError, checked_headers, fetch, web_address
from support.processes import LOOPBACK, free_port, require_tool
from support.scripted_http import ScriptedServer, drips, hangs, says, sends


@pytest.mark.parametrize(
    ("url", "host", "port", "path", "name"),
    [
        ("http://prometheus", "prometheus", 80, "", "prometheus"),
        ("https://prometheus/", "prometheus", 443, "", "prometheus"),
        ("http://prometheus:9090/a/", "prometheus", 9090, "/a", "prometheus:9090/a"),
        ("http://[::1]:9090", "::1", 9090, "", "[::1]:9090"),
        ("http://me:secret@host/x?token=secret", "host", 80, "/x", "host/x"),
        ("http://bücher.example/ä", "bücher.example", 80, "/%C3%A4", "bücher.example/ä"),
    ],
)
def test_a_url_is_read(url, host, port, path, name):
    address = web_address(url, "url")
    assert (address.host, address.port, address.path, address.name) == (host, port, path, name)
    assert "secret" not in repr(address)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "prometheus:9090",
        "//prometheus",
        "ftp://prometheus",
        "http://",
        "http://:9090",
        "http://host:0",
        "http://host:99999",
        "http://host:port",
        "http://host#part",
        "http://a b",
        "http://a\n",
        " http://a",
        "http://a..b",
        "http://[::1",
        "http://me:secret@",
        "http://me:sec/ret@host",
        "http://me:se?cr@et@host:x/?token=secret",
        "secret@host",
    ],
)
def test_what_is_no_url_of_http_is_refused_without_its_login(url):
    with pytest.raises(ValueError, match="`url` must be a URL of HTTP or HTTPS with a host") as no:
        web_address(url, "url")
    assert not any(part in str(no.value) for part in ("sec", "se?", "token"))


@pytest.mark.parametrize("url", [None, b"http://host", 80])
def test_what_is_no_text_is_refused(url):
    with pytest.raises(TypeError, match="`url` must be a str"):
        web_address(url, "url")


def test_headers_are_checked():
    address = web_address("http://host", "url")
    assert checked_headers(None, address) == {}
    assert checked_headers({"X-Scope-OrgID": "shop"}, address) == {"x-scope-orgid": "shop"}


@pytest.mark.parametrize(
    ("headers", "error"),
    [
        ([("a", "b")], TypeError),
        ("a: b", TypeError),
        ({"a": 1}, TypeError),
        ({1: "a"}, TypeError),
        ({"": "a"}, ValueError),
        ({"a b": "a"}, ValueError),
        ({"a": "secret\r\nb: c"}, ValueError),
        ({"a": "sécret"}, ValueError),
        ({"Content-Length": "5"}, ValueError),
        ({"Connection": "keep-alive"}, ValueError),
        ({"a": "b", "A": "c"}, ValueError),
    ],
)
def test_headers_that_cannot_be_sent_are_refused(headers, error):
    with pytest.raises(error, match="`headers` must") as refused:
        checked_headers(headers, web_address("http://host", "url"))
    assert "cret" not in str(refused.value)


def test_two_logins_are_refused():
    address = web_address("http://me:secret@host", "url")
    with pytest.raises(ValueError, match=r"Authorization once \(a login in the URL is one\)"):
        checked_headers({"Authorization": "Bearer x"}, address)


def asked(server, *, url=None, path="/x?y=1", seconds=30.0, longest=1000):
    address = web_address(url or server.url, "url")
    headers = checked_headers({"X-More": "1"}, address)
    return fetch(address, path, headers, seconds=seconds, longest=longest)


def test_a_request_has_what_it_needs_and_an_answer_is_read():
    with ScriptedServer(says(b"hello")) as server:
        answer = asked(server, url=server.url.replace("//", "//me:s%40cret@"))
    assert (answer.status, answer.body, answer.location) == (200, b"hello", None)
    first, *lines = server.requests[0].splitlines()
    assert first == "GET /x?y=1 HTTP/1.1"
    assert f"host: {LOOPBACK}:{server.port}" in lines
    assert "authorization: Basic bWU6c0BjcmV0" in lines
    assert {"x-more: 1", "connection: close", "accept-encoding: identity"} <= set(lines)


@pytest.mark.parametrize("seconds", [1e10, 1e300])
def test_the_time_may_be_longer_than_a_socket_can_wait(seconds):
    with ScriptedServer(says(b"hello")) as server:
        assert asked(server, seconds=seconds).body == b"hello"


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"


@pytest.mark.parametrize(
    "data",
    [
        CHUNKED,
        b"HTTP/1.0 200 OK\r\n\r\nhello",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello more",
    ],
)
def test_every_way_to_frame_an_answer_is_read(data):
    with ScriptedServer(sends(data)) as server:
        assert asked(server).body == b"hello"


HEAD = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    "script",
    [
        hangs,
        drips(b"", b"H"),
        drips(HEAD, b"x"),
        drips(HEAD, b"X-More: 1\r\n"),
        drips(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        drips(HEAD + b"Content-Length: 999\r\n\r\n"),
        drips(HEAD + b"\r\n"),
        drips(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
    ],
)
def test_the_time_is_for_all_of_it(script):
    with ScriptedServer(script) as server:
        began = time.monotonic()
        with pytest.raises(WebError, match=r"has not answered within 0\.05 s") as late:
            asked(server, seconds=0.05)
        assert time.monotonic() - began < 10
        assert late.value.kind == "time"


def test_a_long_request_is_sent_within_its_time():
    """Nobody takes it in: what is on the way fills, and then it stays with the sender."""
    with socket.create_server((LOOPBACK, 0)) as server:
        address = web_address(f"http://{LOOPBACK}:{server.getsockname()[1]}", "url")
        with pytest.raises(WebError) as late:
            fetch(address, "/" + "x" * 50_000_000, {}, seconds=0.3, longest=1)
    assert late.value.kind == "time"


@pytest.mark.parametrize(
    ("script", "kind", "text"),
    [
        (sends(b""), "connection", "does not answer"),
        (sends(b"SSH-2.0-OpenSSH\r\n"), "http", r"does not answer in HTTP \(BadStatusLine\)"),
        (sends(b"HTTP/1.1 999999 ?\r\n\r\n"), "http", "does not answer in HTTP"),
        (sends(HEAD + b"x: " + b"y" * 100_000), "http", r"\(LineTooLong\)"),
        (sends(HEAD + b"x: y\r\n" * 200), "http", "does not answer in HTTP"),
        (sends(HEAD + b"Content-Length: 99\r\n\r\nhello"), "http", "broke off"),
        (sends(HEAD + b"Transfer-Encoding: chunked\r\n\r\n9\r\nhel"), "http", "IncompleteRead"),
        (sends(HEAD + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n"), "http", "HTTP"),
        (says(b"x" * 2_000), "length", "answers with more than 0 KiB"),
        (drips(HEAD + b"\r\n", b"x" * 60_000), "length", "more than"),
    ],
)
def test_what_is_no_answer_is_said(script, kind, text):
    with ScriptedServer(script) as server:
        with pytest.raises(WebError, match=text) as caught:
            asked(server)
        assert caught.value.kind == kind


def test_redirects_are_told_and_not_followed():
    where = "http://me:secret@elsewhere/x?token=secret"
    script = says(b"", status="302 Found", headers=[f"Location: {where}"])
    with ScriptedServer(script) as server:
        answer = asked(server)
    assert (answer.status, answer.location) == (302, "...@elsewhere/x?...")
    assert len(server.requests) == 1


def test_nobody_listens_there():
    with pytest.raises(WebError, match=r"does not answer \(Connection refused\)") as caught:
        fetch(web_address(f"http://{LOOPBACK}:{free_port()}", "url"), "/", {},
              seconds=30.0, longest=1)  # fmt: skip
    assert caught.value.kind == "connection"


def test_a_name_that_nobody_knows_is_told():
    with pytest.raises(WebError, match="does not answer") as caught:
        fetch(web_address("http://nowhere.invalid", "url"), "/", {}, seconds=30.0, longest=1)
    assert caught.value.kind == "connection"


def test_a_server_without_tls_is_none_of_https():
    with ScriptedServer(says(b"hello")) as server, pytest.raises(WebError) as caught:
        asked(server, url=server.url.replace("http:", "https:"), seconds=0.05)
    assert caught.value.kind in ("connection", "time")


@pytest.fixture(scope="module")
def tls(tmp_path_factory):
    """What a server shows, and what a client has to trust for it."""
    folder = tmp_path_factory.mktemp("tls")
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    command = [require_tool("openssl", package="openssl"), "req", "-x509", "-newkey", "rsa:2048"]
    command += ["-nodes", "-days", "2", "-subj", "/CN=test", "-keyout", key, "-out", certificate]
    command += ["-addext", f"subjectAltName=IP:{LOOPBACK}"]
    subprocess.run(command, check=True, capture_output=True)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate, key)
    return server, ssl.create_default_context(cafile=certificate)


@pytest.mark.process
def test_a_server_is_asked_over_tls_if_it_can_be_trusted(tls, monkeypatch):
    shown, trusts = tls
    with ScriptedServer(says(b"hello"), shown) as server:
        with pytest.raises(WebError, match=r"does not answer \(.*certificate") as caught:
            asked(server)
        assert caught.value.kind == "connection"
        assert server.requests == []
        monkeypatch.setattr(web, "_trust", lambda: trusts)
        assert asked(server).body == b"hello"


@pytest.mark.process
def test_the_time_is_for_tls_as_well(tls, monkeypatch):
    shown, trusts = tls
    monkeypatch.setattr(web, "_trust", lambda: trusts)
    script = drips(b"HTTP/1.1 200 OK\r\n", b"x")
    with ScriptedServer(script, shown) as server, pytest.raises(WebError) as late:
        asked(server, seconds=0.4)
    assert late.value.kind == "time"
    with socket.create_server((LOOPBACK, 0)) as silent:
        address = web_address(f"https://{LOOPBACK}:{silent.getsockname()[1]}", "url")
        with pytest.raises(WebError, match="has not answered"):
            fetch(address, "/", {}, seconds=0.2, longest=1)


def test_every_address_of_a_name_is_tried(monkeypatch):
    """One that refuses is followed by the next."""
    with ScriptedServer(says(b"hello")) as server:
        found = socket.getaddrinfo(LOOPBACK, server.port, type=socket.SOCK_STREAM)
        refused = socket.getaddrinfo(LOOPBACK, free_port(), type=socket.SOCK_STREAM)
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_options: refused + found)
        assert asked(server).body == b"hello"
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_options: [])
        with pytest.raises(WebError, match="no address"):
            asked(server)
