"""obstore, imported when a store is made, and only then."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType

_MISSING = (
    "S3Store needs obstore 0.8 or newer, which the extra `s3` brings: pip install 'mainstay[s3]'"
)


def client() -> "ModuleType":
    """Return obstore.

    Raises:
        ImportError: If obstore is not installed; with what to do.
    """
    try:
        import obstore  # noqa: PLC0415 - an extra
        import obstore.exceptions  # noqa: PLC0415 - an extra
        import obstore.store  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise ImportError(_MISSING) from error
    return obstore
