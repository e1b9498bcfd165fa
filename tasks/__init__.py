"""Prefect tasks: one for each stage, with retries, timeouts, cache keys, progress and artifacts. They do no work of their own."""
