"""The PromQL that rules and panels share: each function returns the query for what it names.

Each takes a `Series` and a window. Calls are counted by job, component and policy: nested policies
count the same work again, so nothing is ever summed over `policy`. A component that has a pipeline
is judged by the pipeline's calls: what else has its name, as a bulkhead may, is one of its layers.
"""

from collections.abc import Callable, Collection
from typing import TypeAlias

from mainstay._metrics import verdict
from mainstay.ops._promql import Series, amount, event_count, growth, number

Count: TypeAlias = Callable[[str, str], str]
"""How the events of a counter are counted within a window: `event_count` or `growth`."""

CALL = "job, component, policy"
COMPONENT = "job, component"
INSTANCE = "job, instance, component"

_FAILED = 'outcome=~"error|timeout|rejected"'
_ANSWERED = 'reason="not_retryable"'


def rate(series: Series, name: str, window: str, by: str, *conditions: str) -> str:
    """Return the rate per second of a counter, summed by labels."""
    return f"sum by ({by}) (rate({series(name, *conditions)}[{window}]))"


def calls(series: Series, window: str) -> str:
    """Return calls per second."""
    return rate(series, "calls_total", window, CALL)


def judged(series: Series, query: str) -> str:
    """Return a query without the layers of pipelines that have the name of their pipeline."""
    policies, pipelines = (
        f"sum by ({by}) ({series('calls_total', condition)})"
        for by, condition in ((CALL, 'policy!="pipeline"'), (COMPONENT, 'policy="pipeline"'))
    )
    return f"{query}\nunless on ({CALL}) (\n  {policies}\n  and on ({COMPONENT}) {pipelines}\n)"


def error_ratio(series: Series, window: str) -> str:
    """Return the share of calls that failed; absent without calls.

    Exceptions outside `on` are the function's own answers and no failures of what it depends on;
    cancelled calls are neither good nor bad.
    """
    return judged(series, _ratio(series, window, event_count))


def error_ratio_over_time(series: Series, window: str) -> str:
    """Return the same at a fourth of the work, for many points in time.

    Calls of a process before its first scrape are not in it.
    """
    return judged(series, _ratio(series, window, growth))


def errors(series: Series, window: str) -> str:
    """Return the number of calls that failed, in the sense of `error_ratio`."""
    return judged(series, _errors(series, window, event_count))


def _ratio(series: Series, window: str, count: Count) -> str:
    return f"{_errors(series, window, count)}\n/ ({_counted(series, window, count)} > 0)"


def _errors(series: Series, window: str, count: Count) -> str:
    """Return failed calls; reasons appear with their first event, which is always counted."""
    failed = _indented(count(series("calls_total", _FAILED), window))
    answers = _indented(event_count(series("give_ups_total", _ANSWERED), window))
    return f"clamp_min(sum by ({CALL}) (\n  {failed}\n  or -1 * (\n  {answers}\n  )\n), 0)"


def _counted(series: Series, window: str, count: Count, *conditions: str) -> str:
    counter = series("calls_total", *(conditions or ('outcome!="cancelled"',)))
    return f"sum by ({CALL}) (\n  {_indented(count(counter, window))}\n)"


def too_many_errors(series: Series, window: str, count: Count = event_count) -> str:
    """Return the share of calls that failed of each component that is failing by it.

    A few failed calls say nothing, unless there were no others.
    """
    enough = (
        f"{_errors(series, window, count)}\n"
        f">= clamp_max({_counted(series, window, count)}, {verdict.FEW})"
    )
    share = f"{_ratio(series, window, count)}\n>= {number(verdict.TOO_MANY)}"
    return _worst(judged(series, f"{share}\nand {enough}"))


def too_many_recovered(series: Series, window: str, count: Count = event_count) -> str:
    """Return the share of calls that were recovered of each component that is degraded by it."""
    saved = 'outcome="recovered"', one_of("policy", verdict.SAVING)
    recovered = _counted(series, window, count, *saved)
    share = f"{recovered}\n/ ({_counted(series, window, count)} > 0)\n>= {number(verdict.TOO_MANY)}"
    return _worst(judged(series, f"{share}\nand {recovered} >= {verdict.FEW}"))


