"""What `S3Store` refuses, and how: one error that says what to do, and never a secret."""

import asyncio
import contextlib
import functools
import hashlib
import os
import ssl
import subprocess
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import parse_qsl, urlsplit

import pytest

from mainstay.errors import StoreUnavailableError
from mainstay.stores._s3 import bucket as bucket_module
from mainstay.stores._s3.failures import S3Failure, failed
from mainstay.stores._s3.requests import Delete, ListPage, Put
from mainstay.stores.base import Promises, RunId
from mainstay.stores.s3 import S3Store
from support.fake_bucket import CUT, LATE, FakeBucket, store_on
from support.processes import LOOPBACK, require_tool
from support.server_stores import SECRET, refusal
from support.store_conformance import RUN, acquired, request, save

refused = functools.partial(refusal, S3Store)


# Buckets that ignore conditions.


class Ignoring(FakeBucket):
    """A bucket that ignores some conditions."""

    def __init__(self, ignores):
        super().__init__()
        self.ignores = ignores

    def done(self, request):
        if isinstance(request, Put) and request.condition is not None:
            there = self.found(request.name)
            if self.ignores(request.condition, there):
                return super().done(Put(request.name, request.data))
        return super().done(request)


WROTE = "If-Match was ignored: an object was written"
BROKEN = {
    "any": (lambda _condition, _there: True, "If-None-Match: * was ignored"),
    "if absent": (lambda condition, _there: condition == "", "If-None-Match: * was ignored"),
    "if match": (lambda condition, there: condition and there, f"{WROTE} over"),
    "missing": (lambda condition, there: condition and not there, f"{WROTE} that was not there"),
}


@pytest.mark.parametrize(("ignores", "problem"), BROKEN.values(), ids=BROKEN)
def test_a_bucket_that_ignores_conditions_is_refused_before_the_first_run(ignores, problem):
    """Known fault: services say yes to conditions that they do not know."""
    bucket = Ignoring(ignores)
    promises = store_on(bucket).probe()
    assert not promises.fenced
    assert not promises.durable
    assert problem in promises.problems[0]
    with pytest.raises(StoreUnavailableError, match="use a service that has conditional") as error:
        acquired(store_on(bucket))
    assert problem in str(error.value)
    assert not error.value.retryable
    assert bucket.names("jobs/runs") == []


class Odd(FakeBucket):
    """A bucket whose ETags do not tell contents apart."""

    def found(self, name):
        found = super().found(name)
        return found and type(found)(found.data, "same", found.modified)


def test_a_bucket_whose_etags_do_not_tell_contents_apart_is_refused():
    promises = store_on(Odd()).probe()
    assert not promises.fenced
    assert "the ETag of an object stayed the same" in promises.problems[0]


class Refusing(FakeBucket):
    """A bucket that refuses what it should take."""

    def __init__(self, number):
        super().__init__()
        self.number = number

    def done(self, request):
        self.number -= isinstance(request, Put)
        return None if self.number == 0 and isinstance(request, Put) else super().done(request)


@pytest.mark.parametrize(("number", "problem"), [(1, "not there"), (3, "had that ETag")])
def test_a_bucket_that_refuses_what_holds_is_refused(number, problem):
    [told] = store_on(Refusing(number)).probe().problems
    assert problem in told


@pytest.mark.parametrize("failure", [CUT, LATE], ids=["cut", "late"])
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_probe_whose_answers_are_lost_accuses_nobody(moment, failure):
    for number in range(7):
        bucket = FakeBucket()
        left = [number]

        def fail(_request, left=left):
            left[0] -= 1
            if left[0] == -1:
                raise failure

        setattr(bucket, moment, fail)
        store = store_on(bucket)
        with contextlib.suppress(StoreUnavailableError):
            store.probe()
        assert store.probe().fenced


