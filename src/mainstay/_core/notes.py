"""What is said of the user's own exceptions, and the notes that are left on them (PEP 678)."""

import contextlib

_LONGEST = 1000


def leave_note(error: BaseException, owner: str, text: str) -> None:
    """Leave the note "*owner*: *text*" on *error*, in place of an earlier one of that owner.

    An exception that refuses notes is left as it is: a note is never worth an error.
    """
    with contextlib.suppress(Exception):
        start = f"{owner}: "
        notes = getattr(error, "__notes__", [])
        error.__notes__ = [n for n in notes if not str(n).startswith(start)]
        error.add_note(start + text)


def described(value: object) -> str:
    """Give the `repr` of something of the user's, or its class's name where that raises."""
    try:
        return repr(value)
    except Exception:  # noqa: BLE001 - a user's __repr__ may raise anything
        return f"a {type(value).__name__}"


def in_words(error: BaseException) -> str:
    """Give the class and message of an exception, or its class's name where the message raises.

    Returns:
        At most 1,000 characters that can be written anywhere.
    """
    try:
        text = f"{type(error).__name__}: {error}"
    except Exception:  # noqa: BLE001 - a user's __str__ may raise anything
        text = type(error).__name__
    return text[:_LONGEST].encode("utf-8", "backslashreplace").decode()
