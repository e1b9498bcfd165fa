"""Where a job in the workspace differs from the settings that it should have."""

import re
from collections.abc import Mapping
from typing import Any

NOT_RETURNED = {
    "run_as": "databricks-sdk's JobSettings: what a request gave explicitly; run_as_user_name beside the settings has the identity",
    "job_clusters[*].new_cluster.apply_policy_default_values": "databricks/cli, bundle/direct/dresources/configs/jobs.yml and "
    "acceptance/bundle/resources/cluster_policies/policy_value_semantics, recorded from a workspace",
}
"""Fields that the Jobs API takes and does not return, or need not return -> where that is written."""
_KEYS = ("task_key", "environment_key", "job_cluster_key", "name")
"""Keys that identify the entries of a list, whatever their order."""
_UNSET: tuple[Any, ...] = (None, 0, "", False, [], {}, "PERFORMANCE_OPTIMIZED")
"""Values that Databricks may omit from a response, or fill in as defaults: https://docs.databricks.com/aws/en/compute/serverless/performance-modes"""


def differing(wanted: Any, actual: Any, at: str = "") -> list[tuple[str, Any, Any]]:
    """Where the actual value lacks something or differs: (path, actual value, wanted value)."""
    if isinstance(wanted, dict) and isinstance(actual, dict):
        return [row for key, value in wanted.items() for row in differing(value, actual.get(key), f"{at}.{key}" if at else key)]
    if isinstance(wanted, list) and isinstance(actual, list) and (key := _key(wanted)):
        named = {entry.get(key): entry for entry in actual if isinstance(entry, dict)}
        rows = [row for entry in wanted for row in differing(entry, named.pop(entry[key], None), f"{at}[{entry[key]}]")]
        return rows + [(f"{at}[{name}]", entry, None) for name, entry in named.items()]
    if _entries(wanted) and _entries(actual):  # libraries have no key
        missing = [entry for entry in wanted if all(differing(entry, other) for other in actual)]
        others = [other for other in actual if all(differing(entry, other) for entry in wanted)]
        return [(at, others, missing)] if missing or others else []
    if re.sub(r"\[[^\]]*\]", "[*]", at) in NOT_RETURNED:
        return []
    return [] if wanted == actual or (stated(wanted) in _UNSET and actual in _UNSET) else [(at, actual, wanted)]


def _key(entries: list[Any]) -> str | None:
    return next((key for key in _KEYS if _entries(entries) and all(key in entry for entry in entries)), None)


def _entries(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(entry, dict) for entry in value)


def differences(wanted: Mapping[str, Any], actual: Mapping[str, Any]) -> list[str]:
    """Where a job differs from the wanted settings, as `key: actual -> wanted`. Settings that are not wanted are ignored."""
    return [f"{at}: {found!r} -> {should!r}" for at, found, should in differing(wanted, actual)]


def stated(value: Any) -> Any:
    """The value without keys whose value is None, at every depth: None is a wish that a key be absent."""
    if isinstance(value, dict):
        return {key: stated(inner) for key, inner in value.items() if inner is not None}
    return [stated(entry) for entry in value] if isinstance(value, list) else value
