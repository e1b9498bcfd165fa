"""Settings as environment variables: what another terminal needs to mean the same service."""

import os
import shlex
from collections.abc import Mapping

from car_damage.settings import PREFIX


def given() -> dict[str, str]:
    """The settings that come from this process' environment, the settings file's name among them; in their names' order."""
    return {name: value for name, value in sorted(os.environ.items()) if name.upper().startswith(PREFIX)}


def assignments(variables: Mapping[str, str]) -> str:
    """As a shell reads them: `NAME=value NAME=value`."""
    return " ".join(f"{name}={shlex.quote(value)}" for name, value in variables.items())
