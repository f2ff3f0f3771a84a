"""What `transient` says of the errors that gRPC raises, sync and aio, from real servers."""

import socket
import threading

import pytest
from integrations import faulty
from integrations.rpc import AsyncClient, Service, SyncClient, serving
from integrations.verdicts import AGAIN, BOTH, FAILING, NEITHER

from mainstay import deadline, transient

pytestmark = pytest.mark.process

LIMIT = 0.3

CODES = {
    "CANCELLED": NEITHER,
    "UNKNOWN": FAILING,
    "INVALID_ARGUMENT": NEITHER,
    "DEADLINE_EXCEEDED": FAILING,
    "NOT_FOUND": NEITHER,
    "ALREADY_EXISTS": NEITHER,
    "PERMISSION_DENIED": NEITHER,
    "UNAUTHENTICATED": NEITHER,
    "RESOURCE_EXHAUSTED": AGAIN,
    "FAILED_PRECONDITION": NEITHER,
    "ABORTED": NEITHER,
    "OUT_OF_RANGE": NEITHER,
    "UNIMPLEMENTED": NEITHER,
    "INTERNAL": FAILING,
    "UNAVAILABLE": BOTH,
    "DATA_LOSS": FAILING,
}


@pytest.fixture
def grpc(library):
    return library("grpc")


@pytest.fixture(params=[SyncClient, AsyncClient], ids=["sync", "aio"])
def error_of(request, grpc):
    """Calls without any interceptor, and gives what that raises."""
    import grpc.aio  # noqa: PLC0415 - there if grpc is

    def call(address, **more):
        client = request.param(grpc, address, None)
        try:
            client.call(**more)
        except grpc.RpcError as error:
            return error
        finally:
            client.close()
        raise AssertionError("it has worked well")

    return call


@pytest.fixture
def answer_to(grpc, error_of):
    """Gives both verdicts about what a call of a service raises."""

    def answer(service, **more):
        with serving(grpc, service.handler(grpc)) as address:
            error = error_of(address, **more)
        return transient(error), transient.failing(error)

    return answer


def test_there_is_a_verdict_for_every_code(grpc):
    assert {"OK", *CODES} == {code.name for code in grpc.StatusCode}


@pytest.mark.parametrize(("code", "expected"), CODES.items(), ids=[*CODES])
def test_a_code_that_a_server_answers(answer_to, code, expected):
    assert answer_to(Service(code)) == expected


@pytest.mark.parametrize("code", ["UNAVAILABLE", "RESOURCE_EXHAUSTED"])
@pytest.mark.parametrize(
    ("said", "expected"), [("1500", 1.5), ("0", 0.0), ("-1", False), ("soon", False)]
)
def test_a_server_may_push_back(answer_to, code, said, expected):
    again, _ = answer_to(Service((code, ("grpc-retry-pushback-ms", said))))
    assert (again, type(again)) == (expected, type(expected))


@pytest.mark.parametrize("code", ["NOT_FOUND", "INTERNAL"])
def test_a_pushback_makes_nothing_pass_that_does_not(answer_to, code):
    again, _ = answer_to(Service((code, ("grpc-retry-pushback-ms", "10"))))
    assert again is False


def test_an_exception_of_a_handler_is_unknown_and_failing(answer_to):
    def broken(_request, _context):
        raise ValueError("negative")

    assert answer_to(Service(broken)) == FAILING


def test_nobody_listens(error_of):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        error = error_of(f"127.0.0.1:{free.getsockname()[1]}")
    assert (transient(error), transient.failing(error)) == BOTH


def test_a_name_that_nobody_knows(error_of):
    error = error_of("no-such-host.invalid:50051")
    assert (transient(error), transient.failing(error)) == BOTH


def test_a_server_that_hangs_beyond_the_calls_own_limit_is_failing(answer_to):
    over = threading.Event()
    service = Service(lambda *_: over.wait(2) and b"late")
    assert answer_to(service, timeout=LIMIT) == FAILING
    over.set()


def test_what_our_deadline_has_ended_says_nothing_of_the_server(grpc, error_of):
    over = threading.Event()
    service = Service(lambda *_: over.wait(2) and b"late")
    with serving(grpc, service.handler(grpc)) as address, deadline(LIMIT):
        error = error_of(address, timeout=LIMIT)
        assert (transient(error), transient.failing(error)) == NEITHER
        over.set()


@pytest.mark.parametrize("behave", ["resets", "closes"])
def test_a_server_that_ends_the_connection(error_of, behave):
    with faulty.FaultyServer(getattr(faulty, behave)) as server:
        error = error_of(f"127.0.0.1:{server.port}", timeout=5.0)
    assert (transient(error), transient.failing(error)) == BOTH


def test_a_proxy_without_grpc_that_answers_503(error_of):
    """By gRPC's table of HTTP statuses that is UNAVAILABLE."""
    with faulty.FaultyServer(faulty.answers(503)) as server:
        error = error_of(f"127.0.0.1:{server.port}", timeout=5.0)
    assert (transient(error), transient.failing(error)) == BOTH


def test_a_group_of_them_is_judged_by_its_leaves(grpc, error_of):
    with serving(grpc, Service("UNAVAILABLE", "NOT_FOUND").handler(grpc)) as address:
        passing, lasting = error_of(address), error_of(address)
    assert transient(ExceptionGroup("both", [passing, passing])) is True
    assert transient(ExceptionGroup("both", [passing, lasting])) is False


def test_why_names_the_code(grpc, error_of):
    with serving(grpc, Service("UNAVAILABLE").handler(grpc)) as address:
        error = error_of(address)
    assert "gRPC UNAVAILABLE" in transient.why(error)
