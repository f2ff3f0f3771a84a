"""Asks Prometheus a question about one member: the query, and what an answer to it says. Pure."""

import json
import math
import re
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final

PLACEHOLDER: Final = "{member}"

_PIECES = re.compile(
    r"""\#[^\n]*            # a comment
    | "(?:[^"\\]|\\.)*"     # text between quotes
    | '(?:[^'\\]|\\.)*'
    | `[^`]*`               # text without escapes
    | \{member\}""",
    re.VERBOSE | re.DOTALL,
)
_OPERATORS_OF_PATTERNS = ("=~", "!~")
_SPECIAL_IN_PATTERNS = re.compile(r"[\\.+*?()|\[\]{}^$]")
_FAULTS_OF_QUERIES = ("bad_data", "execution")
_KNOWN_ESCAPES = {"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


class AnswerError(Exception):
    """Raised where an answer does not say how a member is.

    Args:
        kind: "query" if Prometheus refuses the query, "server" if it cannot answer it now, "series"
            if there are several samples, or one that is no number, "answer" for all that is no
            answer of Prometheus.
        text: Why.
    """

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind: str = kind


def query_about(query: str, member: str) -> str:
    """Return a query with the name of a member in the places that are held for it.

    In text between quotes it is escaped as such text is, after ``=~`` and ``!~`` also as a pattern
    that matches nothing else, and anywhere else it is text with quotes around it.
    """

    def filled(found: "re.Match[str]") -> str:
        piece = found[0]
        if PLACEHOLDER not in piece or piece.startswith("#"):
            return piece
        before = query[: found.start()].rstrip()
        is_pattern = before.endswith(_OPERATORS_OF_PATTERNS)
        name = _SPECIAL_IN_PATTERNS.sub(r"\\\g<0>", member) if is_pattern else member
        if piece == PLACEHOLDER:
            return _quoted(name, '"')
        mark, text = piece[0], piece[1:-1]
        if mark == "`":  # which can hold everything but itself
            return _quoted(text.replace(PLACEHOLDER, name), '"')
        return f"{mark}{text.replace(PLACEHOLDER, _quoted(name, mark)[1:-1])}{mark}"

    return _PIECES.sub(filled, query)


def _quoted(text: str, mark: str) -> str:
    escaped = "".join(
        _KNOWN_ESCAPES.get(each)
        or (f"\\{mark}" if each == mark else each if each >= " " else f"\\x{ord(each):02x}")
        for each in text
    )
    return f"{mark}{escaped}{mark}"


def sample_in(status: int, body: bytes) -> float | None:
    """Return the one number that Prometheus has answered; None if there is no sample, or NaN.

    Raises:
        AnswerError: If it has answered something else.
    """
    try:
        answer = json.loads(body)
        if answer["status"] == "error":
            kind = "query" if answer["errorType"] in _FAULTS_OF_QUERIES else "server"
            raise AnswerError(kind, f"{answer['errorType']}: {answer['error']}")
        data = answer["data"]
        value = _READERS[data["resultType"]](data["result"])
    except (ValueError, LookupError, TypeError, RecursionError):
        reason = "its answer is no result of a query"
        if status != HTTPStatus.OK:
            reason = f"it answers {status}"
        raise AnswerError("answer", reason) from None
    return None if value is None or math.isnan(value) else value


def _of_vector(result: list[dict[str, Any]]) -> float | None:
    if len(result) > 1:
        raise AnswerError("series", f"the query gives {len(result)} series, and it has to give one")
    if result and "value" not in result[0]:
        raise AnswerError("series", "the query gives a histogram, and it has to give a number")
    return float(result[0]["value"][1]) if result else None


def _of_scalar(result: list[Any]) -> float:
    return float(result[1])


def _of_string(_result: object) -> float:
    raise AnswerError("series", "the query gives a text, and it has to give a number")


def _of_matrix(_result: object) -> float:
    raise AnswerError("series", "the query gives a range, and it has to give one number")


_READERS: dict[str, Callable[[Any], float | None]] = {
    "vector": _of_vector,
    "scalar": _of_scalar,
    "string": _of_string,
    "matrix": _of_matrix,
}
