"""`fetch`: one HTTP request, with a limit for the whole time and for the length of the answer.

The time covers the whole exchange: connecting, the handshake, sending, and all pieces of headers
and body, so a server that sends a byte now and then times out as well. Only the name resolution of
the system cannot be interrupted. Redirects are not followed, since the headers of a request are
meant for its server only. Used by `Probe.promql`.
"""

import base64
import functools
import http.client
import io
import re
import socket
import ssl
from collections.abc import Mapping
from contextlib import closing
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import quote, unquote, urlsplit

import attrs

from mainstay._core.arguments import LONGEST
from mainstay._core.clock import monotonic
from mainstay._core.version import VERSION
from mainstay._core.words import kind_in_words, printable

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_PORTS = {"http": 80, "https": 443}
_IN_PATHS = "/%:@!$&'()*+,;=~-._"
_IN_QUERIES = f"{_IN_PATHS}?"
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_OURS = ("connection", "content-length", "transfer-encoding")
_REDIRECTS = range(300, 400)
_LONGEST_TEXT = 200


class WebError(Exception):
    """Raised if a server gives no usable answer.

    Args:
        kind: "time", "connection", "length" or "http".
        text: What happened, with the name of the server and without secrets.
    """

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind: str = kind


@attrs.frozen
class WebAnswer:
    """What a server has answered.

    Attributes:
        status: The status code.
        reason: Its phrase.
        location: Where a redirect leads, without a login and a query; None if it is none.
        encoding: How the body is packed: "identity" if it is not.
        body: The body.
    """

    status: int
    reason: str
    location: str | None
    encoding: str
    body: bytes


@attrs.frozen
class WebAddress:
    """A server, and a path there.

    Attributes:
        scheme: "http" or "https".
        host: Its name or number.
        port: Its port.
        path: The path, in escapes; without a slash at the end.
        query: What the URL has behind its question mark, in escapes.
        login: The value of the header of a login that the URL has; None without one.
        name: What messages call it: without login and query.
    """

    scheme: str
    host: str
    port: int
    path: str
    query: str = attrs.field(repr=False)
    login: str | None = attrs.field(repr=False)
    name: str


def web_address(url: object, parameter: str) -> WebAddress:
    """Return what a URL says.

    Args:
        url: What the user gave.
        parameter: As which parameter.

    Raises:
        TypeError: If it is no str.
        ValueError: If it is no URL of HTTP or HTTPS with a host.
    """
    if not isinstance(url, str):
        raise TypeError(f"`{parameter}` must be a str, not {kind_in_words(url)}")
    try:
        parts = urlsplit(url)
        scheme, host, port = parts.scheme, parts.hostname or "", parts.port
        host.encode("idna")
    except ValueError:
        _refuse(url, parameter)
    usable = scheme in _PORTS and host and port != 0 and not parts.fragment
    if not usable or not url.isprintable() or any(map(str.isspace, url)):
        _refuse(url, parameter)
    login = None
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        login = f"Basic {base64.b64encode(pair.encode()).decode()}"
    path = parts.path.rstrip("/")
    shown = f"[{host}]" if ":" in host else host
    return WebAddress(
        scheme=scheme,
        host=host,
        port=port or _PORTS[scheme],
        path=quote(path, safe=_IN_PATHS),
        query=quote(parts.query, safe=_IN_QUERIES),
        login=login,
        name=f"{shown}{f':{port}' if port else ''}{path}",
    )


def _refuse(url: str, parameter: str) -> NoReturn:
    raise ValueError(
        f"`{parameter}` must be a URL of HTTP or HTTPS with a host, such as "
        f"http://localhost:9090, not {_without_secrets(url)!r}"
    ) from None


def _without_secrets(url: str) -> str:
    """Return a URL, valid or not, without the parts that may be a login or a token."""
    has_query = "?" in url
    if "@" in url:
        url = f"...{url[url.rindex('@') :]}"
    return f"{url.partition('?')[0]}?..." if has_query else url


def checked_headers(headers: object, address: WebAddress) -> dict[str, str]:
    """Return the user's headers, checked, with names in lower case.

    Raises:
        TypeError: If *headers* is neither None nor a mapping of strs.
        ValueError: If a header cannot be sent, or only this module may set it, or there are two
            logins.
    """
    if headers is not None and not isinstance(headers, Mapping):
        raise TypeError(
            f"`headers` must be a mapping of names to values, or None, not {kind_in_words(headers)}"
        )
    checked = {} if address.login is None else {"authorization": address.login}
    for name, value in (headers or {}).items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise TypeError("`headers` must have names and values that are strs")
        if not _TOKEN.fullmatch(name) or name.lower() in _OURS:
            raise ValueError(f"`headers` must not have a header {name!r}")
        if not (value.isprintable() and value.isascii()):
            raise ValueError(
                f"`headers` must have values of printable ASCII, and that of {name} is not"
            )
        if name.lower() in checked:
            also = " (a login in the URL is one)" if name.lower() == "authorization" else ""
            raise ValueError(f"`headers` must have {name} once{also}")
        checked[name.lower()] = value
    return checked


