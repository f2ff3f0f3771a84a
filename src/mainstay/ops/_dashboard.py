"""A dashboard for Grafana."""

import json

from mainstay.ops import _queries as ask
from mainstay.ops._grafana import (
    Query,
    Row,
    dashboard_json,
    datasource_variable,
    graph,
    label_variable,
    stat,
)
from mainstay.ops._promql import Matcher, Series, check_slo, number, series_of

NOW = "$__rate_interval"
ALL = "$__range"

_JOB = Matcher("job", "=~", '"$job"')
_COMPONENT = Matcher("component", "=~", '"$component"')

_CALL = "{{component}} ({{policy}})"


def dashboard(*, slo: float = 0.999, selector: str = "", namespace: str = "mainstay") -> str:
    """Write a dashboard for Grafana 9 and newer, to be imported there.

    The same as ``python -m mainstay dashboard``. It asks for the metrics themselves and needs no
    recording rules. A row of a policy that is not in use stays empty.

    Args:
        slo: The share of calls that are to succeed, above 0 and below 1; the error budget follows.
        selector: Conditions on all series, such as ``job="api",env!="test"``. Empty for none.
        namespace: The one that was given to `Metrics`.

    Returns:
        The dashboard as JSON.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If *slo* is out of range, or *selector* or *namespace* cannot be read.

    Example:
        >>> import json
        >>> from mainstay import ops
        >>> json.loads(ops.dashboard())["title"]
        'mainstay'
    """
    check_slo(slo)
    given = series_of(namespace, selector)
    targets = given.with_matchers(_JOB)
    components = targets.with_matchers(_COMPONENT)
    rows = (
        _overview(components, slo),
        _components(components),
        _attempts(components),
        _pools(components),
        _breakers(components),
        _redundant_calls(components),
        _rate_limits(components),
        _bulkheads(components),
        _fallbacks(components),
        _checkpoints(components),
        _host(targets),
        _library(targets),
    )
    variables = (
        datasource_variable(),
        label_variable("job", f"label_values({given('build_info')}, job)"),
        label_variable("component", f"label_values({targets('calls_total')}, component)"),
    )
    return json.dumps(dashboard_json(namespace, rows, variables), indent=2) + "\n"


def _overview(series: Series, slo: float) -> Row:
    budget = f"1 - (\n{ask.error_ratio(series, ALL)}\n) / {number(1 - slo)}"
    outcomes = ask.judged(series, ask.rate(series, "calls_total", NOW, f"{ask.CALL}, outcome"))
    quantiles = (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))
    return Row(
        "Overview",
        [
            stat(
                "Availability",
                "Uptime / total time of each component over the time shown. While a process "
                "cannot be scraped, its components are down.",
                Query(ask.availability(series, ALL), "{{component}}"),
                unit="percentunit",
            ),
            stat(
                "Error budget left",
                f"Of the failures that an SLO of {number(slo)} allows over the time shown, the "
                "share that is left. Below 0 the SLO is missed.",
                Query(budget, _CALL),
                unit="percentunit",
            ),
        ],
        [
            graph(
                "Calls by outcome",
                "Recovered calls succeeded only because the policy acted: it tried again, took "
                "another member, or went on from a checkpoint.",
                Query(outcomes, f"{_CALL}: {{{{outcome}}}}"),
                unit="ops",
                emphasis=".*: recovered$",
            ),
            graph(
                "Recovered share",
                "The share of calls that would have failed without the policy.",
                Query(ask.recovered_ratio(series, NOW), _CALL),
                unit="percentunit",
                emphasis=".*",
            ),
        ],
        [
            graph(
                "Time of a call",
                "Quantiles of the seconds from the start of a call to its end, waits included; of "
                "calls that were not rejected.",
                *(
                    Query(ask.duration(series, NOW, quantile), f"{_CALL} {name}")
                    for name, quantile in quantiles
                ),
                unit="s",
            ),
            graph(
                "Attempts per call",
                "1 while nothing is tried again; what it is above that is load the policies add.",
                Query(ask.attempts_per_call(series, NOW), _CALL),
            ),
        ],
    )


