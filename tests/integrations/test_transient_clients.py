"""What `transient` says of the errors that real clients raise against real faulty servers."""

import asyncio
import ssl
import urllib.request

import pytest
from integrations import faulty
from integrations.verdicts import AGAIN, BOTH, FAILING, NEITHER, said_of, self_signed

pytestmark = [  # some of these libraries start processes, and warn of their own
    pytest.mark.process,
    pytest.mark.filterwarnings("ignore"),
]

LIMIT = 0.3

SERVERS = {
    "reset": faulty.resets,
    "closed": faulty.closes,
    "cut": faulty.cuts,
    "hanging": faulty.hangs,
    "503": faulty.answers(503),
    "503 asks": faulty.answers(503, "Retry-After: 2"),
    "503 garbage": faulty.answers(503, "Retry-After: soon"),
    "500": faulty.answers(500),
    "502": faulty.answers(502),
    "504": faulty.answers(504),
    "408": faulty.answers(408),
    "429": faulty.answers(429, "Retry-After: 3"),
    "404": faulty.answers(404),
}


def with_httpx(library, method, url, **headers):
    httpx = library("httpx")
    httpx.request(method, url, timeout=LIMIT, headers=headers).raise_for_status()


def with_requests(library, method, url, **headers):
    requests = library("requests")
    requests.request(method, url, timeout=LIMIT, headers=headers).raise_for_status()


def with_aiohttp(library, method, url, **headers):
    aiohttp = library("aiohttp")

    async def ask():
        limit = aiohttp.ClientTimeout(total=LIMIT)
        async with (
            aiohttp.ClientSession(timeout=limit) as session,
            session.request(method, url, headers=headers) as response,
        ):
            response.raise_for_status()
            await response.read()

    asyncio.run(ask())


def with_urllib(_library, method, url, **headers):
    request = urllib.request.Request(url, method=method, headers=headers)  # noqa: S310 - ours
    urllib.request.urlopen(request, timeout=LIMIT).read()  # noqa: S310 - ours


def with_urllib3(library, method, url, **headers):
    urllib3 = library("urllib3")
    urllib3.PoolManager().request(method, url, timeout=LIMIT, retries=False, headers=headers)


def with_openai(library, _method, url):
    openai = library("openai")
    client = openai.OpenAI(api_key="none", base_url=url, max_retries=0, timeout=LIMIT)
    client.models.list()


def with_anthropic(library, _method, url):
    anthropic = library("anthropic")
    client = anthropic.Anthropic(api_key="none", base_url=url, max_retries=0, timeout=LIMIT)
    client.models.list()


def with_botocore(library, _method, url):
    session = library("botocore.session").get_session()
    session.set_credentials("none", "none")
    retries = {"total_max_attempts": 1}
    config = library("botocore.config").Config(
        connect_timeout=LIMIT, read_timeout=LIMIT, retries=retries
    )
    client = session.create_client("sqs", region_name="us-east-1", endpoint_url=url, config=config)
    client.list_queues()


HTTP = {"httpx": with_httpx, "requests": with_requests, "aiohttp": with_aiohttp}
SDKS = {"openai": with_openai, "anthropic": with_anthropic, "botocore": with_botocore}
EVERY = {**HTTP, "urllib": with_urllib, "urllib3": with_urllib3, **SDKS}


@pytest.fixture(params=SERVERS)
def server(request):
    with faulty.FaultyServer(SERVERS[request.param]) as running:
        running.fault = request.param
        yield running


SAFE = {  # of a GET
    "503 asks": (2.0, True),
    "408": AGAIN,
    "429": (3.0, False),
    "404": NEITHER,
}
UNSAFE = {**SAFE}  # of a POST; what is in neither may have been processed, and is failing


@pytest.mark.parametrize("client", HTTP)
def test_a_get_is_sent_again(library, client, server):
    assert said_of(HTTP[client], library, "GET", server.url) == SAFE.get(server.fault, BOTH)


TELLS_NO_METHOD = {
    "requests": {"cut"},  # of an error while the body is read
    "aiohttp": {"reset", "closed", "cut", "hanging"},
}


@pytest.mark.parametrize("client", HTTP)
def test_a_post_is_sent_again_where_it_was_not_processed(library, client, server):
    expected = UNSAFE.get(server.fault, FAILING)
    if server.fault in TELLS_NO_METHOD.get(client, ()):
        expected = BOTH
    assert said_of(HTTP[client], library, "POST", server.url) == expected


@pytest.mark.parametrize("client", HTTP)
def test_a_post_with_a_key_is_sent_again(library, client, server):
    key = {"Idempotency-Key": "a"}
    expected = SAFE.get(server.fault, BOTH)
    assert said_of(HTTP[client], library, "POST", server.url, **key) == expected


def test_urllib_does_not_tell_the_method(server):
    expected = SAFE.get(server.fault, BOTH)
    assert said_of(with_urllib, None, "POST", server.url) == expected


@pytest.mark.parametrize("fault", ["reset", "closed", "cut", "hanging"])
def test_urllib3_does_not_tell_the_method(library, fault):
    with faulty.FaultyServer(SERVERS[fault]) as server:
        assert said_of(with_urllib3, library, "POST", server.url) == BOTH


@pytest.mark.parametrize("client", ["openai", "anthropic"])
def test_an_sdk_repeats_as_its_own_client_does(library, client, server):
    assert said_of(SDKS[client], library, "", server.url) == SAFE.get(server.fault, BOTH)


def test_botocore_repeats_as_its_own_client_does(library, server):
    if server.fault == "cut":
        pytest.skip("botocore may take half a document for a whole one")
    expected = {"503 asks": (2.0, True), "408": NEITHER, "429": NEITHER, "404": NEITHER}
    assert said_of(with_botocore, library, "", server.url) == expected.get(server.fault, BOTH)


@pytest.mark.parametrize("client", EVERY)
def test_a_refused_connection_was_never_sent(library, client):
    url = f"http://127.0.0.1:{faulty.free_port()}/"
    assert said_of(EVERY[client], library, "POST", url) == BOTH


@pytest.mark.parametrize("client", EVERY)
def test_a_name_that_is_not_found_was_never_sent(library, client):
    assert said_of(EVERY[client], library, "POST", "http://no.such.invalid/") == BOTH


@pytest.mark.parametrize("client", EVERY)
def test_a_handshake_that_fails_was_never_sent(library, client):
    with faulty.FaultyServer(faulty.speaks_no_tls) as server:
        url = server.url.replace("http", "https")
        assert said_of(EVERY[client], library, "POST", url) == BOTH


@pytest.mark.parametrize("client", EVERY)
def test_a_certificate_that_is_refused_is_lasting(library, client, tmp_path, monkeypatch):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(self_signed(tmp_path))

    def behave(connection, _over):
        with context.wrap_socket(connection, server_side=True) as secure:
            secure.recv(1 << 16)

    for variable in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "AWS_CA_BUNDLE"):
        monkeypatch.delenv(variable, raising=False)
    with faulty.FaultyServer(behave) as server:
        url = server.url.replace("http", "https")
        assert said_of(EVERY[client], library, "POST", url) == NEITHER
