"""A bucket, as obstore reaches it: requests of threads and of tasks, each with a limit of time.

obstore keeps the connections, and threads of its own that serve them, which no forked child has.
Its own retries are off: who asks knows for how long, and whether, to ask again. A request whose
connection was lost is sent again once at once, since a connection may have ended while nobody used
it; rule 3 of stores makes that right.
"""

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import attrs

from mainstay.stores._s3.address import S3Address
from mainstay.stores._s3.driver import client
from mainstay.stores._s3.failures import S3Failure, failed
from mainstay.stores._s3.requests import Delete, Found, Get, Listed, ListPage, Put, S3Request

_PAGE = 1000
_SHARES = (1.0, 0.5, 0.25, 0.125)
_SLACK = 1.1
_FORKED = (
    "this process was forked from one that has used obstore, which cannot go on in a fork; start "
    'worker processes by "spawn" or "forkserver", or use the store first in the workers'
)

_user: int | None = None
"""The process that has used obstore."""


def step_of(limit: float, left: float) -> float | None:
    """Return the limit of time of a request: one of few, since each has connections of its own.

    Args:
        limit: Seconds that all requests of an operation may take together.
        left: Seconds that are left of them.

    Returns:
        At most a tenth more than what is left; None if too little is left for any.
    """
    return next((limit * each for each in _SHARES if limit * each <= left * _SLACK), None)


class Bucket:
    """Sends requests.

    Args:
        address: Where the bucket is.
    """

    def __init__(self, address: S3Address) -> None:
        self._address = address
        self._clients: dict[float, Any] = {}

    def send(self, request: S3Request, seconds: float) -> Any:
        """Send a request from a thread, and return its answer.

        Raises:
            S3Failure: If the request fails, or is not answered in time; what was asked may have
                been done or not.
        """
        store = self._client(seconds)
        with _translating(request) as answer:
            match request:
                case Get(name=name):
                    found = client().get(store, name)
                    answer.is_(_found(found.meta, found.bytes()))
                case Put():
                    answer.is_(_etag(client().put(store, **_written(request))))
                case Delete(names=names):
                    client().delete(store, [*names])
                case ListPage():
                    answer.is_(_page(next(_listed(store, request), [])))
        return answer.value

    async def asend(self, request: S3Request, seconds: float) -> Any:
        """As `send`, in a task."""
        store = self._client(seconds)
        with _translating(request) as answer:
            match request:
                case Get(name=name):
                    found = await client().get_async(store, name)
                    answer.is_(_found(found.meta, await found.bytes_async()))
                case Put():
                    answer.is_(_etag(await client().put_async(store, **_written(request))))
                case Delete(names=names):
                    await client().delete_async(store, [*names])
                case ListPage():
                    answer.is_(_page(await anext(_listed(store, request), [])))
        return answer.value

    def close(self) -> None:
        """Close the connections that nobody uses."""
        self._clients = {}

    def _client(self, seconds: float) -> Any:
        global _user
        if _user is None:
            _user = os.getpid()
        if _user != os.getpid():
            raise S3Failure(_FORKED)
        found = self._clients.get(seconds)
        if found is None:
            limit = f"{max(1, round(seconds * 1000))}ms"
            options = {"timeout": limit, "connect_timeout": limit, "allow_http": True}
            found = self._clients[seconds] = client().store.S3Store(
                self._address.bucket,
                **self._address.parameters,
                client_options=options,
                retry_config={"max_retries": 0},
            )
        return found


@attrs.define(eq=False)
class _Answer:
    value: Any = None

    def is_(self, value: Any) -> None:
        self.value = value


@contextlib.contextmanager
def _translating(request: S3Request) -> Iterator[_Answer]:
    """Give the place for an answer; raise what obstore raises as an `S3Failure`.

    An object that is not there, and a condition that does not hold, are answers.
    """
    answer = _Answer()
    errors = client().exceptions
    try:
        yield answer
    except (errors.BaseError, OSError) as error:
        failure = failed(str(error))
        if not _is_answer(request, error, failure):
            raise failure from None


def _is_answer(request: S3Request, error: Exception, failure: S3Failure) -> bool:
    missing = isinstance(error, FileNotFoundError) and failure.code != "NoSuchBucket"
    if isinstance(request, Put) and request.condition is not None:
        errors = client().exceptions
        refused = isinstance(error, errors.PreconditionError | errors.AlreadyExistsError)
        return (refused and failure.status != _CONFLICT and failure.code != "NoSuchBucket") or (
            missing
        )
    return missing and not isinstance(request, Put)


_CONFLICT = 409


def _written(put: Put) -> dict[str, Any]:
    modes: dict[str | None, Any] = {None: "overwrite", "": "create"}
    mode = modes.get(put.condition, {"e_tag": put.condition})
    return {"path": put.name, "file": put.data, "mode": mode, "use_multipart": False}


def _etag(answer: Any) -> str:
    return answer["e_tag"] or ""


def _found(meta: Any, data: Any) -> Found:
    return Found(bytes(data), meta["e_tag"] or "", meta["last_modified"].timestamp())


def _listed(store: Any, request: ListPage) -> Any:
    return client().list(store, request.folder, offset=request.after or None, chunk_size=_PAGE)


def _page(found: Any) -> list[Listed]:
    return [Listed(each["path"], each["size"], each["e_tag"] or "") for each in found]
