"""The recording rules."""

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

from mainstay.ops import _queries as ask
from mainstay.ops._promql import Series, number, seconds_of

Rule: TypeAlias = dict[str, Any]

CALL = "job_component_policy"
COMPONENT = "job_component"

ERROR_WINDOWS = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")
ERROR_COUNT_WINDOWS = ("1h", "6h", "1d", "3d")
QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


def _rule(name: str, expression: str) -> Rule:
    return {"record": name, "expr": expression}


def call_rules(series: Series) -> Iterator[Rule]:
    """Return the rules for what calls did in the last minutes."""
    yield _rule(series.recorded(CALL, "calls", "rate5m"), ask.calls(series, "5m"))
    yield _rule(
        series.recorded(f"{CALL}_outcome", "calls", "rate5m"),
        ask.rate(series, "calls_total", "5m", f"{ask.CALL}, outcome"),
    )
    for name, quantile in QUANTILES.items():
        yield _rule(
            series.recorded(CALL, "call_duration_seconds", f"{name}_rate5m"),
            ask.duration(series, "5m", quantile),
        )
    yield _rule(
        series.recorded(CALL, "attempts_per_call", "ratio_rate5m"),
        ask.attempts_per_call(series, "5m"),
    )
    for window in ("1h", "1d"):
        yield _rule(
            series.recorded(CALL, "calls_recovered", f"ratio_rate{window}"),
            ask.recovered_ratio(series, window),
        )


def error_rules(series: Series) -> Iterator[Rule]:
    """Return the rules for failed calls, over the windows that the burn-rate alerts compare."""
    for window in ERROR_WINDOWS:
        yield _rule(error_ratio(series, window), ask.error_ratio(series, window))
    for window in ERROR_COUNT_WINDOWS:
        yield _rule(error_count(series, window), ask.errors(series, window))


def error_ratio(series: Series, window: str) -> str:
    """Return the name of the recorded share of failed calls."""
    return series.recorded(CALL, "call_errors", f"ratio_rate{window}")


def error_count(series: Series, window: str) -> str:
    """Return the name of the recorded number of failed calls."""
    return series.recorded(CALL, "call_errors", f"increase{window}")


def dependability_rules(series: Series, windows: Sequence[str]) -> Iterator[Rule]:
    """Return the figures of `Availability` over each window, with dead processes counted in."""
    for window in windows:
        uptime = series.recorded(COMPONENT, "uptime_seconds", f"increase{window}")
        failed = series.recorded(COMPONENT, "failures", f"increase{window}")
        switched = series.recorded(COMPONENT, "failovers", f"increase{window}")
        available = series.recorded(COMPONENT, "availability", f"ratio{window}")
        per_second = series.recorded(COMPONENT, "failure_rate", f"per_second{window}")
        mtbf = series.recorded(COMPONENT, "mtbf_seconds", f"mean{window}")
        mttr = series.recorded(COMPONENT, "mttr_seconds", f"mean{window}")
        reliability = series.recorded(COMPONENT, "reliability", f"ratio{window}")
        linear = series.recorded(COMPONENT, "reliability_linear", f"ratio{window}")
        period = number(seconds_of(window))
        yield _rule(uptime, ask.increase(series, "component_uptime_seconds_total", window))
        yield _rule(failed, ask.failures(series, window))
        yield _rule(switched, ask.events(series, "failovers_total", window))
        yield _rule(available, ask.availability(series, window))
        yield _rule(per_second, f"{failed} / {uptime}")
        yield _rule(mtbf, f"{uptime} / {failed}")
        yield _rule(mttr, f"{uptime} * (1 / {available} - 1) / {failed}")
        yield _rule(reliability, f"exp(-{per_second} * {period})")
        yield _rule(linear, f"clamp_min(1 - {per_second} * {period}, 0)")
