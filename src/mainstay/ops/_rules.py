"""Rule files for Prometheus."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mainstay._core.arguments import to_count
from mainstay.ops._alerts import all_alerts
from mainstay.ops._promql import check_slo, seconds_of, series_of
from mainstay.ops._recording import Rule, call_rules, dependability_rules, error_rules
from mainstay.ops._yaml import to_yaml

WINDOWS = ("1h", "1d", "30d")

MIN_EVENTS = 10
"""Where an SLO is just kept, chance brings so many failures into a window of the fast burn rates
less than once in ten years, however few calls there are; an outage brings them soon."""

_OWN = frozenset({"job", "instance", "component", "policy", "member", "outcome", "le", "severity"})
"""Labels that rules and alerts have already."""

_ADDRESS = re.compile(r"https?://[^\s/#{}]+(?:/[^\s#{}]*)?")
"""An address of a page; in braces Prometheus would look for a template."""

_LABEL = re.compile(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]*")


def rules(
    *,
    slo: float = 0.999,
    selector: str = "",
    namespace: str = "mainstay",
    windows: Sequence[str] = WINDOWS,
    labels: Mapping[str, str] | None = None,
    min_events: int = MIN_EVENTS,
    runbook_base: str = "",
) -> str:
    """Return recording and alerting rules for Prometheus 2.42 and newer.

    The same as ``python -m mainstay rules``. All figures are computed by `job` and component. While
    a process cannot be scraped, its components count as down.

    Args:
        slo: The share of calls that should succeed, above 0 and below 1.
        selector: Conditions on all series, such as ``job="api",env!="test"``. Conditions on labels
            of targets also apply to `up`. Empty for none.
        namespace: The namespace that was given to `Metrics`.
        windows: The windows of availability, failure rate, MTBF, MTTR and reliability: whole
            numbers of s, m, h, d or w.
        labels: More labels for every rule.
        min_events: The number of failed calls from which an error budget counts as burning, at
            least 1; also the number of not retryable calls, and of recovered calls, from which
            their alerts fire. With few calls, a single failure would be a large share.
        runbook_base: The address of the page that explains the alerts, such as
            ``https://docs.example/mainstay/operations/alerts.html``: each alert gets a
            `runbook_url` that points to its paragraph there. Empty for none; then `runbook` names
            the page of these docs.

    Returns:
        A rule file as YAML.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If *slo* or *min_events* is out of range; if *selector*, *namespace*, one of
            *windows* or *runbook_base* is invalid; or if the name of a label is invalid for
            Prometheus, or used by the rules themselves.

    Example:
        >>> from mainstay import ops
        >>> print(ops.rules(selector='job="api"').splitlines()[0])
        groups:
    """
    series = series_of(namespace, selector)
    least = to_count(min_events, "min_events")
    runbook = _checked_address(runbook_base)
    groups = {
        "calls": call_rules(series),
        "errors": error_rules(series),
        "dependability": dependability_rules(series, _checked_windows(windows)),
        "alerts": (alert.rule(runbook) for alert in all_alerts(series, check_slo(slo), least)),
    }
    more = _checked_labels(labels)
    return to_yaml({"groups": [_group(namespace, *each, more) for each in groups.items()]})


def _group(
    namespace: str, name: str, each: Iterable[Rule], labels: dict[str, str]
) -> dict[str, Any]:
    return {
        "name": f"{namespace}-{name}",
        "rules": [
            rule | {"labels": labels | rule.get("labels", {})} if labels else rule for rule in each
        ],
    }


def _checked_windows(windows: Sequence[str]) -> tuple[str, ...]:
    if isinstance(windows, str) or not isinstance(windows, Iterable):
        raise TypeError(f"`windows` must be several, such as ('1h', '30d'), not {windows!r}")
    for window in windows:
        seconds_of(window)
    return tuple(dict.fromkeys(windows))


def _checked_address(runbook_base: str) -> str:
    given: object = runbook_base
    if not isinstance(given, str):
        raise TypeError(f"`runbook_base` must be a str, not {given!r}")
    if runbook_base and not _ADDRESS.fullmatch(runbook_base):
        raise ValueError(
            f"`runbook_base` must be the address of a page, such as "
            f"'https://docs.example/alerts.html', without `#`, not {runbook_base!r}"
        )
    return runbook_base


def _checked_labels(labels: Mapping[str, str] | None) -> dict[str, str]:
    if labels is None:
        return {}
    if not isinstance(labels, Mapping):
        raise TypeError(f"`labels` must map strings to strings, not be {labels!r}")
    for name, value in labels.items():
        given: tuple[object, object] = (name, value)
        if not all(isinstance(each, str) for each in given):
            raise TypeError(f"`labels` must map strings to strings, not {name!r} to {value!r}")
        if not _LABEL.fullmatch(name) or name in _OWN:
            raise ValueError(
                f"`labels` cannot have the name {name!r}: it must be one that Prometheus takes and "
                f"that the rules do not use themselves"
            )
    return dict(labels)