def test_a_probe_is_made_once_and_leaves_nothing():
    bucket = FakeBucket()
    store = store_on(bucket)
    promises = store.probe()
    assert promises == Promises(fenced=True, durable=True, failover=promises.failover)
    assert "can lose the last saves; never two owners" in promises.failover
    assert [type(each) for each in bucket.requests] == [Put, Put, Put, Put, Delete, Put]
    assert store.probe() == promises
    assert len(bucket.requests) == 6
    assert bucket.objects == {}


# Servers.


class Service(BaseHTTPRequestHandler):
    """Keeps objects, and knows no conditions; or answers each request in one way."""

    protocol_version = "HTTP/1.1"

    def do_PUT(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.server.answer is None:
            self.server.objects[self.path] = body
            self.say(200, b"", ("ETag", hashlib.md5(body, usedforsecurity=False).hexdigest()))
        else:
            self.say(*self.server.answer)

    def do_GET(self):
        asked = dict(parse_qsl(urlsplit(self.path).query))
        if "list-type" in asked and self.server.answer is None:
            self.say(200, self.listed(asked))
            return
        self.say(*(self.server.answer or (404, b"<Error><Code>NoSuchKey</Code></Error>")))

    def listed(self, asked):
        """Give seven names after what was asked for, as servers do that give less than allowed."""
        last = max(asked.get("start-after", ""), asked.get("continuation-token", ""))
        names = sorted(name.removeprefix("/bucket/") for name in self.server.objects)
        left = [name for name in names if name.startswith(asked["prefix"]) and name > last]
        page, more = left[:7], len(left) > 7
        token = f"<NextContinuationToken>{page[-1]}</NextContinuationToken>" if more else ""
        found = "".join(
            f"<Contents><Key>{name}</Key><LastModified>2026-11-30T12:00:00.000Z</LastModified>"
            f'<ETag>"{name}"</ETag><Size>500</Size></Contents>'
            for name in page
        )
        truncated = "true" if more else "false"
        return (
            f"<ListBucketResult><IsTruncated>{truncated}</IsTruncated>{token}{found}"
            "</ListBucketResult>"
        ).encode()

    def say(self, status, body, *headers):
        self.send_response(status)
        for header in (("Content-Length", str(len(body))), *headers):
            self.send_header(*header)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def service():
    server = ThreadingHTTPServer((LOOPBACK, 0), Service)
    server.objects, server.answer = {}, None
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def url_of(port, user=f"app:{SECRET}", scheme="http"):
    return f"s3://{user}@bucket/jobs?endpoint={scheme}://{LOOPBACK}:{port}&region=eu-west-1"


@pytest.mark.process
def test_a_service_that_knows_no_conditions_is_refused_with_what_was_tried(service):
    error = refused(url_of(service.server_port))
    assert "If-None-Match: * was ignored" in str(error)
    assert "use a service that has conditional writes" in str(error)
    assert not [name for name in service.objects if "/runs/" in name]


def told(code, message="no"):
    return f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()


@pytest.mark.process
@pytest.mark.parametrize(
    ("answer", "retryable", "problem"),
    [
        ((403, told("InvalidAccessKeyId")), False, "mend the access key"),
        ((403, told("SignatureDoesNotMatch")), False, "mend the secret of the access key"),
        ((403, told("AccessDenied")), False, "grant the access key s3:GetObject"),
        ((403, b""), False, "grant the access key s3:GetObject"),
        ((403, told("RequestTimeTooSkewed")), False, "set the clock of this machine"),
        ((400, told("ExpiredToken")), False, "has expired"),
        ((404, told("NoSuchBucket", "The bucket is not there")), False, "create the bucket"),
        ((301, told("PermanentRedirect")), False, "give ?region= in the URL"),
        ((400, told("AuthorizationHeaderMalformed")), False, "give ?region= in the URL"),
        ((409, told("ConditionalRequestConflict")), True, "ConditionalRequestConflict"),
        ((503, told("SlowDown", "Reduce your request rate")), True, "SlowDown: Reduce your"),
        ((500, b"<html>"), True, "the server refused (status 500)"),
        ((501, told("NotImplemented")), False, "does not know a write under a condition"),
        ((400, told("InvalidArgument")), False, "does not know a write under a condition"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_passes_is_told_from_what_does_not(service, answer, retryable, problem):
    service.answer = answer
    error = refused(url_of(service.server_port))
    assert problem in str(error)
    assert error.retryable == retryable


@pytest.mark.process
def test_a_bucket_that_is_not_there_is_told_where_an_object_is_read(service):
    service.answer = 404, told("NoSuchBucket")
    assert "create the bucket" in str(refused(url_of(service.server_port), lambda s: s.list()))
    service.answer = 404, b""
    store = S3Store(url_of(service.server_port))
    assert store._runner.run(store._operations._reading("name", None)) is None


@pytest.mark.process
def test_a_conflict_with_a_write_under_way_says_nothing_of_the_condition(service):
    """Known fault: a client takes 409 for a condition that does not hold."""
    service.answer = 409, told("ConditionalRequestConflict")
    for condition in ("", "etag"):
        with pytest.raises(S3Failure) as conflict:
            S3Store(url_of(service.server_port))._runner.bucket.send(Put("n", b"", condition), 5.0)
        assert (conflict.value.status, conflict.value.retryable) == (409, True)


@pytest.mark.process
def test_a_server_that_lists_less_at_once_than_it_may_is_read_to_the_end(service):
    names = [f"jobs/runs/a!/{number:04d}!" for number in range(1020)]
    service.objects = {f"/bucket/{name}": b"" for name in names}
    bucket = S3Store(url_of(service.server_port))._runner.bucket
    page = bucket.send(ListPage("jobs/runs"), 30.0)
    assert [each.name for each in page] == names[:1000]
    page = bucket.send(ListPage("jobs/runs", names[999]), 30.0)
    assert [each.name for each in page] == names[1000:]


def test_a_server_that_is_not_there_may_come_back():
    error = refused(url_of(1))
    assert error.retryable
    assert "Connection refused" in str(error)


@pytest.mark.process
def test_a_server_without_tls_where_tls_is_asked_for_is_told(service):
    error = refused(url_of(service.server_port, scheme="https"))
    assert "s3://app@bucket/jobs" in str(error)


@pytest.mark.process
@pytest.mark.parametrize("caller_of", ["sync", "async"])
def test_an_endpoint_that_breaks_the_client_is_an_error_like_any_other(monkeypatch, caller_of):
    """Known fault: obstore panics, and a panic is no `Exception`."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://256.0.0.1")
    use = acquired if caller_of == "sync" else lambda s: asyncio.run(s.aacquire(RUN, request()))
    error = refused(f"s3://app:{SECRET}@bucket/jobs?region=eu-west-1", use)
    assert "obstore failed: " in str(error)
    assert "mend endpoint= in the URL" in str(error)
    assert not error.retryable


def issue(folder, name, *how, extensions=""):
    """Make a key and a certificate."""
    openssl = require_tool("openssl", package="openssl")
    paths = {kind: str(folder / f"{name}.{kind}") for kind in ("key", "csr", "pem", "ext")}
    Path(paths["ext"]).write_text(extensions)
    subprocess.run(
        [openssl, "req", "-newkey", "rsa:2048", "-nodes", "-keyout", paths["key"],
         "-out", paths["csr"], "-subj", f"/CN={name}"],
        check=True, capture_output=True,
    )  # fmt: skip
    subprocess.run(
        [openssl, "x509", "-req", "-in", paths["csr"], "-days", "2", "-out", paths["pem"],
         "-extfile", paths["ext"], *how],
        check=True, capture_output=True,
    )  # fmt: skip
    return paths


@pytest.mark.process
def test_a_certificate_is_checked_against_authorities_of_the_user_s_own(
    service, tmp_path, monkeypatch
):
    key = str(tmp_path / "authority.key")
    authority = issue(
        tmp_path, "authority", "-signkey", key, extensions="basicConstraints=critical,CA:TRUE"
    )
    signed = ("-CA", authority["pem"], "-CAkey", key, "-CAcreateserial")
    extensions = f"subjectAltName=IP:{LOOPBACK}\nbasicConstraints=CA:FALSE"
    server = issue(tmp_path, "server", *signed, extensions=extensions)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server["pem"], server["key"])
    service.socket = context.wrap_socket(service.socket, server_side=True)
    service.answer = 503, told("SlowDown")
    url = url_of(service.server_port, scheme="https")
    error = refused(url)
    assert "the server's certificate is refused: UnknownIssuer" in str(error)
    assert not error.retryable
    monkeypatch.setenv("SSL_CERT_FILE", authority["pem"])
    assert "SlowDown" in str(refused(url))


LOST = """Generic S3 error: Error performing PUT http://h/b/k in 1ms - HTTP error: error sending
Debug source: HttpError {{ kind: Connect, source: reqwest::Error {{ {} }} }}"""


@pytest.mark.parametrize(
    ("text", "retryable", "problem"),
    [
        ('error: "failed to lookup address information: Name or service not known"', False,
         "Name or service not known"),
        ('error: "failed to lookup address information: Temporary failure in name resolution"',
         True, "Temporary failure in name resolution"),
        ("error: InvalidCertificate(\n  UnknownIssuer)", False,
         "certificate is refused: UnknownIssuer; for authorities of your own, name their file in"),
        ('message: "Connection reset by peer"', True, "Connection reset by peer"),
        ("source: TimedOut", True, "the server did not answer in time"),
        ("IncompleteMessage", True, "the connection was lost"),
        ("PUT http://169.254.169.254/latest/api/token: TimedOut", False,
         "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
        ("PUT http://169.254.169.254/latest/api/token - status code: 503", True, "give the"),
    ],
)  # fmt: skip
def test_a_request_without_an_answer_is_told_by_its_innermost_cause(text, retryable, problem):
    error = failed(LOST.format(text)).told("s3://bucket")
    assert error.retryable == retryable
    assert problem in str(error)


# What is given.


def test_a_key_in_the_url_is_not_mixed_with_that_of_the_environment(monkeypatch):
    monkeypatch.setenv("AWS_SESSION_TOKEN", "of another key")
    given = S3Store(f"s3://app:{SECRET}@bucket")._address.parameters
    assert given["credential_provider"]() == {
        "access_key_id": "app", "secret_access_key": "hun@ter2", "token": None, "expires_at": None,
    }  # fmt: skip
    assert "credential_provider" not in S3Store("s3://bucket")._address.parameters


def test_names_and_keys_that_are_too_long_are_refused_before_anything_is_sent():
    bucket = FakeBucket()
    store = store_on(bucket)
    store.probe()
    bucket.requests.clear()
    with pytest.raises(ValueError, match="must be short enough for the name of an object"):
        acquired(store, RunId("n", "k" * 1000))
    assert bucket.requests == []


@pytest.mark.process
@pytest.mark.filterwarnings("ignore:This process .* multi-threaded:DeprecationWarning")
def test_a_child_that_was_forked_after_a_request_is_refused_at_once(service):
    """Known fault: obstore waits for ever there, for threads that the child does not have."""
    service.answer = 503, told("SlowDown")
    store = S3Store(url_of(service.server_port))
    with contextlib.suppress(StoreUnavailableError):
        acquired(store)
    assert bucket_module._user == os.getpid()
    child = os.fork()
    if child == 0:
        try:
            acquired(store)
        except StoreUnavailableError as error:
            os._exit(0 if 'by "spawn" or "forkserver"' in str(error) and not error.retryable else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_store_that_is_closed_goes_on():
    bucket = FakeBucket()
    store = store_on(bucket)
    lease = acquired(store)
    store.close()
    save(store, lease, b"one")
