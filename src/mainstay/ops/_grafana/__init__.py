"""Writes dashboards as Grafana imports them."""
