"""What the pictures are drawn on and with: a card that is light or dark as the reader's system is.

Colours mean what they mean in `mainstay top`. A `tone` is one of them, and is never alone: a word
or a glyph says the same.

    ok       teal     is well, and serves
    standby  blue     is ready, and stands by
    idle     grey     is not there, or not yet
    cover    amber    goes wrong, and mainstay covers it
    fail     red      what callers feel

Nothing here is random, and numbers are rounded, so that the same picture is the same bytes.
"""

from collections.abc import Iterable
from html import escape
from typing import Literal, NamedTuple, TypeAlias

WIDTH = 760
"""About as wide as a page of the docs, so that text keeps its size."""

NOTE = "dim-text small over"
"""How a remark looks, also where it crosses a line."""

Tone: TypeAlias = Literal["ok", "standby", "idle", "cover", "fail"]
Anchor: TypeAlias = Literal["start", "middle", "end"]


class _Shades(NamedTuple):
    """A tone on one background: of areas, of their edges, of text in them."""

    area: str
    edge: str
    text: str


_LIGHT = {
    "ok": _Shades("#dff3ee", "#1f7a68", "#155c4e"),
    "standby": _Shades("#e1effa", "#2a6ca8", "#1c5080"),
    "idle": _Shades("#eceff2", "#8c959f", "#59636e"),
    "cover": _Shades("#fdf0d2", "#a86d00", "#7a4f00"),
    "fail": _Shades("#fde4df", "#c23a26", "#9b2414"),
    "card": _Shades("#ffffff", "#d0d7de", "#1f2328"),
    "dim": _Shades("#e4e8ec", "#59636e", "#59636e"),
}
_DARK = {
    "ok": _Shades("#15352f", "#56b4a0", "#8fd6c6"),
    "standby": _Shades("#14293d", "#6fb1e8", "#a5d0f3"),
    "idle": _Shades("#20262e", "#59636e", "#9aa4af"),
    "cover": _Shades("#3a2d10", "#e6a531", "#f3c872"),
    "fail": _Shades("#421d18", "#f0604d", "#ffa093"),
    "card": _Shades("#161b22", "#30363d", "#e6edf3"),
    "dim": _Shades("#262c34", "#9aa4af", "#9aa4af"),
}
_FONTS = """text{font:13px system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
.bold{font-weight:600;font-size:14px}.small{font-size:12px}
.mono{font:12px ui-monospace,Menlo,Consolas,"DejaVu Sans Mono",monospace}
.head{font-weight:600;font-size:12px;letter-spacing:.06em}
.line{fill:none;stroke-width:1.6}.dashed{stroke-dasharray:5 4}.hair{stroke-width:1}
.over{paint-order:stroke;stroke-width:5px;stroke-linejoin:round}"""
_CORNER = 10.0
_MONO = 7.25
"""How wide a letter of `mono` is."""


def _styles(tones: dict[str, _Shades]) -> str:
    rules = [
        f".{tone}{{fill:{area};stroke:{edge}}}.{tone}-text{{fill:{text}}}"
        f".{tone}-line{{stroke:{edge}}}.{tone}-head{{fill:{edge}}}"
        for tone, (area, edge, text) in tones.items()
    ]
    return "\n".join([*rules, f".over{{stroke:{tones['card'].area}}}"])


def number(value: float) -> str:
    """Return a number of at most one decimal."""
    return f"{value:.1f}".removesuffix(".0")


