"""`Probe.promql`: a probe that queries Prometheus about a member.

No answer, or an answer without a clear value, leaves the member as it is: an outage of Prometheus
must not take a member out of service.
"""

import functools
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final, Literal, TypeAlias, get_args
from urllib.parse import quote

from mainstay._core.arguments import check_choice
from mainstay._core.web import (
    WebAddress,
    WebAnswer,
    WebError,
    checked_headers,
    fetch,
    short,
    web_address,
)
from mainstay._failover.hooks import UnknownHealthError
from mainstay._metrics.promql import AnswerError, query_about, sample_in

Missing: TypeAlias = Literal["unknown", "healthy", "failure"]
"""What it means where a query gives no sample."""

_MEANINGS: Final[dict[str, bool | None]] = {"unknown": None, "healthy": True, "failure": False}
_PATH = "/api/v1/query"
_LONGEST_ANSWER = 2**20
_LONGEST_EVALUATION = 3600.0


class PrometheusQuestion:
    """Asks a query about a member.

    Args:
        url: Where Prometheus is.
        query: The query.
        headers: What else to send; None for nothing.
        missing: What no sample means.
        seconds: The time for an answer.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If it is out of its range.
    """

    def __init__(
        self, url: object, query: object, *, headers: object, missing: object, seconds: float
    ) -> None:
        address = web_address(url, "url")
        if not isinstance(query, str):
            raise TypeError(f"`query` must be a str, not {query!r}")
        if not query.strip():
            raise ValueError("`query` must not be empty")
        check_choice(missing, "missing", get_args(Missing))
        self._address: WebAddress = address
        self._query = query
        self._headers = checked_headers(headers, address)
        self._missing = _MEANINGS[str(missing)]
        self._seconds = seconds

    def __repr__(self) -> str:
        return f"<query of {self._address.name}: {self._query}>"

    def __call__(self, resource: object, /) -> bool | None:
        """Return what the query says where it is about no member by name; None for unknown."""
        try:
            return self.ask("", resource)
        except UnknownHealthError:
            return None

    def ask(self, member: str, _resource: object, /) -> bool:
        """Return True if *member* is well, and False if it is not.

        Raises:
            UnknownHealthError: If there is no answer that says so.
        """
        path = self._path(query_about(self._query, member))
        address = self._address
        try:
            answer = fetch(
                address, path, self._headers, seconds=self._seconds, longest=_LONGEST_ANSWER
            )
            _check(address.name, answer)
            sample = sample_in(answer.status, answer.body)
        except WebError as error:
            raise UnknownHealthError(str(error), error.kind) from None
        except AnswerError as error:
            raise UnknownHealthError(f"{address.name}: {short(str(error))}", error.kind) from None
        well = self._missing if sample is None else sample != 0
        if well is None:
            raise UnknownHealthError(f"{address.name}: the query gives no sample", "missing")
        return well

    def too_long(self) -> UnknownHealthError:
        """Return the error of a question that has taken too long, also in the system's resolver."""
        text = f"{self._address.name} has not answered within {self._seconds:g} s"
        return UnknownHealthError(text, "time")

    def _path(self, query: str) -> str:
        address = self._address
        path = address.path if address.path.endswith(_PATH) else f"{address.path}{_PATH}"
        text = quote(query.encode(errors="replace"), safe="")
        limit = f"{min(self._seconds, _LONGEST_EVALUATION):.3f}"
        more = f"{address.query}&" if address.query else ""
        return f"{path}?{more}query={text}&timeout={limit}"


def _check(name: str, answer: WebAnswer) -> None:
    """Raise unless an answer is one to read."""
    if answer.location is not None:
        text = f"{name} redirects to {answer.location}: give that URL"
        raise UnknownHealthError(text, "redirect")
    if answer.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        text = f"{name} wants another login ({answer.status} {answer.reason})"
        raise UnknownHealthError(text, "login")
    if answer.encoding != "identity":
        text = f"{name} answers packed as {answer.encoding}, which was not asked for"
        raise UnknownHealthError(text, "answer")


def question_about(fn: Callable[[Any], Any], member: str) -> Callable[[Any], Any]:
    """Return a probe's function as it is asked about a member of that name."""
    return functools.partial(fn.ask, member) if isinstance(fn, PrometheusQuestion) else fn
