"""Reads databricks.yml: the part of Databricks Asset Bundles that this project uses, and nothing else of it."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from car_damage.errors import SettingsError

BUNDLE = Path(__file__).with_name("databricks.yml")
_VARIABLE = re.compile(r"\$\{([^}]*)\}")


def jobs(given: Mapping[str, str], path: Path = BUNDLE) -> dict[str, dict[str, Any]]:
    """The settings of each job, by the job's name.

    Args:
        given: variable -> value, over the file's defaults.
        path: of the file.

    Raises:
        SettingsError: the file holds what bootstrap would silently leave out, or what Databricks does not know.
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
        raise SettingsError(f"{where} has {', '.join(unknown)}, which bootstrap does not do: take it out, or deploy it as a bundle")


def _filled(value: Any, variables: Mapping[str, str], where: str) -> Any:
    """With each ${var.name} replaced."""
    if isinstance(value, dict):
        return {key: _filled(inner, variables, where) for key, inner in value.items()}
    if isinstance(value, list):
        return [_filled(inner, variables, where) for inner in value]
    if not isinstance(value, str):
        return value

    def named(found: "re.Match[str]") -> str:
        kind, _, name = found[1].partition(".")
        if kind != "var" or name not in variables:
            raise SettingsError(f"{where}: {found[0]} is none of this file's variables with a value")
        return variables[name]

    return _VARIABLE.sub(named, value)


def _known_to_databricks(settings: Mapping[str, Any], where: str) -> None:
    """The SDK drops silently what it does not know; a misspelt key would be lost."""
    from databricks.sdk.service.jobs import JobSettings

    lost = _missing(settings, JobSettings.from_dict(dict(settings)).as_dict())
    if lost:
        raise SettingsError(f"{where}: databricks-sdk does not know {', '.join(lost)}")


def _missing(wanted: Any, there: Any, at: str = "") -> list[str]:
    """Keys of the one that the other lacks or has otherwise."""
    if isinstance(wanted, dict) and isinstance(there, dict):
        return [path for key, value in wanted.items() for path in _missing(value, there.get(key), f"{at}.{key}" if at else key)]
    if isinstance(wanted, list) and isinstance(there, list) and len(wanted) == len(there):
        return [path for number, value in enumerate(wanted) for path in _missing(value, there[number], f"{at}[{number}]")]
    return [] if wanted == there else [at]


def differences(wanted: Mapping[str, Any], there: Mapping[str, Any]) -> list[str]:
    """Where a job differs from what it should be, as `key: there -> wanted`. What Databricks fills in by itself is no difference."""
    return [f"{at}: {_at(there, at)!r} -> {_at(wanted, at)!r}" for at in _missing(wanted, there)]


def _at(value: Any, path: str) -> Any:
    for part in re.findall(r"[^.\[\]]+", path):
        try:
            value = value[int(part)] if isinstance(value, list) else value[part]
        except (KeyError, IndexError, TypeError, ValueError):
            return None
    return value
