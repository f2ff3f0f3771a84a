"""What the reader has chosen with keys, and what the next key makes of it."""

from collections.abc import Iterator, Sequence
from typing import Any

import attrs

ORDERS = ("worst", "name", "rate")
ENTER, ESCAPE, BACKSPACE, UP, DOWN = "enter", "esc", "backspace", "up", "down"

_NAMED = {"\r": ENTER, "\n": ENTER, "\x1b": ESCAPE, "\x7f": BACKSPACE, "\x08": BACKSPACE}
_SEQUENCES = {"[A": UP, "OA": UP, "[B": DOWN, "OB": DOWN}
_LONGEST_FILTER = 40


@attrs.frozen(kw_only=True)
class Choice:
    """What is shown, and how.

    Attributes:
        order: How rows of calls are sorted.
        wanted: What names of components must contain.
        is_typing: True while that is being typed.
        is_paused: True while the picture stands still.
        component: The one that is shown alone, if any.
        has_help: True while the keys are explained.
        is_over: True once the reader has had enough.
    """

    order: str = ORDERS[0]
    wanted: str = ""
    is_typing: bool = False
    is_paused: bool = False
    component: str | None = None
    has_help: bool = False
    is_over: bool = False

    def after(self, key: str, components: Sequence[str]) -> "Choice":
        """Return what is chosen after one more key.

        Args:
            key: A character, or one of the names of keys in this file.
            components: Those on the screen, from the top.
        """
        if self.is_typing:
            return self._after_typed(key)
        if key == ESCAPE:
            return self._back()
        if key in (ENTER, UP, DOWN):
            return self._moved(key, components)
        following = ORDERS[(ORDERS.index(self.order) + 1) % len(ORDERS)]
        changes: dict[str, dict[str, Any]] = {
            "q": {"is_over": True},
            "s": {"order": following},
            "/": {"is_typing": True, "component": None, "has_help": False},
            "p": {"is_paused": not self.is_paused},
            "?": {"has_help": not self.has_help},
        }
        return attrs.evolve(self, **changes.get(key, {}))

    def _after_typed(self, key: str) -> "Choice":
        if key == ENTER:
            return attrs.evolve(self, is_typing=False)
        if key == ESCAPE:
            return attrs.evolve(self, is_typing=False, wanted="")
        if key == BACKSPACE:
            return attrs.evolve(self, wanted=self.wanted[:-1])
        if len(key) == 1 and key.isprintable():
            return attrs.evolve(self, wanted=(self.wanted + key)[:_LONGEST_FILTER])
        return self

    def _back(self) -> "Choice":
        """Leave what was entered last: the help, one component, the filter."""
        if self.has_help:
            return attrs.evolve(self, has_help=False)
        if self.component is not None:
            return attrs.evolve(self, component=None)
        return attrs.evolve(self, wanted="")

    def _moved(self, key: str, components: Sequence[str]) -> "Choice":
        """Show the first component, or the one before or after the present one."""
        if not components or self.has_help:
            return self
        if self.component not in components:
            return attrs.evolve(self, component=components[0]) if key == ENTER else self
        at = components.index(self.component) + {UP: -1, DOWN: 1, ENTER: 0}[key]
        return attrs.evolve(self, component=components[at % len(components)])


def keys_in(text: str) -> Iterator[str]:
    """Yield the keys of what a terminal has sent; sequences that nobody knows are left out."""
    at = 0
    while at < len(text):
        if text[at] == "\x1b" and text[at + 1 : at + 2] in ("[", "O"):
            end = at + 2
            while end < len(text) and not "@" <= text[end] <= "~":
                end += 1
            if (name := _SEQUENCES.get(text[at + 1 : end + 1])) is not None:
                yield name
            at = end + 1
        else:
            yield _NAMED.get(text[at], text[at])
            at += 1
