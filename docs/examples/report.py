"""What the quickstart shows at its end, read from its own endpoint as Prometheus would.

`scrape` reads the figures, `show` prints them as a table, and `explain` says what they mean: what
would have failed without mainstay, and what failed all the same.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping

from pages import get
from prometheus_client.parser import text_string_to_metric_families

Table = Mapping[str, Mapping[str, float]]

COLUMNS = ("calls", "recovered", "gave up", "attempts")


def scrape(url: str) -> Table:
    """Read the endpoint; give the figures by component."""
    table: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for family in text_string_to_metric_families(get(url).decode()):
        for sample in family.samples:
            row = table[sample.labels.get("component", "")]
            match sample.name, sample.labels.get("outcome"):
                case "mainstay_calls_total", outcome:
                    row["calls"] += sample.value
                    row["attempts"] += sample.value
                    row["recovered"] += sample.value if outcome == "recovered" else 0
                case "mainstay_call_attempts_sum", _:
                    row["attempts"] += sample.value
                case "mainstay_call_attempts_count", _:  # their first attempts are counted above
                    row["attempts"] -= sample.value
                case "mainstay_give_ups_total", _:
                    row["gave up"] += sample.value
                case "mainstay_wait_seconds_total", _:
                    row["waited"] += sample.value
                case "mainstay_checkpoint_items_total", "skipped":
                    row["skipped"] += sample.value
    return {component: row for component, row in table.items() if row["calls"]}


def show(table: Table) -> None:
    """Print the table."""
    print(f"\n{'component':<16}", *(f"{name:>10}" for name in (*COLUMNS, "waited")))
    for component, row in sorted(table.items()):
        counts = (f"{row[name]:>10.0f}" for name in COLUMNS)
        print(f"{component:<16}", *counts, f"{row['waited']:>8.1f} s")


def explain(table: Table, *, photos: int, photos_without: int) -> None:
    """Say what the table means.

    Args:
        table: The figures.
        photos: How many photos were seen.
        photos_without: How many were seen without a bulkhead, until their server was dead.
    """
    failed, failed_where = _total(table, "recovered", ("catalogue", "prices", "stock"))
    wrong, wrong_where = _total(table, "recovered", ("reviews", "weights"))
    given_up, given_up_where = _total(table, "gave up", table)
    skipped = table["invoices"]["skipped"]
    print("\nrecovered: good in the end, by another attempt, member or copy; waited: between them.")
    print("\nWithout mainstay,")
    print(f"  {failed:.0f} calls would have failed: {failed_where}")
    print(f"  {wrong:.0f} answers would have been late or wrong: {wrong_where}")
    print(f"  the server of the photos would be dead, and {photos - photos_without} not seen")
    print(f"  {skipped:.0f} invoices would have been sent twice, by a job that fails half-way")
    print(f"With it {given_up:.0f} calls failed all the same: {given_up_where}, for want of time")


def _total(table: Table, column: str, components: Iterable[str]) -> tuple[float, str]:
    """Add up a column; give the sum, and what it is made of."""
    parts = {name: table[name][column] for name in sorted(components) if table[name][column]}
    return sum(parts.values()), ", ".join(f"{name} {count:.0f}" for name, count in parts.items())
