"""Draw the first screen of the dashboard: docs/_static/dashboard.svg, from a real Prometheus.

    python docs/_pictures/dashboard.py    runs the quickstart several times, and writes the file

A Prometheus of its own scrapes the run and answers the queries of the panels; what they look like
is read from the dashboard as Grafana would: units, thresholds, mappings, colors, places.
"""

import io
import math
import re
from collections.abc import Callable
from typing import Any

import matplotlib as mpl
from answers import Answer, Answers, Json, collect, digest, screen
from card import number
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Rectangle
from matplotlib.textpath import TextPath
from top import PICTURE

FILE = PICTURE.with_name("dashboard.svg")
DESCRIPTION = (
    "Tiles say what is failing and what is degraded, availability and the error budget left. "
    "Below are calls by outcome and their times, and how components, members and breakers were "
    "over time, with lines where a pool failed over."
)
WIDTH, ROW, GAP = 760.0, 35.0, 8.0
COLUMNS = 24
PAGE, PANEL, EDGE, TEXT, DIM = "#0b0e14", "#161b22", "#30363d", "#e6edf3", "#9aa4af"
DARK_TEXT = "#0b0e14"
LINES = ("#6fb1e8", "#c2689a", "#b7a6f0", "#8fd6c6", "#d9b382", "#9fc35a", "#7d8590", "#e08a6d")
"""Of series without a color of their own; neither red nor amber, which mean something."""
FONT = 'text{font-family:system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}'
SMALL, LINE = 12.0, 19.0
EVENTS = 6