def _components(series: Series) -> Row:
    each = "{{component}} on {{instance}}"
    failures = ask.events(series, "component_failures_total", ALL)
    downtime = ask.increase(series, "component_downtime_seconds_total", ALL)
    return Row(
        "Components",
        [
            graph(
                "Up",
                "1 while the component is up; over worker processes, how many see it up.",
                Query(series("component_up"), each),
            ),
            stat(
                "Failures",
                "Outages that began within the time shown.",
                Query(failures, "{{component}}"),
            ),
            stat(
                "Downtime",
                "Seconds that components were down within the time shown.",
                Query(downtime, "{{component}}"),
                unit="s",
            ),
        ],
        [
            stat(
                "Availability since the start",
                "As each process sees it: it does not know of the time when it was not running.",
                Query(series("availability_ratio"), each),
                unit="percentunit",
            ),
            stat(
                "Failure rate since the start",
                "Failures per second of uptime, as each process sees it.",
                Query(series("failure_rate_per_second"), each),
                unit="hertz",
            ),
            stat(
                "Mean time between failures",
                "Uptime / failures since the start of each process; infinite without failures.",
                Query(series("mtbf_seconds"), each),
                unit="s",
            ),
            stat(
                "Mean time to repair",
                "Mean length of the outages that ended since the start of each process.",
                Query(series("mttr_seconds"), each),
                unit="s",
            ),
        ],
    )


def _attempts(series: Series) -> Row:
    """Attempts, errors and waits of every policy that makes them."""
    return Row(
        "Attempts",
        [
            graph(
                "Errors by class",
                "Failed attempts within each interval, also those that another attempt made good.",
                _counted(series, "errors_total", NOW, "policy", "error_type"),
            ),
            graph(
                "Giving up, by reason",
                "Calls within each interval that ended without a result. not_retryable is not a "
                "failure of what is called: its exception is outside `on`.",
                _counted(series, "give_ups_total", NOW, "policy", "reason"),
            ),
            graph(
                "Time spent waiting",
                "Seconds per second that calls waited between attempts: how many of them wait "
                "at any moment.",
                _rate(series, "wait_seconds_total"),
            ),
            graph(
                "Retries inside retries",
                "Failed attempts within each interval in which another retry had given up: their "
                "numbers multiply.",
                _counted(series, "nested_retries_total", NOW),
            ),
        ],
    )


def _pools(series: Series) -> Row:
    states = f"sum by ({ask.COMPONENT}, member, state) ({series('member_state')})"
    return Row(
        "Failover pools",
        [
            graph(
                "State of each member",
                "1 for the state that the member is in; over processes, how many see it so.",
                Query(f"{states} > 0", "{{component}} {{member}}: {{state}}"),
            ),
            stat(
                "Time in state",
                "Since the state of the member began; over processes, since the latest change.",
                _time_since(series, "member_since_timestamp_seconds", "member"),
                unit="s",
            ),
            graph(
                "Attempts by member",
                "How the attempts at each member ended.",
                _rate(series, "member_attempts_total", "member", "outcome"),
                unit="ops",
            ),
            stat(
                "Failovers",
                "Changes of the member that new calls go to, within the time shown.",
                _counted(series, "failovers_total", ALL, "from_member", "to_member", "reason"),
            ),
        ],
        [
            stat(
                "Ejections",
                "Members taken out of service within the time shown, by cause.",
                _counted(series, "ejections_total", ALL, "member", "cause"),
            ),
            stat(
                "Time to detect",
                "95 % of the faults of the time shown were noticed within this time.",
                _quantile(series, "time_to_detect_seconds", ALL),
                unit="s",
            ),
            stat(
                "Time to recover",
                "95 % of the members that came back in the time shown did so within this time.",
                _quantile(series, "time_to_recover_seconds", ALL),
                unit="s",
            ),
            stat(
                "Start of a standby",
                "95 % of the standbys started in the time shown were ready within this time.",
                _quantile(series, "standby_start_seconds", ALL),
                unit="s",
            ),
        ],
    )


