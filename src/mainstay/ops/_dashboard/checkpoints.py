"""What is particular to checkpointed functions."""

from mainstay.ops import _queries as ask
from mainstay.ops._dashboard.questions import ALL, NOW, counts, legend, quantile, rates
from mainstay.ops._grafana.graph import graph
from mainstay.ops._grafana.query import Query
from mainstay.ops._grafana.row import Row, low
from mainstay.ops._grafana.stat import stat
from mainstay.ops._grafana.thresholds import above
from mainstay.ops._grafana.unit import BYTES, RATE, SECONDS, SHARE
from mainstay.ops._promql import Series


def checkpoints(series: Series) -> Row:
    """Return the row for checkpointed functions."""
    last, interval = (
        f"max by ({ask.COMPONENT}) ({series(name)})"
        for name in ("checkpoint_last_save_timestamp_seconds", "checkpoint_interval_seconds")
    )
    runs = f"max by (component, state) ({series('checkpoint_runs')})"
    resumed = ask.events(series, "checkpoint_resumes_total", ALL, f"{ask.COMPONENT}, reason")
    not_repeated, repeated = (
        f"sum by ({ask.COMPONENT}) ({series(name)}) > 0"
        for name in ("checkpoint_saved_seconds_total", "checkpoint_replayed_seconds_total")
    )
    expected = f"sum by ({ask.COMPONENT}) ({series('checkpoint_items_expected')})"
    items = series("checkpoint_items_total", 'outcome!="failed"')
    reached = f"sum by ({ask.COMPONENT}) ({items})"
    return Row(
        "Checkpoints ($checkpoints)",
        (
            graph(
                "Runs by state",
                "Of everything in the store, whichever process runs it. `StoreCollector` "
                "exports it.",
                Query(runs, "{{component}}: {{state}}"),
            ),
            graph(
                "Since the last save",
                "What a crash now would repeat, while a run goes on; dashed: the interval that is "
                "in force, which young_daly changes with the cost of a save.",
                Query(f"time() - {last}", "{{component}}"),
                Query(interval, "{{component}}: interval", is_dashed=True),
                unit=SECONDS,
            ),
            graph(
                "Items",
                "Items of iterations: done, skipped because an earlier attempt had done them, "
                "or failed.",
                rates(series, "checkpoint_items_total", "outcome"),
                unit=RATE,
            ),
            graph(
                "Progress",
                "The share of items that is done or was skipped, of all that there are to be since "
                "the start of each process, where the sources of the iterations that go on have a "
                "length.",
                Query(f"{reached} / ({expected} > 0)", "{{component}}"),
                unit=SHARE,
            ),
        ),
        (
            graph(
                "Saves by outcome",
                "fenced: refused, since another process had taken the run over.",
                rates(series, "checkpoint_saves_total", "outcome"),
                unit=RATE,
            ),
            graph(
                "Time of a save",
                "95 % of the saves were durable within this time.",
                quantile(series, "checkpoint_save_duration_seconds", NOW),
                unit=SECONDS,
            ),
            graph(
                "Size of a save",
                "95 % of the saves were smaller than this.",
                quantile(series, "checkpoint_size_bytes", NOW),
                unit=BYTES,
            ),
        ),
        (
            graph(
                "Steps",
                "Steps that ran, and steps whose saved result was used again.",
                rates(series, "checkpoint_steps_total", "source"),
                unit=RATE,
            ),
            stat(
                "Resumed runs",
                "Runs that went on within the time shown, by how the attempt before had ended.",
                Query(f"{resumed} > 0", legend("reason")),
            ),
            stat(
                "Work not repeated, and repeated",
                "Work that resumed runs passed over, and that they did again, since the start of "
                "each process.",
                Query(not_repeated, "{{component}}: not repeated"),
                Query(repeated, "{{component}}: repeated"),
                unit=SECONDS,
            ),
        ),
        low(
            stat(
                "Taken over",
                "Runs that another process took over within the time shown.",
                counts(series, "checkpoint_lease_lost_total", ALL),
                thresholds=above(degraded=1),
            ),
            stat(
                "Damaged saves",
                "Saves that could not be read within the time shown.",
                counts(series, "checkpoint_corrupt_total", ALL),
                thresholds=above(failing=1),
            ),
            stat(
                "Requests to the store sent again",
                "After failures that may pass, within the time shown.",
                counts(series, "checkpoint_store_retries_total", ALL),
                thresholds=above(degraded=1),
            ),
        ),
        is_collapsed=True,
    )
