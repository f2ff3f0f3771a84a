"""A retry inside a retry: found by the note that the inner retry leaves on its exception."""

from typing import Self


class RetryNote(str):
    """The note of a retry that gave up after more than one attempt.

    Attributes:
        component: The retry that left it.
        left_at: When the note was left, in seconds of the system's clock, whatever the clock of the
            call: this tells the note from one of an earlier call on the same exception.
    """

    __slots__ = ("component", "left_at")

    component: str
    left_at: float

    def __new__(cls, text: str, component: str, left_at: float) -> Self:
        """Make the note *text*."""
        note = super().__new__(cls, text)
        note.component = component
        note.left_at = left_at
        return note

    def __getnewargs__(self) -> tuple[str, str, float]:  # type: ignore[override]  # as `__new__` takes
        return str(self), self.component, self.left_at


def inner_retry(error: BaseException, since: float) -> str | None:
    """Return the component of a retry that has given up with *error* after *since*, or None."""
    try:
        for note in getattr(error, "__notes__", None) or ():
            if type(note) is RetryNote and note.left_at >= since:
                return note.component
    except Exception:  # noqa: BLE001 - what a user's class has for notes may be anything
        return None
    return None