def _breakers(series: Series) -> Row:
    states = f"sum by ({ask.COMPONENT}, state) ({series('breaker_state')})"
    return Row(
        "Circuit breakers",
        [
            graph(
                "State",
                "1 for the state that the breaker is in; over processes, how many see it so.",
                Query(f"{states} > 0", "{{component}}: {{state}}"),
            ),
            stat(
                "Time in state",
                "Since the state of the breaker began; over processes, since the latest change.",
                _time_since(series, "breaker_since_timestamp_seconds"),
                unit="s",
            ),
            stat(
                "Changes of state",
                "Within the time shown.",
                _counted(series, "breaker_transitions_total", ALL, "from_state", "to_state"),
            ),
        ],
    )


def _redundant_calls(series: Series) -> Row:
    wasted = ask.rate(series, "wasted_seconds_total", NOW, ask.COMPONENT)
    return Row(
        "Redundant calls",
        [
            graph(
                "Hedges",
                "Copies started because the primary was slow, or because a copy failed.",
                _rate(series, "hedges_total", "reason"),
                unit="ops",
            ),
            graph(
                "Hedges denied",
                "Copies that were not started, by what forbade it. Some are normal: the budget "
                "is there to say no.",
                _rate(series, "hedges_denied_total", "reason"),
                unit="ops",
            ),
            graph(
                "Delay before a hedge",
                "Seconds without an answer after which the next copy starts.",
                Query(series("hedge_delay_seconds"), "{{component}} on {{instance}}"),
                unit="s",
            ),
        ],
        [
            graph(
                "Answers by copy",
                "Whose answer was returned.",
                _rate(series, "copy_wins_total", "copy"),
                unit="ops",
            ),
            graph(
                "Votes",
                "How votes ended.",
                _rate(series, "votes_total", "verdict"),
                unit="ops",
            ),
            graph(
                "Outvoted",
                "Whose answers the others did not agree with, and how many within each interval.",
                _counted(series, "dissents_total", NOW, "copy"),
            ),
            graph(
                "Wasted work",
                "Seconds per second that copies ran whose answer nobody waited for: how many "
                "of them run at any moment.",
                Query(wasted, "{{component}}"),
            ),
        ],
        [
            graph(
                "Abandoned threads",
                "Threads that still run a call, or a copy of one, whose caller has left.",
                Query(series("abandoned_threads"), "{{component}} on {{instance}}"),
            ),
        ],
    )


def _rate_limits(series: Series) -> Row:
    refused = ask.events(
        series, "give_ups_total", NOW, f"{ask.COMPONENT}, reason", 'policy="rate_limit"'
    )
    return Row(
        "Rate limits",
        [
            graph(
                "Calls that had no turn",
                "Refused within each interval because the limit was reached (rate), or the "
                "deadline was too near (timeout).",
                Query(refused, "{{component}} {{reason}}"),
            ),
            graph(
                "Errors of the store",
                "Calls of shared limits within each interval that the store did not decide, by "
                "what was done instead.",
                _counted(series, "rate_store_errors_total", NOW, "action"),
            ),
        ],
    )


def _fallbacks(series: Series) -> Row:
    return Row(
        "Fallbacks",
        [
            graph(
                "Calls that a fallback answered",
                "Within each interval, by what it gave: a value, a call, or the last good answer.",
                _counted(series, "fallbacks_total", NOW, "source"),
            ),
            graph(
                "Age of last good answers",
                "95 % of those that were given were no older.",
                _quantile(series, "fallback_age_seconds", NOW),
                unit="s",
            ),
        ],
    )


