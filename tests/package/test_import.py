"""Importing mainstay costs next to nothing, and what is not used is not loaded."""

import json

import pytest

from support.processes import python

pytestmark = pytest.mark.process

HEAVY = ["tenacity", "attrs", "attr", "prometheus_client", "asyncio", "importlib.metadata"]


def loaded_after(code: str, *modules: str) -> list[str]:
    """Tell which of *modules* a new interpreter has loaded after *code*."""
    ask = f"import json, sys; print(json.dumps([m for m in {modules!r} if m in sys.modules]))"
    answer: list[str] = json.loads(python("-c", f"{code}\n{ask}"))
    return answer


def test_importing_mainstay_loads_none_of_its_dependencies() -> None:
    assert loaded_after("import mainstay", *HEAVY, "mainstay._core", "mainstay.errors") == []


def test_listing_the_names_loads_nothing() -> None:
    assert loaded_after("import mainstay; dir(mainstay); mainstay.__all__", *HEAVY) == []


def test_an_error_can_be_named_without_loading_the_rest() -> None:
    code = "from mainstay import MainstayError, DeadlineExpiredError"
    assert loaded_after(code, *HEAVY) == []


def test_using_retry_never_imports_tenacity() -> None:
    code = """
from mainstay import *
from mainstay.testing import Faults

retry(on=OSError, attempts=2, wait=0).call(Faults([OSError(), 1]))
retry(on=lambda error: True, wait=0, budget=0.5).call(int)
"""
    assert loaded_after(code, "tenacity") == []


def test_deadlines_and_budgets_do_not_load_prometheus_client() -> None:
    code = "from mainstay import RetryBudget, deadline, on_event, remaining"
    assert loaded_after(code, "prometheus_client") == []


def test_clients_of_stores_are_loaded_by_the_first_store_that_needs_them() -> None:
    clients = "obstore", "psycopg", "redis"
    code = "import mainstay, mainstay.stores, mainstay.stores.s3; mainstay.checkpointed"
    assert loaded_after(code, *clients) == []
    made = "from mainstay.stores import store_of; store_of('s3://bucket')"
    assert loaded_after(made, *clients) == ["obstore"]


JUDGE_EVERY_CLASS = """
import sys
from mainstay import transient
from mainstay._transient.libraries import TABLE

headers = {"retry-after": "Fri, 15 Jan 2027 08:00:20 GMT"}
attributes = {
    "code": 429, "errno": 5, "headers": headers, "status": 429, "status_code": 429,
    "has_error_label": lambda *_: False, "orig": None, "original_error": None, "reason": None,
    "request": None, "request_info": None, "retry_after": None, "sqlstate": "40001",
    "response": type("Response", (), {"status_code": 429, "headers": headers, "request": None}),
}
before = set(sys.modules)
for package, name in TABLE:
    error = type(name, (Exception,), {"__module__": package, **attributes})("said")
    transient(error), transient.failing(error), transient.why(error)
new = {module.partition(".")[0] for module in set(sys.modules) - before}
"""


def test_transient_judges_every_class_without_importing_a_client() -> None:
    """A server's date is read by `email`; beside that, and what that imports, nothing is loaded."""
    assert loaded_after(JUDGE_EVERY_CLASS, "http", "urllib.request", "sqlite3", "asyncio") == []
    others = "print(*sorted(new - {*sys.stdlib_module_names}))"
    assert python("-c", f"{JUDGE_EVERY_CLASS}\n{others}").split() == []


NO_FILE_IS_LEFT = """
import errno, sys

class NoFileIsLeft:
    def find_spec(name, *_):
        raise OSError(errno.EMFILE, "too many open files", name)

sys.meta_path.insert(0, NoFileIsLeft)
"""
MADE = """
import asyncio
import mainstay

def fails(*_):
    raise ConnectionError("lost")

async def afails(*_):
    raise ConnectionError("lost")

async def is_cancelled(*_):
    raise asyncio.CancelledError

lost = {"on": ConnectionError}

def in_block(policy):
    for attempt in policy:
        with attempt:
            fails()

"""
STRATEGIES = "wait=lambda state: 0, stop=lambda state: state.attempt_number > 1"


@pytest.mark.parametrize(
    ("policy", "call", "raised"),
    [
        ("mainstay.retry(**lost, wait=0)", "policy(fails)()", "ConnectionError"),
        ("mainstay.retry(**lost, wait=0)", "in_block(policy)", "ConnectionError"),
        (f"mainstay.retry(**lost, {STRATEGIES})", "policy(fails)()", "ConnectionError"),
        (
            "mainstay.retry(**lost, wait=0, attempt_timeout=9)",
            "asyncio.run(policy(afails)())",
            "ConnectionError",
        ),
        ("mainstay.retry(**lost)", "asyncio.run(policy(is_cancelled)())", "CancelledError"),
        ("mainstay.CircuitBreaker('b', **lost)", "policy(fails)()", "ConnectionError"),
        (
            "mainstay.CircuitBreaker('b', **lost)",
            "asyncio.run(policy(is_cancelled)())",
            "CancelledError",
        ),
        (
            "mainstay.FailoverPool('p', [mainstay.Member('a', 1)], **lost)",
            "policy.call(fails)",
            "ConnectionError",
        ),
        (
            "mainstay.FailoverPool('p', [mainstay.Member('a', 1)], **lost)",
            "asyncio.run(policy.call(is_cancelled))",
            "CancelledError",
        ),
        ("mainstay.redundant(copies=2, **lost)", "policy(fails)()", "ConnectionError"),
        (
            "mainstay.redundant(copies=2, **lost)",
            "asyncio.run(policy(afails)())",
            "ConnectionError",
        ),
    ],
)
def test_a_call_fails_as_ever_where_no_file_can_be_opened_any_more(policy, call, raised) -> None:
    code = f"""{MADE}
policy = {policy}
asyncio.run(asyncio.sleep(0))
{NO_FILE_IS_LEFT}
try:
    {call}
except BaseException as error:
    print(type(error).__name__, error)
"""
    kind, said = python("-c", code).strip("\n").split(" ", 1)
    assert (kind, said) == (raised, "lost" if raised == "ConnectionError" else "")


@pytest.mark.parametrize("library", ["httpx", "requests", "aiohttp", "grpc", "opentelemetry"])
def test_an_integration_whose_library_is_missing_says_what_to_install(library: str) -> None:
    code = f"""
import sys

sys.modules[{library!r}] = None
try:
    import mainstay.integrations.{library}
except ModuleNotFoundError as error:
    print(error.name.partition(".")[0], *error.__notes__)
"""
    assert python("-c", code).strip() == f"{library} pip install 'mainstay[{library}]'"


def test_loaded_modules_are_seen() -> None:
    assert loaded_after("import asyncio", "asyncio") == ["asyncio"]


def test_every_name_that_dir_tells_is_there_without_another_import() -> None:
    code = "import mainstay; print(*(type(getattr(mainstay, n)).__name__ for n in dir(mainstay)))"
    assert len(python("-c", code).split()) >= 15
