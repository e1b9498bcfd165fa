"""The command lines that messages tell a person to type, each written once.

Messages name the full path, because a person types them in the checkout, where no virtual environment may be active. The
library runs without this checkout, in jobs and in notebooks, so it knows none of them: tasks and deployments add them.
"""

_PYTHON = ".venv/bin/python"

BOOTSTRAP = f"{_PYTHON} -m deployments bootstrap"
"""Creates what is missing on the Prefect server and in Databricks, and updates what differs."""
SAVE_CREDENTIALS = f"{BOOTSTRAP} --credentials-block"
"""Saves the credentials of the environment in the Prefect block that `databricks.credentials` names."""
DOCTOR = f"{_PYTHON} -m deployments doctor"
"""Checks everything that a run needs."""
JUDGE_AGAIN = f"{_PYTHON} -m flows.retrain --judge-again"
"""Compares a version that has a decision with the present champion."""


def promote(version: int) -> str:
    """Takes a version live."""
    return f'{_PYTHON} -m flows.promote --version {version} --reason "<why>"'
