"""Which versions of a library an integration has been tested with."""

import re


def check_version(library: str, version: str, *, since: str, before: str) -> None:
    """Raise if the version of a library is not a known one.

    Args:
        library: The name that pip installs it by.
        version: What is installed, such as "1.45.2".
        since: The first known one.
        before: The first one, after them, that is not.

    Raises:
        ImportError: If *version* is not among them; with what to do.
    """
    if not _numbers(since) <= _numbers(version) < _numbers(before):
        raise ImportError(
            f"mainstay knows {library} from {since} to below {before}, and {version} is installed: "
            f"`pip install '{library}>={since},<{before}'`, or look for a newer mainstay"
        )


def _numbers(version: str) -> tuple[int, ...]:
    """Return the numbers that *version* begins with; none if it does not begin with any."""
    found = re.match(r"\d+(\.\d+)*", version)
    return tuple(map(int, found[0].split("."))) if found else ()
