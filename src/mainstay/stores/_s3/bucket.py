"""A bucket, as obstore reaches it: requests of threads and of tasks, each with a limit of time.

obstore keeps the connections, and threads of its own that serve them, which no forked child has.
Its own retries are off: who asks knows for how long, and whether, to ask again. A request whose
connection was lost is sent again once at once, since a connection may have ended while nobody used
it; rule 3 of stores makes that right.
"""

import os
from typing import Any

from mainstay.stores._s3.address import S3Address
from mainstay.stores._s3.driver import client
from mainstay.stores._s3.failures import S3Failure, failed
from mainstay.stores._s3.requests import Delete, Found, Get, Listed, ListPage, Put, S3Request

_CONFLICT = 409
"""Another write to the object is under way: nothing is known yet of the condition."""
_PAGE = 1000
_SHARES = (1.0, 0.5, 0.25, 0.125)
_SLACK = 1.1
_PANICS = frozenset({"PanicException", "RustPanic"})  # no module has these classes
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
        self._library = client()
        self._clients: dict[float, Any] = {}

    def send(self, request: S3Request, seconds: float) -> Any:
        """Send a request from a thread, and return its answer.

        Raises:
            S3Failure: If the request fails, or is not answered in time; what was asked may have
                been done or not.
        """
        try:
            store = self._client(seconds)
            match request:
                case Get(name=name):
                    found = self._library.get(store, name)
                    return _found(found.meta, found.bytes())
                case Put():
                    return _etag(self._library.put(store, **_written(request)))
                case Delete(names=names):
                    self._library.delete(store, [*names])
                    return None
                case ListPage():
                    return _page(next(self._library.list(store, **_wanted(request)), []))
        except (self._library.exceptions.BaseError, OSError) as error:
            return self._nothing(request, error)
        except BaseException as error:
            _raise_panic(error)
            raise

    async def asend(self, request: S3Request, seconds: float) -> Any:
        """As `send`, in a task."""
        try:
            store = self._client(seconds)
            match request:
                case Get(name=name):
                    found = await self._library.get_async(store, name)
                    return _found(found.meta, await found.bytes_async())
                case Put():
                    return _etag(await self._library.put_async(store, **_written(request)))
                case Delete(names=names):
                    await self._library.delete_async(store, [*names])
                    return None
                case ListPage():
                    return _page(await anext(self._library.list(store, **_wanted(request)), []))
        except (self._library.exceptions.BaseError, OSError) as error:
            return self._nothing(request, error)
        except BaseException as error:
            _raise_panic(error)
            raise

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
            found = self._clients[seconds] = self._library.store.S3Store(
                self._address.bucket,
                **self._address.parameters,
                client_options=options,
                retry_config={"max_retries": 0},
            )
        return found

    def _nothing(self, request: S3Request, error: Exception) -> None:
        """Return where an error says that there is no such object, or that a condition is not met.

        Raises:
            S3Failure: Otherwise.
        """
        failure = failed(str(error))
        missing = isinstance(error, FileNotFoundError)
        if isinstance(request, Put):
            errors = self._library.exceptions
            refused = isinstance(error, errors.PreconditionError | errors.AlreadyExistsError)
            answers = request.condition is not None and (refused or missing)
        else:
            answers = missing
        if not answers or failure.status == _CONFLICT or failure.code == "NoSuchBucket":
            raise failure from None


def _raise_panic(error: BaseException) -> None:
    """Raise an error that users can handle if *error* is a panic of obstore."""
    if type(error).__name__ in _PANICS:
        raise S3Failure(
            f"obstore failed: {error}; mend endpoint= in the URL, or $AWS_ENDPOINT_URL"
        ) from None


def _written(put: Put) -> dict[str, Any]:
    modes: dict[str | None, Any] = {None: "overwrite", "": "create"}
    mode = modes.get(put.condition, {"e_tag": put.condition})
    return {"path": put.name, "file": put.data, "mode": mode, "use_multipart": False}


def _etag(answer: Any) -> str:
    return answer["e_tag"] or ""


def _found(meta: Any, data: Any) -> Found:
    return Found(bytes(data), meta["e_tag"] or "", meta["last_modified"].timestamp())


def _wanted(page: ListPage) -> dict[str, Any]:
    return {"prefix": page.folder, "offset": page.after or None, "chunk_size": _PAGE}


def _page(found: Any) -> list[Listed]:
    return [Listed(each["path"], each["size"], each["e_tag"] or "") for each in found]
