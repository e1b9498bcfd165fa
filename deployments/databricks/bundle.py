"""Reads the jobs from databricks.yml, a Declarative Automation Bundle (formerly Asset Bundle).

Bootstrap makes jobs of this file as `databricks bundle deploy` would, and refuses what it cannot do. Everything else in the
file is for bundles: bootstrap takes the names of schemas, volumes, model and experiment, and whom the jobs run as, from the
settings.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from car_damage.errors import SettingsError
from deployments.databricks.differences import differing

BUNDLE = Path(__file__).parents[2] / "databricks.yml"
_TOP = {"bundle", "variables", "workspace", "sync", "run_as", "permissions", "targets", "resources"}
_RESOURCES = {"schemas", "volumes", "registered_models", "experiments", "jobs"}
_TARGET = {"default", "mode", "variables", "workspace", "sync", "run_as", "permissions"}
_VARIABLE = re.compile(r"\$\{([^}]*)\}")


def jobs(given: Mapping[str, str], path: Path = BUNDLE, target: str | None = None) -> dict[str, dict[str, Any]]:
    """Job name -> settings of the job.

    Args:
        given: variable -> value; overrides the file's values.
        path: the file.
        target: the target whose variables apply; None: the defaults of the variables.

    Raises:
        SettingsError: the file has no such target, or contains something that bootstrap cannot do, or that Databricks does not know.
    """
    bundle = yaml.safe_load(path.read_text())
    _only(bundle, _TOP, path.name)
    _only(bundle["bundle"], {"name"}, f"{path.name}: bundle")
    _only(bundle["resources"], _RESOURCES, f"{path.name}: resources")
    if unknown := sorted(set(given) - set(bundle.get("variables", {}))):
        raise SettingsError(f"{path.name} has no variables {', '.join(unknown)}")
    variables = {**_variables(bundle, path.name, target), **given}
    found = {}
    for key, job in bundle["resources"]["jobs"].items():
        where = f"{path.name}: resources.jobs.{key}"
        settings = _filled(job, variables, where)
        _known_to_databricks(settings, where)
        found[settings["name"]] = settings
    return found


def _variables(bundle: Mapping[str, Any], name: str, target: str | None) -> dict[str, str]:
    """Variable -> value, without those that have none. A target gives a value, or a mapping with a default."""
    chosen: Mapping[str, Any] = {}
    if target is not None:
        if target not in bundle.get("targets", {}):
            raise SettingsError(
                f"{name} has no target {target}, which databricks.bundle_target names; it has {', '.join(bundle['targets'])}"
            )
        chosen = bundle["targets"][target] or {}
        _only(chosen, _TARGET, f"{name}: targets.{target}")
        if chosen.get("mode") == "development":
            raise SettingsError(f"{name}: targets.{target} has mode development, which renames jobs: remove it, or deploy it as a bundle")
    values = bundle.get("variables", {}) | chosen.get("variables", {})
    plain = {key: value.get("default") if isinstance(value, dict) else value for key, value in values.items()}
    return {key: str(value) for key, value in plain.items() if value is not None}


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
