"""Deployment of the service: settings of each target, bootstrap, doctor, and the local stack."""

import tasks  # noqa: F401 - before a module imports Prefect