def _bulkheads(series: Series) -> Row:
    places, inside, waiting = (
        f"sum by ({ask.COMPONENT}) ({series(name)})"
        for name in ("concurrency_limit", "in_flight", "waiting")
    )
    mean = ask.rate(series, "in_flight_seconds_total", NOW, ask.COMPONENT)
    refused = ask.events(
        series, "give_ups_total", NOW, f"{ask.COMPONENT}, reason", 'policy="bulkhead"'
    )
    waits = ask.events(series, "queue_wait_seconds_bucket", NOW, f"{ask.COMPONENT}, priority, le")
    return Row(
        "Bulkheads",
        [
            graph(
                "Places",
                "How many calls may run at a time, how many did in the mean, and how many did at "
                "the moment of the scrape; over all processes.",
                Query(places, "{{component}} limit"),
                Query(mean, "{{component}} mean"),
                Query(inside, "{{component}} now"),
            ),
            graph(
                "Calls that wait for a place",
                "At the moment of the scrape.",
                Query(waiting, "{{component}}"),
            ),
            graph(
                "Calls that had no place",
                "Within each interval. full: refused at once. wait: after `max_wait`. shed: there "
                "was less time left than a call takes. timeout: the deadline was over.",
                Query(refused, "{{component}} {{reason}}"),
            ),
        ],
        [
            graph(
                "Time spent waiting for a place",
                "95 % of the calls that waited did so for no longer.",
                Query(f"histogram_quantile(0.95, {waits})", "{{component}} {{priority}}"),
                unit="s",
            ),
            graph(
                "Changes of the limit",
                "Within each interval: by an adaptive limit, or by `resize`.",
                _counted(series, "limit_changes_total", NOW, "direction"),
            ),
        ],
    )


def _checkpoints(series: Series) -> Row:
    last = f"max by ({ask.COMPONENT}) ({series('checkpoint_last_save_timestamp_seconds')})"
    interval = f"max by ({ask.COMPONENT}) ({series('checkpoint_interval_seconds')})"
    runs = f"max by (component, state) ({series('checkpoint_runs')})"
    not_repeated, repeated = (
        f"sum by ({ask.COMPONENT}) ({series(name)})"
        for name in ("checkpoint_saved_seconds_total", "checkpoint_replayed_seconds_total")
    )
    expected = f"sum by ({ask.COMPONENT}) ({series('checkpoint_items_expected')})"
    items = series("checkpoint_items_total", 'outcome!="failed"')
    reached = f"sum by ({ask.COMPONENT}) ({items})"
    return Row(
        "Checkpoints",
        [
            graph(
                "Runs by state",
                "Of everything in the store, whichever process runs it. `StoreCollector` "
                "exports it.",
                Query(runs, "{{component}}: {{state}}"),
            ),
            graph(
                "Since the last save",
                "What a crash now would repeat, while a run goes on.",
                Query(f"time() - {last}", "{{component}}"),
                unit="s",
            ),
            graph(
                "Interval between saves",
                "As it is in force; young_daly changes it with the cost of a save.",
                Query(interval, "{{component}}"),
                unit="s",
            ),
        ],
        [
            graph(
                "Saves by outcome",
                "fenced: refused, since another process had taken the run over.",
                _rate(series, "checkpoint_saves_total", "outcome"),
                unit="ops",
            ),
            graph(
                "Time of a save",
                "95 % of the saves were durable within this time.",
                _quantile(series, "checkpoint_save_duration_seconds", NOW),
                unit="s",
            ),
            graph(
                "Size of a save",
                "95 % of the saves were smaller than this.",
                _quantile(series, "checkpoint_size_bytes", NOW),
                unit="bytes",
            ),
        ],
        [
            graph(
                "Items",
                "Items of iterations: done, skipped because an earlier attempt had done them, "
                "or failed.",
                _rate(series, "checkpoint_items_total", "outcome"),
                unit="ops",
            ),
            graph(
                "Progress",
                "The share of items that is done or was skipped, of all that there are to be "
                "since the start of each process, where the sources of the iterations that go on "
                "have a length.",
                Query(f"{reached} / ({expected} > 0)", "{{component}}"),
                unit="percentunit",
            ),
            graph(
                "Steps",
                "Steps that ran, and steps whose saved result was used again.",
                _rate(series, "checkpoint_steps_total", "source"),
                unit="ops",
            ),
            stat(
                "Resumed runs",
                "Runs that went on within the time shown, by how the attempt before had ended.",
                _counted(series, "checkpoint_resumes_total", ALL, "reason"),
            ),
        ],
        [
            stat(
                "Work not repeated, and repeated",
                "Seconds of work that resumed runs passed over, and that they did again, since "
                "the start of each process.",
                Query(not_repeated, "{{component}} not repeated"),
                Query(repeated, "{{component}} repeated"),
                unit="s",
            ),
            stat(
                "Taken over",
                "Runs that another process took over within the time shown.",
                _counted(series, "checkpoint_lease_lost_total", ALL),
            ),
            stat(
                "Damaged saves",
                "Saves that could not be read within the time shown.",
                _counted(series, "checkpoint_corrupt_total", ALL),
            ),
        ],
    )


