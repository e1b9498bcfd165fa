"""The command lines that messages tell a person to type, each written once.

Messages name the full path, because a person types them in the checkout, where no virtual environment may be active. The
library runs without this checkout, in jobs and in notebooks, so it knows none of them: tasks and deployments add them.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from car_damage.errors import WorkspaceIncomplete
from car_damage.promotion.outcome import Outcome
from car_damage.promotion.tags import APPROVAL

_PYTHON = ".venv/bin/python"

BOOTSTRAP = f"{_PYTHON} -m deployments bootstrap"
"""Creates what is missing on the Prefect server and in Databricks, and updates what differs."""
SAVE_CREDENTIALS = f"{BOOTSTRAP} --credentials-block"
"""Saves the credentials of the environment in the Prefect block that `databricks.credentials` names."""
DOCTOR = f"{_PYTHON} -m deployments doctor"
"""Checks everything that a run needs."""

BUNDLE_DEPLOY = "databricks bundle deploy"
"""Creates and updates what databricks.yml declares, where a bundle owns the jobs."""

REVIEW = ".venv/bin/car-damage review"
"""Lists the photos whose answers ask for a person, and takes what a person says of one."""

RETIRE = f"{_PYTHON} -m flows.retrain --retire-other-folders"
"""Stops using photos of other landing folders than the present one."""


def promote(version: int) -> str:
    """Takes a version live."""
    return f'{_PYTHON} -m flows.promote --version {version} --reason "<why>"'


def with_approval(ending: Outcome) -> str:
    """The message of a run's ending, with the ways to take a waiting version live."""
    if ending.awaiting is None:
        return ending.message
    return f"{ending.message} To take the version live, approve it on its page ({APPROVAL}: Approved), or: {promote(ending.awaiting)}"


@contextmanager
def advised() -> Iterator[None]:
    """Add the command that sets up the workspace to an error about what is missing there."""
    try:
        yield
    except WorkspaceIncomplete as error:
        raise type(error)(f"{error}; run `{BOOTSTRAP}` where the worker's code is") from error
