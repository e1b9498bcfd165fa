"""Prefect flows: the order of the stages."""

from car_damage.machine import keep_to_this_machine

# Before a flow's module imports Prefect, which sends telemetry when it is imported.
keep_to_this_machine()
