"""Endpoints: what is asked of them, and what is said of those that have no metrics to give."""

import pytest

from mainstay._metrics.text_format import TextReader
from mainstay._top import endpoint
from mainstay._top.endpoint import Endpoint, ScrapeError
from mainstay._top.scraper import _ask
from mainstay._top.target import SHOWN
from support.endpoints import answers
from support.processes import LOOPBACK, free_port


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("localhost:8000", "localhost:8000"),
        ("http://localhost:8000/metrics", "localhost:8000"),
        ("https://shop.example/app/metrics?x=1", "shop.example/app/metrics?x=1"),
        ("http://me:secret@shop.example:9/metrics", "shop.example:9"),
        ("[::1]:8000", "[::1]:8000"),
    ],
)
def test_an_endpoint_is_named_by_what_tells_it_apart(url, name):
    assert Endpoint(url).name == name


def test_an_endpoint_has_one_address_however_its_url_is_written():
    same = ("shop:80", "http://shop/metrics", "http://me:secret@SHOP:80")
    assert len({Endpoint(url).address for url in same}) == 1
    others = ("https://shop", "shop:81", "shop/metrics?x=1", "shop.example")
    assert len({Endpoint(url).address for url in (same[0], *others)}) == 5


@pytest.mark.parametrize(
    "url",
    [
        "",
        "ftp://host/metrics",
        "http://",
        "host:port",
        "host:99999",
        "host:0",
        "a b",
        "a\nb",
        "[::1",
    ],
)
def test_what_is_no_url_of_http_is_refused(url):
    with pytest.raises(ValueError, match="URL must be one of HTTP, such as"):
        Endpoint(url)


def test_a_password_is_not_shown_where_a_url_is_refused():
    with pytest.raises(ValueError, match=r"//\.\.\.@host") as refused:
        Endpoint("ftp://me:secret@host/metrics")
    assert "secret" not in str(refused.value)


@pytest.fixture(scope="module")
def server():
    with answers() as url:
        yield url


def said(url):
    samples, failure = _ask(Endpoint(url), TextReader("mainstay", SHOWN))
    return failure if samples is None else samples


@pytest.mark.parametrize("path", ["metrics", "gzip"])
def test_metrics_are_read_also_where_they_are_packed(server, path):
    assert ("shop", "retry", "success") in said(f"{server}/{path}")["calls_total"]


def test_a_login_is_sent(server):
    assert "calls_total" in said(server.replace("//", "//me:secret@") + "/login")


@pytest.mark.parametrize(
    ("path", "failure"),
    [
        ("page", "answers with something else than metrics"),
        ("nothing", "answers with something else than metrics"),
        ("others", "has metrics, but none of mainstay's: nothing is named mainstay_..."),
        ("namespace", "has the namespace shop, not mainstay: --namespace"),
        ("redirect", "redirects to http://...@elsewhere.example/metrics: give that URL"),
        ("login", "wants a login (401): http://NAME:PASSWORD@..."),
        ("missing", "answers 404 Not Found"),
        ("bad-gzip", "answers in gzip that is damaged"),
        ("half-gzip", "the answer broke off"),
        ("bomb", "answers with more than 32 MiB"),
        ("brotli", "answers packed as br, which was not asked for"),
        ("protobuf", "answers in protobuf, which was not asked for"),
        ("bytes", "answers with something else than text"),
        ("half", "the answer broke off"),
        ("long", "answers with more than 32 MiB"),
        ("no-http", "no answer in HTTP (BadStatusLine)"),
    ],
)
def test_what_is_no_exposition_is_said_in_one_line(server, path, failure):
    assert said(f"{server}/{path}") == failure


@pytest.mark.parametrize(
    ("path", "seconds", "failure"),
    [("hang", 0.05, "no answer within 0.05s"), ("drip", 0.3, "no end of the answer within 0.3s")],
)
def test_what_takes_too_long_is_left(server, path, seconds, failure, monkeypatch):
    monkeypatch.setattr(endpoint, "TIMEOUT", seconds)
    assert said(f"{server}/{path}") == failure


def test_nobody_listens_there():
    assert said(f"{LOOPBACK}:{free_port()}") == "nobody listens there"


def test_a_server_without_tls_is_none_of_https(server):
    with pytest.raises(ScrapeError, match=r"^no answer \(.*\)$"):
        Endpoint(server.replace("http:", "https:")).fetch()
