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


def test_loaded_modules_are_seen() -> None:
    assert loaded_after("import asyncio", "asyncio") == ["asyncio"]


def test_every_name_that_dir_tells_is_there_without_another_import() -> None:
    code = "import mainstay; print(*(type(getattr(mainstay, n)).__name__ for n in dir(mainstay)))"
    assert len(python("-c", code).split()) >= 15
