"""Counts and durations: what there is to record, where it is kept, how Prometheus reads it.

`schema` says what exists and `layouts` what is written together. `cells` keeps counts and durations
(`multiprocess` keeps them in files), `series` is the table of them, and `gauges` asks for the rest.
`recorder` and those beside it are what policies call, `recorders` finds them, `collector` is what
Prometheus reads. Only this package imports prometheus_client.
"""
