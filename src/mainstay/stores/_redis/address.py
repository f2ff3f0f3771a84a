"""The URL of a Redis store: what is for redis-py, what is ours, and what may be shown of it.

Nothing else reads the URL, so that a password in it stays here.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote, unquote

import attrs

from mainstay.stores._redis.driver import client
from mainstay.stores._urls import WrongPartError, read_url, split_url

_DATABASE = re.compile(r"/?|/(?P<number>\d{1,9})")
_PORT = 6379
_FILES = frozenset({"ssl_ca_certs", "ssl_certfile", "ssl_keyfile"})
_FORMS = (
    "must be such as redis://user:password@host:6379/0 or rediss://host/0, with what is not a "
    "letter, a digit or one of -._~ in a name or password as %40 for @; it has one host, and its "
    "options are durability=always or everysec and, of rediss, ssl_ca_certs=, ssl_certfile= and, "
    "with that, ssl_keyfile="
)


@attrs.frozen(eq=False, repr=False)
class RedisAddress:
    """Where the server is.

    Attributes:
        shown: The URL without the password, for messages.
        everysec: True if the loss of the last second in a crash of the server is accepted.
        encrypted: True for TLS.
        parameters: What a connection is made with.
    """

    shown: str
    everysec: bool
    encrypted: bool
    parameters: Mapping[str, object]

    def __repr__(self) -> str:
        return f"RedisAddress({self.shown!r})"


def to_redis_address(url: object) -> RedisAddress:
    """Return what *url* says.

    Raises:
        TypeError: If *url* is no string.
        ValueError: If *url* is none of Redis, or has options that are not known.
        ImportError: If redis-py is not installed.
    """
    client()
    return read_url(url, "rediss?", _FORMS, _read)


def _read(url: str) -> RedisAddress:
    parts, options = split_url(url)
    database = _DATABASE.fullmatch(parts.path)
    if database is None:
        raise WrongPartError("the database behind the host is no number")
    encrypted = parts.scheme == "rediss"
    if options.keys() - {"durability"} - (_FILES if encrypted else frozenset()):
        raise WrongPartError("it has an option that is not known")
    durability = options.pop("durability", "always")
    if durability not in ("always", "everysec"):
        raise WrongPartError("durability= is neither")
    if "ssl_keyfile" in options and "ssl_certfile" not in options:
        raise WrongPartError("ssl_certfile= is missing")
    port = _PORT if parts.port is None else parts.port
    host, number = unquote(parts.hostname or ""), int(database["number"] or 0)
    if not port or not host or "," in host or not host.encode("idna"):
        raise WrongPartError("the host is missing or cannot be, or the port is 0")
    parameters: dict[str, object] = {
        "host": host,
        "port": port,
        "db": number,
        **{name: str(Path(value)) for name, value in options.items()},
    }
    user = ""
    if parts.username:
        parameters["username"] = unquote(parts.username)
        user = quote(unquote(parts.username), safe="") + "@"
    if parts.password:
        parameters["password"] = unquote(parts.password)
    place = f"[{host}]" if ":" in host else quote(host, safe="")
    shown = f"{parts.scheme}://{user}{place}:{port}/{number}"
    everysec = durability == "everysec"
    return RedisAddress(
        shown + ("?durability=everysec" if everysec else ""), everysec, encrypted, parameters
    )
