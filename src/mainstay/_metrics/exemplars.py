"""Exemplars: the trace of one call for each bucket of slow calls, and for each kind of failure.

Where the program uses OpenTelemetry and a sampled span is active, calls beyond the first bucket of
`call_duration_seconds` and calls that fail leave the span's trace id behind, the last one of each
series. Prometheus gets it in the OpenMetrics format. A quick call that succeeds never comes here.
"""

import sys
from typing import Any

from prometheus_client.samples import Exemplar

from mainstay._core.clock import wall_time


def exemplar(value: float) -> Exemplar | None:
    """Make an exemplar of a call that ends now, if a sampled span is active.

    Args:
        value: What the call is counted with: its seconds, or 1.
    """
    opentelemetry: Any = sys.modules.get("opentelemetry.trace")
    if opentelemetry is None:
        return None
    try:
        span = opentelemetry.get_current_span().get_span_context()
        if not (span.is_valid and span.trace_flags.sampled):
            return None
        return Exemplar({"trace_id": format(span.trace_id, "032x")}, value, wall_time())
    except Exception:  # noqa: BLE001 - a tracer of the user's; metrics must never break a call
        return None