def fetch(
    address: WebAddress, path: str, headers: Mapping[str, str], *, seconds: float, longest: int
) -> WebAnswer:
    """Return what a server answers to a GET.

    Args:
        address: The server.
        path: What to ask for: path and query, in escapes.
        headers: What to send besides the usual ones.
        seconds: The time for all of it.
        longest: Bytes of the longest body that is read.

    Raises:
        WebError: If there is no answer.
    """
    until = monotonic() + min(seconds, LONGEST)
    try:
        with closing(_connected(address, until)) as connection:
            pieces = _Pieces(connection, until)
            pieces.send(_request(address, path, headers))
            with http.client.HTTPResponse(pieces, method="GET") as answer:  # type: ignore[arg-type]  # all that it needs
                answer.begin()
                body = answer.read(longest + 1)
                if len(body) > longest:
                    text = f"{address.name} answers with more than {longest // 1024} KiB"
                    raise WebError("length", text)
                if answer.length:
                    raise WebError("http", f"the answer of {address.name} broke off")
                return _answer_of(answer, body)
    except TimeoutError:
        text = f"{address.name} has not answered within {seconds:g} s"
        raise WebError("time", text) from None
    except OSError as error:
        reason = short(error.strerror or str(error) or type(error).__name__)
        raise WebError("connection", f"{address.name} does not answer ({reason})") from None
    except (http.client.HTTPException, ValueError) as error:
        text = f"{address.name} does not answer in HTTP ({type(error).__name__})"
        raise WebError("http", text) from None


def _request(address: WebAddress, path: str, headers: Mapping[str, str]) -> bytes:
    shown = f"[{address.host}]" if ":" in address.host else address.host
    if not shown.isascii():
        shown = shown.encode("idna").decode()
    port = "" if address.port == _PORTS[address.scheme] else f":{address.port}"
    everything = {
        "host": f"{shown}{port}",
        "user-agent": f"mainstay/{VERSION}",
        "accept": "application/json",
        "accept-encoding": "identity",
        **headers,
        "connection": "close",
    }
    lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in everything.items())]
    return "\r\n".join((*lines, "", "")).encode("ascii")


def _connected(address: WebAddress, until: float) -> socket.socket:
    """Connect to one of the addresses that a name has; each gets its part of the time."""
    found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    last: OSError = OSError("no address")
    for place, (family, kind, protocol, _, where) in enumerate(found):
        connection = socket.socket(family, kind, protocol)
        try:
            connection.settimeout(_left(until) / (len(found) - place))
            connection.connect(where)
            if address.scheme == "http":
                return connection
            connection.settimeout(_left(until))
            return _trust().wrap_socket(connection, server_hostname=address.host)
        except OSError as error:
            connection.close()
            last = error
    raise last


@functools.cache  # reading the certificates takes some 20 ms
def _trust() -> ssl.SSLContext:
    return ssl.create_default_context()


def _left(until: float) -> float:
    """Return the seconds that are left.

    Raises:
        TimeoutError: If there are none.
    """
    left = until - monotonic()
    if left <= 0:
        raise TimeoutError
    return left


class _Pieces(io.RawIOBase):
    """What goes over a connection, each piece within what is left of the time."""

    def __init__(self, connection: socket.socket, until: float) -> None:
        self._connection = connection
        self._until = until

    def send(self, data: bytes) -> None:
        """Send all of it."""
        self._connection.settimeout(_left(self._until))
        self._connection.sendall(data)

    def makefile(self, _mode: str) -> io.BufferedReader:
        """Return what the answer is read from."""
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        self._connection.settimeout(_left(self._until))
        return self._connection.recv_into(buffer)


def _answer_of(answer: http.client.HTTPResponse, body: bytes) -> WebAnswer:
    location = answer.headers.get("Location") if answer.status in _REDIRECTS else None
    return WebAnswer(
        status=answer.status,
        reason=short(answer.reason),
        location=None if location is None else short(_without_secrets(location)),
        encoding=short(answer.headers.get("Content-Encoding", "identity").lower()),
        body=body,
    )


def short(text: str) -> str:
    """Return a text from outside, escaped and cut so that it fits into a log line."""
    text = printable(text.strip())
    return text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}..."
