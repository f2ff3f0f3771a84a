"""The rows of the dashboard that are about every policy, about components, and about the host."""

from mainstay.ops import _queries as ask
from mainstay.ops._grafana import Panel, Query, Row
from mainstay.ops._promql import Source, number

NOW = "$__rate_interval"
ALL = "$__range"

_CALL = "{{component}} ({{policy}})"


def overview(source: Source, slo: float) -> Row:
    """Whether all is well."""
    budget = f"1 - (\n{ask.error_ratio(source, ALL)}\n) / {number(1 - slo)}"
    outcomes = ask.rate(source, "calls_total", NOW, f"{ask.CALL}, outcome")
    return Row(
        "Overview",
        (
            Panel(
                "Availability",
                "Uptime / total time of each component over the time shown. While a process "
                "cannot be scraped, its components are down.",
                "percentunit",
                (Query(ask.availability(source, ALL), "{{component}}"),),
                kind="stat",
                width=12,
            ),
            Panel(
                "Error budget left",
                f"Of the failures that an SLO of {number(slo)} allows over the time shown, the "
                "share that is left. Below 0 the SLO is missed.",
                "percentunit",
                (Query(budget, _CALL),),
                kind="stat",
                width=12,
            ),
            Panel(
                "Calls by outcome",
                "Recovered calls succeeded only because the policy acted: it tried again, took "
                "another member, or went on from a checkpoint.",
                "ops",
                (Query(outcomes, f"{_CALL}: {{{{outcome}}}}"),),
                width=12,
                emphasis=".*: recovered$",
            ),
            Panel(
                "Recovered share",
                "The share of calls that would have failed without the policy.",
                "percentunit",
                (Query(ask.recovered_ratio(source, NOW), _CALL),),
                width=12,
                emphasis=".*",
            ),
            Panel(
                "Time of a call",
                "Quantiles of the seconds from the start of a call to its end, waits included; of "
                "calls that were not rejected.",
                "s",
                tuple(
                    Query(ask.duration(source, NOW, quantile), f"{_CALL} {name}")
                    for name, quantile in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))
                ),
                width=12,
            ),
            Panel(
                "Attempts per call",
                "1 while nothing is tried again; what it is above that is load the policies add.",
                "none",
                (Query(ask.attempts_per_call(source, NOW), _CALL),),
                width=12,
            ),
        ),
    )


def dependability(source: Source) -> Row:
    """How dependable each component is."""
    each = "{{component}} on {{instance}}"
    failures = ask.increase(source, "component_failures_total", ALL)
    downtime = ask.increase(source, "component_downtime_seconds_total", ALL)
    since_start = (
        (
            "Availability since the start",
            "As each process sees it: it does not know of the time when it was not running.",
            "percentunit",
            "availability_ratio",
        ),
        (
            "Failure rate since the start",
            "Failures per second of uptime, as each process sees it.",
            "hertz",
            "failure_rate_per_second",
        ),
        (
            "Mean time between failures",
            "Uptime / failures since the start of each process; infinite without failures.",
            "s",
            "mtbf_seconds",
        ),
        (
            "Mean time to repair",
            "Mean length of the outages that ended since the start of each process.",
            "s",
            "mttr_seconds",
        ),
    )
    return Row(
        "Components",
        (
            Panel(
                "Up",
                "1 while the component is up; over worker processes, how many see it up.",
                "none",
                (Query(source("component_up"), each),),
            ),
            Panel(
                "Failures",
                "Outages that began within the time shown.",
                "none",
                (Query(failures, "{{component}}"),),
                kind="stat",
            ),
            Panel(
                "Downtime",
                "Seconds that components were down within the time shown.",
                "s",
                (Query(downtime, "{{component}}"),),
                kind="stat",
            ),
            *(
                Panel(title, text, unit, (Query(source(name), each),), kind="stat", width=6)
                for title, text, unit, name in since_start
            ),
        ),
    )


def host(source: Source) -> Row:
    """What the machine has left; `HostCollector` exports it."""
    return Row(
        "Host",
        (
            Panel(
                "Processor",
                "The share of processor time in use since the scrape before.",
                "percentunit",
                (Query(source("host_cpu_usage_ratio"), "{{instance}}"),),
            ),
            Panel(
                "Memory",
                "The share of memory in use.",
                "percentunit",
                (Query(source("host_memory_usage_ratio"), "{{instance}}"),),
            ),
            Panel(
                "Disks",
                "The share of each file system in use.",
                "percentunit",
                (Query(source("host_disk_usage_ratio"), "{{instance}} {{mountpoint}}"),),
            ),
        ),
    )


def library(source: Source) -> Row:
    """About mainstay itself; these series have no component."""
    versions = f"count by (job, version) ({source('build_info')})"
    dropped = f"sum by (job, metric) ({source('series_dropped_total')})"
    return Row(
        "mainstay",
        (
            Panel(
                "Versions",
                "How many processes run which version.",
                "none",
                (Query(versions, "{{job}}: {{version}}"),),
                kind="stat",
                width=12,
            ),
            Panel(
                "Label values dropped",
                "Times that a value was replaced by _other, since the start of each process. "
                "0 is normal.",
                "none",
                (Query(f"{dropped} or 0 * {versions}", "{{job}} {{metric}}"),),
                kind="stat",
                width=12,
            ),
        ),
    )