class Card:
    """A picture that is being drawn, from the back to the front.

    Args:
        title: What it shows, as heading and for who cannot see it.
        description: The same in a sentence or two, for who cannot see it.
        height: In pixels.
        lead: A line below the heading.
    """

    def __init__(self, title: str, description: str, *, height: float, lead: str = "") -> None:
        self.title = title
        self.description = description
        self.height = height
        self._parts: list[str] = []
        self.heading(28, 32, title)
        if lead:
            self.text(28, 53, lead)

    def heading(self, x: float, y: float, words: str) -> None:
        """Write a heading in small capitals."""
        self.text(x, y, words.upper(), "dim-text head")

    def text(
        self, x: float, y: float, words: str, looks: str = "card-text", anchor: Anchor = "start"
    ) -> None:
        """Write a line of text; *looks* are classes."""
        place = "" if anchor == "start" else f' text-anchor="{anchor}"'
        self._parts.append(
            f'<text class="{looks}" x="{number(x)}" y="{number(y)}"{place}>'
            f"{escape(words, quote=False)}</text>"
        )

    def lines(
        self, x: float, y: float, words: Iterable[str], looks: str, anchor: Anchor = "start"
    ) -> None:
        """Write lines of small text below each other, the first one at *y*."""
        for index, line in enumerate(words):
            self.text(x, y + 16 * index, line, looks, anchor)

    def area(self, x: float, y: float, width: float, height: float, tone: str) -> None:
        """Draw an empty box."""
        self._parts.append(
            f'<rect class="{tone}" x="{number(x)}" y="{number(y)}" width="{number(width)}" '
            f'height="{number(height)}" rx="6" stroke-width="1.6"/>'
        )

    def box(self, x: float, y: float, width: float, tone: Tone, name: str, *lines: str) -> None:
        """Draw a box with a name and smaller lines below; *x* and *y* are its upper left corner."""
        self.area(x, y, width, 36 + 16 * len(lines), tone)
        self.text(x + width / 2, y + 22, name, f"{tone}-text bold", "middle")
        self.lines(x + width / 2, y + 41, lines, f"{tone}-text small", "middle")

    def line(self, *points: tuple[float, float], looks: str = "dim-line", head: str = "") -> None:
        """Draw a line through *points*, with an arrow head of the tone *head*, if any."""
        end = f' marker-end="url(#{head})"' if head else ""
        self._parts.append(f'<path class="line {looks}" d="{_path(points)}"{end}/>')

    def curve(self, points: Iterable[tuple[float, float]], tone: Tone) -> None:
        """Draw a line through many points."""
        path = " ".join(f"{number(x)} {number(y)}" for x, y in points)
        self._parts.append(f'<polyline class="line {tone}-line" points="{path}"/>')

    def arrow(self, *points: tuple[float, float], tone: str = "dim") -> None:
        """Draw a line with an arrow head at the last one of *points*."""
        self.line(*points, looks=f"{tone}-line", head=tone)

    def rule(self, y: float) -> None:
        """Draw a line across."""
        self.line((28, y), (WIDTH - 28, y), looks="hair card")

    def counted(self, y: float, series: Iterable[str]) -> None:
        """Say at the bottom which counters have moved."""
        self.rule(y - 20)
        self.heading(28, y, "Counted")
        x = 112.0
        for one in series:
            self.text(x, y, one, "card-text mono")
            x += _MONO * len(one) + 22

    def svg(self) -> str:
        """Return the picture."""
        heads = "".join(
            f'<marker id="{tone}" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" '
            f'markerHeight="8" orient="auto"><path class="{tone}-head" d="M0 1 10 5 0 9z"/>'
            "</marker>"
            for tone in _LIGHT
            if any(f"url(#{tone})" in part for part in self._parts)
        )
        return "\n".join(
            [
                '<svg xmlns="http://www.w3.org/2000/svg" role="img"',
                f'viewBox="0 0 {WIDTH} {number(self.height)}"',
                'aria-labelledby="title description">',
                f'<title id="title">{escape(self.title)}</title>',
                f'<desc id="description">{escape(self.description)}</desc>',
                f"<style>\n{_FONTS}\n{_styles(_LIGHT)}",
                f"@media(prefers-color-scheme:dark){{\n{_styles(_DARK)}}}\n</style>",
                f"<defs>{heads}</defs>",
                f'<rect class="card" x=".5" y=".5" rx="10" width="{WIDTH - 1}"',
                f'height="{number(self.height - 1)}"/>',
                *self._parts,
                "</svg>\n",
            ]
        )


def _path(points: tuple[tuple[float, float], ...]) -> str:
    """Return the commands of a line through *points*, whose corners are round."""
    (x, y), *others = points
    path = f"M{number(x)} {number(y)}"
    for here, after in zip(others, [*others[1:], None], strict=True):
        if after is None:
            return f"{path}L{number(here[0])} {number(here[1])}"
        before, behind = _towards(here, (x, y)), _towards(here, after)
        path += (
            f"L{number(before[0])} {number(before[1])}"
            f"Q{number(here[0])} {number(here[1])} {number(behind[0])} {number(behind[1])}"
        )
        x, y = here
    return path


def _towards(here: tuple[float, float], there: tuple[float, float]) -> tuple[float, float]:
    """Return the point on the way from *here* to *there* where a round corner ends."""
    (x, y), (x2, y2) = here, there
    far = max(abs(x2 - x), abs(y2 - y))
    part = min(_CORNER, far / 2) / far
    return x + (x2 - x) * part, y + (y2 - y) * part
