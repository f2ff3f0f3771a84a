"""How many lines of code is the library, and in how many files?

A line is one thing only: blank; a comment; part of an `import`; part of a string that stands
alone, as docstrings do (of modules, classes, functions and attributes); or code, which is what is
left. Another folder than `src/mainstay` may be given, to compare with another commit.
"""

import argparse
import ast
from collections import Counter
from pathlib import Path

from harness import Report

SOURCE = Path(__file__).parents[1] / "src" / "mainstay"
KINDS = ("code", "docstring", "comment", "import", "blank")
FEW, MANY = 60, 600  # lines; a file with fewer or more is a question about where it was cut


def kinds_of_lines(text: str) -> Counter[str]:
    """Count the lines of one file by their kind."""
    kinds = [_kind_alone(line.strip()) for line in text.splitlines()]
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            _mark(kinds, node, "import")
        elif isinstance(node, ast.Expr) and _is_string(node.value):
            _mark(kinds, node, "docstring")
    return Counter(kinds)


def _kind_alone(line: str) -> str:
    """Return what a line is as far as it can be told without those around it."""
    if not line:
        return "blank"
    return "comment" if line.startswith("#") else "code"


def _mark(kinds: list[str], node: ast.stmt, kind: str) -> None:
    end = node.end_lineno or node.lineno
    kinds[node.lineno - 1 : end] = [kind] * (end - node.lineno + 1)


def _is_string(value: ast.expr) -> bool:
    return isinstance(value, ast.Constant) and isinstance(value.value, str)


def report(source: Path) -> Report:
    """Count everything below *source*, by package."""
    packages: dict[str, Counter[str]] = {}
    questions = []
    for path in sorted(source.rglob("*.py")):
        place = path.relative_to(source)
        counts = kinds_of_lines(path.read_text())
        package = place.parts[0] if len(place.parts) > 1 else "no package"
        packages.setdefault(package, Counter()).update(counts, files=1)
        if not FEW <= counts.total() <= MANY and path.name != "__init__.py":
            questions.append((counts.total(), str(place)))
    packages["all"] = sum(packages.values(), Counter())
    result = Report()
    result.table(
        f"Lines in `{source.name}`",
        ["package", "files", *KINDS],
        [
            [package, *(f"{counts[kind]:,}" for kind in ("files", *KINDS))]
            for package, counts in packages.items()
        ],
    )
    result.table(
        f"Files of fewer than {FEW} lines, or more than {MANY}",
        ["file", "lines"],
        [(place, lines) for lines, place in sorted(questions)],
    )
    return result


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", nargs="?", type=Path, default=SOURCE, help="a folder of Python")
    print("\n\n".join(report(parser.parse_args().source).parts))
