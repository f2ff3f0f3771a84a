"""The tables of explanation/comparison.md: what `benchmarks/features.py` found out last."""

import functools
import re
from pathlib import Path

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"


def newest(script: str) -> Path:
    """Return the newest file of results that has a script; the one of that script alone, if any."""
    having = [path for path in RESULTS.glob("*.md") if f"\n## {script}\n" in path.read_text()]
    if not having:
        raise ValueError(f"no result of {script}")
    alone = script.removesuffix(".py").replace("_", "-")
    return max(having, key=lambda path: (path.name[:10], path.stem[11:] == alone, path.name))


def table(title: str) -> str:
    """Return one of the tables, with its columns of words in the middle."""
    text = newest("features.py").read_text()
    found = re.search(rf"^### {title}\n\n(.*?)(?:\n\n|\Z)", text, re.MULTILINE | re.DOTALL)
    if found is None:
        raise ValueError(f"no table {title!r}")
    return found[1].replace("--:", ":-:").strip()


retries = functools.partial(table, "Retries")
breakers = functools.partial(table, "Circuit breakers")
words = functools.partial(table, "Words that are in the source")
