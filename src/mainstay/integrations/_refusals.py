"""What a server answers where several of a handler's tasks were refused: a group of exceptions.

A task group raises one also where a single task has failed. Where all that is in it would be
answered, the group is answered as one of them: a refusal before a time that is over, and of the
refusals the one after which to wait longest. A `NoMemberError` is an exception of its own.
"""

from mainstay._core.exceptions import leaves_of
from mainstay.errors import DeadlineExpiredError, RejectedError

ANSWERED = (RejectedError, DeadlineExpiredError)
"""What is answered, in the order in which an exception of a group is chosen."""


def answered_as(
    error: BaseException, kinds: tuple[type[BaseException], ...] = ANSWERED
) -> BaseException:
    """Return the exception as which *error* is answered: itself, unless all in it is of *kinds*."""
    leaves = leaves_of(error)
    if not all(issubclass(type(leaf), kinds) for leaf in leaves):
        return error
    first = next(kind for kind in kinds if any(issubclass(type(leaf), kind) for leaf in leaves))
    return max((leaf for leaf in leaves if issubclass(type(leaf), first)), key=_retry_after)


def _retry_after(error: BaseException) -> float:
    return getattr(error, "retry_after", None) or 0.0
