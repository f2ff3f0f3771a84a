"""Rows as lines of text: what is told of each, in columns that a width has room for."""

from collections.abc import Iterable, Sequence

import attrs
from rich.cells import cell_len
from rich.text import Text

from mainstay._core.words import printable
from mainstay._top import words
from mainstay._top.bars import bar, heights
from mainstay._top.paint import GAP, Paint
from mainstay._top.view import (
    AnyRow,
    BreakerRow,
    CallsRow,
    CopiesRow,
    Level,
    LimitRow,
    MemberCell,
    PoolRow,
    RunRow,
    Since,
    TargetRow,
    View,
)

SPARKS = "▁▂▃▄▅▆▇█"
LEVELS = {Level.WELL: ("●", "well"), Level.DEGRADED: ("▲", "bad"), Level.FAILING: ("✗", "worst")}
STATES = {
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
STATE_WORDS = {
    "active": "",
    "standby_hot": "hot",
    "standby_cold": "cold",
    "half_open": "half open",
}


_LONGEST_NAME = 28


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
    def of(cls, width: int, longest: int) -> "Columns":
        """Return what there is room for in 40, 60, 80, 120, 160 columns, or between.

        Args:
            width: Columns of the terminal.
            longest: Those of the longest name: short ones leave room for more.
        """
        spare = max(0, _LONGEST_NAME - longest)
        wide, wider = width + spare >= 120, width + spare >= 160  # noqa: PLR2004 - as above
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
            name=min(longest, _LONGEST_NAME if wide else 17 if some else 14),
        )


