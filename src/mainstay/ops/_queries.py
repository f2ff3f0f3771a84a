"""The questions that rules and panels ask alike, as PromQL.

Each takes a `Source` and a window. Calls are counted by job, component and policy: nested policies
count the same work again, so nothing is ever summed over `policy`.
"""

from mainstay.ops._promql import Source

CALL = "job, component, policy"
COMPONENT = "job, component"


def rate(source: Source, name: str, window: str, by: str, *conditions: str) -> str:
    """Ask for the rate per second of a counter, summed by labels."""
    return f"sum by ({by}) (rate({source(name, *conditions)}[{window}]))"


def calls(source: Source, window: str) -> str:
    """Ask for calls per second."""
    return rate(source, "calls_total", window, CALL)


def error_ratio(source: Source, window: str) -> str:
    """Ask for the share of calls that failed; absent without calls.

    Exceptions outside `on` are the function's own answers and no failures of what it depends on;
    cancelled calls are neither good nor bad.
    """
    failed = rate(source, "calls_total", window, CALL, 'outcome=~"error|timeout|rejected"')
    answers = rate(source, "give_ups_total", window, CALL, 'reason="not_retryable"')
    counted = rate(source, "calls_total", window, CALL, 'outcome!="cancelled"')
    return (
        f"clamp_min(\n  {failed}\n  - ({answers}\n     or 0 * {failed}),\n  0\n)\n/ ({counted} > 0)"
    )


def recovered_ratio(source: Source, window: str) -> str:
    """Ask for the share of calls that succeeded only because the policy acted."""
    recovered = rate(source, "calls_total", window, CALL, 'outcome="recovered"')
    return f"{recovered}\n/ ({calls(source, window)} > 0)"


def attempts_per_call(source: Source, window: str) -> str:
    """Ask for attempts per call, 1 if nothing is ever tried again."""
    attempts = rate(source, "call_attempts_sum", window, CALL)
    retried = rate(source, "call_attempts_count", window, CALL)
    return f"1 + ({attempts}\n  - {retried})\n/ ({calls(source, window)} > 0)"


def duration(source: Source, window: str, quantile: float) -> str:
    """Ask for a quantile of the seconds that calls take."""
    buckets = rate(source, "call_duration_seconds_bucket", window, f"{CALL}, le")
    return f"histogram_quantile({quantile}, {buckets})"


def increase(source: Source, name: str, window: str, by: str = COMPONENT) -> str:
    """Ask by how much a counter grew."""
    return f"sum by ({by}) (increase({source(name)}[{window}]))"


def alive(source: Source, window: str) -> str:
    """Ask for the share of time that the job's processes could be scraped."""
    return f"avg by (job) (avg_over_time({source.up()}[{window}]))"


def deaths(source: Source, window: str) -> str:
    """Ask how often the job's processes could not be scraped any more."""
    return f"sum by (job) (ceil(changes({source.up()}[{window}]) / 2))"


def availability(source: Source, window: str) -> str:
    """Ask for uptime / total time; a dead process is down, whatever its own clock could see."""
    uptime = increase(source, "component_uptime_seconds_total", window)
    downtime = increase(source, "component_downtime_seconds_total", window)
    return (
        f"{uptime}\n/ (\n  {uptime}\n  + {downtime}\n)\n"
        f"* on (job) group_left () {alive(source, window)}"
    )


def failures(source: Source, window: str) -> str:
    """Ask for the number of outages that began; the death of a process is one."""
    noted = increase(source, "component_failures_total", window)
    return f"{noted}\n+ on (job) group_left () {deaths(source, window)}"


def has_grown(source: Source, name: str, window: str) -> str:
    """Ask for counters that grew within a window, or are new and not 0.

    `increase` takes the first value it sees as the start, and so misses what happened before the
    first scrape of a process.
    """
    series = source(name)
    return f"increase({series}[{window}]) > 0\nor ({series} unless {series} offset {window}) > 0"
