"""What was seen so far, over all targets: from it comes every picture."""

from collections import deque
from collections.abc import Iterable, Sequence
from typing import TypeVar

import attrs

from mainstay._metrics import schema
from mainstay._top import rows, words
from mainstay._top.figures import Figures, figures_of, total_of
from mainstay._top.run_seen import RunSeen
from mainstay._top.target import WINDOW, Target
from mainstay._top.view import (
    AnyRow,
    Cell,
    Finding,
    Level,
    Since,
    TargetRow,
    View,
)

R = TypeVar("R", bound=AnyRow)

MOST_CELLS = 60
RESTART_SHOWN = 60.0
"""Seconds for which it is told that a process has begun again."""

SILENT = 15.0
"""Seconds without a word from an endpoint, beyond those between scrapes, that are too many."""

_SAVES_FOR_A_RATE = 3

_Seen = tuple[str, float, bool]
"""A state, when it was first seen, and True if something else was seen before."""


class Model:
    """Keeps what later pictures need: sparklines, states and since when, items of runs.

    Args:
        targets: The endpoints.
        every: Seconds between scrapes.
    """

    def __init__(self, targets: Sequence[Target], *, every: float) -> None:
        self.targets = tuple(targets)
        self.every = every
        self._cells: dict[tuple[str, str], deque[Cell]] = {}
        self._ticks = 0
        self._began: float | None = None
        self._states: dict[tuple[str, str], _Seen] = {}
        self._runs: dict[str, RunSeen] = {}

    def tick(self, now: float) -> None:
        """Record what the last scrapes have brought: one more cell of each sparkline."""
        self._miss_the_silent(now)
        up = [target for target in self.targets if target.is_up]
        if not up:
            return
        figures = figures_of(up)
        self._record_states(figures, now)
        self._record_runs(figures, up, now)
        if figures.has_rates:
            self._record_cells(up)

    def view(self, now: float, wall: float) -> View:
        """Return the picture of the present.

        Args:
            now: Seconds of the clock that targets were given times of.
            wall: Seconds since 1970.
        """
        up = [target for target in self.targets if target.is_up]
        view = self._rows(figures_of(up), now, wall)
        down = [target for target in self.targets if not target.is_up and target.answered_at]
        if down:
            age = now - max(target.answered_at or 0.0 for target in down)
            view = _with_stale(view, self._rows(figures_of(down), now, wall), age)
        targets = _target_rows(self.targets, now)
        took = max((target.took for target in up), default=0.0)
        return attrs.evolve(
            view,
            findings=findings_of(view, targets),
            targets=targets,
            targets_up=len(up),
            wall=wall,
            every=period(self.every, took),
            took=took if period(self.every, took) > self.every else None,
            span=self.every,
        )

    def _miss_the_silent(self, now: float) -> None:
        """Record that nothing comes from a target, where not even its failure has been told of.

        A server that sends the head of its answer byte by byte is never late for a socket.
        """
        self._began = now if self._began is None else self._began
        for target in self.targets:
            heard = self._began if target.heard_at is None else target.heard_at
            if target.failing_since is None and now - heard > SILENT + period(
                self.every, target.took
            ):
                target.failed("no answer", at=heard)

    def _rows(self, figures: Figures, now: float, wall: float) -> View:
        cells = {key: tuple(each) for key, each in self._cells.items()}
        calls = tuple(rows.calls_rows(figures, cells))
        seen = {name: run.figures() for name, run in self._runs.items()}
        began = _began(figures)

        def since(component: str, member: str, state: str) -> Since | None:
            seen, at = self._states.get((component, member)), began.get((component, member))
            is_seen = seen is not None and seen[0] == state
            has_changed = seen is not None and is_seen and seen[2]
            if at is not None:
                return Since(seconds=wall - at, is_exact=True, has_changed=has_changed)
            if seen is None or not is_seen:
                return None
            return Since(seconds=now - seen[1], is_exact=has_changed, has_changed=has_changed)

        return View(
            rate=sum(row.rate or 0.0 for row in calls) if figures.has_rates else None,
            components=len({row.component for row in calls}),
            calls=calls,
            pools=tuple(rows.pool_rows(figures, since)),
            breakers=tuple(rows.breaker_rows(figures, since)),
            limits=tuple(rows.limit_rows(figures)),
            copies=tuple(rows.copies_rows(figures)),
            runs=tuple(rows.run_rows(figures, wall=wall, seen=seen)),
        )

    def _record_cells(self, up: Iterable[Target]) -> None:
        """Add a cell to each sparkline; one that begins later has had no calls before."""
        last = [interval for target in up if (interval := target.last()) is not None]
        rates = rows.shares_by_policy(total_of(last, per_second=True))
        counts = rows.shares_by_policy(total_of(last))
        for key in {*self._cells, *rates}:
            cells = self._cells.get(key)
            if cells is None:
                nothing = [Cell(0.0, Level.WELL)] * min(self._ticks, MOST_CELLS)
                cells = self._cells[key] = deque(nothing, maxlen=MOST_CELLS)
            level = counts[key].level(key[1]) if key in counts else Level.WELL
            cells.append(Cell(rates[key].calls if key in rates else 0.0, level))
        self._ticks += 1

    def _record_states(self, figures: Figures, now: float) -> None:
        present = {
            (row.component, member.name): member.state
            for row in rows.pool_rows(figures, _no_since)
            for member in row.members
        } | {(row.component, ""): row.state for row in rows.breaker_rows(figures, _no_since)}
        for key, state in present.items():
            seen = self._states.get(key)
            if seen is None or seen[0] != state:
                self._states[key] = state, now, seen is not None

    def _record_runs(self, figures: Figures, up: Iterable[Target], now: float) -> None:
        items = figures.now.get(schema.CHECKPOINT_ITEMS.name, {})
        ends = figures.now.get(schema.CALLS.name, {})
        saves = figures.now.get(schema.CHECKPOINT_LAST_SAVE.name, {})
        every = figures.now.get(schema.CHECKPOINT_INTERVAL.name, {})
        for (component,), saved in saves.items():
            run = self._runs.setdefault(component, RunSeen())
            ended = sum(
                count
                for (name, policy, _), count in ends.items()
                if name == component and policy == "checkpoint"
            )
            horizon = max(WINDOW, _SAVES_FOR_A_RATE * every.get((component,), 0.0))
            run.see(now, saved, ended, items.get((component, "done"), 0.0), horizon)
            run.see_left(*_reached_and_left(component, up))


