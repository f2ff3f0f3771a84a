"""Panels that show one number for each answer, with its name."""

from mainstay.ops._grafana.panel import Panel
from mainstay.ops._grafana.query import Query
from mainstay.ops._grafana.thresholds import PLAIN, Thresholds
from mainstay.ops._grafana.unit import COUNT, Unit
from mainstay.ops._grafana.word import Word

MANY_POINTS = 10_000
"""So many points are wanted where `$__rate_interval` is to be short, however long the time shown:
four scrapes, up to a day and a half. An instant answer has one of them."""


def stat(
    title: str,
    description: str,
    *queries: Query,
    unit: Unit = COUNT,
    thresholds: Thresholds = PLAIN,
    words: tuple[Word, ...] = (),
    no_value: str = "none",
    is_filled: bool = False,
) -> Panel:
    """Return a panel with a number for each answer; filled, with its color behind it."""
    options = {
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "orientation": "auto",
        "textMode": "value_and_name",
        "wideLayout": False,
        "colorMode": "background" if is_filled else "value",
        "graphMode": "none",
        "justifyMode": "center",
        "showPercentChange": False,
        "percentChangeColorMode": "standard",
    }
    return Panel(
        kind="stat",
        title=title,
        description=description,
        queries=queries,
        unit=unit,
        thresholds=thresholds,
        field={"color": {"mode": "thresholds"}},
        options=options,
        words=words,
        is_instant=True,
        no_value=no_value,
        data_points=MANY_POINTS,
    )
