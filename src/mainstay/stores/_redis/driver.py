"""redis-py, imported when a store is made, and only then."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType

_MISSING = (
    "RedisStore needs redis-py 6 or newer, which the extra `redis` brings: "
    "pip install 'mainstay[redis]'"
)


def client() -> "ModuleType":
    """Return redis-py.

    Raises:
        ImportError: If redis-py is not installed; with what to do.
    """
    try:
        import redis  # noqa: PLC0415 - an extra
        import redis.asyncio  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise ImportError(_MISSING) from error
    return redis
