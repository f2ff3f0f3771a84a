"""How a picture looks: lines of text with colours, for a width and a height.

Red is filled where callers feel it, amber is not; what is well is dim. Every colour repeats a
glyph, a word or a weight, so that nothing is lost without it.
"""

import time
from collections.abc import Iterable, Sequence
from typing import TypeVar

import attrs
from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

from mainstay._core.failures import printable
from mainstay._top import words
from mainstay._top.bars import bar, heights
from mainstay._top.choice import Choice
from mainstay._top.layout import Size, folded
from mainstay._top.view import (
    BreakerRow,
    CallsRow,
    CopiesRow,
    Finding,
    Level,
    LimitRow,
    MemberCell,
    PoolRow,
    Row,
    RunRow,
    Since,
    TargetRow,
    View,
)

R = TypeVar("R", bound=Row)

TRUE_COLOURS = {
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
SIXTEEN_COLOURS = {
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
_SPARKS = "▁▂▃▄▅▆▇█"
_LEVELS = {Level.WELL: ("●", "well"), Level.DEGRADED: ("▲", "bad"), Level.FAILING: ("✗", "worst")}
_STATES = {
    "active": ("●", "well"),
    "standby_hot": ("○", "hot"),
    "standby_cold": ("◌", "faint"),
    "failing": ("▲", "bad"),
    "trial": ("◐", "bad"),
    "draining": ("▽", "bad"),
    "ejected": ("✗", "bad"),
    "closed": ("●", "well"),
    "half_open": ("◐", "bad"),
    "open": ("✗", "worst"),
}
_STATE_WORDS = {
    "active": "",
    "standby_hot": "hot",
    "standby_cold": "cold",
    "half_open": "half open",
}
_GAP = "   "
_HELP = (
    ("q", "quit"),
    ("s", "sort: worst first, by name, by rate"),
    ("/", "show only components whose names contain what follows; enter ends, esc clears"),
    ("↵ ↑ ↓", "one component alone, the one above, the one below"),
    ("esc", "back"),
    ("p", "pause: figures stand still until p is pressed again"),
    ("?", "this help"),
)


@attrs.frozen(kw_only=True)
class Columns:
    """What there is room for in a width."""

    policy: bool
    spark: int
    bar: int
    recovered: bool
    p50: bool
    attempts: bool
    errors: bool
    members: bool
    name: int

    @classmethod
    def of(cls, width: int) -> "Columns":
        """Return what a width has room for: 40, 60, 80, 120 and 160 are what it is made for."""
        wide, wider = width >= 120, width >= 160  # noqa: PLR2004 - as above
        usual, some = width >= 80, width >= 60  # noqa: PLR2004
        return cls(
            policy=wide,
            spark=20 if wide else 8 if some else 0,
            bar=18 if wide else 13 if usual else 0,
            recovered=wide,
            p50=wider,
            attempts=some,
            errors=wider,
            members=wide,
            name=28 if wide else 17 if some else 14,
        )


@attrs.frozen(kw_only=True)
class Section:
    """A title, and lines of which those that are well can be folded."""

    title: Text
    rows: Sequence[tuple[Row, Text]]
    word: str = "well"
    folds_to_line: bool = False

    def size(self) -> Size:
        """Return how many lines it has."""
        well = sum(1 for row, _ in self.rows if not row.level)
        return Size(bad=len(self.rows) - well, well=well, folded=int(self.folds_to_line))


class Screen:
    """Draws pictures for one terminal.

    Args:
        console: The terminal, of which size, colours and encoding are asked.
        once: True without what a single picture has no use for: sparklines and keys.
    """

    def __init__(self, console: Console, *, once: bool = False) -> None:
        is_rich = console.color_system in ("truecolor", "256")
        self._console = console
        self._styles = TRUE_COLOURS if is_rich else SIXTEEN_COLOURS
        self._is_ascii = not console.encoding.lower().startswith("utf")
        self._once = once

    def lines(self, view: View, choice: Choice, width: int, height: int | None) -> list[Text]:
        """Return the picture, one text for each line.

        Args:
            view: What is to be seen.
            choice: What the reader wants to see of it.
            width: Columns.
            height: Lines; None for as many as there are.
        """
        top = self._verdict(view, choice, width)
        bottom = [] if self._once else [self._keys(view, choice, width)]
        if choice.has_help:
            body = self._help()
        else:
            sections = self._sections(shown(view, choice), choice, width)
            room = None if height is None else height - len(top) - len(bottom)
            body = self._fitted(sections, room)
        if height is not None:
            body = self._cut(body, height - len(top) - len(bottom))
            body += [Text()] * (height - len(top) - len(bottom) - len(body))
        picture = [*top, *body, *bottom]
        for line in picture:
            line.no_wrap = True
            line.truncate(width, overflow="ellipsis" if not self._is_ascii else "crop")
        return picture

    # The lines at the top and at the bottom.

    def _verdict(self, view: View, choice: Choice, width: int) -> list[Text]:
        clock = time.strftime("%H:%M:%S", time.localtime(view.wall))
        right = self._text()
        if choice.is_paused:
            self._add(right, f"paused{_GAP}", "strong")
        if view.rate is not None and width >= 100:  # noqa: PLR2004 - narrower, names need the room
            self._add(right, f"{words.rate(view.rate)} calls/s{_GAP}", "quiet")
        self._add(right, f"{clock} ", "quiet")
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
        line = self._text()
        if view.targets_up == 0:
            return self._add(line, " waiting for the first answer", "quiet")
        self._add(line, " ● ", "well")
        self._add(line, "all well", "strong")
        what = words.counted(view.components, "component") if view.components else "no calls yet"
        if view.components and view.rate is not None:
            what += f", {words.rate(view.rate)} calls/s" if width < 100 else ""  # noqa: PLR2004
        return self._add(line, f"{_GAP}{what}", "quiet")

    def _findings(self, level: Level, findings: Sequence[Finding], room: int) -> Text:
        is_failing = level is Level.FAILING
        style = "worst" if is_failing else "bad"
        line = self._text()
        word = "failing" if is_failing else "degraded"
        self._add(line, f" {len(findings)} {word} ", "filled" if is_failing else style)
        line.pad_right(max(0, 13 - line.cell_len))
        for place, finding in enumerate(findings):
            left = len(findings) - place
            part = self._text()
            self._add(part, printable(finding.name), f"{style} strong")
            self._add(part, f" {printable(finding.text)}", style)
            more = len(f"{_GAP}+{left - 1}") if left > 1 else 0
            if place and line.cell_len + len(_GAP) + part.cell_len + more > room:
                return self._add(line, f"{_GAP}+{left}", style)
            line.append(_GAP if place else "")
            line.append_text(part)
        line.truncate(max(room, 1))
        return line

    def _keys(self, view: View, choice: Choice, width: int) -> Text:
        line = self._text()
        if choice.is_typing:
            self._add(line, f" /{choice.wanted}_", "strong")
            return self._add(line, f"{_GAP}↵ done   esc clear", "quiet")
        if choice.wanted:
            self._add(line, f" /{choice.wanted}{_GAP}esc clear", "strong")
        keys = [("q", "quit"), ("s", f"sort: {choice.order}"), ("/", "filter")]
        if choice.component is not None or choice.has_help:
            keys = [("q", "quit"), ("esc", "back")]
            keys += [("↑↓", "others")] if choice.component is not None else []
        else:
            keys += [("↵", "one component")]
        keys += [("p", "go on" if choice.is_paused else "pause"), ("?", "help")]
        right = self._text()
        if view.took is not None:
            slow = f"every {words.interval(view.every)} (scrapes take {view.took:.1f}s) "
            self._add(right, slow, "bad")
        for key, meaning in keys:
            piece = self._text()
            self._add(piece, f" {key} ", "strong")
            self._add(piece, f"{meaning}  ", "quiet")
            if line.cell_len + piece.cell_len + right.cell_len <= width:
                line.append_text(piece)
        line.pad_right(max(0, width - line.cell_len - right.cell_len))
        line.append_text(right)
        return line

    def _help(self) -> list[Text]:
        lines = [self._text()]
        for key, meaning in _HELP:
            line = self._text()
            self._add(line, f"  {self._fit(key, 8)}", "strong")
            lines.append(self._add(line, meaning, "quiet"))
        legend = self._text()
        self._add(legend, "  calls:  ", "quiet")
        for glyphs, meaning, style in (
            ("─", "succeeded", "well"),
            ("━", "recovered by the policy", "bad"),
            ("■", "failed", "worst"),
        ):
            self._add(legend, f"{glyphs} ", style)
            self._add(legend, f"{meaning}{_GAP}", "quiet")
        states = self._text()
        self._add(states, "  states: ", "quiet")
        for state, (glyph, style) in _STATES.items():
            self._add(states, f"{glyph} ", style)
            self._add(states, f"{state.replace('_', ' ')}  ", "quiet")
        return [*lines, self._text(), legend, states]

    # Sections.

    def _sections(self, view: View, choice: Choice, width: int) -> list[Section]:
        columns = Columns.of(width)
        if self._once:
            columns = attrs.evolve(columns, spark=0)
        every: tuple[Sequence[Row], ...] = (
            view.calls,
            view.pools,
            view.breakers,
            view.limits,
            view.copies,
            view.runs,
            view.targets,
        )
        names = [cell_len(printable(row.component)) for rows in every for row in rows]
        columns = attrs.evolve(columns, name=min(columns.name, max(names, default=0)))
        sections = [
            Section(
                title=self._calls_title(columns, view),
                rows=[(row, self._calls(row, columns)) for row in view.calls],
                folds_to_line=True,
            ),
            Section(title=self._title("POOLS"), rows=self._pools(view.pools, columns)),
            Section(
                title=self._title("BREAKERS"),
                rows=[(row, self._breaker(row, columns)) for row in view.breakers],
                word="closed",
            ),
            Section(
                title=self._title("BULKHEADS"),
                rows=[(row, self._limit(row, columns)) for row in view.limits],
            ),
            Section(
                title=self._title("HEDGES, VOTES"),
                rows=[(row, self._copies(row, columns)) for row in view.copies],
            ),
            Section(
                title=self._title("RUNS"),
                rows=[(row, self._run(row, columns)) for row in view.runs],
            ),
            Section(
                title=self._title("TARGETS"),
                rows=[(row, self._target(row, columns)) for row in view.targets],
            ),
        ]
        if choice.component is not None:
            sections += self._details(view)
        return [section for section in sections if section.rows]

    def _fitted(self, sections: Sequence[Section], room: int | None) -> list[Text]:
        folds = (False,) * len(sections)
        if room is not None:
            folds = folded([section.size() for section in sections], room)
        body = []
        for section, is_folded in zip(sections, folds, strict=True):
            well = [row for row, _ in section.rows if not row.level]
            title = section.title
            lines = [text for row, text in section.rows if row.level or not is_folded]
            if is_folded and section.folds_to_line:
                lines.append(self._folded_calls(well))
            elif is_folded:
                more = " more" if len(well) < len(section.rows) else ""
                self._add(title, f"{_GAP}{len(well)}{more}, {section.word}", "quiet")
            body += [self._text(), title, *lines]
        return body

    def _folded_calls(self, rows: Sequence[Row]) -> Text:
        line = self._text()
        self._add(line, "● ", "well")
        rate = sum(row.rate or 0.0 for row in rows if isinstance(row, CallsRow))
        return self._add(line, f"{len(rows)} more, well{_GAP}{words.rate(rate)} calls/s", "quiet")

    def _cut(self, body: list[Text], room: int) -> list[Text]:
        if len(body) <= room:
            return body
        if room <= 0:
            return []
        line = self._text()
        self._add(line, f"  {words.counted(len(body) - room + 1, 'more line')}", "quiet")
        return [*body[: room - 1], line]

    # Rows.

    def _calls_title(self, columns: Columns, view: View) -> Text:
        line = self._text()
        self._add(line, f"  {self._fit('CALLS', columns.name)}", "quiet strong")
        if columns.policy:
            line.append(" " * 11)
        self._add(line, f" {'calls/s':>7}", "quiet")
        if columns.spark:
            span = words.interval(columns.spark * view.span)
            self._add(line, f" {span:<{columns.spark}}", "faint")
        if columns.bar:
            line.append(" ")
            gap = " " if columns.bar > 13 else ""  # noqa: PLR2004 - there is room for spaces
            legend = [("─", "ok", "well"), ("━", "rec", "bad"), ("■", "err", "worst")]
            width = line.cell_len + columns.bar
            for place, (glyph, word, style) in enumerate(legend):
                self._add(line, f"{' ' if place else ''}{glyph}{gap}{word}", style)
            line.pad_right(max(0, width - line.cell_len))
        self._add(line, f" {'err.':>6}", "quiet")
        if columns.recovered:
            self._add(line, f" {'recov.':>6}", "quiet")
        if columns.p50:
            self._add(line, f" {'p50':>7}", "quiet")
        self._add(line, f" {'p95':>7}", "quiet")
        if columns.attempts:
            self._add(line, f" {'att.':>5}", "quiet")
        return line

    def _calls(self, row: CallsRow, columns: Columns) -> Text:
        line = self._start(row, columns)
        if columns.policy:
            self._add(line, f" {self._fit(row.policy, 10)}", self._or_faint(row, "faint"))
        rate = "…" if row.rate is None else words.rate(row.rate)
        self._add(line, f" {rate:>7}", self._or_faint(row, "text"))
        if columns.spark:
            line.append(" ")
            self._sparkline(line, row, columns.spark)
        if columns.bar:
            line.append(" ")
            self._bar(line, row, columns.bar)
        failed = f" {words.percent(row.failed) if row.failed else '':>6}"
        bad = "worst strong" if row.level is Level.FAILING else "text"
        self._add(line, failed, self._or_faint(row, bad))
        if columns.recovered:
            shown = words.percent(row.recovered) if row.recovered else ""
            style = "bad" if row.level and row.why.endswith("recovered") else "faint"
            self._add(line, f" {shown:>6}", self._or_faint(row, style))
        if columns.p50:
            self._add(line, f" {self._quantile(row, 0):>7}", self._or_faint(row, "faint"))
        self._add(line, f" {self._quantile(row, 1):>7}", self._or_faint(row, "text"))
        if columns.attempts:
            shown = "" if row.attempts is None else f"{row.attempts:.2f}"
            self._add(line, f" {shown:>5}", self._or_faint(row, "faint"))
        if row.age is not None:
            self._add(line, f"  {words.age(row.age)} ago", "faint")
        elif columns.errors:
            line.append("  ")
            for name, count in [*row.errors[:2], *row.reasons[:1]]:
                self._add(line, f"{printable(name)} {count:,.0f}  ", "faint")
        return line

    def _quantile(self, row: CallsRow, place: int) -> str:
        if row.quantiles is None:
            return "\N{EN DASH}" if row.rate else ""
        return words.took(row.quantiles[place])

    def _sparkline(self, line: Text, row: CallsRow, width: int) -> None:
        cells = row.cells[-width:]
        line.append(" " * (width - len(cells)))
        steps = heights([cell.rate for cell in cells], len(_SPARKS))
        styles = {Level.WELL: "spark", Level.DEGRADED: "bad", Level.FAILING: "worst"}
        for cell, step in zip(cells, steps, strict=True):
            glyph = _SPARKS[step - 1] if step else "·"
            self._add(line, glyph, self._or_faint(row, styles[cell.level]))

    def _bar(self, line: Text, row: CallsRow, width: int) -> None:
        if not row.rate:
            line.append(" " * width)
            return
        shares = (max(0.0, 1 - row.recovered - row.failed), row.recovered, row.failed)
        for glyph, style, cells in zip(
            "─━■", ("well", "bad", "worst"), bar(shares, width), strict=True
        ):
            self._add(line, glyph * cells, self._or_faint(row, style))

    def _pools(self, pools: Sequence[PoolRow], columns: Columns) -> list[tuple[Row, Text]]:
        """Return a line for each pool, its members one below the other from pool to pool."""
        cells = [[self._member(row, each, columns) for each in row.members] for row in pools]
        count = max((len(members) for members in cells), default=0)
        widths = [
            max(members[place].cell_len for members in cells if place < len(members))
            for place in range(count)
        ]
        lines: list[tuple[Row, Text]] = []
        for row, members in zip(pools, cells, strict=True):
            line = self._start(row, columns)
            for member, width in zip(members, widths, strict=False):
                line.append(" ")
                line.append_text(member)
                line.append(" " * (width - member.cell_len))
            line.rstrip()
            lines.append((row, self._aged(line, row)))
        return lines

    def _member(self, row: Row, member: MemberCell, columns: Columns) -> Text:
        glyph, style = _STATES.get(member.state, ("?", "faint"))
        if member.level is Level.FAILING:
            style = "worst"
        text = self._text()
        self._add(text, f"{glyph} ", self._or_faint(row, style))
        named = f"{style} strong" if member.level else "text"
        self._add(text, printable(member.name), self._or_faint(row, named))
        word = _STATE_WORDS.get(member.state, member.state)
        said = [word] if word else []
        if member.processes is not None:
            said.append("in {} of {}".format(*member.processes))
        if member.since is not None and (word or member.level):
            said.append(self._since(member.since))
        if said:
            style = style if member.level else "faint"
            self._add(text, f" {' '.join(said)}", self._or_faint(row, style))
        if columns.members and member.rate:
            self._add(text, f" {words.rate(member.rate)}/s", "faint")
        return text

    def _breaker(self, row: BreakerRow, columns: Columns) -> Text:
        line = self._start(row, columns)
        said = _STATE_WORDS.get(row.state, row.state)
        if row.processes is not None:
            said += " in {} of {}".format(*row.processes)
        if row.since is not None:
            said += f" {self._since(row.since)}"
        style = _LEVELS[row.level][1] if row.level else "quiet"
        self._add(line, f" {self._fit(said, 15)}", self._or_faint(row, style))
        if row.refused:
            self._add(line, f" refuses {words.rate(row.refused)}/s", self._or_faint(row, "text"))
        if row.outages:
            outages = words.counted(row.outages, "outage")
            self._add(line, f"  {outages} since the start", self._or_faint(row, "quiet"))
        return self._aged(line, row)

    def _limit(self, row: LimitRow, columns: Columns) -> Text:
        line = self._start(row, columns)
        said = f" {row.running:,} of {row.limit:,} run"
        self._add(line, self._fit(said, 16), self._or_faint(row, "text"))
        if row.waiting:
            style = "bad" if row.level else "text"
            self._add(line, f" {row.waiting:,} wait ", self._or_faint(row, style))
        if row.refused:
            self._add(line, f" refuses {words.rate(row.refused)}/s", self._or_faint(row, "text"))
        return self._aged(line, row)

    def _copies(self, row: CopiesRow, columns: Columns) -> Text:
        line = self._start(row, columns)
        said = []
        if row.hedged is not None:
            after = f" after {words.took(row.delay)}" if row.delay is not None else ""
            said.append(f"hedges {words.percent(row.hedged)}{after}")
            if row.wins is not None:
                said.append(f"{words.percent(row.wins)} of them win")
        if row.votes is not None:
            said.append(f"{words.rate(row.votes)} votes/s")
            if not row.outvoted and row.votes:
                said.append("unanimous")
        self._add(line, " " + "  ".join(said), self._or_faint(row, "text"))
        for copy, rate in row.outvoted:
            style = "bad" if row.level else "quiet"
            name = printable(copy)
            self._add(line, f"  {name} outvoted {words.rate(rate)}/s", self._or_faint(row, style))
        return self._aged(line, row)

    def _run(self, row: RunRow, columns: Columns) -> Text:
        line = self._start(row, columns)
        self._add(line, f" {words.counted(row.items, 'item'):>14}", self._or_faint(row, "text"))
        if row.rate:
            self._add(line, f" {words.rate(row.rate)}/s", self._or_faint(row, "text"))
        if row.saved is not None:
            style = "bad" if row.why == "save is late" else "quiet"
            saved = f"  saved {words.age(row.saved)} ago"
            self._add(line, saved, self._or_faint(row, style))
        if columns.members and row.every is not None:
            self._add(line, f", every {words.interval(row.every)}", self._or_faint(row, "quiet"))
        if row.level is Level.FAILING:
            self._add(line, f"  {row.why}", "worst strong")
        if columns.errors and row.saves:
            self._add(line, f"  {words.rate(row.saves)} saves/s", "faint")
        return self._aged(line, row)

    def _target(self, row: TargetRow, columns: Columns) -> Text:
        line = self._start(row, columns)
        return self._add(line, f" {printable(row.why)}", "worst" if row.level else "quiet")

    def _details(self, view: View) -> list[Section]:
        """Return what is told of one component only: times, errors, reasons, members."""
        lines: list[tuple[Row, Text]] = []
        for row in view.calls:
            if row.quantiles is not None:
                times = zip(("p50", "p95", "p99"), row.quantiles, strict=True)
                said = [f"{name} {words.took(seconds)}" for name, seconds in times]
                lines.append((row, self._detail(f"{row.policy}: times", said)))
            for what, counts in (("failed attempts", row.errors), ("gave up", row.reasons)):
                if counts:
                    said = [f"{printable(name)} {count:,.0f}" for name, count in counts]
                    lines.append((row, self._detail(f"{row.policy}: {what}", said)))
        for pool in view.pools:
            for member in pool.members:
                said = [
                    member.state.replace("_", " "),
                    f"{words.rate(member.rate or 0.0)} attempts/s",
                    f"{words.percent(member.failed)} of them fail",
                ]
                lines.append((pool, self._detail(f"member {printable(member.name)}", said)))
        return [Section(title=self._title("IN THE LAST SECONDS"), rows=lines)]

    def _detail(self, what: str, said: Iterable[str]) -> Text:
        line = self._text()
        self._add(line, f"  {self._fit(what, 26)} ", "quiet")
        return self._add(line, _GAP.join(said), "text")

    # Pieces.

    def _title(self, title: str) -> Text:
        return self._add(self._text(), f"  {title}", "quiet strong")

    def _start(self, row: Row, columns: Columns) -> Text:
        glyph, style = _LEVELS[row.level]
        line = self._text()
        self._add(line, f"{glyph} ", self._or_faint(row, style))
        named = f"{style} strong" if row.level else "text"
        name = self._fit(printable(row.component), columns.name)
        return self._add(line, name, self._or_faint(row, named))

    def _aged(self, line: Text, row: Row) -> Text:
        return line if row.age is None else self._add(line, f"  {words.age(row.age)} ago", "faint")

    def _since(self, since: Since) -> str:
        return f"{'' if since.is_exact else '>'}{words.age(since.seconds)}"

    def _or_faint(self, row: Row, style: str) -> str:
        """Return the style, unless the figures are old."""
        return style if row.age is None else "faint"

    def _fit(self, text: str, width: int) -> str:
        """Return a text in so many columns, cut where it is too long."""
        if cell_len(text) > width:
            text = set_cell_size(text, max(0, width - 1)) + "…"
        return set_cell_size(text, width)

    def _text(self) -> Text:
        return Text(no_wrap=True, end="")

    def _add(self, line: Text, text: str, roles: str) -> Text:
        """Add a piece in the style of its roles."""
        if self._is_ascii:
            text = text.translate(_TO_ASCII).encode("ascii", "replace").decode()
        line.append(text, " ".join(self._styles[role] for role in roles.split()))
        return line


def shown(view: View, choice: Choice) -> View:
    """Return what of a picture the reader wants to see, in the order that was chosen."""

    def place(row: Row) -> tuple[float, float, str]:
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