class Lines:
    """Makes the lines of a picture.

    Args:
        paint: Makes their pieces.
        columns: What there is room for.
        width: In how many columns of the terminal.
    """

    def __init__(self, paint: Paint, columns: Columns, width: int) -> None:
        self._paint = paint
        self._columns = columns
        self._width = width

    def calls_title(self, view: View) -> Text:
        """Return the names of the columns."""
        line = self._paint.text()
        self._paint.add(line, f"  {self._paint.fit('CALLS', self._columns.name)}", "quiet strong")
        if self._columns.policy:
            line.append(" " * 11)
        self._paint.add(line, f" {'calls/s':>7}", "quiet")
        if self._columns.spark:
            span = words.interval(self._columns.spark * view.span)
            self._paint.add(line, f" {span:<{self._columns.spark}}", "faint")
        if self._columns.bar:
            line.append(" ")
            gap = " " if self._columns.bar > 13 else ""  # noqa: PLR2004 - there is room for spaces
            legend = [("─", "ok", "well"), ("━", "rec", "bad"), ("■", "err", "worst")]
            width = line.cell_len + self._columns.bar
            for place, (glyph, word, style) in enumerate(legend):
                self._paint.add(line, f"{' ' if place else ''}{glyph}{gap}{word}", style)
            line.pad_right(max(0, width - line.cell_len))
        self._paint.add(line, f" {'err.':>6}", "quiet")
        if self._columns.recovered:
            self._paint.add(line, f" {'recov.':>6}", "quiet")
        if self._columns.p50:
            self._paint.add(line, f" {'p50':>7}", "quiet")
        self._paint.add(line, f" {'p95':>7}", "quiet")
        if self._columns.attempts:
            self._paint.add(line, f" {'att.':>5}", "quiet")
        return line

    def calls(self, row: CallsRow) -> Text:
        """Return the calls of one policy of one component."""
        line = self._start(row)
        if self._columns.policy:
            self._add(row, line, f" {self._paint.fit(row.policy, 10)}", "faint")
        rate = "…" if row.rate is None else words.rate(row.rate)
        self._add(row, line, f" {rate:>7}", "text")
        if self._columns.spark:
            line.append(" ")
            self._sparkline(line, row, self._columns.spark)
        if self._columns.bar:
            line.append(" ")
            self._bar(line, row, self._columns.bar)
        failed = f" {words.percent(row.failed) if row.failed else '':>6}"
        bad = "worst strong" if row.level is Level.FAILING else "text"
        self._add(row, line, failed, bad)
        if self._columns.recovered:
            shown = words.percent(row.recovered) if row.recovered else ""
            style = "bad" if row.level and row.why.endswith("recovered") else "faint"
            self._add(row, line, f" {shown:>6}", style)
        if self._columns.p50:
            self._add(row, line, f" {self._quantile(row, 0):>7}", "faint")
        self._add(row, line, f" {self._quantile(row, 1):>7}", "text")
        if self._columns.attempts:
            shown = "" if row.attempts is None else f"{row.attempts:.2f}"
            self._add(row, line, f" {shown:>5}", "faint")
        if row.age is not None:
            self._paint.add(line, f"  {words.age(row.age)} ago", "faint")
        elif self._columns.errors:
            line.append("  ")
            for name, count in [*row.errors[:2], *row.reasons[:1]]:
                self._paint.add(line, f"{printable(name)} {count:,.0f}  ", "faint")
        return line

    def _quantile(self, row: CallsRow, place: int) -> str:
        if row.quantiles is None:
            return "\N{EN DASH}" if row.rate else ""
        return words.took(row.quantiles[place])

    def _sparkline(self, line: Text, row: CallsRow, width: int) -> None:
        cells = row.cells[-width:]
        line.append(" " * (width - len(cells)))
        steps = heights([cell.rate for cell in cells], len(SPARKS))
        styles = {Level.WELL: "spark", Level.DEGRADED: "bad", Level.FAILING: "worst"}
        for cell, step in zip(cells, steps, strict=True):
            glyph = SPARKS[step - 1] if step else "·"
            self._add(row, line, glyph, styles[cell.level])

    def _bar(self, line: Text, row: CallsRow, width: int) -> None:
        if not row.rate:
            line.append(" " * width)
            return
        shares = (max(0.0, 1 - row.recovered - row.failed), row.recovered, row.failed)
        for glyph, style, cells in zip(
            "─━■", ("well", "bad", "worst"), bar(shares, width), strict=True
        ):
            self._add(row, line, glyph * cells, style)

    def pools(self, pools: Sequence[PoolRow]) -> list[tuple[AnyRow, Text]]:
        """Return a line for each pool, its members one below the other from pool to pool.

        Where they do not fit, those that are well give way.
        """
        room = self._width - self._columns.name - 2
        cells = [[self._member(row, each) for each in row.members] for row in pools]
        fitting = [line for line in cells if sum(cell.cell_len + 1 for cell in line) <= room]
        widths = [
            max(line[place].cell_len for line in fitting if place < len(line))
            for place in range(max(map(len, fitting), default=0))
        ]
        if sum(widths) + len(widths) > room:
            widths = [0] * len(widths)
        lines: list[tuple[AnyRow, Text]] = []
        for row, members in zip(pools, cells, strict=True):
            line = self._start(row)
            if members in fitting:
                for member, wanted in zip(members, widths, strict=False):
                    line.append(" ")
                    line.append_text(member)
                    line.append(" " * max(0, wanted - member.cell_len))
                line.rstrip()
            else:
                self._worst_members(line, row, members)
            lines.append((row, self._aged(line, row)))
        return lines

    def _worst_members(self, line: Text, row: PoolRow, members: Sequence[Text]) -> None:
        """Add members that are not well before others, as far as there is room."""
        order = sorted(range(len(members)), key=lambda place: -row.members[place].level)
        for count, place in enumerate(order):
            left = len(order) - count
            more = len(f" +{left - 1}") if left > 1 else 0
            if count and line.cell_len + 1 + members[place].cell_len + more > self._width:
                self._add(row, line, f" +{left}", "quiet")
                return
            line.append(" ")
            line.append_text(members[place])

    def _member(self, row: AnyRow, member: MemberCell) -> Text:
        glyph, style = STATES.get(member.state, ("?", "faint"))
        if member.level is Level.FAILING:
            style = "worst"
        text = self._paint.text()
        self._add(row, text, f"{glyph} ", style)
        named = f"{style} strong" if member.level else "text"
        self._add(row, text, printable(member.name), named)
        word = STATE_WORDS.get(member.state, member.state)
        said = [word] if word else []
        if member.processes is not None:
            said.append("in {} of {}".format(*member.processes))
        if member.since is not None and (word or member.level):
            said.append(self._since(member.since))
        if said:
            style = style if member.level else "faint"
            self._add(row, text, f" {' '.join(said)}", style)
        if self._columns.members and member.rate:
            self._paint.add(text, f" {words.rate(member.rate)}/s", "faint")
        return text

    def breakers(self, breakers: Sequence[BreakerRow]) -> list[tuple[AnyRow, Text]]:
        """Return a line for each breaker."""
        states = [self._state(row) for row in breakers]
        width = max([15, *map(cell_len, states)])
        lines: list[tuple[AnyRow, Text]] = []
        for row, state in zip(breakers, states, strict=True):
            line = self._start(row)
            style = LEVELS[row.level][1] if row.level else "quiet"
            self._add(row, line, f" {self._paint.fit(state, width)}", style)
            if row.refused:
                self._add(row, line, f" refuses {words.rate(row.refused)}/s", "text")
            if row.outages:
                outages = words.counted(row.outages, "outage")
                self._add(row, line, f"  {outages} since the start", "quiet")
            lines.append((row, self._aged(line, row)))
        return lines

    def _state(self, row: BreakerRow) -> str:
        said = STATE_WORDS.get(row.state, row.state)
        if row.processes is not None:
            said += " in {} of {}".format(*row.processes)
        if row.since is not None:
            said += f" {self._since(row.since)}"
        return said

    def limit(self, row: LimitRow) -> Text:
        """Return a bulkhead."""
        line = self._start(row)
        said = f" {row.running:,} of {row.limit:,} run"
        self._add(row, line, self._paint.fit(said, 16), "text")
        if row.waiting:
            style = "bad" if row.level else "text"
            self._add(row, line, f" {row.waiting:,} wait ", style)
        if row.refused:
            self._add(row, line, f" refuses {words.rate(row.refused)}/s", "text")
        return self._aged(line, row)

    def copies(self, row: CopiesRow) -> Text:
        """Return a redundant call."""
        line = self._start(row)
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
        self._add(row, line, " " + "  ".join(said), "text")
        for copy, rate in row.outvoted:
            style = "bad" if row.level else "quiet"
            name = printable(copy)
            self._add(row, line, f"  {name} outvoted {words.rate(rate)}/s", style)
        return self._aged(line, row)

    def run(self, row: RunRow) -> Text:
        """Return a checkpointed function."""
        line = self._start(row)
        self._add(row, line, f" {words.counted(row.items, 'item'):>14}", "text")
        if row.share is not None:
            self._add(row, line, f" {words.percent(row.share):>5}", "strong")
        if row.rate:
            self._add(row, line, f" {words.rate(row.rate)}/s", "text")
        if row.left is not None:
            self._add(row, line, f"  {words.age(row.left)} left", "text")
        if row.level and row.why != "save is late":
            self._paint.add(line, f"  {row.why}", f"{LEVELS[row.level][1]} strong")
        if row.saved is not None:
            style = "bad" if row.why == "save is late" else "quiet"
            saved = f"  saved {words.age(row.saved)} ago"
            self._add(row, line, saved, style)
        if self._columns.members and row.every is not None:
            self._add(row, line, f", every {words.interval(row.every)}", "quiet")
        if self._columns.errors and row.saves:
            self._paint.add(line, f"  {words.rate(row.saves)} saves/s", "faint")
        return self._aged(line, row)

    def targets(self, targets: Sequence[TargetRow]) -> list[tuple[AnyRow, Text]]:
        """Return a line for each, in a column of their own: URLs are long, and reasons too."""
        names = [printable(row.component) for row in targets]
        width = max(map(cell_len, names), default=0)
        lines: list[tuple[AnyRow, Text]] = []
        for row, name in zip(targets, names, strict=True):
            glyph, style = LEVELS[row.level]
            line = self._paint.text()
            self._paint.add(line, f"{glyph} ", style)
            self._paint.add(line, self._paint.fit(name, width), f"{style} strong")
            style = style if row.level else "quiet"
            lines.append((row, self._paint.add(line, f"  {printable(row.why)}", style)))
        return lines

    def details(self, view: View) -> list[tuple[AnyRow, Text]]:
        """Return what is told of one component only: times, errors, reasons, members."""
        lines: list[tuple[AnyRow, Text]] = []
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
        return lines

    def _detail(self, what: str, said: Iterable[str]) -> Text:
        line = self._paint.text()
        self._paint.add(line, f"  {self._paint.fit(what, 26)} ", "quiet")
        return self._paint.add(line, GAP.join(said), "text")

    def _start(self, row: AnyRow) -> Text:
        glyph, style = LEVELS[row.level]
        line = self._paint.text()
        self._add(row, line, f"{glyph} ", style)
        named = f"{style} strong" if row.level else "text"
        name = self._paint.fit(printable(row.component), self._columns.name)
        return self._add(row, line, name, named)

    def _aged(self, line: Text, row: AnyRow) -> Text:
        return (
            line
            if row.age is None
            else self._paint.add(line, f"  {words.age(row.age)} ago", "faint")
        )

    def _since(self, since: Since) -> str:
        return f"{'' if since.is_exact else '>'}{words.age(since.seconds)}"

    def _add(self, row: AnyRow, line: Text, text: str, style: str) -> Text:
        """Add a piece in that style, or faintly where the figures of the row are old."""
        return self._paint.add(line, text, style if row.age is None else "faint")
