"""The table of reference/api.md: every public name, what it is, and the page that has it.

It reads the source, and imports nothing, since not every library of the integrations is there.
"""

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src"
API = ROOT / "tests" / "api.txt"
REFERENCE = ROOT / "docs" / "reference"
_DIRECTIVE = re.compile(r"^\.\. auto(\w+):: ([\w.]+)(?:\(.*\))?\n((?: +:.*\n)*)", re.MULTILINE)
_MEMBERS = re.compile(r":members: (.+)")


class Definition(NamedTuple):
    """Where something is defined.

    Attributes:
        module: The module of its definition, or the module that it is.
        name: Its name in there; "" if it is the module.
    """

    module: str
    name: str


def names() -> str:
    """List every public name, in a table for each module."""
    tables: dict[str, dict[str, list[str]]] = {}
    for line in API.read_text().splitlines():
        module, _, path = line.partition(":")
        name, _, member = path.partition(".")
        members = tables.setdefault(module, {}).setdefault(name, [])
        members += [member] if member else []
    pages = pages_by_definition()
    parts = []
    for module, found in sorted(tables.items()):
        parts += [f"## `{module}`", "\n".join(_rows(module, found, pages))]
    return "\n\n".join(parts)


def _rows(module: str, found: dict[str, list[str]], pages: dict[Definition, str]) -> Iterator[str]:
    yield "| Name | What it is | Page |"
    yield "| --- | --- | --- |"
    for name, members in sorted(found.items(), key=lambda each: each[0].lower()):
        what = definition(module, name)
        if what not in pages:
            raise ValueError(f"{module}.{name} is on no page of docs/reference: add it there")
        has = f" Has {', '.join(f'`{each}`' for each in members)}." if members else ""
        yield f"| `{name}` | {_sentence(what)}{has} | {pages[what]} |"


def pages_by_definition() -> dict[Definition, str]:
    """Return a link to the page that documents something, for all that is documented."""
    found = {}
    for page in sorted(REFERENCE.glob("*.md")):
        text = page.read_text()
        title = text.splitlines()[0].removeprefix("# ")
        for path in documented(text):
            found[definition(*path.rsplit(".", 1))] = f"[{title}]({page.name})"
    return found


def documented(text: str) -> Iterator[str]:
    """Give every address that a page of the reference documents."""
    for kind, path, options in _DIRECTIVE.findall(text):
        yield path
        members = _MEMBERS.search(options)
        if kind == "module" and members:
            yield from (f"{path}.{name}" for name in members[1].split(", "))


def definition(module: str, name: str) -> Definition:
    """Find what a name in a module stands for."""
    if _file(f"{module}.{name}"):
        return Definition(f"{module}.{name}", "")
    if name in _imported(module):
        return definition(*_imported(module)[name])
    return Definition(module, name)


@functools.cache
def _imported(module: str) -> dict[str, tuple[str, str]]:
    """Return the module and the name there of each name that a module imports from mainstay."""
    return {
        alias.asname or alias.name: (str(node.module), alias.name)
        for node in ast.walk(_tree(module))
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("mainstay")
        for alias in node.names
    }


def _sentence(found: Definition) -> str:
    """Return the first sentence of a docstring."""
    tree = _tree(found.module)
    text = ast.get_docstring(tree) if not found.name else None
    for node in tree.body:
        match node:
            case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
                if node.name == found.name:
                    text = ast.get_docstring(node) or text
            case ast.AnnAssign(target=ast.Name(id=name), annotation=ast.Name(id=kind)):
                if name == found.name:
                    return _sentence(definition(found.module, kind))
    if not text:
        raise ValueError(f"{found} has no docstring")
    return " ".join(text.split("\n\n")[0].split()).replace("|", "\\|")


def _file(module: str) -> Path | None:
    """Return the file of a module, if there is such a module."""
    path = SOURCE / module.replace(".", "/")
    candidates = (path.with_suffix(".py"), path / "__init__.py")
    return next((each for each in candidates if each.exists()), None)


@functools.cache
def _tree(module: str) -> ast.Module:
    path = _file(module)
    if path is None:
        raise ValueError(f"there is no module {module!r}")
    return ast.parse(path.read_text())
