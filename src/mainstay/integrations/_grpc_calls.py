"""Unary calls of gRPC: what they go through, and how their attempts are made."""

import functools
import math
from collections.abc import Callable
from typing import Any, NoReturn

import attrs
import grpc

from mainstay._core.clock import monotonic
from mainstay._core.context import current_context
from mainstay._core.functions import Kind
from mainstay._limits.bulkhead_calls import BulkheadCall
from mainstay._retry.call import BoundRetry
from mainstay._retry.loops import WRAPPERS
from mainstay.errors import DeadlineExpiredError
from mainstay.integrations._calls import end_of
from mainstay.integrations._errors import as_clients
from mainstay.integrations._grpc_errors import Local
from mainstay.integrations._hosts import Host, Hosts, Policies
from mainstay.integrations._time import has_deadline, time_left

_MOST_TIMEOUTS = 1_000
_LATE = grpc.StatusCode.DEADLINE_EXCEEDED


class RpcCalls:
    """The policies of an interceptor, bound to each service and each timeout of its calls.

    Args:
        policies: What the interceptor was told.
        attempt: Makes one attempt.
        kind: Of what *attempt* is.
    """

    def __init__(self, policies: Policies, attempt: Callable[..., Any], kind: Kind) -> None:
        self._name = policies.name
        self._hosts = Hosts(policies, attempt)
        self._wrapper = WRAPPERS[kind]
        self._known: dict[tuple[Host, float | None], Callable[..., Any]] = {}

    def find(self, details: Any) -> tuple[Host, Callable[..., Any]]:
        """Return what a call goes through, and the function that makes it."""
        service = self._name or service_of(details.method), None
        host = self._hosts.find(service, monotonic())
        key = host, details.timeout
        call = self._known.get(key)
        if call is None:
            if len(self._known) >= _MOST_TIMEOUTS:  # each call has computed one of its own
                self._known.clear()
            call = self._wrapper(_limited(host, details.timeout), host.attempt)
            self._known[key] = call
        return host, call


def _limited(host: Host, timeout: float | None) -> BoundRetry:
    """Return the retry of a host for calls that take at most *timeout* seconds altogether."""
    settings = host.retry.settings
    if timeout is None or (settings.timeout is not None and settings.timeout <= timeout):
        return host.retry
    return attrs.evolve(host.retry, settings=attrs.evolve(settings, timeout=timeout))


@functools.lru_cache(maxsize=1_000)
def service_of(method: str | bytes) -> str:
    """Return the service of a method such as "/shop.Orders/Get"."""
    path = method.decode("latin-1") if isinstance(method, bytes) else method
    return path.rpartition("/")[0].lstrip("/") or path


class UnaryCall:
    """One call, and how its attempts are made: in sync and in async code.

    Attributes:
        host: What it goes through.
        call: What the last attempt was, in the words of gRPC; None before it has ended.
        response: Its response.
        refusal: None, since each failure of gRPC is an exception.
    """

    __slots__ = (
        "_continuation",
        "_details",
        "_is_ours",
        "_local",
        "_request",
        "_until",
        "call",
        "host",
        "refusal",
        "response",
    )

    def __init__(
        self,
        host: Host,
        continuation: Callable[..., Any],
        details: Any,
        request: Any,
        local: Local,
    ) -> None:
        self._continuation = continuation
        self._details = details
        self._request = request
        self._local = local
        self._is_ours = False
        self._until: float | None = None
        self.host = host
        self.call: Any = None
        self.response: Any = None
        self.refusal: Exception | None = None

    def send(self) -> Any:
        """Make an attempt."""
        self.call = call = self._continuation(self._details_now(), self._request)
        error = call.exception()
        if error is not None:
            self._raise(error)
        self.response = call.result()
        return self.response

    async def asend(self) -> Any:
        """Make an attempt."""
        self.call = call = await self._continuation(self._details_now(), self._request)
        try:
            self.response = await call
        except grpc.RpcError as error:
            self._raise(error)
        return self.response

    def hold(self, place: BulkheadCall) -> None:
        """Free *place*, since a unary call is over with its attempt."""
        end_of(place, None)

    def _details_now(self) -> Any:
        """Return the details of the next attempt, whose timeout is the time left.

        Raises:
            DeadlineExpiredError: If a deadline leaves none.
        """
        own: float | None = self._details.timeout
        if own is not None:
            now = current_context().clock.now()
            if self._until is None:
                self._until = now + own
            own = max(0.0, self._until - now)
        left = time_left(self.host.retry.component) if has_deadline() else math.inf
        self._is_ours = left < (math.inf if own is None else own)
        shortest = left if self._is_ours else own
        return self._details if shortest is None else _with_timeout(self._details, shortest)

    def _raise(self, error: BaseException) -> NoReturn:
        """Raise what an attempt has come to; as ours too if the deadline has ended it."""
        if self._is_ours and isinstance(error, grpc.RpcError) and _code_of(error) is _LATE:
            expired = DeadlineExpiredError(self.host.retry.component)
            raise as_clients(expired, self._local) from error
        raise error


def _code_of(error: Any) -> object:
    code = getattr(error, "code", None)
    return code() if callable(code) else None


def in_time(details: Any) -> Any:
    """Return *details* with the time that a deadline leaves, if that is shorter.

    Raises:
        DeadlineExpiredError: If it leaves none.
    """
    left = time_left(service_of(details.method)) if has_deadline() else math.inf
    own = details.timeout
    return details if left >= (math.inf if own is None else own) else _with_timeout(details, left)


def _with_timeout(details: Any, timeout: float) -> Any:
    replace = getattr(details, "_replace", None)  # of gRPC's own, and mostly of those of others
    return _Details(details, timeout) if replace is None else replace(timeout=timeout)


class _Details(grpc.ClientCallDetails):
    """The details that an interceptor of grpc.aio has made, with another timeout."""

    def __init__(self, details: Any, timeout: float) -> None:
        self.method = details.method
        self.timeout = timeout
        self.metadata = details.metadata
        self.credentials = details.credentials
        self.wait_for_ready = details.wait_for_ready
