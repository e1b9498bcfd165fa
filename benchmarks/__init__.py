"""Benchmarks against named baselines. Each module's `run()` returns rows with name, value, unit, baseline and ratio."""

MODULES = (
    "validation",
    "near_duplicates",
    "planner",
    "ingest",
    "training",
    "features",
    "int8",
    "serving",
    "desk",
    "explain",
    "request_log",
    "model_start",
    "load",
    "runtimes",
    "orchestration",
    "audit",
    "gate",
)
