"""Prefect tasks: one a stage, with retries, timeouts, cache keys, progress and artifacts. No work of their own."""
