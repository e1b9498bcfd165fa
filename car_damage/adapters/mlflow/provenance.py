"""Which software did it, and who ran it: this package's version, its commit where it runs from a checkout, the user."""

import getpass
import os
import subprocess
from pathlib import Path

from car_damage import __version__

TIMEOUT = 10.0
"""Seconds that git may take."""


def software() -> dict[str, str]:
    """Tags for a run, by MLflow's own names where it has one. Without git, or outside a checkout, there is no commit."""
    tags = {"package_version": __version__, "mlflow.source.name": "car-damage"}
    # Of a package installed below somebody else's checkout, that checkout's commit would say nothing.
    if _git("ls-files", "--error-unmatch", Path(__file__).name) is not None and (commit := _git("rev-parse", "HEAD")):
        tags["mlflow.source.git.commit"] = commit
    return tags


def user() -> str:
    """Who runs this process: a name, or its number where the machine knows no name for it, as in many containers."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def _git(*arguments: str) -> str | None:
    """What git prints, run in this package's folder; None where it fails or is not installed."""
    try:
        done = subprocess.run(
            ["git", *arguments],  # noqa: S607 - wherever the user's git is
            cwd=Path(__file__).parent,
            capture_output=True,
            timeout=TIMEOUT,
            check=False,
            text=True,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
