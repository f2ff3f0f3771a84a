"""The alerts. Each has a paragraph of the same name in the runbook."""

from collections.abc import Iterator
from typing import Any

import attrs

from mainstay.ops import _queries as ask
from mainstay.ops._promql import Series, number
from mainstay.ops._recording import CALL, Rule, error_count, error_ratio

RUNBOOK = "operations/alerts.html"

_INSTANCE = "job, instance, component"

FAST_BURN = (("1h", "5m", 14.4), ("6h", "30m", 6.0))
SLOW_BURN = (("1d", "2h", 3.0), ("3d", "6h", 1.0))
"""Long window, short window, and how many times faster than allowed the error budget burns.

Source:
    The Site Reliability Workbook (Google), chapter 5, "Multiwindow, Multi-Burn-Rate Alerts".
"""

NOT_RETRYABLE_WINDOWS = ("10m", "1h")
"""The short one sees an outage soon, the long one that of a component with few calls."""

MIN_CANCELLED = 20

FALLBACK_WINDOWS = ("10m", "1h")
"""As above: nobody else sees that what a fallback stands in for is down."""

DISSENT_WINDOWS = ("15m", "1d")
"""A copy that is wrong is to be found also where few votes are held."""


@attrs.frozen
class Alert:
    """An alert before it becomes a rule.

    Attributes:
        name: In CamelCase, without "Mainstay".
        severity: "page" for a human now, "ticket" for a human some day soon.
        expression: The condition, as PromQL.
        description: What the summary means, and with which figure.
        wait: How long the condition must hold, as Prometheus writes it.
    """

    name: str
    severity: str
    expression: str
    summary: str
    description: str
    wait: str = "0s"

    def rule(self, runbook_base: str = "") -> Rule:
        """Return it as Prometheus reads it, with the address of its paragraph in the runbook.

        Args:
            runbook_base: Where the runbook is. Without an address there is the page's name among
                these docs, under another name, since what reads `runbook_url` makes a link of it.
        """
        name = f"Mainstay{self.name}"
        rule: dict[str, Any] = {"alert": name, "expr": self.expression}
        if self.wait != "0s":
            rule["for"] = self.wait
        return rule | {
            "labels": {"severity": self.severity},
            "annotations": {
                "summary": self.summary,
                "description": self.description,
                "runbook_url" if runbook_base else "runbook": (
                    f"{runbook_base or RUNBOOK}#{name.lower()}"
                ),
            },
        }


def burn_alerts(series: Series, slo: float, min_events: int) -> Iterator[Alert]:
    """Warn that the error budget of an SLO is being spent too fast.

    A burn rate that not even failing always would reach is left out.
    """
    for name, severity, windows in (
        ("ErrorBudgetBurnsFast", "page", FAST_BURN),
        ("ErrorBudgetBurnsSlowly", "ticket", SLOW_BURN),
    ):
        conditions = [
            f"(\n  {error_ratio(series, long)} > {number(factor * (1 - slo))}\n"
            f"  and {error_ratio(series, short)} > {number(factor * (1 - slo))}\n"
            f"  and {error_count(series, long)} >= {min_events}\n)"
            for long, short, factor in windows
            if factor * (1 - slo) < 1
        ]
        if conditions:
            yield Alert(
                name,
                severity,
                "\nor\n".join(conditions),
                "{{ $labels.component }} ({{ $labels.policy }}) fails too often for its SLO",
                f"{{{{ $value | humanizePercentage }}}} of the calls fail. The SLO of "
                f"{number(slo)} allows {number(1 - slo)} of them.",
            )


def uncounted_alerts(series: Series, min_events: int) -> Iterator[Alert]:
    """Warn of components whose calls mostly end in ways that are no failures for an SLO."""
    yield Alert(
        "MostlyNotRetryable",
        "ticket",
        "\nor\n".join(
            _larger_part(series, "give_ups_total", 'reason="not_retryable"', window, min_events)
            for window in NOT_RETRYABLE_WINDOWS
        ),
        "Most exceptions of {{ $labels.component }} ({{ $labels.policy }}) are not matched by `on`",
        "{{ $value | humanizePercentage }} of the calls ended with an exception outside `on`: none "
        "of them was tried again, and the SLO does not count them as failures.",
    )
    yield Alert(
        "MostlyCancelled",
        "ticket",
        _larger_part(series, "calls_total", 'outcome="cancelled"', "10m", MIN_CANCELLED),
        "Most calls of {{ $labels.component }} ({{ $labels.policy }}) are cancelled",
        "{{ $value | humanizePercentage }} of the calls were cancelled by their callers, who may "
        "have waited for too long. The SLO does not count them at all.",
    )


