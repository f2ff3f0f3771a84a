"""The rows of the dashboard that are about one policy each."""

from mainstay.ops import _queries as ask
from mainstay.ops._grafana import Panel, Query, Row
from mainstay.ops._overview import ALL, NOW
from mainstay.ops._promql import Source


def _rate(source: Source, name: str, *labels: str) -> tuple[Query, ...]:
    """Ask for a counter's rate by component and *labels*."""
    by = ", ".join((ask.COMPONENT, *labels))
    return (Query(ask.rate(source, name, NOW, by), _legend(labels)),)


def _quantile(source: Source, name: str, window: str) -> tuple[Query, ...]:
    """Ask for what 95 % of the observations of a histogram stay below."""
    buckets = ask.rate(source, f"{name}_bucket", window, f"{ask.COMPONENT}, le")
    return (Query(f"histogram_quantile(0.95, {buckets})", "{{component}}"),)


def _grown(source: Source, name: str, *labels: str) -> tuple[Query, ...]:
    """Ask by how much a counter grew over the time shown."""
    by = ", ".join((ask.COMPONENT, *labels))
    return (Query(ask.increase(source, name, ALL, by), _legend(labels)),)


def _legend(labels: tuple[str, ...]) -> str:
    return " ".join(f"{{{{{label}}}}}" for label in ("component", *labels))


def retry(source: Source) -> Row:
    """Attempts, errors and waits; of every policy that makes them."""
    return Row(
        "Attempts",
        (
            Panel(
                "Errors by class",
                "Failed attempts, also those that another attempt made good.",
                "ops",
                _rate(source, "errors_total", "policy", "error_type"),
            ),
            Panel(
                "Giving up, by reason",
                "Calls that ended without a result. not_retryable is not a failure of what is "
                "called: its exception is outside `on`.",
                "ops",
                _rate(source, "give_ups_total", "policy", "reason"),
            ),
            Panel(
                "Time spent waiting",
                "Seconds per second that calls waited between attempts: how many of them wait at "
                "any moment.",
                "none",
                _rate(source, "wait_seconds_total"),
            ),
        ),
    )


def failover(source: Source) -> Row:
    """Members of pools."""
    states = f"sum by ({ask.COMPONENT}, member, state) ({source('member_state')})"
    return Row(
        "Failover pools",
        (
            Panel(
                "State of each member",
                "1 for the state that the member is in; over processes, how many see it so.",
                "none",
                (Query(f"{states} > 0", "{{component}} {{member}}: {{state}}"),),
            ),
            Panel(
                "Attempts by member",
                "How the attempts at each member ended.",
                "ops",
                _rate(source, "member_attempts_total", "member", "outcome"),
            ),
            Panel(
                "Failovers",
                "Changes of the member that new calls go to, within the time shown.",
                "none",
                _grown(source, "failovers_total", "from_member", "to_member", "reason"),
                kind="stat",
            ),
            Panel(
                "Ejections",
                "Members taken out of service within the time shown, by cause.",
                "none",
                _grown(source, "ejections_total", "member", "cause"),
                kind="stat",
                width=6,
            ),
            Panel(
                "Time to detect",
                "95 % of the faults of the time shown were noticed within this time.",
                "s",
                _quantile(source, "time_to_detect_seconds", ALL),
                kind="stat",
                width=6,
            ),
            Panel(
                "Time to recover",
                "95 % of the members that came back in the time shown did so within this time.",
                "s",
                _quantile(source, "time_to_recover_seconds", ALL),
                kind="stat",
                width=6,
            ),
            Panel(
                "Start of a standby",
                "95 % of the standbys started in the time shown were ready within this time.",
                "s",
                _quantile(source, "standby_start_seconds", ALL),
                kind="stat",
                width=6,
            ),
        ),
    )


def breaker(source: Source) -> Row:
    """Circuit breakers."""
    states = f"sum by ({ask.COMPONENT}, state) ({source('breaker_state')})"
    return Row(
        "Circuit breakers",
        (
            Panel(
                "State",
                "1 for the state that the breaker is in; over processes, how many see it so.",
                "none",
                (Query(f"{states} > 0", "{{component}}: {{state}}"),),
                width=12,
            ),
            Panel(
                "Changes of state",
                "Within the time shown.",
                "none",
                _grown(source, "breaker_transitions_total", "from_state", "to_state"),
                kind="stat",
                width=12,
            ),
        ),
    )


