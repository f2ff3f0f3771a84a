"""Counts and durations: what there is to record, where it is kept, how Prometheus reads it.

`schema` says what exists, `cells` keeps it (`multiprocess` keeps it in files), `recorder` is what
policies call, `collector` is what Prometheus reads. Only this package imports prometheus_client.
"""
