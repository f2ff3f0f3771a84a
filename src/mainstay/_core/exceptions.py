"""What an exception is, asked so that no class of the user's has a say in the answer.

Exceptions are compared by their type, as `except` does. `isinstance` would also read `__class__`,
which a property of the user's class may answer falsely, or raise.
"""

from typing import TYPE_CHECKING, Any, TypeVar

from mainstay.errors import RejectedError

if TYPE_CHECKING:
    from typing_extensions import TypeIs

_Error = TypeVar("_Error", bound=BaseException)

CAUSE: Any = BaseException.__dict__["__cause__"]
CONTEXT: Any = BaseException.__dict__["__context__"]
_EXCEPTIONS: Any = BaseExceptionGroup.__dict__["exceptions"]
"""What Python itself keeps of an exception: to read and set it so never asks a class of the user's,
which may refuse, as a frozen dataclass does."""


def is_a(error: BaseException | None, kind: type[_Error]) -> "TypeIs[_Error]":
    """True if *error* is of *kind*; unlike `isinstance`, never asks the error for its class."""
    return issubclass(type(error), kind)


def leaves_of(error: BaseException) -> list[BaseException]:
    """Return what a group holds, down to what is no group; a `NoMemberError` is none of them."""
    if not is_a(error, BaseExceptionGroup) or is_a(error, RejectedError):
        return [error]
    return [leaf for each in _EXCEPTIONS.__get__(error) for leaf in leaves_of(each)]


def is_refusal(error: BaseException) -> bool:
    """True if *error* says that nothing was called: also a group of such, as a `TaskGroup` raises.

    A breaker or a member around the call learns nothing from it.
    """
    kind = type(error)
    return issubclass(kind, RejectedError) or (
        issubclass(kind, BaseExceptionGroup)
        and all(issubclass(type(leaf), RejectedError) for leaf in leaves_of(error))
    )