def _larger_part(series: Series, name: str, condition: str, window: str, least: int) -> str:
    """Return the share of calls that end in some way, where it is the larger part of them."""
    part = ask.events(series, name, window, ask.CALL, condition)
    share = f"({part} >= {least})\n/ {ask.events(series, 'calls_total', window, ask.CALL)}\n> 0.5"
    return f"(\n{ask.judged(series, share)}\n)"


def pool_alerts(series: Series) -> Iterator[Alert]:
    """Warn of pools and breakers."""
    yield Alert(
        "NoHealthyMember",
        "page",
        f"{series('component_up')} == 0\nand on ({_INSTANCE}) {series('member_state')}",
        "The pool {{ $labels.component }} has no healthy member",
        "Every member has failed. The last one is still tried, unless the pool was told to raise "
        "or to wait.",
        wait="30s",
    )
    unhealthy = series("member_state", 'state=~"failing|ejected|trial"')
    yield Alert(
        "PoolDegraded",
        "ticket",
        f"sum by ({_INSTANCE}, member) ({unhealthy}) > 0",
        "{{ $labels.member }} of the pool {{ $labels.component }} is out of service",
        "The pool works on with fewer members than it was given.",
        wait="10m",
    )
    not_closed = series("breaker_state", 'state=~"open|half_open"')
    yield Alert(
        "BreakerOpen",
        "page",
        f"sum by ({_INSTANCE}) ({not_closed}) > 0",
        "The circuit breaker {{ $labels.component }} does not close",
        "Calls are refused without being tried, for longer than a short fault takes.",
        wait="5m",
    )


def retry_alerts(series: Series, min_events: int) -> Iterator[Alert]:
    """Warn that work is done again and again."""
    attempts = series.recorded(CALL, "attempts_per_call", "ratio_rate5m")
    repeated = ask.events(series, "call_attempts_count", "10m", ask.CALL)
    yield Alert(
        "RetryAmplification",
        "ticket",
        f'{attempts}{{policy=~"retry|failover|pipeline"}} > 2\nand {repeated} >= {min_events}',
        "{{ $labels.component }} makes {{ $value | humanize }} attempts per call",
        "Each call becomes several for what it depends on, which may be what keeps that down. "
        "A budget limits it.",
        wait="10m",
    )
    hour, day = (
        series.recorded(CALL, "calls_recovered", f"ratio_rate{window}") for window in ("1h", "1d")
    )
    saved = ask.events(series, "calls_total", "1h", ask.CALL, 'outcome="recovered"')
    yield Alert(
        "RecoveredShareRises",
        "ticket",
        f"{hour} > 0.01\nand {hour} > 3 * {day}\nand {saved} >= {min_events}",
        "{{ $labels.component }} ({{ $labels.policy }}) depends on recovery more than it used to",
        "{{ $value | humanizePercentage }} of the calls of the last hour succeeded only because "
        "the policy acted, more than three times the share of the last day. Users see nothing yet.",
        wait="15m",
    )
    yield Alert(
        "BudgetExhausted",
        "ticket",
        _happened(series, "give_ups_total", "5m", ask.CALL, 'reason="budget"'),
        "The retry budget of {{ $labels.component }} ({{ $labels.policy }}) is spent",
        "{{ $value | humanize }} calls of the last 5 minutes gave up, since too many others were "
        "being tried again already.",
        wait="5m",
    )

    yield Alert(
        "NestedRetries",
        "ticket",
        _happened(series, "nested_retries_total", "15m", ask.COMPONENT),
        "Retries inside the retry {{ $labels.component }} multiply",
        "{{ $value | humanize }} attempts of the last 15 minutes had been retried inside as well, "
        "so that each call becomes as many as the product of both.",
        wait="15m",
    )


