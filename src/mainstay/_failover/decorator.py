"""`failover(pool)`: wraps functions; and `current_lease()`, which they may ask."""

from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

from mainstay._core.arguments import to_flag
from mainstay._failover.core import Core
from mainstay._failover.loops import wrap
from mainstay._failover.members import Lease, lease_here
from mainstay._failover.policy import FailoverPool

P = ParamSpec("P")
R = TypeVar("R")


class _Failover:
    """What `failover(pool)` makes: a decorator."""

    def __init__(self, core: Core, *, rerun: bool) -> None:
        self._core = core
        self._rerun = rerun

    def __call__(self, fn: Callable[Concatenate[Any, P], R], /) -> Callable[P, R]:
        """Wrap a function, whose resource the caller no longer gives."""
        if isinstance(fn, classmethod | staticmethod):
            # No callable to a type checker before it is bound, as *fn* was none.
            return cast("Callable[P, R]", type(fn)(self(fn.__func__)))
        if not callable(fn):
            raise TypeError(f"failover wraps callables, not {fn!r}")
        return wrap(self._core, fn, rerun=self._rerun)


def failover(pool: FailoverPool, *, rerun: bool = True) -> _Failover:
    """Give a function the resource of a member of *pool*, and of another one if it fails there.

    The resource goes in as the first argument, or as the second one after a first parameter named
    ``self`` or ``cls``; callers leave it out.

    Args:
        pool: The pool.
        rerun: Whether the function may run again on another member after it failed on one. With
            False a call moves on only if no member could be opened; for what must not happen
            twice.

    Returns:
        A decorator for functions and async functions, methods too.

    Raises:
        TypeError: If *pool* is not a pool, or *rerun* not a bool; at decoration, if the function
            does not fit the pool.
        AllMembersFailedError: From a call, if several members were tried, or none could be.
        Exception: From a call: what the function raised, if one member was tried.
        DeadlineExpiredError: From a call, if it began with no time left; nothing was called.
        UnsupportedLoopError: From an async call outside asyncio.

    Metrics:
        Those of `FailoverPool`.

    Example:
        >>> from mainstay import FailoverPool, Member, current_lease, failover
        >>> pool = FailoverPool("db", [Member("a", {"one": 1})], on=OSError)
        >>> @failover(pool)
        ... def look_up(db: dict[str, int], key: str) -> str:
        ...     return f"{db[key]} from {current_lease().member}"
        >>> look_up("one")
        '1 from a'
    """
    if not isinstance(pool, FailoverPool):
        raise TypeError(f"`pool` must be a FailoverPool, not {pool!r}")
    core = pool._core  # noqa: SLF001 - of this package's own class, hidden from users only
    return _Failover(core, rerun=to_flag(rerun, "rerun"))


def current_lease() -> Lease:
    """Give the member that the calling code uses: its name, its resource, and the epoch.

    Raises:
        LookupError: Outside every call and block of a pool.

    Example:
        >>> from mainstay import FailoverPool, Member, current_lease
        >>> pool = FailoverPool("db", [Member("a", "connection")], on=OSError)
        >>> with pool.lease():
        ...     current_lease().member
        'a'
    """
    lease = lease_here()
    if lease is None:
        raise LookupError("there is no lease here: no call or block of a FailoverPool is around it")
    return lease
