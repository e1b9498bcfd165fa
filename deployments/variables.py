"""Settings as environment variables, so that commands in another terminal use the same service."""

import os
import shlex
from collections.abc import Mapping

from car_damage.settings import PREFIX


def given() -> dict[str, str]:
    """The settings in this process' environment, including the name of the settings file; sorted by name."""
    return {name: value for name, value in sorted(os.environ.items()) if name.upper().startswith(PREFIX)}


def assignments(variables: Mapping[str, str]) -> str:
    """The variables in shell syntax: `NAME=value NAME=value`."""
    return " ".join(f"{name}={shlex.quote(value)}" for name, value in variables.items())
