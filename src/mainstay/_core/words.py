"""Words for messages, notes and log lines: short, printable, and without passwords.

Nothing here raises, whatever a `__repr__`, a `__str__` or a metaclass of the user's does.
"""

import contextlib
import re

LONGEST_IN_NOTES = 200
_LONGEST = 1_000

_PASSWORD = re.compile(r"((?<=//)[^/:@\s]*:).*(?=@)|(password=)[^&\s]*", re.DOTALL)
"""To the last @, since a password may have any sign in it: rather too much than too little."""


_own_name = type.__dict__["__name__"].__get__
"""Reads a class's own name, which its metaclass can neither hide nor make fail."""


def masked(text: str) -> str:
    """Return a URL, or a text with URLs in it, without what looks like a password."""
    return _PASSWORD.sub(r"\1\2***", text)


def kind_in_words(value: object) -> str:
    """Return what a message calls a value that may be, or contain, an address with a password."""
    if issubclass(type(value), type):
        return f"the class {_own_name(value)}"
    return "None" if value is None else f"an object of type {class_name(value)}"


def described(value: object) -> str:
    """Return the `repr` of something of the user's, or its class's name where that raises."""
    try:
        return repr(value)
    except Exception:  # noqa: BLE001 - a user's __repr__ may raise anything
        return f"a {class_name(value)}"


def class_name(value: object) -> str:
    """Return the name of the class of something of the user's, at most 200 characters of it."""
    name: str = _own_name(type(value))
    return name[:LONGEST_IN_NOTES]


def in_words(error: BaseException, longest: int = _LONGEST) -> str:
    """Return the class and message of an exception, or its class's name where the message raises.

    Returns:
        At most *longest* characters of the message, all of which can be written anywhere.
    """
    text = class_name(error)
    with contextlib.suppress(Exception):  # a user's __str__ may raise anything
        said = str(error)
        text = f"{text}: {said[:longest]}" if said else text
    return text.encode("utf-8", "backslashreplace").decode()


def printable(text: str, *, in_json: bool = False) -> str:
    """Escape what would begin a line, tell a terminal something, or show text in another order.

    Every line of the commands and of the log goes through here.

    Args:
        text: A text from users, exceptions or the content of a store.
        in_json: True if *text* is JSON: then the escapes of JSON are used, and lines are kept.
    """
    if text.isprintable():
        return text
    if in_json:
        return "".join(
            each if each.isprintable() or each == "\n" else _escaped_in_json(each) for each in text
        )
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)


def _escaped_in_json(each: str) -> str:
    units = each.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[place : place + 4]}" for place in range(0, len(units), 4))


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Return a number of things in words: "1 attempt", "3 attempts", "2 copies"."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"
