"""Take the picture of `mainstay top`: docs/_static/top.svg, from a real run of the quickstart.

    python docs/_pictures/top.py    runs all sections of the quickstart at once, and writes the file

It is drawn from the last scrape at which most was wrong. The file says which code it shows, so that
a test can tell when it is out of date: `digest` is what both compare, and comments do not count.
"""

import ast
import contextlib
import hashlib
import io
import logging
import sys
import threading
import time
from pathlib import Path

import attrs
from prometheus_client import start_http_server
from rich.console import Console

from mainstay._top.choice import Choice
from mainstay._top.endpoint import Endpoint
from mainstay._top.screen import Screen
from mainstay._top.show import Watched
from mainstay._top.view import View

ROOT = Path(__file__).parents[2]
PICTURE = ROOT / "docs" / "_static" / "top.svg"
EXAMPLES = ROOT / "docs" / "examples"
SHOWS = (
    EXAMPLES / "quickstart.py",
    *(
        ROOT / "src" / "mainstay" / "_top" / f"{name}.py"
        for name in (
            *("bars", "layout", "lines", "model", "paint"),
            *("rows", "run_seen", "screen", "view", "words"),
        )
    ),
)
WIDTH, HEIGHT = 108, 27
NOON = time.mktime((2026, 11, 30, 12, 0, 0, 0, 0, -1))
EVERY = 0.2
ROUNDS = 3
DRAWING = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">
<title>mainstay top</title>
<desc>A terminal: what fails and what is covered, calls, pools, breakers, bulkheads, runs.</desc>
<!-- shows {digest} -->
<style>
.{unique_id}-matrix {{ font: {char_height}px "DejaVu Sans Mono", Menlo, Consolas, monospace;
line-height: {line_height}px; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/>
</clipPath>
{lines}
</defs>
<rect width="{width}" height="{height}" rx="8" fill="#0d1117"/>
<g transform="translate({terminal_x}, 20)" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


def digest() -> str:
    """Return a text that changes with the code of what the picture shows."""
    digests = hashlib.sha256()
    for path in SHOWS:
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                node.value.value = ""  # a docstring
        digests.update(ast.dump(tree).encode())
    return digests.hexdigest()[:16]


def run_quickstart() -> threading.Thread:
    """Run all sections of the quickstart at once, several times."""
    sys.path.insert(0, str(EXAMPLES))
    import quickstart  # noqa: PLC0415 - it stands beside the examples

    logging.getLogger("mainstay").setLevel(logging.ERROR)

    def run() -> None:
        for _ in range(ROUNDS):
            quickstart.run_all_at_once()

    running = threading.Thread(target=run)
    running.start()
    return running


def cells(view: View) -> int:
    """Return the length of the sparklines."""
    return max((len(row.cells) for row in view.calls), default=0)


def shows_progress(view: View) -> bool:
    """Return whether there is a run of which more than a fifth is done."""
    return any((row.share or 0.0) > 0.2 for row in view.runs)  # noqa: PLR2004 - as said


def take() -> str:
    """Return the picture at the scrape at which most was wrong, as SVG."""
    console = Console(
        file=io.StringIO(), record=True, width=WIDTH, color_system="truecolor", force_terminal=True
    )
    server, thread = start_http_server(0, addr="127.0.0.1")
    url = f"127.0.0.1:{server.server_port}"
    with contextlib.closing(Watched([Endpoint(url)], namespace="mainstay", every=EVERY)) as watched:
        views = []
        running = run_quickstart()
        while running.is_alive():
            time.sleep(EVERY / 5)
            if watched.take():
                watched.model.tick(time.monotonic())
                view = watched.model.view(time.monotonic(), time.time())
                views.append(attrs.evolve(view, wall=NOON))
    server.shutdown()
    server.server_close()
    thread.join()
    view = max(views, key=lambda view: (len(view.findings), shows_progress(view), cells(view)))
    for line in Screen(console).lines(view, Choice(), WIDTH, HEIGHT):
        console.print(line, end="\n", soft_wrap=True)
    drawing = DRAWING.replace("{digest}", digest())
    return console.export_svg(title="", code_format=drawing, unique_id="top")


def main() -> None:
    """Write the file."""
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_text(take())
    print(f"wrote {PICTURE}")


if __name__ == "__main__":
    main()
