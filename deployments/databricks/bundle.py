"""Reads databricks.yml: the part of Databricks Asset Bundles that this project uses, and nothing else of it."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from car_damage.errors import SettingsError

BUNDLE = Path(__file__).parents[1] / "databricks.yml"
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

    lost = [at for at, _, _ in _missing(settings, JobSettings.from_dict(dict(settings)).as_dict())]
    if lost:
        raise SettingsError(f"{where}: databricks-sdk does not know {', '.join(lost)}")


_KEYS = ("task_key", "environment_key", "job_cluster_key", "name")
"""By which entries of a list are told apart, whatever their order."""
_UNSET: tuple[Any, ...] = (None, 0, "", False, [], {}, "PERFORMANCE_OPTIMIZED")
"""What Databricks may leave out of an answer, or fill in: https://docs.databricks.com/aws/en/compute/serverless/performance-modes"""


def _missing(wanted: Any, there: Any, at: str = "") -> list[tuple[str, Any, Any]]:
    """Where the other lacks something of the one or has it otherwise: the place, what it has, what it should have."""
    if isinstance(wanted, dict) and isinstance(there, dict):
        return [row for key, value in wanted.items() for row in _missing(value, there.get(key), f"{at}.{key}" if at else key)]
    if isinstance(wanted, list) and isinstance(there, list) and (key := _key(wanted)):
        named = {entry.get(key): entry for entry in there if isinstance(entry, dict)}
        rows = [row for entry in wanted for row in _missing(entry, named.pop(entry[key], None), f"{at}[{entry[key]}]")]
        return rows + [(f"{at}[{name}]", entry, None) for name, entry in named.items()]
    if _entries(wanted) and _entries(there):  # without a key, as libraries are
        lacking = [entry for entry in wanted if all(_missing(entry, other) for other in there)]
        others = [other for other in there if all(_missing(entry, other) for entry in wanted)]
        return [(at, others, lacking)] if lacking or others else []
    return [] if wanted == there or (wanted in _UNSET and there in _UNSET) else [(at, there, wanted)]


def _key(entries: list[Any]) -> str | None:
    return next((key for key in _KEYS if _entries(entries) and all(key in entry for entry in entries)), None)


def _entries(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(entry, dict) for entry in value)


def differences(wanted: Mapping[str, Any], there: Mapping[str, Any]) -> list[str]:
    """Where a job differs from what it should be, as `key: there -> wanted`. What nobody wants to be in some way is no difference."""
    return [f"{at}: {found!r} -> {should!r}" for at, found, should in _missing(wanted, there)]
