"""What sync clients cannot keep is refused when they are made."""

import importlib

import pytest

from mainstay import retry, transient

CLIENTS = [("httpx", "Transport"), ("requests", "Adapter"), ("grpc", "ClientInterceptor")]


async def judge(_error):
    return True


@pytest.fixture(params=CLIENTS, ids=[library for library, _ in CLIENTS])
def client(request, library):
    """Makes a client's part of ours."""
    name, part = request.param
    library(name)
    return getattr(importlib.import_module(f"mainstay.integrations.{name}"), part)


def test_an_attempt_timeout_is_refused(client):
    with pytest.raises(TypeError, match=rf"`attempt_timeout` .*\.{client.__name__} "):
        client(retry=retry(on=transient, attempt_timeout=1.0))


def test_an_async_predicate_is_refused(client):
    with pytest.raises(TypeError, match=f"`on` is async and .*{client.__name__} "):
        client(retry=retry(on=judge))
