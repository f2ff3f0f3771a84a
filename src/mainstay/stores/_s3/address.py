"""The URL of an S3 store: what is for obstore, what is ours, and what may be shown of it.

Nothing else reads the URL, so that a secret in it stays here.
"""

import re
from collections.abc import Callable, Mapping
from urllib.parse import quote, unquote, urlsplit

import attrs

from mainstay.stores._s3.driver import client
from mainstay.stores._urls import WrongPartError, read_url, split_url

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")
_PREFIX = re.compile(
    r"(?!\.{1,2}(/|$))[A-Za-z0-9!_.*'()-]+(/(?!\.{1,2}(/|$))[A-Za-z0-9!_.*'()-]+)*"
)
_ENDPOINT = re.compile(r"https?://[A-Za-z0-9.\[\]:_-]+(/[A-Za-z0-9._~/-]*)?")
_REGION = re.compile(r"[A-Za-z0-9-]+")
_FORMS = (
    "must be such as s3://bucket/prefix?endpoint=https://host:9000&region=eu-west-1; prefix, "
    "endpoint and region may be left out, the prefix has letters, digits and !_.*'()-, and access "
    "key and secret are those of the environment, or key:secret@ before the bucket, with %2F for / "
    "and %2B for +"
)

Credentials = Mapping[str, object]


@attrs.frozen(eq=False, repr=False)
class S3Address:
    """Where the bucket is.

    Attributes:
        shown: The URL without the secret, for messages.
        bucket: The bucket.
        prefix: What the names of all objects begin with; empty, or with a slash at its end.
        parameters: What a client is made with.
    """

    shown: str
    bucket: str
    prefix: str
    parameters: Mapping[str, object]

    def __repr__(self) -> str:
        return f"S3Address({self.shown!r})"


def to_s3_address(url: object) -> S3Address:
    """Return what *url* says.

    Raises:
        TypeError: If *url* is no string.
        ValueError: If *url* is none of S3, or has options that are not known.
        ImportError: If obstore is not installed.
    """
    client()
    return read_url(url, "s3", _FORMS, _read)


def _read(url: str) -> S3Address:
    parts, options = split_url(url)
    user, at, bucket = parts.netloc.rpartition("@")
    prefix = parts.path.strip("/")
    endpoint, region = options.pop("endpoint", ""), options.pop("region", "")
    checks = {
        "it has an option that is not known": not options,
        "the bucket is missing or cannot be": _BUCKET.fullmatch(bucket),
        "the prefix has another sign, or a part that is empty": (
            not prefix or _PREFIX.fullmatch(prefix)
        ),
        "endpoint= has no host, or something that cannot be": (
            not endpoint or _is_endpoint(endpoint)
        ),
        "region= cannot be": not region or _REGION.fullmatch(region),
    }
    for wrong, is_sound in checks.items():
        if not is_sound:
            raise WrongPartError(wrong)
    parameters: dict[str, object] = {}
    if endpoint:
        parameters["endpoint"] = endpoint.rstrip("/")
    if region:
        parameters["region"] = region
    shown_user = ""
    if at:
        key, _, secret = user.partition(":")
        if not key or not secret:
            raise WrongPartError("the key or the secret before the bucket is missing")
        parameters["credential_provider"] = _giving(unquote(key), unquote(secret))
        shown_user = quote(unquote(key), safe="") + "@"
    query = "&".join(
        f"{name}={value}" for name, value in (("endpoint", endpoint), ("region", region)) if value
    )
    shown = f"s3://{shown_user}{bucket}{'/' if prefix else ''}{prefix}{'?' if query else ''}{query}"
    return S3Address(shown, bucket, f"{prefix}/" if prefix else "", parameters)


def _is_endpoint(text: str) -> bool:
    parts = urlsplit(text)
    return _ENDPOINT.fullmatch(text) is not None and bool(parts.hostname) and parts.port != 0


def _giving(key: str, secret: str) -> Callable[[], Credentials]:
    """Return what gives obstore a key: as an option, it would be mixed with the environment's."""
    return lambda: {
        "access_key_id": key, "secret_access_key": secret, "token": None, "expires_at": None,
    }  # fmt: skip