class Screen:
    """The screen that is being drawn; coordinates are pixels from the upper left corner."""

    def __init__(self, panels: list[Json], answers: Answers) -> None:
        self.panels = panels
        self.answers = answers
        self.begins = min(
            answer.points[0][0] for shown in answers.panels.values() for answer in shown
        )
        rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels)
        self.height = rows * ROW + GAP
        self.figure = Figure(figsize=(WIDTH / 72, self.height / 72), facecolor=PAGE)
        self.page = self.axes(0, 0, WIDTH, self.height)
        self.page.axis("off")
        self.page.set_xlim(0, WIDTH)
        self.page.set_ylim(self.height, 0)

    def axes(self, x: float, y: float, width: float, height: float) -> Axes:
        """Return axes at a place of the screen."""
        place = (x / WIDTH, 1 - (y + height) / self.height, width / WIDTH, height / self.height)
        return self.figure.add_axes(place, facecolor="none")

    def box(self, x: float, y: float, width: float, height: float, color: Any, edge: str = "none"
            ) -> None:  # fmt: skip
        """Draw a box."""
        self.page.add_patch(
            Rectangle(
                (x, y), width, height, facecolor=color, edgecolor=edge, linewidth=0.8, clip_on=False
            )
        )

    def text(self, x: float, y: float, words: str, color: Any = TEXT, **looks: Any) -> None:
        """Write a line of text, whose middle is at *y*."""
        self.page.text(x, y, words, color=color, va="center_baseline", **{"size": 13} | looks)

    def draw(self) -> None:
        """Draw all panels."""
        draw: dict[str, Callable[..., None]] = {
            "stat": self.stat,
            "timeseries": self.curves,
            "state-timeline": self.timeline,
        }
        for panel in self.panels:
            place = panel["gridPos"]
            x, y = place["x"] / COLUMNS * (WIDTH - GAP) + GAP, place["y"] * ROW + GAP
            width = place["w"] / COLUMNS * (WIDTH - GAP) - GAP
            height = place["h"] * ROW - GAP
            self.box(x, y, width, height, PANEL, EDGE)
            self.text(x + 9, y + 14, panel["title"], weight="bold")
            draw[panel["type"]](panel, x + 9, y + 26, width - 18, height - 32)

    def series(self, panel: Json) -> list[tuple[Answer, "Looks"]]:
        """Return what a panel shows, each with what it looks like."""
        return [
            (answer, Looks(panel["fieldConfig"], answer.query))
            for answer in self.answers.panels[panel["title"]]
        ]

    def stat(self, panel: Json, x: float, y: float, width: float, height: float) -> None:
        """Draw the values of a panel, a line for each."""
        is_filled = panel["options"].get("colorMode") == "background"
        now = [
            (answer, looks, value)
            for answer, looks in self.series(panel)
            for at, value in answer.points[-1:]
            if at >= self.answers.seconds - 0.5
        ]
        if not now:
            nothing = panel["fieldConfig"]["defaults"].get("noValue", "")
            self.text(x + width / 2, y + height / 2, nothing, DIM, ha="center")
        for index, (answer, looks, value) in enumerate(now[: int(height / LINE)]):
            middle = y + LINE * index + LINE / 2
            words, color = looks.words(value)
            if is_filled:
                self.box(x, middle - LINE / 2 + 1, width, LINE - 2, color)
            on_it = DARK_TEXT if is_filled else None
            room = width - 20 - length(words, "bold")
            name = cut(answer.name.split(" (")[0], room)
            self.text(x + 5, middle, name, on_it or TEXT, size=SMALL)
            self.text(x + width - 5, middle, words, on_it or color, size=SMALL, ha="right",
                      weight="bold")  # fmt: skip

    def moments(self, axes: Axes) -> None:
        """Draw the annotations."""
        axes.set_xlim(self.begins, self.answers.seconds)
        for place, (color, times) in enumerate(self.answers.moments):
            x = [value for at in times for value in (at, at, math.nan)]
            y = [0.0, 1.0, math.nan] * len(times)
            dashes = (8 * place, (8, 8))  # of two at the same moment both are seen
            axes.plot(x, y, color=color, linewidth=0.8, linestyle=dashes, zorder=0.5,
                      transform=axes.get_xaxis_transform())  # fmt: skip

    def curves(self, panel: Json, x: float, y: float, width: float, height: float) -> None:
        """Draw values over time, and what they are called."""
        custom = panel["fieldConfig"]["defaults"].get("custom", {})
        is_stacked = custom.get("stacking", {}).get("mode") == "normal"
        legend = 122.0 if is_stacked else 184.0
        axes = self.axes(x + 46, y + 4, width - 46 - legend, height - 24)
        self.moments(axes)
        below: dict[float, float] = {}
        names = []
        shown = [each for each in self.series(panel) if any(value for _, value in each[0].points)]
        for index, (answer, looks) in enumerate(shown):
            color = looks.color or LINES[index % len(LINES)]
            times = [at for at, _ in answer.points]
            if is_stacked:
                low = [below.get(at, 0.0) for at in times]
                high = [below.get(at, 0.0) + value for at, value in answer.points]
                axes.fill_between(times, low, high, color=color, linewidth=0)
                below |= dict(zip(times, high, strict=True))
            else:
                axes.plot(times, [value for _, value in answer.points], color=color, linewidth=1.3)
            names.append((answer.points[-1][1], answer.name, color, looks))
        if custom.get("scaleDistribution", {}).get("type") == "log":
            axes.set_yscale("log")
        else:
            axes.set_ylim(bottom=0)
        ranked = sorted(names, reverse=not is_stacked)
        for rank, (value, name, color, looks) in enumerate(ranked[: int(height / LINE)]):
            middle = y + 10 + 17 * rank
            left = x + width - legend + 8
            self.box(left, middle - 3, 7, 7, color)
            self.text(left + 11, middle, name.split(" (")[0], DIM, size=SMALL)
            self.text(x + width, middle, looks.words(value)[0], DIM, size=SMALL, ha="right")
        style(axes, lambda value: Looks(panel["fieldConfig"], "").words(value)[0])

    def timeline(self, panel: Json, x: float, y: float, width: float, height: float) -> None:
        """Draw states over time, a line for each."""
        names = 136.0
        axes = self.axes(x + names, y, width - names - 4, height - 20)
        self.moments(axes)
        shown = self.series(panel)
        axes.set_ylim(len(shown), 0)
        pixels = (width - names) / (self.answers.seconds - self.begins)
        size = min(SMALL, 0.75 * (height - 20) / len(shown))
        for index, (answer, looks) in enumerate(shown):
            for begin, end, value in held(answer.points, self.answers.seconds):
                words, color = looks.words(value)
                axes.broken_barh(
                    [(begin, end - begin)], (index + 0.09, 0.82), facecolor=color, linewidth=0
                )
                if (end - begin) * pixels > length(words) + 8:
                    at = begin + 4 / pixels
                    axes.text(at, index + 0.53, words, color=readable(color), size=size,
                              va="center_baseline", clip_on=True)  # fmt: skip
            middle = y + (height - 20) * (index + 0.5) / len(shown)
            self.text(x + names - 8, middle, answer.name, size=SMALL, ha="right")
        style(axes, None)


def length(words: str, weight: str = "normal") -> float:
    """Return how many pixels small text takes, in a font that is as wide as any that is likely."""
    font = FontProperties(family="DejaVu Sans", weight=weight)
    return float(TextPath((0, 0), words, size=SMALL, prop=font).get_extents().width)


def cut(words: str, room: float) -> str:
    """Return small text, cut where it is too long."""
    while length(words) > room:
        words = f"{words.removesuffix('…')[:-1].rstrip()}…"
    return words


