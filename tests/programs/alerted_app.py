"""A receiver of alerts about a pool: by itself, mounted in Starlette, and beside one of WSGI.

/state   the states of the members, where it is mounted
"""

from collections.abc import Callable, Iterable
from typing import Any

from mainstay import FailoverPool, Member
from mainstay.integrations.alertmanager import Receiver
from support.alerts import TOKEN

pool = FailoverPool("db", [Member("a", "a"), Member("b", "b")], on=OSError)
receiver = Receiver([pool], token=TOKEN)


def states() -> str:
    return " ".join(each.state for each in pool.status().members)


def beside(environ: dict[str, Any], start_response: Callable) -> Iterable[bytes]:
    if environ["PATH_INFO"] != "/state":
        return receiver(environ, start_response)
    start_response("200 OK", [("content-type", "text/plain")])
    return [states().encode()]


def mounted() -> Any:
    from starlette.applications import Starlette  # noqa: PLC0415 - which gunicorn has no need of
    from starlette.responses import PlainTextResponse  # noqa: PLC0415 - as above
    from starlette.routing import Mount, Route  # noqa: PLC0415 - as above

    def show(_request: Any) -> PlainTextResponse:
        return PlainTextResponse(states())

    return Starlette(routes=[Route("/state", show), Mount("/alerts", receiver)])
