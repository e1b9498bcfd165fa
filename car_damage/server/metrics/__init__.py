"""Metrics of the endpoint server, in Prometheus' text format."""
