"""Prefect tasks: one for each stage, with retries, timeouts, cache keys, progress and artifacts. They do no work of their own."""

from car_damage.machine import keep_to_this_machine

# Before a module of this floor, or of one above it, imports Prefect, which sends telemetry when it is imported.
keep_to_this_machine()
