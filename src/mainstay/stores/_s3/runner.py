"""Operations run to their end: their requests sent from a thread or a task, some side by side."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import attrs

from mainstay._core.clock import monotonic
from mainstay.stores._driving import adrive, drive
from mainstay.stores._s3.bucket import Bucket, step_of
from mainstay.stores._s3.failures import S3Failure
from mainstay.stores._s3.requests import S3Operation, S3Request
from mainstay.stores.base import call_seconds

T = TypeVar("T")

_SIDE_BY_SIDE = 16


class S3Runner:
    """Runs operations on a bucket.

    Args:
        bucket: Where requests go.
        url: What it is called in messages.
        timeout: The store's own limit of time, or None.
    """

    def __init__(self, bucket: Bucket, url: str, timeout: float | None) -> None:
        self.bucket: Bucket = bucket
        self._url = url
        self._timeout = timeout

    def run(self, operation: S3Operation[T], lease: float | None = None) -> T:
        """Run an operation to its end, within the time that a call may take.

        Args:
            operation: The operation.
            lease: The seconds of the lease that it is about, or None.

        Raises:
            CheckpointError: What users see of a failure, or what the operation raises.
        """
        budget = _Budget(call_seconds(self._timeout, lease), whole=lease is not None)
        try:
            return drive(operation, lambda wanted: self._sent(wanted, budget))
        except S3Failure as failure:
            raise failure.told(self._url) from None

    async def arun(self, operation: S3Operation[T], lease: float | None = None) -> T:
        """As `run`, in a task."""
        budget = _Budget(call_seconds(self._timeout, lease), whole=lease is not None)
        try:
            return await adrive(operation, lambda wanted: self._asent(wanted, budget))
        except S3Failure as failure:
            raise failure.told(self._url) from None

    def _sent(self, requests: Sequence[S3Request], budget: "_Budget") -> list[Any]:
        if len(requests) == 1:
            return [self._answer(requests[0], budget)]
        with ThreadPoolExecutor(min(len(requests), _SIDE_BY_SIDE)) as threads:
            return [*threads.map(lambda each: self._answer(each, budget), requests)]

    def _answer(self, request: S3Request, budget: "_Budget") -> Any:
        try:
            return self.bucket.send(request, budget.seconds())
        except S3Failure as failure:
            if not failure.cut:
                raise
        return self.bucket.send(request, budget.seconds())

    async def _asent(self, requests: Sequence[S3Request], budget: "_Budget") -> list[Any]:
        if len(requests) == 1:
            return [await self._aanswer(requests[0], budget)]
        free = asyncio.Semaphore(_SIDE_BY_SIDE)

        async def one(request: S3Request) -> Any:
            async with free:
                return await self._aanswer(request, budget)

        answers = await asyncio.gather(*map(one, requests), return_exceptions=True)
        for each in answers:
            if isinstance(each, BaseException):
                raise each
        return answers

    async def _aanswer(self, request: S3Request, budget: "_Budget") -> Any:
        try:
            return await self.bucket.asend(request, budget.seconds())
        except S3Failure as failure:
            if not failure.cut:
                raise
        return await self.bucket.asend(request, budget.seconds())


@attrs.frozen(eq=False)
class _Budget:
    """The time that an operation may take.

    Attributes:
        limit: In seconds.
        whole: True if that is for the whole operation, False if it is for each request.
        ends: When the whole operation has to end.
    """

    limit: float
    whole: bool
    ends: float = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "ends", monotonic() + self.limit)

    def seconds(self) -> float:
        """Return the seconds that the next request may take.

        Raises:
            S3Failure: If there are none.
        """
        if not self.whole:
            return self.limit
        seconds = step_of(self.limit, self.ends - monotonic())
        if seconds is None:
            raise S3Failure.late()
        return seconds
