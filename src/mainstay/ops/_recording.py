"""The recording rules."""

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

from mainstay.ops import _queries as ask
from mainstay.ops._promql import Source, number, seconds_of

Rule: TypeAlias = dict[str, Any]

CALL = "job_component_policy"
COMPONENT = "job_component"

ERROR_WINDOWS = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")
QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


def _rule(name: str, expression: str) -> Rule:
    return {"record": name, "expr": expression}


def call_rules(source: Source) -> Iterator[Rule]:
    """Give what calls did in the last minutes."""
    yield _rule(source.recorded(CALL, "calls", "rate5m"), ask.calls(source, "5m"))
    yield _rule(
        source.recorded(f"{CALL}_outcome", "calls", "rate5m"),
        ask.rate(source, "calls_total", "5m", f"{ask.CALL}, outcome"),
    )
    for name, quantile in QUANTILES.items():
        yield _rule(
            source.recorded(CALL, "call_duration_seconds", f"{name}_rate5m"),
            ask.duration(source, "5m", quantile),
        )
    yield _rule(
        source.recorded(CALL, "attempts_per_call", "ratio_rate5m"),
        ask.attempts_per_call(source, "5m"),
    )
    for window in ("1h", "1d"):
        yield _rule(
            source.recorded(CALL, "calls_recovered", f"ratio_rate{window}"),
            ask.recovered_ratio(source, window),
        )


def error_rules(source: Source) -> Iterator[Rule]:
    """Give the share of failed calls over the windows that the burn-rate alerts compare."""
    for window in ERROR_WINDOWS:
        yield _rule(error_ratio(source, window), ask.error_ratio(source, window))


def error_ratio(source: Source, window: str) -> str:
    """Name the recorded share of failed calls."""
    return source.recorded(CALL, "call_errors", f"ratio_rate{window}")


def dependability_rules(source: Source, windows: Sequence[str]) -> Iterator[Rule]:
    """Give the figures of `Availability` over each window, with dead processes counted in."""
    for window in windows:
        names = {
            each: source.recorded(COMPONENT, each, f"{operation}{window}")
            for each, operation in (
                ("uptime_seconds", "increase"),
                ("failures", "increase"),
                ("availability", "ratio"),
                ("failure_rate", "per_second"),
                ("mtbf_seconds", "mean"),
                ("mttr_seconds", "mean"),
                ("reliability", "ratio"),
                ("reliability_linear", "ratio"),
            )
        }
        uptime, failed, available = (
            names[each] for each in ("uptime_seconds", "failures", "availability")
        )
        period = number(seconds_of(window))
        per_second = names["failure_rate"]
        expressions = {
            "uptime_seconds": ask.increase(source, "component_uptime_seconds_total", window),
            "failures": ask.failures(source, window),
            "availability": ask.availability(source, window),
            "failure_rate": f"{failed} / {uptime}",
            "mtbf_seconds": f"{uptime} / {failed}",
            "mttr_seconds": f"{uptime} * (1 / {available} - 1) / {failed}",
            "reliability": f"exp(-{per_second} * {period})",
            "reliability_linear": f"clamp_min(1 - {per_second} * {period}, 0)",
        }
        for each, expression in expressions.items():
            yield _rule(names[each], expression)
