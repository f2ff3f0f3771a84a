"""Our errors as gRPC's own, so that one `except grpc.RpcError` is right around every call."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

import grpc
import grpc.aio

from mainstay.errors import MainstayError
from mainstay.integrations._errors import as_clients
from mainstay.integrations._statuses import pushback_of, status_of
from mainstay.integrations._versions import check_version

check_version("grpcio", grpc.__version__, since="1.60", before="2")


def _local_code(error: Exception) -> grpc.StatusCode:
    return grpc.StatusCode[status_of(error) or "UNKNOWN"]


if TYPE_CHECKING:
    _Future = grpc.Future[Any]
else:
    _Future = grpc.Future


class LocalError(grpc.RpcError, grpc.Call, _Future):
    """An error of ours as the call that it was: what gRPC makes of each failure."""

    def code(self) -> grpc.StatusCode:
        return _local_code(self)

    def details(self) -> str:
        return str(self)

    def initial_metadata(self) -> Any:
        return ()

    def trailing_metadata(self) -> Any:
        return pushback_of(self)

    def is_active(self) -> bool:
        return False

    def time_remaining(self) -> float:
        return 0.0

    def add_callback(self, callback: object) -> bool:  # noqa: ARG002 - there is nothing to wait for
        return False

    def cancel(self) -> bool:
        return False

    def cancelled(self) -> bool:
        return False

    def running(self) -> bool:
        return False

    def done(self) -> bool:
        return True

    def result(self, timeout: float | None = None) -> NoReturn:  # noqa: ARG002 - as above
        raise self

    def exception(self, timeout: float | None = None) -> Exception:  # noqa: ARG002 - as above
        return self

    def traceback(self, timeout: float | None = None) -> Any:  # noqa: ARG002 - as above
        return self.__traceback__

    def add_done_callback(self, fn: Callable[[Any], Any]) -> None:
        fn(self)


class LocalAioError(grpc.aio.AioRpcError):
    """An error of ours as an exception of `grpc.aio`."""

    def __init__(self, text: str) -> None:
        none = grpc.aio.Metadata()
        super().__init__(_local_code(self), none, none, text)

    __str__ = Exception.__str__
    __repr__ = Exception.__repr__

    def trailing_metadata(self) -> Any:
        return grpc.aio.Metadata(*pushback_of(self))


Local: TypeAlias = type[LocalError | LocalAioError]
"""The class of gRPC that an error of ours is made one of."""


def as_grpc(error: MainstayError, local: Local) -> Exception:
    """Return an error of ours as gRPC's; one that is no status stays as it is."""
    return error if status_of(error) is None else as_clients(error, local)