class Looks:
    """What Grafana makes of a value, by the configuration of a panel and the query it is from."""

    def __init__(self, configuration: Json, query: str) -> None:
        self._properties = dict(configuration["defaults"])
        for override in configuration.get("overrides", ()):
            if override["matcher"]["options"] == query:
                self._properties |= {
                    each["id"]: each["value"] for each in override["properties"]
                }  # fmt: skip

    @property
    def color(self) -> str | None:
        """The color that is fixed, if one is."""
        color: str | None = self._properties.get("color", {}).get("fixedColor")
        return color

    def words(self, value: float) -> tuple[str, Any]:
        """Return what is written for a value, and in which color."""
        for mapping in self._properties.get("mappings", ()):
            options = mapping["options"]
            found = options.get(f"{value:g}") if mapping["type"] == "value" else None
            if mapping["type"] == "range" and value <= options["to"]:
                found = options["result"]
            if found is not None:
                return found["text"], found.get("color") or self._threshold(value)
        return self._written(value), self.color or self._threshold(value)

    def _threshold(self, value: float) -> str:
        color = TEXT
        for step in self._properties.get("thresholds", {}).get("steps", ()):
            if step["value"] is None or value >= step["value"]:
                color = step["color"]
        return color

    def _written(self, value: float) -> str:
        unit = self._properties.get("unit", "none")
        if unit == "percentunit":
            return f"{100 * value:.0f} %"
        if unit == "s":
            return f"{1000 * value:.0f} ms" if value < 1 else f"{value:.3g} s"
        plain = f"{value:.0f}" if value >= EVENTS else f"{value:.1f}".removesuffix(".0")
        return plain + unit.removeprefix("suffix:") if unit.startswith("suffix:") else plain


def held(points: list[tuple[float, float]], until: float) -> list[tuple[float, float, float]]:
    """Return from when to when each value held."""
    found: list[tuple[float, float, float]] = []
    for (at, value), (after, _) in zip(points, [*points[1:], (until, 0.0)], strict=True):
        if found and found[-1][2] == value and found[-1][1] >= at:
            found[-1] = (found[-1][0], after, value)
        else:
            found.append((at, after, value))
    return found


def readable(background: str) -> str:
    """Return a color of text that can be read on another one."""
    red, green, blue, alpha = to_rgba(background)
    is_bright = (0.3 * red + 0.6 * green + 0.1 * blue) * alpha > 0.45  # noqa: PLR2004 - by eye
    return DARK_TEXT if is_bright else TEXT


def style(axes: Axes, words: Callable[[float], str] | None) -> None:
    """Have axes look as the rest does."""
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.tick_params(colors=DIM, labelsize=SMALL, pad=3, bottom=False, left=False)
    axes.tick_params(which="minor", labelleft=False, left=False)
    axes.xaxis.set_major_formatter(lambda at, _: f"{at:g} s")
    if words is None:
        axes.set_yticks([])
    else:
        axes.yaxis.set_major_formatter(lambda value, _: words(value))
        axes.grid(visible=True, axis="y", color=EDGE, linewidth=0.6)


def main() -> None:
    """Write the file."""
    panels, _ = screen()
    written = svg(panels, collect())
    FILE.write_text(written)
    print(f"wrote {FILE}")


def svg(panels: list[Json], answers: Answers) -> str:
    """Return the picture."""
    with mpl.rc_context(
        {"svg.fonttype": "none", "svg.hashsalt": "mainstay", "font.family": "DejaVu Sans"}
    ):
        drawn = Screen(panels, answers)
        drawn.draw()
        file = io.StringIO()
        drawn.figure.savefig(
            file, format="svg", metadata={"Date": None, "Creator": None, "Format": None,
                                          "Type": None}, facecolor=PAGE
        )  # fmt: skip
    opening = (
        f'<svg xmlns="http://www.w3.org/2000/svg" '
        f'viewBox="0 0 {number(WIDTH)} {number(drawn.height)}" role="img">\n'
        f"<title>The dashboard</title>\n<desc>{DESCRIPTION}</desc>\n<!-- shows {digest()} -->\n"
        f"<style>{FONT}</style>\n"
    )
    return opening + smaller(file.getvalue())


def smaller(drawing: str) -> str:
    """Return what matplotlib has drawn, without what nobody sees."""
    body = drawing[drawing.index("<defs>") :]
    for pattern, replacement in (
        (r"<!--.*?-->", ""),
        (r' id="(figure|axes|patch|line2d|text|matplotlib\.axis|[xy]tick|[A-Z]\w+)_\d+"', ""),
        (r" ?(font-family: [^;]*;|text-anchor: start;|(?<=; )stroke-linejoin: miter)", ""),
        (r' transform="rotate\(-?0 [^"]*"', ""),
        (r"(\d+\.\d)\d+", r"\1"),
        (r"\s+", " "),
        (r"> <", ">\n<"),
        *[(r"<g>\n(<(?:path|use)[^>]*/>|<text[^>]*>[^<]*</text>)\n</g>", r"\1")] * 3,
        (r"xlink:href", "href"),
        (r"(?<=[\d\"]) ?([LMz]) ?(?=[\d\"])", r"\1"),
    ):
        body = re.sub(pattern, replacement, body, flags=re.DOTALL)
    return body + "\n"


if __name__ == "__main__":
    main()
