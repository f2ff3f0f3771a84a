"""A receiver of alerts on real servers of both kinds: by itself, and mounted."""

import http.client
import os

import pytest
from integrations.serving import LONGEST, get, gunicorn, uvicorn

from support.alerts import alert, logged_in, notification
from support.processes import LOOPBACK, PROGRAMS

pytestmark = pytest.mark.process

TESTS = str(PROGRAMS.parent)


def post(port, path, body, headers):
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=LONGEST)
    try:
        connection.request("POST", path, body=body, headers=dict(headers))
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.fixture(params=["uvicorn", "gunicorn", "uvicorn with starlette", "uvicorn for wsgi"])
def server(request, library):
    kind = request.param
    path = os.pathsep.join(filter(None, [TESTS, os.environ.get("PYTHONPATH")]))
    options = {"directory": PROGRAMS, "PYTHONPATH": path}
    library(kind.partition(" ")[0])
    if kind == "gunicorn":
        served = gunicorn("alerted_app:beside", "--threads", "2", **options)
    elif kind == "uvicorn with starlette":
        library("starlette")
        served = uvicorn("alerted_app:mounted", "--factory", **options)
    elif kind == "uvicorn for wsgi":
        served = uvicorn("alerted_app:beside", "--interface", "wsgi", **options)
    else:
        served = uvicorn("alerted_app:receiver", **options)
    with served:
        yield served.port, kind != "uvicorn", kind != "uvicorn for wsgi"


def test_a_real_server_hands_on_notifications(server):
    port, shows, streams = server
    body = notification(alert("a"))
    assert post(port, "/alerts/", body, []) == 401
    assert post(port, "/alerts/", b"{", logged_in()) == 400
    assert get(port, "/alerts/")[0] == 405
    assert not shows or get(port, "/state")[2] == b"active active"
    assert post(port, "/alerts/", body, logged_in()) == 200
    assert not shows or get(port, "/state")[2] == b"draining active"
    long = [*logged_in(), ("content-length", "5000000")]
    if streams:  # and not waits for the whole body, of which it has to be told the length
        assert post(port, "/alerts/", b"{", long) == 413
        assert post(port, "/alerts/", iter([body]), logged_in()) == 200
    assert post(port, "/alerts/", notification(alert("a", ends=2)), logged_in()) == 200
    assert not shows or get(port, "/state")[2] == b"active active"
