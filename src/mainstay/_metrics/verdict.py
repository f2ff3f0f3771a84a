"""The limits from which a component is failing or degraded, for `mainstay top` and the dashboard.

*Failing* is what callers feel, *degraded* is what mainstay covers.
"""

TOO_MANY = 0.05
"""The share of calls that fail, or that are recovered, from which on a component is not well."""

FEW = 3
"""Fewer than so many failed calls say nothing, unless there were no others."""

LATE = 3.0
"""A save is late after so many intervals."""

WORST_STATES = ("ejected", "draining", "failing", "trial", "active", "standby_hot", "standby_cold")
"""States of members, the worst first: processes may see a member in several."""

WORST_BREAKERS = ("open", "half_open", "closed")
"""States of breakers, the worst first."""

SERVING = frozenset({"active", "trial"})
"""States of members that serve. One that is failing gets calls only because there is no other."""

WELL = frozenset({"active", "standby_hot", "standby_cold"})
"""States of members that nothing is wrong with."""

SAVING = frozenset({"retry", "failover", "checkpoint", "pipeline", "fallback"})
"""Policies whose recovered calls had failed: without the policy, their callers had got an error.

Redundant calls recover what was slow as well. Breakers, timeouts, bulkheads and rate limits recover
nothing: they end calls sooner.
"""