def _worst(query: str) -> str:
    return f"max by ({COMPONENT}) (\n  {_indented(query)}\n)"


def one_of(label: str, values: Collection[str]) -> str:
    """Return the condition that a label has one of several values."""
    return f'{label}=~"{"|".join(sorted(values))}"'


def recovered_ratio(series: Series, window: str) -> str:
    """Return the share of calls that succeeded only because the policy acted."""
    recovered = rate(series, "calls_total", window, CALL, 'outcome="recovered"')
    return judged(series, f"{recovered}\n/ ({calls(series, window)} > 0)")


def saved_ratio(series: Series, window: str) -> str:
    """Return the share of calls that would have failed without the policy.

    Only of policies whose recovered calls had failed; those of redundant calls may just have been
    slow.
    """
    conditions = 'outcome="recovered"', one_of("policy", verdict.SAVING)
    saved = rate(series, "calls_total", window, CALL, *conditions)
    return judged(series, f"{saved}\n/ ({calls(series, window)} > 0)")


def saved(series: Series, window: str) -> str:
    """Return how many calls would have failed without the policy, in the same sense."""
    conditions = 'outcome="recovered"', one_of("policy", verdict.SAVING)
    return judged(series, events(series, "calls_total", window, CALL, *conditions))


def attempts_per_call(series: Series, window: str) -> str:
    """Return attempts per call, 1 if nothing is ever tried again."""
    attempts = rate(series, "call_attempts_sum", window, CALL)
    retried = rate(series, "call_attempts_count", window, CALL)
    ratio = f"1 + ({attempts}\n  - {retried})\n/ ({calls(series, window)} > 0)"
    return judged(series, ratio)


def duration(series: Series, window: str, quantile: float) -> str:
    """Return a quantile of the seconds that calls take."""
    buckets = events(series, "call_duration_seconds_bucket", window, f"{CALL}, le")
    return judged(series, f"histogram_quantile({quantile}, {buckets})")


def increase(series: Series, name: str, window: str, by: str = COMPONENT) -> str:
    """Return by how much a counter grew, summed by labels."""
    return f"sum by ({by}) (increase({series(name)}[{window}]))"


def seconds(series: Series, name: str, window: str, by: str = COMPONENT) -> str:
    """Return how many seconds a counter counted, summed by labels, the first included."""
    return f"sum by ({by}) (\n  {_indented(amount(series(name), window))}\n)"


def events(series: Series, name: str, window: str, by: str = COMPONENT, *conditions: str) -> str:
    """Return how many events a counter counted, summed by labels: whole, the first included."""
    counted = _indented(event_count(series(name, *conditions), window))
    return f"sum by ({by}) (\n  {counted}\n)"


def _indented(lines: str) -> str:
    return lines.replace("\n", "\n  ")


def alive(series: Series, window: str) -> str:
    """Return the share of time that the job's processes could be scraped."""
    return f"avg by (job) (avg_over_time({series.up()}[{window}]))"


def deaths(series: Series, window: str) -> str:
    """Return how often the job's processes could not be scraped any more."""
    return f"sum by (job) (ceil(changes({series.up()}[{window}]) / 2))"


def availability(series: Series, window: str) -> str:
    """Return uptime / total time; a dead process is down, whatever its own clock could see."""
    uptime = increase(series, "component_uptime_seconds_total", window)
    downtime = increase(series, "component_downtime_seconds_total", window)
    return (
        f"{uptime}\n/ (\n  {uptime}\n  + {downtime}\n)\n"
        f"* on (job) group_left () {alive(series, window)}"
    )


def failures(series: Series, window: str) -> str:
    """Return the number of outages that began; the death of a process is one."""
    outages = events(series, "component_failures_total", window)
    return f"{outages}\n+ on (job) group_left () {deaths(series, window)}"
