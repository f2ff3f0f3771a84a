"""Passwords, which no message, log line or repr may show."""

import re

_PASSWORD = re.compile(r"((?<=//)[^/:@\s]*:)\S*(?=@)|(password=)[^&\s]*")


def masked(text: str) -> str:
    """Return a URL, or a text with URLs in it, without what looks like a password."""
    return _PASSWORD.sub(r"\1\2***", text)
