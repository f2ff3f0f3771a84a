"""Write the tables that stand in the pages but come from the code.

    python docs/_tables/write.py    writes them all again

A table stands between the comments `<!-- table of metrics -->`, which names it, and
`<!-- end of table -->`. It is committed, so that the pages can be read without a build; a test
fails when the code has moved on.
"""

import re
from collections.abc import Callable
from pathlib import Path

import features_table
import metrics_table
import names_table

DOCS = Path(__file__).parents[1]
TABLES: dict[str, Callable[[], str]] = {
    "metrics": metrics_table.metrics,
    "buckets": metrics_table.buckets,
    "label values": metrics_table.label_values,
    "names": names_table.names,
    "retries": features_table.retries,
    "circuit breakers": features_table.breakers,
    "words": features_table.words,
}
_PLACE = re.compile(r"(<!-- table of ([\w ]+) -->\n).*?(<!-- end of table -->)", re.DOTALL)


def pages() -> dict[Path, str]:
    """Return every page that has a table, with the text that it should have."""
    texts = {path: path.read_text() for path in sorted(DOCS.rglob("*.md"))}
    return {path: with_tables(text) for path, text in texts.items() if _PLACE.search(text)}


def with_tables(text: str) -> str:
    """Return the text of a page with its tables as they are now."""
    return _PLACE.sub(lambda place: f"{place[1]}\n{TABLES[place[2]]()}\n\n{place[3]}", text)


if __name__ == "__main__":
    for page, current in pages().items():
        page.write_text(current)
