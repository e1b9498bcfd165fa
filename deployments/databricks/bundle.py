"""Reads databricks.yml, in the subset of Databricks Asset Bundles that this project uses."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from car_damage.errors import SettingsError

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

    if lost := [at for at, _, _ in _differing(settings, JobSettings.from_dict(dict(settings)).as_dict())]:
        raise SettingsError(f"{where}: databricks-sdk does not know {', '.join(lost)}")


_KEYS = ("task_key", "environment_key", "job_cluster_key", "name")
"""Keys that identify the entries of a list, whatever their order."""
_UNSET: tuple[Any, ...] = (None, 0, "", False, [], {}, "PERFORMANCE_OPTIMIZED")
"""Values that Databricks may omit from a response, or fill in as defaults: https://docs.databricks.com/aws/en/compute/serverless/performance-modes"""


def _differing(wanted: Any, actual: Any, at: str = "") -> list[tuple[str, Any, Any]]:
    """Where the actual value lacks something or differs: (path, actual value, wanted value)."""
    if isinstance(wanted, dict) and isinstance(actual, dict):
        return [row for key, value in wanted.items() for row in _differing(value, actual.get(key), f"{at}.{key}" if at else key)]
    if isinstance(wanted, list) and isinstance(actual, list) and (key := _key(wanted)):
        named = {entry.get(key): entry for entry in actual if isinstance(entry, dict)}
        rows = [row for entry in wanted for row in _differing(entry, named.pop(entry[key], None), f"{at}[{entry[key]}]")]
        return rows + [(f"{at}[{name}]", entry, None) for name, entry in named.items()]
    if _entries(wanted) and _entries(actual):  # libraries have no key
        missing = [entry for entry in wanted if all(_differing(entry, other) for other in actual)]
        others = [other for other in actual if all(_differing(entry, other) for entry in wanted)]
        return [(at, others, missing)] if missing or others else []
    return [] if wanted == actual or (wanted in _UNSET and actual in _UNSET) else [(at, actual, wanted)]


def _key(entries: list[Any]) -> str | None:
    return next((key for key in _KEYS if _entries(entries) and all(key in entry for entry in entries)), None)


def _entries(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(entry, dict) for entry in value)


def differences(wanted: Mapping[str, Any], actual: Mapping[str, Any]) -> list[str]:
    """Where a job differs from the wanted settings, as `key: actual -> wanted`. Settings that are not wanted are ignored."""
    return [f"{at}: {found!r} -> {should!r}" for at, found, should in _differing(wanted, actual)]
