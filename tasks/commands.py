"""The command lines that messages tell a person to type, each written once.

They contain the path of the virtual environment, which may not be active. The library knows none of them, because it also runs
without this checkout, in jobs and in notebooks: tasks and deployments add them to its messages.
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
