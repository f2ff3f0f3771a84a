"""Asks an endpoint for its metrics, within limits of time and length."""

import base64
import http.client
import re
import ssl
import time
import zlib
from urllib.parse import SplitResult, unquote, urlsplit

from mainstay._core.words import printable

TIMEOUT = 5.0
"""After how many seconds an answer comes too late."""

LONGEST_ANSWER = 32 * 2**20
"""Bytes of the longest answer that is read, unpacked."""

_PIECE = 2**16
_ACCEPT = {
    "Accept": "text/plain;version=0.0.4;q=1,*/*;q=0.1",
    "Accept-Encoding": "identity",
    "User-Agent": "mainstay top",
    "Connection": "close",
}
_HAS_SCHEME = re.compile(r"[a-zA-Z][\w+.-]*://")


class ScrapeError(Exception):
    """Raised where an endpoint has not given its metrics; the message is what is shown."""


class Endpoint:
    """One URL.

    Args:
        url: Where the metrics are; `http://` and the path `/metrics` may be left out. A name and
            password in it are sent as Basic authentication, and shown nowhere.

    Raises:
        ValueError: If *url* is no URL of HTTP or HTTPS with a host.

    Attributes:
        name: What it is called on the screen.
        address: What tells it apart from any other endpoint.
    """

    def __init__(self, url: str) -> None:
        parts = _parts(url)
        self._parts = parts
        self._host = str(parts.hostname)
        self._path = (parts.path or "/metrics") + (f"?{parts.query}" if parts.query else "")
        self._headers = {**_ACCEPT, **_login(parts)}
        host = f"[{self._host}]" if ":" in self._host else self._host
        port = f":{parts.port}" if parts.port else ""
        path = "" if self._path == "/metrics" else self._path
        self.name = printable(f"{host}{port}{path}")
        default = http.client.HTTPS_PORT if parts.scheme == "https" else http.client.HTTP_PORT
        self.address = parts.scheme, self._host, parts.port or default, self._path

    def fetch(self) -> str:
        """Return the answer.

        Raises:
            ScrapeError: If there is none, or none that can be read.
        """
        deadline = time.monotonic() + TIMEOUT
        connection = self._connection()
        try:
            connection.request("GET", self._path, headers=self._headers)
            answer = connection.getresponse()
            _check(answer)
            return _text(answer, deadline)
        except TimeoutError:
            raise ScrapeError(f"no answer within {TIMEOUT:g}s") from None
        except ConnectionRefusedError:
            raise ScrapeError("nobody listens there") from None
        except OSError as error:
            raise ScrapeError(f"no answer ({printable(error.strerror or str(error))})") from None
        except (http.client.HTTPException, ValueError) as error:
            raise ScrapeError(f"no answer in HTTP ({type(error).__name__})") from None
        finally:
            connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        host, port = self._host, self._parts.port
        if self._parts.scheme == "https":
            context = ssl.create_default_context()
            return http.client.HTTPSConnection(host, port, timeout=TIMEOUT, context=context)
        return http.client.HTTPConnection(host, port, timeout=TIMEOUT)


def _parts(url: str) -> SplitResult:
    problem = ValueError(
        "URL must be one of HTTP, such as localhost:8000 or https://shop.example/metrics, "
        f"not {_masked(url)!r}"
    )
    try:
        parts = urlsplit(url if _HAS_SCHEME.match(url) else f"http://{url}")
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # the port is no number, or the brackets of an IPv6 address do not match
        raise problem from None
    if not usable or not url.isprintable() or " " in url:
        raise problem
    return parts


def _masked(url: str) -> str:
    return re.sub(r"//[^/@]*@", "//...@", url)


def _login(parts: SplitResult) -> dict[str, str]:
    if parts.username is None:
        return {}
    login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return {"Authorization": f"Basic {base64.b64encode(login.encode()).decode()}"}


def _check(answer: http.client.HTTPResponse) -> None:
    """Raise unless it is an answer to read."""
    if answer.status in (301, 302, 303, 307, 308):
        where = _masked(answer.headers.get("Location") or "nowhere")
        raise ScrapeError(f"redirects to {printable(where)}: give that URL")
    if answer.status in (401, 403):
        raise ScrapeError(f"wants a login ({answer.status}): http://NAME:PASSWORD@...")
    if answer.status != http.HTTPStatus.OK:
        raise ScrapeError(f"answers {answer.status} {printable(answer.reason)}".rstrip())
    encoding = answer.headers.get("Content-Encoding", "identity")
    if encoding not in ("identity", "gzip", "x-gzip"):
        raise ScrapeError(f"answers packed as {printable(encoding)}, which was not asked for")
    if "protobuf" in answer.headers.get("Content-Type", ""):
        raise ScrapeError("answers in protobuf, which was not asked for")


def _text(answer: http.client.HTTPResponse, deadline: float) -> str:
    """Read the body as far as it may go on, and unpack it."""
    packed = "gzip" in answer.headers.get("Content-Encoding", "")
    unpack = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16) if packed else None
    body = bytearray()
    while piece := answer.read1(_PIECE):
        if time.monotonic() > deadline:
            raise ScrapeError(f"no end of the answer within {TIMEOUT:g}s")
        try:
            body += unpack.decompress(piece, LONGEST_ANSWER) if unpack else piece
        except zlib.error:
            raise ScrapeError("answers in gzip that is damaged") from None
        if len(body) >= LONGEST_ANSWER:
            raise ScrapeError(f"answers with more than {LONGEST_ANSWER // 2**20} MiB")
    if answer.length or (unpack is not None and not unpack.eof):
        raise ScrapeError("the answer broke off")
    try:
        return body.decode()
    except UnicodeDecodeError:
        raise ScrapeError("answers with something else than text") from None
