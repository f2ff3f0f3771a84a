"""Reads pages: with httpx if it is installed, and with urllib if it is not."""

import importlib.util

TIMEOUT = 2.0

if importlib.util.find_spec("httpx"):
    import httpx

    _client = httpx.Client(timeout=TIMEOUT, trust_env=False)  # loopback, so never through a proxy

    ERRORS: tuple[type[Exception], ...] = (httpx.HTTPError,)

    def get(url: str) -> bytes:
        """Read a page; an answer that is not a good one is one of `ERRORS`."""
        return _client.get(url).raise_for_status().content

else:
    from http.client import HTTPException
    from urllib.request import ProxyHandler, build_opener

    _opener = build_opener(ProxyHandler({}))

    ERRORS = (OSError, HTTPException)

    def get(url: str) -> bytes:
        """Read a page; an answer that is not a good one is one of `ERRORS`."""
        with _opener.open(url, timeout=TIMEOUT) as answer:
            body: bytes = answer.read()
        return body
