"""Reads what Alertmanager sends to a webhook. Pure."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, Literal

import attrs

_VERSION: Final = "4"
_STATES: Final = ("firing", "resolved")


class NotificationError(Exception):
    """Raised where a body is no notification; the message says why."""


@attrs.frozen
class Notice:
    """What a webhook says of one alert.

    Attributes:
        fingerprint: Which alert: the same for the same labels.
        status: If it fires, or is over.
        starts: When it began to fire.
        ends: When it was over; None while it fires.
        labels: Its labels.
    """

    fingerprint: str
    status: Literal["firing", "resolved"]
    starts: datetime
    ends: datetime | None
    labels: Mapping[str, str]

    @property
    def name(self) -> str:
        """What the alert is called."""
        return self.labels.get("alertname", self.fingerprint)


@attrs.frozen
class Notification:
    """What a webhook is sent.

    Attributes:
        notices: What is said of each alert, in the order sent.
        truncated: How many alerts were left out.
    """

    notices: tuple[Notice, ...]
    truncated: int


def notification_in(body: bytes) -> Notification:
    """Return what the body of a webhook says.

    Raises:
        NotificationError: If it is none of version 4, or anything in it is not as it has to be; the
            message says what.
    """
    try:
        sent = json.loads(body)
    except (ValueError, RecursionError):
        raise NotificationError("the body is not JSON") from None
    if not isinstance(sent, dict) or not isinstance(sent.get("alerts"), list):
        raise NotificationError("the body is not a notification of Alertmanager")
    if sent.get("version") != _VERSION:
        raise NotificationError(f"the version of the notification is not {_VERSION}")
    truncated = sent.get("truncatedAlerts", 0)
    return Notification(
        tuple(_notice_of(number, each) for number, each in enumerate(sent["alerts"])),
        truncated if isinstance(truncated, int) else 0,
    )


def _notice_of(number: int, sent: object) -> Notice:
    alert: Mapping[str, Any] = sent if isinstance(sent, dict) else {}
    fingerprint, status, labels = alert.get("fingerprint"), alert.get("status"), alert.get("labels")
    if status not in _STATES:
        raise NotificationError(f"alert {number} is neither firing nor resolved")
    if not isinstance(fingerprint, str) or not fingerprint:
        raise NotificationError(f"alert {number} has no fingerprint")
    if not isinstance(labels, dict) or not all(isinstance(each, str) for each in labels.values()):
        raise NotificationError(f"alert {number} has no labels")
    starts = _time_in(alert.get("startsAt"))
    if starts is None:
        raise NotificationError(f"alert {number} has no startsAt")
    ends = _time_in(alert.get("endsAt")) if status == "resolved" else None
    return Notice(fingerprint, status, starts, ends, labels)


def _time_in(text: object) -> datetime | None:
    """Return a time of RFC 3339, or None if it is none."""
    try:
        time = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None
    return None if time is None or time.utcoffset() is None else time