def redundant_alerts(series: Series, min_events: int) -> Iterator[Alert]:
    """Warn of redundant calls that cost more, or agree less, than they should."""
    layers = 'policy=~"redundant|pipeline"'
    wasted = ask.rate(series, "wasted_seconds_total", "30m", ask.COMPONENT)
    spent = ask.rate(series, "call_duration_seconds_sum", "30m", ask.COMPONENT, layers)
    hedges = ask.events(series, "hedges_total", "30m", ask.COMPONENT)
    yield Alert(
        "HedgeWasteHigh",
        "ticket",
        f"{wasted} / {spent} > 0.5\nand {hedges} >= {min_events}",
        "The copies of {{ $labels.component }} do mostly wasted work",
        "Copies whose answer nobody waited for ran {{ $value | humanizePercentage }} of the time "
        "that calls took.",
        wait="30m",
    )
    dissents, votes = (
        [ask.events(series, name, window) for window in DISSENT_WINDOWS]
        for name in ("dissents_total", "votes_total")
    )
    yield Alert(
        "VotersDisagree",
        "ticket",
        "\nor\n".join(
            f"(\n({outvoted} >= {min_events})\n/ {held}\n> 0.01\n)"
            for outvoted, held in zip(dissents, votes, strict=True)
        ),
        "The copies of {{ $labels.component }} do not agree",
        "{{ $value | humanize }} answers per vote were outvoted: one of the copies is wrong.",
        wait="15m",
    )
    yield Alert(
        "AbandonedThreads",
        "ticket",
        f"{series('abandoned_threads')} >= 16",
        "{{ $value }} threads of {{ $labels.component }} hang",
        "They run copies whose calls ended long ago. At the cap nothing is hedged any more.",
        wait="10m",
    )


def rate_limit_alerts(series: Series, min_events: int) -> Iterator[Alert]:
    """Warn of rate limits that refuse much, or that no longer share what they should."""
    refused = _refused(series, min_events, 'policy="rate_limit"', 'reason="rate"')
    yield Alert(
        "RateLimitReached",
        "ticket",
        refused,
        "The rate limit {{ $labels.component }} refuses many calls",
        "{{ $value | humanizePercentage }} of the calls were refused in the last 10 minutes: there "
        "are more than the limit allows, and more than can wait.",
        wait="10m",
    )
    yield Alert(
        "RateStoreFails",
        "ticket",
        _happened(series, "rate_store_errors_total", "10m", f"{ask.COMPONENT}, action"),
        "The store of the shared rate limit {{ $labels.component }} fails",
        "{{ $value | humanize }} calls of the last 10 minutes were decided without it: "
        "{{ $labels.action }}.",
        wait="5m",
    )


def bulkhead_alerts(series: Series, min_events: int) -> Iterator[Alert]:
    """Warn of bulkheads that are too small for what is asked of them."""
    inside = ask.rate(series, "in_flight_seconds_total", "10m", ask.COMPONENT)
    places = f"sum by ({ask.COMPONENT}) ({series('concurrency_limit')})"
    yield Alert(
        "BulkheadFull",
        "ticket",
        f"{inside}\n/ ({places} > 0)\n> 0.9",
        "The bulkhead {{ $labels.component }} is full",
        "{{ $value | humanizePercentage }} of its places were taken in the mean of the last 10 "
        "minutes.",
        wait="10m",
    )
    yield Alert(
        "BulkheadSheds",
        "ticket",
        _refused(series, min_events, 'policy="bulkhead"', 'reason=~"full|wait|shed"'),
        "The bulkhead {{ $labels.component }} refuses many calls",
        "{{ $value | humanizePercentage }} of the calls were refused in the last 10 minutes: there "
        "was no place for them in time.",
        wait="10m",
    )


def _refused(series: Series, least: int, *conditions: str) -> str:
    """Return the share of calls that a limit refused, where that is not small, nor just a few.

    Counted as events: through pipelines only, the reasons appear with the first call refused.
    """
    refused = ask.events(series, "give_ups_total", "10m", ask.CALL, *conditions)
    calls = ask.events(series, "calls_total", "10m", ask.CALL)
    return f"({refused} >= {least})\n/ ({calls} > 0)\n> 0.05"


