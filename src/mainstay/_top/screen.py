"""A picture: the verdict, the sections, the keys, in as many lines as there are.

Red is what callers feel, amber what mainstay covers; what is well is dim, and gives way first.
"""

import time
from collections.abc import Sequence
from typing import TypeVar

import attrs
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from mainstay._core.words import printable
from mainstay._top import words
from mainstay._top.choice import Choice
from mainstay._top.layout import Size, fitted
from mainstay._top.lines import STATES, Columns, Lines
from mainstay._top.paint import GAP, Paint
from mainstay._top.view import AnyRow, CallsRow, Finding, Level, View

R = TypeVar("R", bound=AnyRow)

_HELP = (
    ("q", "quit"),
    ("s", "sort: worst first, by name, by rate"),
    ("/", "show only names that contain what follows; enter ends, esc clears"),
    ("↵ ↑ ↓", "one component alone, the one above, the one below"),
    ("esc", "back"),
    ("p", "pause: figures stand still until p is pressed again"),
    ("?", "this help"),
)
_OUTCOMES = {
    "succeeded": ("─", "well"),
    "recovered by the policy": ("━", "bad"),
    "failed": ("■", "worst"),
}


@attrs.frozen(kw_only=True)
class Section:
    """A title, and lines of which those that are well can be folded."""

    title: Text
    rows: Sequence[tuple[AnyRow, Text]]
    word: str = "well"
    folds_to_line: bool = False

    def size(self) -> Size:
        """Return how many lines it has."""
        well = sum(1 for row, _ in self.rows if not row.level)
        return Size(bad=len(self.rows) - well, well=well, folded=int(self.folds_to_line))


