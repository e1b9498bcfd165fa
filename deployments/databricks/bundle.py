"""Reads databricks.yml, in the subset of Databricks Asset Bundles that this project uses."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from car_damage.errors import SettingsError
from deployments.databricks.differences import differing

BUNDLE = Path(__file__).parents[1] / "databricks.yml"
_VARIABLE = re.compile(r"\$\{([^}]*)\}")


def jobs(given: Mapping[str, str], path: Path = BUNDLE) -> dict[str, dict[str, Any]]:
    """Job name -> settings of the job.

    Args:
        given: variable -> value; overrides the file's defaults.
        path: the file.

    Raises:
        SettingsError: the file contains something that bootstrap does not support, or that Databricks does not know.
    """
    bundle = yaml.safe_load(path.read_text())
    _only(bundle, {"bundle", "variables", "resources"}, path.name)
    _only(bundle["bundle"], {"name"}, f"{path.name}: bundle")
    _only(bundle["resources"], {"jobs"}, f"{path.name}: resources")
    variables = {name: str(variable["default"]) for name, variable in bundle.get("variables", {}).items() if "default" in variable}
    if unknown := sorted(set(given) - set(bundle.get("variables", {}))):
        raise SettingsError(f"{path.name} has no variables {', '.join(unknown)}")
    variables |= given
    found = {}
    for key, job in bundle["resources"]["jobs"].items():
        where = f"{path.name}: resources.jobs.{key}"
        settings = _filled(job, variables, where)
        _known_to_databricks(settings, where)
        found[settings["name"]] = settings
    return found


def _only(given: Mapping[str, Any], known: set[str], where: str) -> None:
    if unknown := sorted(set(given) - known):
        raise SettingsError(
            f"{where} contains {', '.join(unknown)}, which bootstrap does not support: remove it, or deploy the file as a bundle"
        )


def _filled(value: Any, variables: Mapping[str, str], where: str) -> Any:
    """The value with each ${var.name} replaced."""
    if isinstance(value, dict):
        return {key: _filled(inner, variables, where) for key, inner in value.items()}
    if isinstance(value, list):
        return [_filled(inner, variables, where) for inner in value]
    if not isinstance(value, str):
        return value

    def named(found: "re.Match[str]") -> str:
        kind, _, name = found[1].partition(".")
        if kind != "var" or name not in variables:
            raise SettingsError(f"{where}: {found[0]} is not a variable of this file, or has no value")
        return variables[name]

    return _VARIABLE.sub(named, value)


def _known_to_databricks(settings: Mapping[str, Any], where: str) -> None:
    """Raise SettingsError for keys that the SDK does not know: it drops them silently, so a misspelt key would be lost."""
    from databricks.sdk.service.jobs import JobSettings

    if lost := [at for at, _, _ in differing(settings, JobSettings.from_dict(dict(settings)).as_dict())]:
        raise SettingsError(f"{where}: databricks-sdk does not know {', '.join(lost)}")
