"""What a status of HTTP says.

    status              may it be sent again?                       is the server failing?
    408, 425, 429       yes                                         no
    503                 yes with Retry-After, else as below         yes
    500, 502, 504, 529  if the method may be repeated, or there     yes
                        is an `Idempotency-Key`, or nobody knows
    409                 no                                          no
    others              no                                          no

Source:
    RFC 9110, 9.2.2 (idempotent methods) and 15.5, 15.6; RFC 8470 (425); RFC 6585 (429);
    draft-ietf-httpapi-idempotency-key-header.
"""

from typing import Any

import attrs

from mainstay._transient.answer import LASTING, SENT, THROTTLED, Answer
from mainstay._transient.delays import asked_delay

UNAVAILABLE = 503
TOO_MANY = 429
TOO_EARLY = frozenset((408, 425, TOO_MANY))
"""Statuses that say nothing of the server's health, and that any method may meet again."""
FAILING = frozenset((500, 502, UNAVAILABLE, 504, 529))
STATUSES = TOO_EARLY | FAILING

IDEMPOTENT = frozenset(("GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"))


@attrs.frozen
class StatusRules:
    """Which statuses pass, and for which methods.

    Attributes:
        statuses: Those that pass.
        any_method: True if every method may be sent again.
    """

    statuses: frozenset[int] = STATUSES
    any_method: bool = False

    def may_repeat(self, method: object, request_headers: Any = None) -> bool:
        """True if a request may be sent again that may have been processed.

        Args:
            method: Its method; None if nobody knows.
            request_headers: Its headers, whatever has `get`; None if nobody knows them.
        """
        if self.any_method or not isinstance(method, str) or method.upper() in IDEMPOTENT:
            return True
        try:
            return bool(request_headers.get("Idempotency-Key"))
        except Exception:  # noqa: BLE001 - None, or a client's own mapping, which may raise anything
            return False

    def judge(
        self, status: object, method: object, request_headers: Any, headers: Any, wall: float
    ) -> Answer:
        """Return what an answer says.

        Args:
            status: Its status.
            method: Of the request; None if nobody knows.
            request_headers: Of the request, or None.
            headers: Of the answer, or None.
            wall: The present time, in seconds since 1970.
        """
        if status not in self.statuses:
            return LASTING._replace(why=f"status {status} does not pass")
        delay = asked_delay(headers, wall, throttled=status == TOO_MANY)
        again: bool | float = True if delay is None else delay
        then = "" if delay is None else f", and asks for {delay:.3f} s"
        if status in TOO_EARLY:
            return Answer(again, THROTTLED.failing, f"status {status} passes{then}")
        asked = status == UNAVAILABLE and delay is not None
        if asked or self.may_repeat(method, request_headers):
            return Answer(again, True, f"status {status} passes{then}")
        return SENT._replace(why=f"status {status} passes, but {method} is not safe to repeat")
