"""What the middlewares answer themselves: pure, from exceptions and health to status and body."""

import json
import math
from http import HTTPStatus
from typing import TypeAlias

import attrs

from mainstay._core.health import HealthState
from mainstay._health import ComponentHealth
from mainstay.errors import DeadlineExpiredError, RejectedError
from mainstay.integrations._refusals import answered_as

Headers: TypeAlias = tuple[tuple[str, str], ...]

_CHECKS: dict[HealthState, str] = {"ok": "pass", "failing": "warn"}  # the others: "fail"

_JITTER = 0.1
"""The share of a delay that is added at random at most, so that not all come back together."""


@attrs.frozen
class OwnResponse:
    """A response.

    Attributes:
        status: Its status code.
        headers: Its headers, names in lower case.
        body: Its body.
    """

    status: HTTPStatus
    headers: Headers
    body: bytes


def answer_to(error: BaseException, chance: float) -> OwnResponse | None:
    """Return what a request is answered with that ended with *error*; None if it is not ours.

    Args:
        error: What the application, or the bulkhead before it, has raised.
        chance: A random number from 0 to 1.
    """
    error = answered_as(error)
    if isinstance(error, RejectedError):
        seconds = str(seconds_to_wait(error.retry_after, chance))
        text = f"try again in {seconds} s"
        return in_words(HTTPStatus.SERVICE_UNAVAILABLE, text, ("retry-after", seconds))
    if isinstance(error, DeadlineExpiredError):
        return in_words(HTTPStatus.GATEWAY_TIMEOUT, "the time of the request is over")
    return None


def seconds_to_wait(retry_after: float | None, chance: float) -> int:
    """Return a delay with jitter in whole seconds, as Retry-After has it: at least 1."""
    least = 0.0 if retry_after is None else max(0.0, min(retry_after, 86_400.0))
    return max(1, math.ceil(least + chance * max(1.0, least * _JITTER)))


def in_words(status: HTTPStatus, text: str, *headers: tuple[str, str]) -> OwnResponse:
    """Return a response that says something in a line."""
    body = f"{status.value} {status.phrase}: {text}\n".encode()
    return _answer(status, "text/plain; charset=utf-8", body, *headers)


def health_page(
    why_not_ready: tuple[str, ...], components: dict[str, ComponentHealth]
) -> OwnResponse:
    """Return the page that says if the process is ready, and how its components are.

    Args:
        why_not_ready: What keeps the process from being ready, in words; empty if it is ready.
        components: The health of each component.

    Source:
        The form is that of draft-inadarei-api-health-check, "Health Check Response Format for HTTP
        APIs".
    """
    page: dict[str, object] = {
        "status": "fail" if why_not_ready else "pass",
        "checks": {
            name: [
                {
                    "componentType": each.policy,
                    "observedValue": each.state,
                    "status": _CHECKS.get(each.state, "fail"),
                    "since": round(each.since, 3),
                }
            ]
            for name, each in components.items()
        },
    }
    if why_not_ready:
        page["notes"] = why_not_ready
    status = HTTPStatus.SERVICE_UNAVAILABLE if why_not_ready else HTTPStatus.OK
    body = json.dumps(page).encode()
    return _answer(status, "application/health+json", body)


def _answer(
    status: HTTPStatus, content_type: str, body: bytes, *headers: tuple[str, str]
) -> OwnResponse:
    always = (
        ("content-type", content_type),
        ("content-length", str(len(body))),
        ("cache-control", "no-store"),
    )
    return OwnResponse(status, (*always, *headers), body)
