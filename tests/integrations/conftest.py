"""What the tests of integrations share: the real library, or no test."""

import importlib
import os

import pytest


@pytest.fixture
def library():
    """Imports a library by name; the test is left out without it, but never in CI."""

    def load(name):
        if os.environ.get("MAINSTAY_REQUIRE_CLIENTS"):
            return importlib.import_module(name)
        return pytest.importorskip(name)

    return load
