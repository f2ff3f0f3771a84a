"""What is kept of each host that a client calls."""

import importlib
import sys
import threading

import pytest

from mainstay import Detect, retry
from mainstay._core.sharing import reset_all
from mainstay.errors import BulkheadFullError, CircuitOpenError, DeadlineExpiredError, MainstayError
from mainstay.integrations import _hosts
from mainstay.integrations._errors import as_clients
from mainstay.integrations._hosts import Hosts, policies_of
from mainstay.integrations._versions import check_version
from mainstay.testing import recorded


def hosts(**policies):
    names = ("retry", "breaker", "limit", "budget", "name", "metrics")
    return Hosts(policies_of(*(policies.get(name) for name in names)), lambda: None)


@pytest.mark.parametrize(
    ("key", "name"),
    [
        (("shop.example", None), "shop.example"),
        (("shop.example", 8080), "shop.example:8080"),
        (("::1", 8080), "[::1]:8080"),
        (("", None), ""),
    ],
)
def test_a_host_is_the_component(key, name):
    assert hosts().find(key, 0.0).retry.component == name


@pytest.mark.parametrize(
    ("name", "own", "component"),
    [(None, None, "a"), (None, "own", "own"), ("shop", "own", "shop"), ("shop", None, "shop")],
)
def test_a_name_comes_before_that_of_the_retry(name, own, component):
    found = hosts(name=name, retry=retry(on=OSError, name=own)).find(("a", None), 0.0)
    assert found.retry.component == component


def test_a_host_is_found_again():
    known = hosts()
    assert known.find(("a", None), 1.0) is known.find(("a", None), 2.0)
    assert known.find(("a", None), 3.0) is not known.find(("a", 1), 3.0)


def test_the_host_goes_that_was_used_least_recently(monkeypatch):
    monkeypatch.setattr(_hosts, "MOST_HOSTS", 3)
    known = hosts()
    first = {name: known.find((name, None), now) for now, name in enumerate("abc")}
    assert known.find(("a", None), 4.0) is first["a"]
    known.find(("d", None), 5.0)
    assert set(known.known) == {("a", None), ("c", None), ("d", None)}
    assert known.find(("b", None), 6.0) is not first["b"]


def test_there_are_at_most_a_thousand(monkeypatch):
    assert _hosts.MOST_HOSTS == 1_000
    monkeypatch.setattr(_hosts, "MOST_HOSTS", 100)
    with recorded():
        known = hosts(breaker=Detect(), limit=1)
        for number in range(120):
            known.find((f"host-{number}", None), number)
    assert len(known.known) == 100


def test_threads_that_find_a_new_host_at_once_find_the_same():
    known, found, barrier = hosts(breaker=Detect()), [], threading.Barrier(8)

    def find():
        barrier.wait(10)
        found.append(known.find(("a", None), 0.0))

    threads = [threading.Thread(target=find) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(10)
    assert len(set(map(id, found))) == 1


def test_a_forked_child_can_make_hosts_although_another_thread_was_at_it():
    known = hosts()
    held = threading.Event(), threading.Event()

    def hold():
        with known._lock:
            held[0].set()
            held[1].wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    held[0].wait(10)
    known._reset_after_fork()
    assert known.find(("a", None), 0.0).used == 0.0
    held[1].set()
    thread.join(10)


# Versions.


@pytest.mark.parametrize("version", ["0.26.9", "1.0", "2", "unknown", ""])
def test_an_unknown_version_is_refused_with_those_that_are_known(version):
    with pytest.raises(ImportError, match=r"mainstay knows httpx from 0\.27 to below 1"):
        check_version("httpx", version, since="0.27", before="1")


@pytest.mark.parametrize(
    ("name", "client"),
    [("httpx", "httpx"), ("requests", "requests"), ("urllib3", "requests"), ("aiohttp", "aiohttp")],
)
def test_a_client_of_an_unknown_version_is_refused_at_import(library, monkeypatch, name, client):
    monkeypatch.setattr(library(name), "__version__", "99.1")
    integration = f"mainstay.integrations.{client}"
    for module in (integration, f"mainstay.integrations._{client}"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    with pytest.raises(
        ImportError, match=rf"mainstay knows {name} from .*, and 99\.1 is installed"
    ):
        importlib.import_module(integration)


@pytest.mark.parametrize("version", ["0.27", "0.28.1", "0.99.dev1"])
def test_a_known_version_is_taken(version):
    check_version("httpx", version, since="0.27", before="1")


# Errors that are ours and the client's.


class ClientsError(OSError):
    def __init__(self, message, *, request=None):
        super().__init__(message)
        self.request = request


@pytest.mark.parametrize(
    "error",
    [
        CircuitOpenError("a", 1.5),
        BulkheadFullError("a", "full", 0.5),
        DeadlineExpiredError("a"),
        DeadlineExpiredError("a", 2.0),
        MainstayError("said"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_of_ours_is_the_client_s_as_well(error):
    error.add_note("a note")
    made = as_clients(error, ClientsError, request="GET")
    assert isinstance(made, type(error))
    assert isinstance(made, ClientsError)
    assert type(made).__name__ == type(error).__name__
    assert (str(made), made.args, made.request) == (str(error), error.args, "GET")
    assert made.__notes__ == ["a note"]
    assert {name: getattr(made, name) for name in vars(error)} == vars(error)


def test_one_that_is_both_already_stays():
    made = as_clients(CircuitOpenError("a", 1.5), ClientsError)
    assert as_clients(made, ClientsError) is made


def test_the_places_of_hosts_are_reset_with_all_else():
    bulkhead = hosts(limit=1).find(("a", None), 0.0).bulkhead
    bulkhead.begin().enter()
    reset_all()
    bulkhead.begin().enter()
