"""Notifications as Alertmanager sends them, and what takes them in: an application of two kinds."""

import asyncio
import io
import json

from support.asgi import Client
from support.wsgi import Server

TOKEN = "what-alertmanager-sends"  # noqa: S105 - of tests
LONG_AGO = "0001-01-01T00:00:00Z"


def time_at(minutes):
    """Give the time of a minute, in the form and with the nanoseconds of Go."""
    return f"2026-11-30T{minutes // 60:02}:{minutes % 60:02}:00.123456789Z"


def alert(member="a", *, status="firing", starts=1, ends=None, name="Errors", pool="db", **labels):
    """Give one alert; with an end, it is over."""
    labels = {"alertname": name, "component": pool, "member": member, **labels}
    labels = {name: value for name, value in labels.items() if value is not None}
    return {
        "status": status if ends is None else "resolved",
        "labels": labels,
        "annotations": {},
        "startsAt": time_at(starts),
        "endsAt": LONG_AGO if ends is None else time_at(ends),
        "generatorURL": "http://prometheus:9090/graph",
        "fingerprint": f"{hash(tuple(sorted(labels.items()))) % 2**64:016x}",
    }


def notification(*alerts, **more):
    """Give the body of a notification."""
    firing = any(each["status"] == "firing" for each in alerts)
    sent = {
        "version": "4",
        "groupKey": "{}:{}",
        "truncatedAlerts": 0,
        "status": "firing" if firing else "resolved",
        "receiver": "mainstay",
        "groupLabels": {},
        "commonLabels": {},
        "commonAnnotations": {},
        "externalURL": "http://alertmanager:9093",
        "alerts": list(alerts),
        **more,
    }
    return json.dumps(sent).encode()


class ByAsgi:
    """Posts to an application of ASGI."""

    def __init__(self, app):
        self.app = app

    def send(self, body, *, method="POST", headers=(), length=None):
        sent = [*headers, ("content-length", str(len(body) if length is None else length))]
        parts = [body[at : at + 2**16] for at in range(0, len(body), 2**16)]
        client = Client(self.app, method=method, headers=sent, body=parts)
        asyncio.run(client.run())
        return client


class ByAsgi2(ByAsgi):
    """Posts to it as servers do that take it for an application of ASGI 2."""

    def __init__(self, app):
        async def single(scope, receive, send):
            await app(scope)(receive, send)

        super().__init__(single)


class ByWsgi:
    """Posts to an application of WSGI."""

    def __init__(self, app):
        self.app = app

    def send(self, body, *, method="POST", headers=(), length=None):
        names = {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in headers}
        names["CONTENT_LENGTH"] = str(len(body) if length is None else length)
        names["wsgi.input"] = io.BytesIO(body)
        return Server(self.app).get(method=method, **names)


def logged_in(token=TOKEN, scheme="Bearer"):
    """Give the headers of a login."""
    return [("authorization", f"{scheme} {token}")]


def post(by, *alerts, **more):
    """Post a notification of some alerts, and give the status of the answer."""
    return by.send(notification(*alerts, **more), headers=logged_in()).status
