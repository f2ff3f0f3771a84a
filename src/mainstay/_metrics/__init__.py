"""Metrics: which there are, where the counts are kept, and how Prometheus reads them.

`schema` has all metrics, `layouts` those that are written together. `cells` keeps counts and
durations (`multiprocess` in files), `series` is the table of them, and `gauges` reads states at
each scrape. Policies call `recorder` and the other recorders beside it, which `recorders` finds;
Prometheus reads `collector`. Only this package imports prometheus_client.
"""