def _began(figures: Figures) -> dict[tuple[str, str], float]:
    """Return when states began, by component and by member, or by "" for a breaker."""
    members = figures.now.get(schema.MEMBER_SINCE.name, {})
    breakers = figures.now.get(schema.BREAKER_SINCE.name, {})
    began = {(component, member): at for (component, member), at in members.items()}
    began |= {(component, ""): at for (component,), at in breakers.items()}
    return {key: at for key, at in began.items() if at > 0}  # worker processes write 0 at an end


def _reached_and_left(component: str, up: Iterable[Target]) -> tuple[float, float]:
    """Return how many items are done or skipped, and how many are to come, where that is told.

    Each process tells of its own items only.
    """
    all_reached, all_left = 0.0, 0.0
    for target in up:
        items = target.samples.get(schema.CHECKPOINT_ITEMS.name, {})
        expected = target.samples.get(schema.CHECKPOINT_EXPECTED.name, {}).get((component,))
        if expected is not None:
            reached = sum(items.get((component, outcome), 0.0) for outcome in ("done", "skipped"))
            all_reached += reached
            all_left += max(0.0, expected - reached)
    return all_reached, all_left


def _no_since(component: str, member: str, state: str) -> None:  # noqa: ARG001 - asked for no time
    return None


def period(every: float, took: float) -> float:
    """Return after how many seconds to scrape again: at most half of the time is for waiting."""
    return max(every, 2 * took)


def findings_of(view: View, targets: Iterable[TargetRow]) -> tuple[Finding, ...]:
    """Return what is not well, worst first; of each component the first that says why."""
    found: dict[str, Finding] = {}
    sections: tuple[Iterable[AnyRow], ...] = (
        targets,
        view.breakers,
        view.pools,
        view.runs,
        view.calls,
        view.copies,
        view.limits,
    )
    for section in sections:
        for row in section:
            before = found.get(row.component)
            if row.level and row.age is None and (before is None or before.level < row.level):
                found[row.component] = Finding(level=row.level, name=row.component, text=row.why)
    return tuple(sorted(found.values(), key=lambda finding: (-finding.level, finding.name)))


def _target_rows(targets: Iterable[Target], now: float) -> tuple[TargetRow, ...]:
    found = []
    for target in targets:
        if target.failing_since is not None:
            why = f"{target.failure} {words.age(now - target.failing_since)}"
            found.append(TargetRow(component=target.name, level=Level.FAILING, why=why))
        elif target.restarted_at is not None and now - target.restarted_at < RESTART_SHOWN:
            why = f"began again {words.age(now - target.restarted_at)} ago"
            found.append(TargetRow(component=target.name, why=why))
    return tuple(found)


def _with_stale(view: View, stale: View, age: float) -> View:
    """Add rows of components that only targets which are down have; they count nowhere."""

    def joined(living: tuple[R, ...], old: tuple[R, ...]) -> tuple[R, ...]:
        there = {row.component for row in living}
        gone = [row for row in old if row.component not in there]
        return *living, *(attrs.evolve(row, level=Level.WELL, age=age) for row in gone)

    return attrs.evolve(
        view,
        calls=joined(view.calls, stale.calls),
        pools=joined(view.pools, stale.pools),
        breakers=joined(view.breakers, stale.breakers),
        limits=joined(view.limits, stale.limits),
        copies=joined(view.copies, stale.copies),
        runs=joined(view.runs, stale.runs),
    )
