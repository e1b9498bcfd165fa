"""The provenance of a run: this package's version, its commit if it runs from a checkout, and the user."""

import getpass
import os
import subprocess
from pathlib import Path

from car_damage import __version__

TIMEOUT = 10.0
"""Seconds that git may take."""


def software() -> dict[str, str]:
    """The tags of a run, with MLflow's own names where they exist. Without git, or outside a checkout, there is no commit."""
    tags = {"package_version": __version__, "mlflow.source.name": "car-damage"}
    # If the package is installed below another project's checkout, that project's commit would be misleading.
    if _git("ls-files", "--error-unmatch", Path(__file__).name) is not None and (commit := _git("rev-parse", "HEAD")):
        tags["mlflow.source.git.commit"] = commit
    return tags


def user() -> str:
    """The user of this process: a name, or a number if the machine has no name for it, as in many containers."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def _git(*arguments: str) -> str | None:
    """The output of git in this package's folder; None if git fails or is not installed."""
    try:
        done = subprocess.run(
            ["git", *arguments],  # noqa: S607 - the git on the user's PATH
            cwd=Path(__file__).parent,
            capture_output=True,
            timeout=TIMEOUT,
            check=False,
            text=True,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