def _host(series: Series) -> Row:
    """What the machine has left; `HostCollector` exports it."""
    return Row(
        "Host",
        [
            graph(
                "Processor",
                "The share of processor time in use since the scrape before.",
                Query(series("host_cpu_usage_ratio"), "{{instance}}"),
                unit="percentunit",
            ),
            graph(
                "Memory",
                "The share of memory in use.",
                Query(series("host_memory_usage_ratio"), "{{instance}}"),
                unit="percentunit",
            ),
            graph(
                "Disks",
                "The share of each file system in use.",
                Query(series("host_disk_usage_ratio"), "{{instance}} {{mountpoint}}"),
                unit="percentunit",
            ),
        ],
    )


def _library(series: Series) -> Row:
    """About mainstay itself; these series have no component."""
    versions = f"count by (job, version) ({series('build_info')})"
    dropped = f"sum by (job, metric) ({series('series_dropped_total')})"
    headers = f"sum by (job, header) ({series('wire_errors_total')})"
    hooks = f"sum by (job, hook) ({series('hook_errors_total')})"
    return Row(
        "mainstay",
        [
            stat(
                "Versions",
                "How many processes run which version.",
                Query(versions, "{{job}}: {{version}}"),
            ),
            stat(
                "Label values dropped",
                "Times that a value was replaced by _other, since the start of each process. "
                "0 is normal.",
                Query(f"{dropped} or 0 * {versions}", "{{job}} {{metric}}"),
            ),
            stat(
                "Hooks that raised",
                "Calls of a function of yours that raised where a call must go on (on_alarm, a "
                "listener, a collector), since the start of each process. 0 is normal.",
                Query(f"{hooks} or 0 * {versions}", "{{job}} {{hook}}"),
            ),
            stat(
                "Headers that are garbage",
                "Deadlines and delays in headers that could not be read, and were passed over, "
                "since the start of each process. 0 is normal.",
                Query(f"{headers} or 0 * {versions}", "{{job}} {{header}}"),
            ),
        ],
    )


def _rate(series: Series, name: str, *labels: str) -> Query:
    """Return the query for a counter's rate, by component and *labels*."""
    return Query(ask.rate(series, name, NOW, ", ".join((ask.COMPONENT, *labels))), _legend(labels))


def _counted(series: Series, name: str, window: str, *labels: str) -> Query:
    """Return the query for the events of a counter, by component and *labels*."""
    by = ", ".join((ask.COMPONENT, *labels))
    return Query(ask.events(series, name, window, by), _legend(labels))


def _time_since(series: Series, name: str, *labels: str) -> Query:
    """Return the query for the seconds since a time; workers write 0 where it is over."""
    by = ", ".join((ask.COMPONENT, *labels))
    return Query(f"time() - (max by ({by}) ({series(name)}) > 0)", _legend(labels))


def _quantile(series: Series, name: str, window: str) -> Query:
    """Return the query for what 95 % of the observations of a histogram stay below."""
    buckets = ask.events(series, f"{name}_bucket", window, f"{ask.COMPONENT}, le")
    return Query(f"histogram_quantile(0.95, {buckets})", "{{component}}")


def _legend(labels: tuple[str, ...]) -> str:
    return " ".join(f"{{{{{label}}}}}" for label in ("component", *labels))
