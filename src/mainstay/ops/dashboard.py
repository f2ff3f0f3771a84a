"""A dashboard for Grafana."""

import json

from mainstay.ops import _policies
from mainstay.ops._grafana import dashboard_json, datasource_variable, label_variable
from mainstay.ops._overview import dependability, host, library, overview
from mainstay.ops._promql import Matcher, check_slo, source_of

_JOB = Matcher("job", "=~", '"$job"')
_COMPONENT = Matcher("component", "=~", '"$component"')


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
    given = source_of(namespace, selector)
    targets = given.with_matchers(_JOB)
    components = targets.with_matchers(_COMPONENT)
    rows = (
        overview(components, slo),
        dependability(components),
        _policies.retry(components),
        _policies.failover(components),
        _policies.breaker(components),
        _policies.redundant(components),
        _policies.checkpoint(components),
        host(targets),
        library(targets),
    )
    variables = (
        datasource_variable(),
        label_variable("job", f"label_values({given('build_info')}, job)"),
        label_variable("component", f"label_values({targets('calls_total')}, component)"),
    )
    return json.dumps(dashboard_json(namespace, rows, variables), indent=2) + "\n"
