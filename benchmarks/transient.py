"""What does a verdict of `transient` cost?

LIMIT is a call that succeeds, through a loop by hand that records (`peers.by_hand`): what a verdict
adds to a call that failed is measured in what a call costs anyway. The errors are those of httpx
and of builtins, made once; the class that nobody knows was judged before, since a process meets
each class a first time only once.
"""

import httpx

import harness
import peers
from harness import Measure, Report, loop_over, main, ratio, times_of
from mainstay import transient
from peers import LIMIT

STATUS, DATE = "httpx, status 503 with Retry-After", "httpx, status 429 with a date"
TIMEOUT, RESET = "httpx, ReadTimeout of a GET", "ConnectionResetError"
UNKNOWN, SQLSTATE = "a class that nobody knows", "psycopg, SQLSTATE 40001"

REQUEST = httpx.Request("GET", "http://shop.example/lamps")
HEADERS = {"Content-Type": "application/json", "Server": "shop", "Date": "today"}


class UnheardError(Exception):
    """What no library raises."""


def answered(status: int, **headers: str) -> httpx.HTTPStatusError:
    """Make the error of an answer."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    response = httpx.Response(status, headers=HEADERS | named, request=REQUEST)
    return httpx.HTTPStatusError("said", request=REQUEST, response=response)


def serialization_failure() -> Exception:
    """Make what psycopg raises, which need not be installed here."""
    kind = type("Error", (Exception,), {"__module__": "psycopg", "sqlstate": "40001"})
    return kind("could not serialize access")


ERRORS = {
    RESET: ConnectionResetError("lost"),
    TIMEOUT: httpx.ReadTimeout("timed out", request=REQUEST),
    STATUS: answered(503, Retry_After="2"),
    DATE: answered(429, Retry_After="Fri, 15 Jan 2027 08:00:20 GMT"),
    SQLSTATE: serialization_failure(),
    UNKNOWN: UnheardError("said"),
}


def report(*, quick: bool) -> Report:
    """Time a verdict on each of the errors."""
    cases = {LIMIT: peers.by_hand(peers.job)}
    for name, error in ERRORS.items():
        cases[name] = lambda _x, error=error: transient(error)
    loops = {name: loop_over(case) for name, case in cases.items()}
    times = times_of(loops, rounds=harness.QUICK_ROUNDS if quick else harness.ROUNDS)
    result = Report()
    result.times("A verdict", times, LIMIT)
    result.measures = [
        Measure(f"a verdict, {what}, in LIMITs", goal, aim, ratio(times, case, LIMIT))
        for what, case, goal, aim in (
            ("an error without an answer", TIMEOUT, 0.6, 0.3),
            ("an error of Python's own", RESET, 0.6, 0.3),
            ("a status with headers", STATUS, 5, 4),
            ("an unknown class, the second time", UNKNOWN, 0.3, 0.2),
        )
    ]
    return result


if __name__ == "__main__":
    main(report, __doc__)
