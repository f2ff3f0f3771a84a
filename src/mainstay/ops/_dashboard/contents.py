"""The dashboard: its rows in order, what the reader chooses, and all of it as JSON."""

import json
from collections.abc import Iterator, Mapping

from mainstay.ops._dashboard.breakers import breakers
from mainstay.ops._dashboard.calls import attempts, calls
from mainstay.ops._dashboard.checkpoints import checkpoints
from mainstay.ops._dashboard.components import components
from mainstay.ops._dashboard.first_screen import first_screen
from mainstay.ops._dashboard.host import host
from mainstay.ops._dashboard.library import library
from mainstay.ops._dashboard.limits import bulkheads, fallbacks, rate_limits, timeouts
from mainstay.ops._dashboard.moments import moments
from mainstay.ops._dashboard.pools import pools
from mainstay.ops._dashboard.redundant import redundant_calls
from mainstay.ops._grafana.board import board
from mainstay.ops._grafana.panel import Panel
from mainstay.ops._grafana.row import Row
from mainstay.ops._grafana.variable import datasource_variable, label_variable, number_variable
from mainstay.ops._promql import Matcher, Series, check_slo, series_of

_JOB = Matcher("job", "=~", '"$job"')
_COMPONENT = Matcher("component", "=~", '"$component"')


def dashboard(*, slo: float = 0.999, selector: str = "", namespace: str = "mainstay") -> str:
    """Return a dashboard for Grafana 9 and newer, as JSON to import.

    The same as ``python -m mainstay dashboard``. The queries use the metrics themselves and need no
    recording rules. Problems are red on the first screen, with the name of the component. The rows
    of the policies are collapsed; the heading of each row has the number of its components.

    Args:
        slo: The share of calls that should succeed, above 0 and below 1; the error budget is
            1 - *slo*.
        selector: Conditions on all series, such as ``job="api",env!="test"``. Empty for none.
        namespace: The namespace that was given to `Metrics`.

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
    given = series_of(namespace, selector)
    targets, series = _chosen(given)
    variables = (
        datasource_variable(),
        label_variable("job", f"label_values({given('build_info')}, job)"),
        label_variable("component", f"label_values({targets('calls_total')}, component)"),
        *(number_variable(name, count) for name, count in used(series, targets).items()),
    )
    description = "What fails, what mainstay covers, and what that costs."
    written = board(namespace, description, _rows(series, targets, slo), variables, moments(series))
    return json.dumps(written, indent=2) + "\n"


def panels(
    *, slo: float = 0.999, selector: str = "", namespace: str = "mainstay"
) -> Iterator[Panel]:
    """Return the panels of the dashboard in reading order, before they become JSON."""
    targets, series = _chosen(series_of(namespace, selector))
    return (panel for row in _rows(series, targets, slo) for panel in row.panels)


def used(series: Series, targets: Series) -> Mapping[str, str]:
    """Return the query for how many components there are under each heading, by its variable."""
    counted = {
        "availabilities": series("component_up"),
        "pools": series("member_state"),
        "breakers": series("breaker_state"),
        "redundant": series("calls_total", 'policy="redundant"'),
        "timeouts": series("calls_total", 'policy="timeout"'),
        "bulkheads": series("concurrency_limit"),
        "rate_limits": series("calls_total", 'policy="rate_limit"'),
        "fallbacks": series("fallbacks_total"),
        "checkpoints": series("checkpoint_interval_seconds"),
    }
    counts = {
        name: f"count(count by (job, component) ({each})) or vector(0)"
        for name, each in counted.items()
    }
    return counts | {"hosts": f"count({targets('host_cpu_usage_ratio')}) or vector(0)"}


def _chosen(given: Series) -> tuple[Series, Series]:
    """Return the series of the chosen jobs, and those of the chosen components of them."""
    targets = given.with_matchers(_JOB)
    return targets, targets.with_matchers(_COMPONENT)


def _rows(series: Series, targets: Series, slo: float) -> tuple[Row, ...]:
    return (
        first_screen(series, targets, check_slo(slo)),
        calls(series),
        attempts(series),
        components(series),
        pools(series),
        breakers(series),
        redundant_calls(series),
        timeouts(series),
        bulkheads(series),
        rate_limits(series),
        fallbacks(series),
        checkpoints(series),
        host(targets),
        library(targets),
    )
