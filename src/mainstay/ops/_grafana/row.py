"""Rows of panels, and the place of each panel in the grid."""

from collections.abc import Iterable, Iterator, Sequence

from mainstay.ops._grafana.document import Json
from mainstay.ops._grafana.panel import Panel

COLUMNS = 24
HEADING = 1
LOW = 5


class Row:
    """Panels under one heading, by the lines that they stand in.

    Attributes:
        title: The heading; "" for a row that has none, and is always open.
        lines: Panels from left to right, lines from above.
        is_collapsed: True if only the heading is there until it is clicked.
    """

    def __init__(self, title: str, *lines: Sequence[Panel], is_collapsed: bool = False) -> None:
        self.title: str = title
        self.lines: tuple[Sequence[Panel], ...] = lines
        self.is_collapsed: bool = is_collapsed

    @property
    def panels(self) -> Iterator[Panel]:
        """The panels in reading order."""
        return (panel for line in self.lines for panel in line)


def low(*panels: Panel) -> tuple[Panel, ...]:
    """Return panels as a line that is lower than others, for a few numbers."""
    return tuple(panel.sized(0, LOW) for panel in panels)


def placed(rows: Iterable[Row]) -> Iterator[Json]:
    """Number headings and panels, and place them from left to right, line by line."""
    number, y = 1, 0
    for row in rows:
        heading = HEADING if row.title else 0
        first = number + heading
        panels, below = _placed_panels(row, first, y + heading)
        if row.title:
            yield {
                "id": number,
                "type": "row",
                "title": row.title,
                "collapsed": row.is_collapsed,
                "gridPos": {"x": 0, "y": y, "w": COLUMNS, "h": HEADING},
                "panels": panels if row.is_collapsed else [],
            }
        if not row.is_collapsed:
            yield from panels
        number = first + len(panels)
        y = y + heading if row.is_collapsed else below


def _placed_panels(row: Row, number: int, y: int) -> tuple[list[Json], int]:
    """Return the panels of a row, and the height below them."""
    found: list[Json] = []
    for line in row.lines:
        x = 0
        for panel in line:
            width = panel.width or COLUMNS // len(line)
            found.append(panel.json(number + len(found), x, y, width))
            x += width
        y += max(panel.height for panel in line)
    return found, y
