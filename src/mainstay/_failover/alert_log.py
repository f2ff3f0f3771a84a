"""`AlertLog`: which alerts about the members of a pool fire, by the notifications so far. Pure.

Notifications may come twice, late, or out of order. An alert is identified by its fingerprint, and
each period in which it fires by the start of that period.

    notification                    known before                    the alert then
    firing, began later             anything                        fires again
    firing, began then or earlier   that it fires                   fires, as it did
    firing, began then or earlier   that it is over                 is over: a replay
    resolved, began then or later   that it fires                   is over
    resolved, began earlier and     that it fires                   is over: two Prometheus servers
      ended since                                                     have seen it begin
    resolved, ended before that     that it fires                   fires: a replay
"""

from datetime import datetime
from typing import Final, Literal, TypeAlias

import attrs

from mainstay._metrics.alertmanager import Notice

MOST_ALERTS: Final = 10_000
"""Alerts of a pool that are kept while they fire, and as many that are over."""

Taken: TypeAlias = Literal["news", "known", "older", "full"]
"""What came of what was said: "older" is a replay, "full" if too many alerts fire already."""


@attrs.define
class KnownAlert:
    """What is known of an alert.

    Attributes:
        name: The name of the alert.
        member: The member that the alert names.
        starts: The latest known start.
        resolved: The latest known start of a period that is over; None if there is none.
        is_met: True if the member was drained for the alert since the latest start.
    """

    name: str
    member: str
    starts: datetime
    resolved: datetime | None = None
    is_met: bool = False


class AlertLog:
    """The alerts about one pool."""

    def __init__(self, most: int = MOST_ALERTS) -> None:
        self._most = most
        self._firing: dict[str, KnownAlert] = {}
        self._over: dict[str, KnownAlert] = {}

    def take(self, notice: Notice, member: str) -> Taken:
        """Record a notification about an alert that names *member*; return its effect."""
        known = self._firing.get(notice.fingerprint)
        if known is None:
            return self._take_new(notice, member)
        if notice.status == "firing":
            if notice.starts <= known.starts:
                return "known"
            known.starts, known.is_met = notice.starts, False
            return "news"
        if not _is_over(known, notice.starts, notice.ends):
            return "older"
        self._end(notice, known)
        return "news"

    def _take_new(self, notice: Notice, member: str) -> Taken:
        """Record what is said of an alert that does not fire."""
        known = self._over.get(notice.fingerprint)
        if notice.status == "resolved":
            self._end(notice, known or KnownAlert(notice.name, member, notice.starts))
            return "known"
        if known is not None and notice.starts <= known.starts:
            return "older"
        if len(self._firing) >= self._most:
            return "full"
        self._over.pop(notice.fingerprint, None)
        resolved = None if known is None else known.resolved
        self._firing[notice.fingerprint] = KnownAlert(notice.name, member, notice.starts, resolved)
        return "news"

    def _end(self, notice: Notice, alert: KnownAlert) -> None:
        """Keep an alert as one that is over."""
        fingerprint, starts = notice.fingerprint, notice.starts
        alert.starts = max(alert.starts, starts)
        alert.resolved = starts if alert.resolved is None else max(alert.resolved, starts)
        for alerts in (self._firing, self._over):
            alerts.pop(fingerprint, None)
        self._over[fingerprint] = alert
        if len(self._over) > self._most:
            del self._over[next(iter(self._over))]

    def is_about(self, member: str) -> bool:
        """True if an alert about *member* fires."""
        return any(each.member == member for each in self._firing.values())

    def unmet(self) -> dict[str, list[KnownAlert]]:
        """Return the alerts that fire and whose member was not drained, by member."""
        unmet: dict[str, list[KnownAlert]] = {}
        for alert in self._firing.values():
            if not alert.is_met:
                unmet.setdefault(alert.member, []).append(alert)
        return unmet


def _is_over(known: KnownAlert, starts: datetime, ends: datetime | None) -> bool:
    """True if what is said to be over is what is known to fire."""
    if starts >= known.starts:
        return True
    is_replay = known.resolved is not None and starts <= known.resolved
    return ends is not None and ends >= known.starts and not is_replay