class Screen:
    """Draws pictures for one terminal.

    Args:
        console: The terminal.
        once: True without what a single picture has no use for: sparklines and keys.
    """

    def __init__(self, console: Console, *, once: bool = False) -> None:
        self._paint = Paint(console)
        self._once = once

    def lines(
        self,
        view: View,
        choice: Choice,
        width: int,
        height: int | None,
        *,
        is_cut: bool = True,
    ) -> list[Text]:
        """Return the picture, one text for each line.

        Args:
            view: What is to be seen.
            choice: What the reader wants to see of it.
            width: Columns.
            height: Lines; None for as many as there are.
            is_cut: False where longer lines than the width do no harm.
        """
        top = self._verdict(view, choice, width)
        bottom = [] if self._once else [self._keys(view, choice, width)]
        if choice.has_help:
            body = self._help(width)
        else:
            sections = self._sections(shown(view, choice), choice, width)
            room = None if height is None else height - len(top) - len(bottom)
            body = self._fitted(sections, room)
        if height is not None:
            body = self._cut(body, height - len(top) - len(bottom))
            body += [Text()] * (height - len(top) - len(bottom) - len(body))
        picture = [*top, *body, *bottom]
        for line in picture if is_cut else ():
            self._paint.cut(line, width)
        return picture

    def _verdict(self, view: View, choice: Choice, width: int) -> list[Text]:
        clock = time.strftime("%H:%M:%S", time.localtime(view.wall))
        right = self._paint.text()
        if choice.is_paused:
            self._paint.add(right, f"paused{GAP}", "strong")
        if view.rate is not None and width >= 100:  # noqa: PLR2004 - narrower, names need the room
            self._paint.add(right, f"{words.rate(view.rate)} calls/s{GAP}", "quiet")
        if width >= 60:  # noqa: PLR2004 - as above
            self._paint.add(right, f"{clock} ", "quiet")
        found = {
            level: [finding for finding in view.findings if finding.level is level]
            for level in (Level.FAILING, Level.DEGRADED)
        }
        lines = [
            self._findings(level, findings, width - (0 if index else right.cell_len + 2))
            for index, (level, findings) in enumerate(
                (level, findings) for level, findings in found.items() if findings
            )
        ] or [self._calm(view, width)]
        lines[0].pad_right(max(0, width - lines[0].cell_len - right.cell_len))
        lines[0].append_text(right)
        return lines

    def _calm(self, view: View, width: int) -> Text:
        line = self._paint.text()
        if view.targets_up == 0:
            return self._paint.add(line, " waiting for the first answer", "quiet")
        self._paint.add(line, " ● ", "well")
        self._paint.add(line, "all well", "strong")
        what = words.counted(view.components, "component") if view.components else "no calls yet"
        if view.components and view.rate is not None:
            what += f", {words.rate(view.rate)} calls/s" if width < 100 else ""  # noqa: PLR2004
        return self._paint.add(line, f"{GAP}{what}", "quiet")

    def _findings(self, level: Level, findings: Sequence[Finding], room: int) -> Text:
        is_failing = level is Level.FAILING
        style = "worst" if is_failing else "bad"
        line = self._paint.text()
        word = "failing" if is_failing else "degraded"
        self._paint.add(line, f" {len(findings)} {word} ", "filled" if is_failing else style)
        line.pad_right(max(0, 12 - line.cell_len))
        for place, finding in enumerate(findings):
            left = len(findings) - place
            part = self._paint.text()
            part.append(GAP if place else " ")
            self._paint.add(part, printable(finding.name), f"{style} strong")
            self._paint.add(part, f" {printable(finding.text)}", style)
            more = len(f"{GAP}+{left - 1}") if left > 1 else 0
            too_long = line.cell_len + part.cell_len + more - room
            if too_long > 0 and place:
                return self._paint.add(line, f"{GAP}+{left}", style)
            if too_long > 0:
                self._paint.cut(part, max(1, part.cell_len - too_long))
            line.append_text(part)
        return line

    def _keys(self, view: View, choice: Choice, width: int) -> Text:
        line = self._paint.text()
        if choice.is_typing:
            self._paint.add(line, f" /{choice.wanted}_", "strong")
            return self._paint.add(line, f"{GAP}↵ done   esc clear", "quiet")
        if choice.wanted:
            self._paint.add(line, f" /{choice.wanted}{GAP}esc clear", "strong")
        keys = [("q", "quit"), ("s", f"sort: {choice.order}"), ("/", "filter")]
        if choice.component is not None or choice.has_help:
            keys = [("q", "quit"), ("esc", "back")]
            keys += [("↑↓", "others")] if choice.component is not None else []
        else:
            keys += [("↵", "one component")]
        keys += [("p", "go on" if choice.is_paused else "pause"), ("?", "help")]
        right = self._paint.text()
        if view.took is not None:
            slow = f"every {words.interval(view.every)} (scrapes take {view.took:.1f}s) "
            self._paint.add(right, slow, "bad")
        for key, meaning in keys:
            piece = self._paint.text()
            self._paint.add(piece, f" {key} ", "strong")
            self._paint.add(piece, f"{meaning}  ", "quiet")
            if line.cell_len + piece.cell_len + right.cell_len <= width:
                line.append_text(piece)
        line.pad_right(max(0, width - line.cell_len - right.cell_len))
        line.append_text(right)
        return line

    def _help(self, width: int) -> list[Text]:
        lines = [self._paint.text()]
        for key, meaning in _HELP:
            pieces = [
                self._paint.add(self._paint.text(), word, "quiet") for word in meaning.split()
            ]
            lines += self._wrapped(key, "strong", pieces, " ", width)
        lines.append(self._paint.text())
        for what, glyphs in (("calls", _OUTCOMES), ("states", STATES)):
            pieces = []
            for word, (glyph, style) in glyphs.items():
                piece = self._paint.add(self._paint.text(), f"{glyph} ", style)
                pieces.append(self._paint.add(piece, word.replace("_", " "), "quiet"))
            lines += self._wrapped(f"{what}:", "quiet", pieces, GAP, width)
        return lines

    def _wrapped(
        self, head: str, roles: str, pieces: Sequence[Text], gap: str, width: int
    ) -> list[Text]:
        """Return lines of pieces behind a head, in a column that is as wide for all heads."""
        lines: list[Text] = []
        for piece in pieces:
            if not lines or lines[-1].cell_len + len(gap) + piece.cell_len > width:
                line = self._paint.text()
                self._paint.add(line, f"  {self._paint.fit('' if lines else head, 8)}", roles)
                lines.append(line)
            else:
                lines[-1].append(gap)
            lines[-1].append_text(piece)
        return lines

    def _sections(self, view: View, choice: Choice, width: int) -> list[Section]:
        every: tuple[Sequence[AnyRow], ...] = (
            view.calls,
            view.pools,
            view.breakers,
            view.limits,
            view.copies,
            view.runs,
        )
        names = [cell_len(printable(row.component)) for rows in every for row in rows]
        columns = Columns.of(width, max([len("CALLS"), *names]))
        if self._once:
            columns = attrs.evolve(columns, spark=0)
        lines = Lines(self._paint, columns, width)
        sections = [
            Section(
                title=lines.calls_title(view),
                rows=[(row, lines.calls(row)) for row in view.calls],
                folds_to_line=True,
            ),
            Section(title=self._paint.title("POOLS"), rows=lines.pools(view.pools)),
            Section(
                title=self._paint.title("BREAKERS"),
                rows=lines.breakers(view.breakers),
                word="closed",
            ),
            Section(
                title=self._paint.title("BULKHEADS"),
                rows=[(row, lines.limit(row)) for row in view.limits],
            ),
            Section(
                title=self._paint.title("HEDGES, VOTES"),
                rows=[(row, lines.copies(row)) for row in view.copies],
            ),
            Section(
                title=self._paint.title("RUNS"),
                rows=[(row, lines.run(row)) for row in view.runs],
            ),
            Section(title=self._paint.title("TARGETS"), rows=lines.targets(view.targets)),
        ]
        if choice.component is not None:
            detail = self._paint.title("IN THE LAST SECONDS")
            sections.append(Section(title=detail, rows=lines.details(view)))
        return [section for section in sections if section.rows]

    def _fitted(self, sections: Sequence[Section], room: int | None) -> list[Text]:
        sizes = [section.size() for section in sections]
        shown = [size.well for size in sizes] if room is None else fitted(sizes, room)
        body = []
        for section, count in zip(sections, shown, strict=True):
            well = [place for place, (row, _) in enumerate(section.rows) if not row.level]
            folded = {*well[count:]}
            title = section.title
            lines = [text for place, (_, text) in enumerate(section.rows) if place not in folded]
            if folded:
                said = self._folded([section.rows[place][0] for place in folded], section)
                if section.folds_to_line:
                    lines.append(said)
                else:
                    title.append(GAP).append_text(said)
            body += [self._paint.text(), title, *lines]
        return body

    def _folded(self, rows: Sequence[AnyRow], section: Section) -> Text:
        """Return how many rows are not shown: those that are well, and those of targets down."""
        line = self._paint.text()
        living = [row for row in rows if row.age is None]
        more = " more" if len(rows) < len(section.rows) else ""
        if section.folds_to_line:
            self._paint.add(line, "● ", "well" if living else "faint")
        said = [f"{len(living)}{more}, {section.word}"] if living else []
        if living and section.folds_to_line:
            rate = sum(row.rate or 0.0 for row in living if isinstance(row, CallsRow))
            said.append(f"{words.rate(rate)} calls/s")
        if len(living) < len(rows):
            said.append(f"{len(rows) - len(living)}{more}, no answer")
        return self._paint.add(line, GAP.join(said), "quiet")

    def _cut(self, body: list[Text], room: int) -> list[Text]:
        if len(body) <= room:
            return body
        if room <= 0:
            return []
        line = self._paint.text()
        self._paint.add(line, f"  {words.counted(len(body) - room + 1, 'more line')}", "quiet")
        return [*body[: room - 1], line]


def shown(view: View, choice: Choice) -> View:
    """Return what of a picture the reader wants to see, in the order that was chosen."""

    def place(row: AnyRow) -> tuple[float, float, str]:
        rate = (row.rate or 0.0) if isinstance(row, CallsRow) else 0.0
        first = {"worst": -float(row.level), "name": 0.0, "rate": -rate}[choice.order]
        return float(row.age is not None), first, row.component

    def kept(rows: tuple[R, ...]) -> tuple[R, ...]:
        if choice.component is not None:
            rows = tuple(row for row in rows if row.component == choice.component)
        else:
            wanted = choice.wanted.lower()
            rows = tuple(row for row in rows if wanted in row.component.lower())
        return tuple(sorted(rows, key=place))

    return attrs.evolve(
        view,
        calls=kept(view.calls),
        pools=kept(view.pools),
        breakers=kept(view.breakers),
        limits=kept(view.limits),
        copies=kept(view.copies),
        runs=kept(view.runs),
        targets=kept(view.targets),
    )
