"""Passwords, which no message, log line or repr may show."""

import re

_PASSWORD = re.compile(r"((?<=//)[^/:@\s]*:).*(?=@)|(password=)[^&\s]*", re.DOTALL)
"""To the last @, since a password may have any sign in it: rather too much than too little."""


def masked(text: str) -> str:
    """Return a URL, or a text with URLs in it, without what looks like a password."""
    return _PASSWORD.sub(r"\1\2***", text)
