"""The URL of a PostgreSQL store: what is for libpq, what is ours, and what may be shown of it.

Nothing else reads the URL, so that a password in it stays here. libpq's own messages about a URL
are not shown either: they quote the part that they stumble over.
"""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

import attrs

from mainstay.stores._postgres.driver import psycopg
from mainstay.stores._urls import WrongPartError, read_url

DEFAULT_SCHEMA = "mainstay"
_MOST_BYTES = 48  # PostgreSQL cuts identifiers at 63, and the channel has a prefix
_PORT = re.compile("[0-9]{1,5}")
_LAST_PORT = 65_535
_OWN = frozenset({"prepare", "schema"})
_DEFAULTS = {
    "application_name": "mainstay",
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
}
_FORMS = (
    "must be such as postgresql://user:password@host:5432/database?sslmode=verify-full, with what "
    "is not a letter, a digit or one of -._~ in a name or password as %40 for @; its options are "
    "those of libpq, and prepare=no and schema=name"
)


@attrs.frozen(eq=False, repr=False)
class Address:
    """Where the server is, or the servers are.

    Attributes:
        shown: The URL without the password, for messages.
        schema: In which schema of the database the tables are; None if the URL does not say.
        prepare: Whether the URL wants prepared statements; None if it does not say.
        hosts: For each server what libpq is to be told.
    """

    shown: str
    schema: str | None
    prepare: bool | None
    hosts: tuple[Mapping[str, str], ...]

    def __repr__(self) -> str:
        return f"Address({self.shown!r})"


def to_address(url: object) -> Address:
    """Return what *url* says.

    Raises:
        TypeError: If *url* is no string.
        ValueError: If *url* is none of PostgreSQL, or libpq does not know what is in it.
        ImportError: If psycopg is not installed.
    """
    parameters, ours = read_url(url, "postgres(ql)?", _FORMS, _read)
    schema = ours.get("schema")
    return Address(
        _shown(parameters, schema),
        None if schema is None else to_schema(schema),
        None if "prepare" not in ours else _to_prepare(ours["prepare"]),
        _hosts(_DEFAULTS | parameters | {"client_encoding": "UTF8"}),
    )


def _read(url: str) -> tuple[dict[str, str], dict[str, str]]:
    """Return what is for libpq, and what is ours."""
    if "%00" in url:
        raise WrongPartError("it has a control character")
    place, _, query = url.partition("?")
    options = parse_qsl(query, keep_blank_values=True)
    ours = {name: value for name, value in options if name in _OWN}
    rest = [(name, value) for name, value in options if name not in _OWN]
    return _parsed(f"{place}?{urlencode(rest, quote_via=quote)}" if rest else place), ours


def to_schema(schema: object) -> str:
    """Return the name of a schema.

    Raises:
        TypeError: If *schema* is no string.
        ValueError: If PostgreSQL cannot hold the name.
    """
    if not isinstance(schema, str):
        raise TypeError(f"`schema` must be a str, not {schema!r}")
    if not schema or not schema.isprintable() or len(schema.encode()) > _MOST_BYTES:
        raise ValueError(
            f"`schema` must have from 1 to {_MOST_BYTES} bytes, all printable, not {schema!r}"
        )
    return schema


def quoted(identifier: str) -> str:
    """Return an identifier as statements have it."""
    return '"' + identifier.replace('"', '""') + '"'


def conninfo(parameters: Mapping[str, str]) -> bytes:
    """Return what libpq is to be told as one string."""
    text: str = psycopg().conninfo.make_conninfo(**parameters)
    return text.encode()


def _parsed(url: str) -> dict[str, str]:
    library = psycopg()
    try:
        found: Mapping[str, Any] = library.conninfo.conninfo_to_dict(url)
    except library.Error:
        raise WrongPartError("libpq does not know an option, or cannot read a part") from None
    if not _has_ports(found):
        raise WrongPartError("a port is no number from 1 to 65535, or is not of one of the hosts")
    return {name: str(value) for name, value in found.items() if value is not None}


def _has_ports(found: Mapping[str, Any]) -> bool:
    """True if there is one port, or one for each host, all in their range; "" is the usual one."""
    ports = str(found.get("port", "")).split(",")
    hosts = str(found.get("host", found.get("hostaddr", ""))).split(",")
    numbers = [int(port) if _PORT.fullmatch(port) else 0 for port in ports if port]
    return len(ports) in (1, len(hosts)) and all(0 < number <= _LAST_PORT for number in numbers)


def _to_prepare(text: str) -> bool:
    if text not in ("yes", "no"):
        raise ValueError(f"`prepare` in the URL must be yes or no, not {text!r}")
    return text == "yes"


def _shown(parameters: Mapping[str, str], schema: str | None) -> str:
    hosts = parameters.get("host", parameters.get("hostaddr", "")).split(",")
    ports = parameters.get("port", "").split(",")
    ports = ports * len(hosts) if len(ports) == 1 else ports
    places = ",".join(
        quote(host, safe="[]:") + (f":{port}" if port else "")
        for host, port in zip(hosts, ports, strict=False)
    )
    user = quote(parameters["user"], safe="") + "@" if "user" in parameters else ""
    database = quote(parameters.get("dbname", ""), safe="")
    query = "" if schema is None else f"?schema={quote(schema, safe='')}"
    return f"postgresql://{user}{places}/{database}{query}"


def _hosts(parameters: dict[str, str]) -> tuple[Mapping[str, str], ...]:
    """Return the parameters for each host: each gets its share of the time."""
    lists = {
        name: parameters[name].split(",")
        for name in ("host", "hostaddr", "port")
        if parameters.get(name)
    }
    number = max((len(each) for name, each in lists.items() if name != "port"), default=1)
    if number == 1:
        return (parameters,)
    several = {"target_session_attrs": "read-write", **parameters}
    return tuple(
        {**several, **{name: each[min(rank, len(each) - 1)] for name, each in lists.items()}}
        for rank in range(number)
    )
