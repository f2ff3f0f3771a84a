"""The notes that policies leave on exceptions (PEP 678), and what they tell of the attempts."""

import contextlib
from collections.abc import Callable

from mainstay._core.words import LONGEST_IN_NOTES, counted, in_words

KEPT = 7  # the first attempt, the last five, and the one whose exception is raised


class AttemptLog(list[tuple[int, str, BaseException, float]]):
    """The failed attempts of one call, for the note that lists them.

    It keeps their exceptions, whose tracebacks lead to the call: `clear` it when the call ends.
    """

    __slots__ = ()

    def add(self, where: str, error: BaseException, seconds: float) -> None:
        """Record that an attempt failed.

        Args:
            where: Text to put after the number of the attempt, such as ", at member b".
            error: The exception of the attempt.
            seconds: The time that the attempt took.
        """
        made = self[-1][0] if self else 0
        self.append((made + 1, where, error, seconds))
        if made >= KEPT:
            del self[1]

    def note(self, summary: str, name: str = "attempt {}", *, whole: bool = False) -> str:
        """Return the note for the call's exception: *summary*, and the attempts before it.

        Args:
            summary: The beginning of the note.
            name: The word for an attempt.
            whole: True to list the last attempt too, if the call raises another exception.
        """
        lines = [
            f"{name.format(number)}{where}: {_in_one_line(error)} ({seconds:.3f} s)"
            for number, where, error, seconds in (self[:] if whole else self[:-1])
        ]
        if not lines:
            return summary
        left_out = self[-1][0] - len(self)
        if left_out:
            lines.insert(1, f"... and {counted(left_out, 'more attempt')}")
        heading = "the attempts:" if whole else "the attempts before:"
        return "\n  ".join([f"{summary}; {heading}", *lines])


def _in_one_line(error: BaseException) -> str:
    """Return `in_words` for the line of an attempt, since messages may have several lines."""
    return " ".join(in_words(error, LONGEST_IN_NOTES).split())


def leave_note(
    error: BaseException, owner: str, text: str, kind: Callable[[str], str] = str
) -> None:
    """Leave the note "*owner*: *text*" on *error*, in place of an earlier one of that owner.

    *kind* makes the note of its text, if the note has to be recognized later.

    An exception that refuses notes is left as it is: a note is never worth an error.
    """
    with contextlib.suppress(Exception):
        start = f"{owner}: "
        notes = getattr(error, "__notes__", [])
        error.__notes__ = [n for n in notes if not str(n).startswith(start)]
        error.add_note(kind(start + text))
