"""Writes the tour of explanation/design.md: each file of the package, by its docstring.

The page holds the comment `<!-- tour of the files -->` where the list belongs.
"""

import ast
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).parents[2] / "src" / "mainstay"


def setup(app: Any) -> dict[str, bool]:
    """Let Sphinx put the list in its place."""
    app.connect("source-read", _on_source_read)
    return {"parallel_read_safe": True}


def _on_source_read(_app: object, _page: str, source: list[str]) -> None:
    source[0] = with_tour(source[0])


def with_tour(text: str) -> str:
    """Put the list in the place of the comment."""
    return text.replace("<!-- tour of the files -->", "\n".join(tour()))


def tour() -> list[str]:
    """Return a definition for each folder: its files, each with what its docstring begins with."""
    lines = []
    for folder in [SOURCE, *sorted(path for path in SOURCE.iterdir() if path.is_dir())]:
        files = [path for path in sorted(folder.glob("*.py")) if path.name != "__init__.py"]
        if files:
            lines += ["", f"`{folder.relative_to(SOURCE.parent)}/`"]
            lines += [
                f"{':' if path is files[0] else ' '} - `{path.name}`: {_begins(path)}"
                for path in files
            ]
    return lines


def _begins(path: Path) -> str:
    text = ast.get_docstring(ast.parse(path.read_text())) or ""
    return " ".join(text.split("\n\n")[0].split())
