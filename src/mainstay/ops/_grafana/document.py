"""What every part of a dashboard's JSON refers to."""

from typing import Any, TypeAlias

Json: TypeAlias = dict[str, Any]

DATASOURCE: Json = {"type": "prometheus", "uid": "${datasource}"}
"""The Prometheus that the reader has chosen."""

HERE = "/d/${__dashboard.uid}?${__url_time_range}&${datasource:queryparam}&${job:queryparam}"
"""The address of the dashboard with what the reader has chosen, but for the component."""