def redundant(source: Source) -> Row:
    """Redundant calls: hedges and votes."""
    wasted = ask.rate(source, "wasted_seconds_total", NOW, ask.COMPONENT)
    return Row(
        "Redundant calls",
        (
            Panel(
                "Hedges",
                "Copies started because the primary was slow, or because a copy failed.",
                "ops",
                _rate(source, "hedges_total", "reason"),
            ),
            Panel(
                "Hedges denied",
                "Copies that were not started, by what forbade it. Some are normal: the budget "
                "is there to say no.",
                "ops",
                _rate(source, "hedges_denied_total", "reason"),
            ),
            Panel(
                "Delay before a hedge",
                "Seconds without an answer after which the next copy starts.",
                "s",
                (Query(source("hedge_delay_seconds"), "{{component}} on {{instance}}"),),
            ),
            Panel(
                "Answers by copy",
                "Whose answer was returned.",
                "ops",
                _rate(source, "copy_wins_total", "copy"),
                width=6,
            ),
            Panel(
                "Votes",
                "How votes ended.",
                "ops",
                _rate(source, "votes_total", "verdict"),
                width=6,
            ),
            Panel(
                "Outvoted",
                "Whose answers the others did not agree with.",
                "ops",
                _rate(source, "dissents_total", "copy"),
                width=6,
            ),
            Panel(
                "Work in vain",
                "Seconds per second that copies ran whose answer nobody waited for: how many of "
                "them run at any moment.",
                "none",
                (Query(wasted, "{{component}}"),),
                width=6,
            ),
            Panel(
                "Abandoned threads",
                "Threads that still run a copy whose call has ended.",
                "none",
                (Query(source("abandoned_threads"), "{{component}} on {{instance}}"),),
            ),
        ),
    )


def checkpoint(source: Source) -> Row:
    """Checkpointed functions."""
    age = f"time() - max by ({ask.COMPONENT}) ({source('checkpoint_last_save_timestamp_seconds')})"
    interval = f"max by ({ask.COMPONENT}) ({source('checkpoint_interval_seconds')})"
    runs = f"max by (component, state) ({source('checkpoint_runs')})"
    not_repeated, repeated = (
        f"sum by ({ask.COMPONENT}) ({source(name)})"
        for name in ("checkpoint_saved_seconds_total", "checkpoint_replayed_seconds_total")
    )
    return Row(
        "Checkpoints",
        (
            Panel(
                "Runs by state",
                "Of everything in the store, whichever process runs it. `StoreCollector` exports "
                "it.",
                "none",
                (Query(runs, "{{component}}: {{state}}"),),
            ),
            Panel(
                "Since the last save",
                "What a crash now would repeat, while a run goes on.",
                "s",
                (Query(age, "{{component}}"),),
            ),
            Panel(
                "Interval between saves",
                "As it is in force; young_daly changes it with the cost of a save.",
                "s",
                (Query(interval, "{{component}}"),),
            ),
            Panel(
                "Saves by outcome",
                "fenced: refused, since another process had taken the run over.",
                "ops",
                _rate(source, "checkpoint_saves_total", "outcome"),
            ),
            Panel(
                "Time of a save",
                "95 % of the saves were durable within this time.",
                "s",
                _quantile(source, "checkpoint_save_duration_seconds", NOW),
            ),
            Panel(
                "Size of a save",
                "95 % of the saves were smaller than this.",
                "bytes",
                _quantile(source, "checkpoint_size_bytes", NOW),
            ),
            Panel(
                "Items",
                "Items of iterations: done, skipped because an earlier attempt had done them, or "
                "failed.",
                "ops",
                _rate(source, "checkpoint_items_total", "outcome"),
            ),
            Panel(
                "Steps",
                "Steps that ran, and steps whose saved result was used again.",
                "ops",
                _rate(source, "checkpoint_steps_total", "source"),
            ),
            Panel(
                "Resumed runs",
                "Runs that went on within the time shown, by how the attempt before had ended.",
                "none",
                _grown(source, "checkpoint_resumes_total", "reason"),
                kind="stat",
            ),
            Panel(
                "Work not repeated, and repeated",
                "Seconds of work that resumed runs passed over, and that they did again, since "
                "the start of each process.",
                "s",
                (
                    Query(not_repeated, "{{component}} not repeated"),
                    Query(repeated, "{{component}} repeated"),
                ),
                kind="stat",
            ),
            Panel(
                "Taken over",
                "Runs that another process took over within the time shown.",
                "none",
                _grown(source, "checkpoint_lease_lost_total"),
                kind="stat",
            ),
            Panel(
                "Damaged saves",
                "Saves that could not be read within the time shown.",
                "none",
                _grown(source, "checkpoint_corrupt_total"),
                kind="stat",
            ),
        ),
    )
