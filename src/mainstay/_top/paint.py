"""Text in a style, or without one: what a terminal can show of what a piece says.

Every style repeats a glyph, a word or a weight, so that nothing is lost where there is none. Only
what callers feel is filled: where red and amber look alike, filled and not does not.
"""

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

TRUECOLOR = {
    "well": "#56b4a0",
    "hot": "#6fb1e8",
    "bad": "#e6a531",
    "worst": "#f0604d",
    "filled": "bold #0d1117 on #f0604d",
    "quiet": "#8b949e",
    "faint": "#7d8590",
    "spark": "#4a6d8c",
    "text": "",
    "strong": "bold",
}
SIXTEEN = {
    "well": "cyan",
    "hot": "blue",
    "bad": "yellow",
    "worst": "red",
    "filled": "bold white on red",
    "quiet": "bright_black",
    "faint": "bright_black",
    "spark": "blue",
    "text": "",
    "strong": "bold",
}
"""Styles by what they say."""

_TO_ASCII = str.maketrans(
    {
        "●": "*",
        "○": "o",
        "◌": ".",
        "▲": "!",
        "◐": "?",
        "▽": "v",
        "✗": "x",
        "─": "-",
        "━": "=",
        "■": "#",
        "·": " ",
        "…": "~",
        "\N{EN DASH}": "-",
        "↵": "enter",
        "↑": "up",
        "↓": "down",
        **dict(zip("▁▂▃▄▅▆▇█", "__..--^^", strict=True)),
    }
)
GAP = "   "


class Paint:
    """Makes lines for one terminal.

    Args:
        console: The terminal, which is asked for its palette and its encoding.
    """

    def __init__(self, console: Console) -> None:
        is_rich = console.color_system in ("truecolor", "256")
        self._styles = TRUECOLOR if is_rich else SIXTEEN
        self.is_ascii = not console.encoding.lower().startswith("utf")

    def text(self) -> Text:
        """Return an empty line."""
        return Text(no_wrap=True, end="")

    def add(self, line: Text, text: str, roles: str) -> Text:
        """Add a piece to a line in the style of its roles, and return the line."""
        line.append(self._written(text), " ".join(self._styles[role] for role in roles.split()))
        return line

    def _written(self, text: str) -> str:
        """Return a text as the terminal can write it."""
        if not self.is_ascii:
            return text
        return text.translate(_TO_ASCII).encode("ascii", "replace").decode()

    def cut(self, line: Text, width: int) -> None:
        """Cut a line that is too long."""
        line.truncate(width, overflow="crop" if self.is_ascii else "ellipsis")

    def title(self, title: str) -> Text:
        """Return the first line of a section."""
        return self.add(self.text(), f"  {title}", "quiet strong")

    def fit(self, text: str, width: int) -> str:
        """Return a text in so many columns, cut where it is too long."""
        text = self._written(text)
        if cell_len(text) > width:
            text = set_cell_size(text, max(0, width - 1)) + "…"
        return set_cell_size(text, width)
