"""What operators use: rules for Prometheus and a dashboard for Grafana, from the same metrics.

Also on the command line: ``python -m mainstay rules`` and ``python -m mainstay dashboard``.

>>> from mainstay import ops
>>> "MainstayNoHealthyMember" in ops.rules(slo=0.999)
True
"""

from mainstay.ops._dashboard.contents import dashboard
from mainstay.ops._rules import rules

__all__ = ["dashboard", "rules"]
