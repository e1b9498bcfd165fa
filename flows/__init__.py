"""Prefect flows: the order of the stages."""

import tasks  # noqa: F401 - before a flow's module imports Prefect
