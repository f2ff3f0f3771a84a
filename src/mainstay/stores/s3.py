"""`S3Store`: runs in a bucket of an object store, which many machines share.

A save is one conditional write of one object, which checks the owner, and holds the record, the
document and the last results. Threads and tasks send the same requests: an operation is a
generator, and here it is driven.
"""

from collections.abc import Sequence

from mainstay._core.arguments import Duration, to_limit
from mainstay._core.forks import reset_after_fork
from mainstay._core.sharing import Shared
from mainstay.stores._s3.address import to_s3_address
from mainstay.stores._s3.bucket import Bucket
from mainstay.stores._s3.failures import S3Failure
from mainstay.stores._s3.names import Names
from mainstay.stores._s3.operations import S3Operations
from mainstay.stores._s3.probing import probing
from mainstay.stores._s3.requests import S3Operation
from mainstay.stores._s3.runner import S3Runner
from mainstay.stores.base import (
    Acquisition,
    Change,
    Contents,
    Exit,
    Promises,
    Record,
    Request,
    RunId,
    RunLease,
    Status,
)


class S3Store(Shared):
    """Keeps runs in a bucket of Amazon S3, or of a service that writes under conditions as S3 does.

    A run is one object, and a save one request, which takes 20 to 100 ms on most services and has
    a price: save after minutes, by ``every=timedelta(...)`` or `young_daly`, and not after each
    item. Results beyond 64 kB, and documents of more, are kept in objects of their own, for which
    a save takes a second request. What a save keeps is as durable as the service says; nothing
    that a client could try shows it. There are never two owners: a save is refused if the object is
    no longer as its owner left it. A service that takes conditions and ignores them is found out by
    `probe`, and refused before the first run.

    The death of an owner on another machine is known when its lease ends, by the clock of the
    service, which tells seconds, and by the owner's silence.

    Of a run that was forgotten, an object of some 60 bytes stays, which holds its token.

    Sync and async runs use the same object, and async ones no threads of Python. A child that was
    forked after the store was used cannot use the store: start workers by "spawn" or "forkserver".

    Args:
        url: ``s3://bucket/prefix?endpoint=https://host:9000&region=eu-west-1``. Without
            ``endpoint=`` Amazon is meant, without ``region=`` what `$AWS_REGION` says. Access key
            and secret are those of `$AWS_ACCESS_KEY_ID` and `$AWS_SECRET_ACCESS_KEY`, or of the
            role that the machine has, or ``key:secret@`` before the bucket. The server's
            certificate is checked; `$SSL_CERT_FILE` names a file of authorities of your own.
        timeout: How long an operation may take: seconds or a `timedelta`, above 0; None for a third
            of the lease that it is about, and 10 seconds where it is about none. An operation about
            no lease, such as `list`, may take that time for each of its requests.

    Raises:
        TypeError: If *url* is no string, or *timeout* no duration.
        ValueError: If *url* is none of S3, or *timeout* is out of its range. At use, if name and
            key of a run together are too long for the name of an object.
        ImportError: If obstore is not installed; the extra `s3` brings it.
        StoreUnavailableError: From every operation, if the service cannot be reached, refuses what
            was asked, or does not answer in time; from an acquisition, if the service ignores
            conditions.
        StoreSchemaError: From an operation, if a newer mainstay wrote the run.
        CorruptCheckpointError: From an operation, if somebody else wrote into a run.

    Example:
        >>> from mainstay.stores import S3Store
        >>> S3Store("s3://key:secret@jobs/nightly?region=eu-west-1")
        S3Store('s3://key@jobs/nightly?region=eu-west-1')
    """

    def __init__(self, url: str, *, timeout: Duration | None = None) -> None:
        self._address = to_s3_address(url)
        self.url: str = self._address.shown
        self._timeout = to_limit(timeout, "timeout")
        self._names = Names(self._address.prefix)
        self._promises: Promises | None = None
        self._reset()
        reset_after_fork(self, S3Store._reset)

    def __repr__(self) -> str:
        return f"S3Store({self.url!r})"

    def _reset(self) -> None:
        """Begin without connections, and without what is known of objects."""
        self._runner = S3Runner(Bucket(self._address), self.url, self._timeout)
        self._operations = S3Operations(self._names)

    def acquire(self, run: RunId, request: Request) -> Acquisition:
        """Decide who may work on *run*."""
        return self._runner.run(self._acquiring(run, request), request.lease)

    def load(self, run: RunId) -> Contents:
        """Return what is kept for *run*."""
        return self._runner.run(self._operations.loading(run))

    def commit(self, lease: RunLease, change: Change) -> None:
        """Write *change* and renew the lease."""
        self._runner.run(self._operations.committing(lease, change), lease.seconds)

    def renew(self, leases: Sequence[RunLease]) -> Sequence[RunLease]:
        """Renew many leases, some side by side, by a request for each; return the lost ones."""
        if not leases:
            return []
        shortest = min(each.seconds for each in leases)
        return self._runner.run(self._operations.renewing(leases), shortest)

    def release(
        self, lease: RunLease, how: Exit, error: str = "", drop: tuple[int, ...] = ()
    ) -> None:
        """Release the run before its end."""
        self._runner.run(self._operations.releasing(lease, how, error, drop), lease.seconds)

    async def aacquire(self, run: RunId, request: Request) -> Acquisition:
        """As `acquire`."""
        return await self._runner.arun(self._acquiring(run, request), request.lease)

    async def acommit(self, lease: RunLease, change: Change) -> None:
        """As `commit`."""
        await self._runner.arun(self._operations.committing(lease, change), lease.seconds)

    async def arelease(
        self, lease: RunLease, how: Exit, error: str = "", drop: tuple[int, ...] = ()
    ) -> None:
        """As `release`."""
        await self._runner.arun(self._operations.releasing(lease, how, error, drop), lease.seconds)

    def list(
        self,
        name: str | None = None,
        *,
        status: Status | None = None,
        after: RunId | None = None,
        limit: int | None = None,
    ) -> Sequence[tuple[Record, Status]]:
        """Return runs, sorted by name and key, each with its state.

        A thousand runs take one request, and one more for each run that has changed since this
        process read it, whatever its state. The last 10,000 that were read are remembered.
        """
        return self._runner.run(self._operations.listing(name, status, after, limit))

    def forget(self, run: RunId) -> bool:
        """Remove *run*, but for its token."""
        return self._runner.run(self._operations.forgetting(run))

    def probe(self) -> Promises:
        """Find out, by six small requests, what the bucket can promise."""
        return self._runner.run(self._probing())

    def close(self) -> None:
        """Close the connections of this process."""
        self._runner.bucket.close()

    def _price_of_saves(self) -> str:
        """Return what each save is, as `PricedStore` says."""
        return "a request that takes some 20 to 100 ms and has a price"

    def _probing(self) -> S3Operation[Promises]:
        if self._promises is None:
            self._promises = yield from probing(self._names)
        return self._promises

    def _acquiring(self, run: RunId, request: Request) -> S3Operation[Acquisition]:
        promises = yield from self._probing()
        if not promises.fenced:
            raise S3Failure("; ".join(promises.problems))
        return (yield from self._operations.acquiring(run, request))