def fallback_alerts(series: Series, min_events: int) -> Iterator[Alert]:
    """Warn of fallbacks that answer for long: nobody else sees that something is down."""
    layers = 'policy=~"fallback|pipeline"'
    shares = [
        f"({ask.events(series, 'fallbacks_total', window)} >= {min_events})\n"
        f"/ ({ask.events(series, 'calls_total', window, ask.COMPONENT, layers)} > 0)\n> 0.05"
        for window in FALLBACK_WINDOWS
    ]
    yield Alert(
        "FallbackServed",
        "ticket",
        "\nor\n".join(f"(\n{share}\n)" for share in shares),
        "The fallback of {{ $labels.component }} answers many calls",
        "{{ $value | humanizePercentage }} of the answers of the last 10 minutes, or of the last "
        "hour, were its, for half an hour: what it stands in for fails.",
        wait="30m",
    )


def checkpoint_alerts(series: Series) -> Iterator[Alert]:
    """Warn of runs that do not get on."""
    last = f"max by (component) ({series('checkpoint_last_save_timestamp_seconds')})"
    interval = f"max by (component) ({series('checkpoint_interval_seconds')})"
    running = series("checkpoint_runs", 'state="running"')
    yield Alert(
        "CheckpointStale",
        "page",
        f"time() - {last}\n> 900 + 3 * ({interval} or 0 * {last})\n"
        f"and on (component) sum by (component) ({running}) > 0",
        "{{ $labels.component }} runs and has not saved for {{ $value | humanizeDuration }}",
        "It hangs, or one of its items takes very long. A crash now repeats all of that time.",
        wait="2m",  # a run that has just begun is known before the process that saves is scraped
    )
    yield Alert(
        "CheckpointCorrupt",
        "page",
        _happened(series, "checkpoint_corrupt_total", "1h", _INSTANCE),
        "A checkpoint of {{ $labels.component }} could not be read",
        "The run went on from the save before, if that was whole. The store or its disk is at "
        "fault.",
    )
    yield Alert(
        "LeaseLost",
        "ticket",
        _happened(series, "checkpoint_lease_lost_total", "15m", _INSTANCE),
        "A run of {{ $labels.component }} was taken over",
        "Its process had been silent for longer than the lease. What it did after that was not "
        "saved.",
    )
    yield Alert(
        "StoreFailing",
        "ticket",
        _happened(series, "checkpoint_store_retries_total", "5m", _INSTANCE),
        "The store of {{ $labels.component }} has been failing for ten minutes",
        "Requests to the store are sent again until they succeed. Runs end where the store is away "
        "for as long as a lease lasts.",
        wait="10m",
    )
    for name, severity, wait, state in (
        ("RunsPoisoned", "page", "0s", "poisoned"),
        ("RunsInterrupted", "ticket", "15m", "interrupted"),
    ):
        runs = series("checkpoint_runs", f'state="{state}"')
        yield Alert(
            name,
            severity,
            f"max by (component) ({runs}) > 0",
            f"{{{{ $value }}}} runs of {{{{ $labels.component }}}} are {state}",
            "They have crashed too often without getting on, and are not tried any more."
            if state == "poisoned"
            else "Their processes are gone, and nothing has taken them up again.",
            wait=wait,
        )


def _happened(series: Series, name: str, window: str, by: str, *conditions: str) -> str:
    return f"{ask.events(series, name, window, by, *conditions)} > 0"


def own_alerts(series: Series) -> Iterator[Alert]:
    """Warn that the metrics themselves are not whole."""
    yield Alert(
        "SeriesDropped",
        "ticket",
        _happened(series, "series_dropped_total", "1h", "job, instance, metric"),
        "{{ $labels.metric }} has more label values than mainstay keeps",
        "The values beyond the limit count as _other. A name is probably made up at run time.",
    )


def all_alerts(series: Series, slo: float, min_events: int) -> Iterator[Alert]:
    """Return every alert."""
    yield from burn_alerts(series, slo, min_events)
    yield from uncounted_alerts(series, min_events)
    yield from pool_alerts(series)
    yield from retry_alerts(series, min_events)
    yield from redundant_alerts(series, min_events)
    yield from rate_limit_alerts(series, min_events)
    yield from bulkhead_alerts(series, min_events)
    yield from fallback_alerts(series, min_events)
    yield from checkpoint_alerts(series)
    yield from own_alerts(series)
