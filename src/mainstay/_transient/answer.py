"""What is known of an error: two questions, and the reason in words."""

from typing import NamedTuple


class Answer(NamedTuple):
    """What the table says of an error.

    Attributes:
        again: Whether the same may be sent again: True, False, or after how many seconds.
        failing: Whether what was called is failing.
        why: The reason, in words.
    """

    again: bool | float
    failing: bool
    why: str


UNKNOWN = Answer(False, False, "nothing is known of it")
MAY_PASS = Answer(True, True, "it may work the next time")
LOCAL = Answer(True, False, "this machine is short of something, which says nothing of the server")
NOT_SENT = Answer(True, True, "nothing was sent")
BROKEN_OFF = Answer(True, True, "it broke off, and may be called again")
SENT = Answer(False, True, "it may have been processed, and its method is not safe to repeat")
MET = Answer(True, False, "it only says that two callers met")
IDLE = Answer(True, False, "the server has closed what was idle for too long")
TOO_SLOW = Answer(False, True, "the server took too long, and would again")
THROTTLED = Answer(True, False, "the server asks for fewer calls")
DAMAGED = Answer(False, True, "the server is failing, and the call may have been processed")
LASTING = Answer(False, False, "it would fail again")
CERTIFICATE = Answer(False, False, "a certificate was refused")
DEADLINE = Answer(False, False, "the time of our own deadline is over")
