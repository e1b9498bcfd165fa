"""Measurements against named baselines. A module's `run()` returns rows of name, value, unit, baseline, ratio."""

MODULES = ("validation", "near_duplicates", "ingest", "training", "serving", "load", "orchestration")
