"""The compute of a job's tasks: a serverless environment, a job cluster, or an existing cluster.

Sources: https://docs.databricks.com/api/workspace/jobs/create; for cluster policies, databricks/cli's record of a real workspace in
acceptance/bundle/resources/cluster_policies/policy_value_semantics, and libs/testserver/cluster_policies.go. The twin refuses settings
of another kind of compute than the task's, although the documentation says for some of them only that they have no effect.
"""

import copy
from collections.abc import Callable
from typing import Any

from tests.databricks.twin.core import Refused

Only = Callable[..., None]
"""The type of `Core._only`."""
Policies = dict[str, dict[str, dict[str, Any]]]
"""Id of a cluster policy -> path of an attribute -> its element: {"type": "fixed", "value": ...} | {"type": ..., "defaultValue": ...}"""
_MODES = {"SINGLE_USER", "USER_ISOLATION"}
"""Modes with Unity Catalog. DATA_SECURITY_MODE_DEDICATED and _STANDARD need kind CLASSIC_PREVIEW (see the reference of `kind`)."""
_ALONE = {"spark.databricks.cluster.profile": "singleNode", "spark.master": "local[*, 4]"}


def with_policies(settings: dict[str, Any], policies: Policies) -> dict[str, Any]:
    """The settings with what the policies of their clusters supply, as a workspace stores them."""
    settings = copy.deepcopy(settings)
    for one in settings.get("job_clusters", []):
        cluster = one["new_cluster"]
        if (policy := cluster.get("policy_id")) is None:
            continue
        if policy not in policies:
            raise _refused(f"Cluster policy {policy} does not exist")
        for path, element in policies[policy].items():
            fixed = element["type"] == "fixed"
            value = element.get("value") if fixed else element.get("defaultValue") if cluster.get("apply_policy_default_values") else None
            if value is not None:
                _supply(cluster, path.split("."), value, fixed=fixed)
    return settings


def _supply(cluster: dict[str, Any], path: list[str], value: Any, *, fixed: bool) -> None:
    *parents, last = path
    for parent in parents:
        cluster = cluster.setdefault(parent, {})
    if fixed and cluster.setdefault(last, value) != value:
        raise _refused(f'Cluster validation error: Validation failed for {", ".join(path)} must be {value} (is "{cluster[last]}")')
    cluster.setdefault(last, value)


def check(only: Only, settings: dict[str, Any], there: set[str]) -> None:
    """Refuse settings that Databricks would refuse or could not run."""
    environments = {one["environment_key"]: one for one in settings.get("environments", [])}
    for environment in environments.values():
        only(environment, {"environment_key", "spec"}, {"environment_key", "spec"})
        only(environment["spec"], {"environment_version", "dependencies"}, {"environment_version"})
    clusters = {one["job_cluster_key"]: one for one in settings.get("job_clusters", [])}
    for cluster in clusters.values():
        only(cluster, {"job_cluster_key", "new_cluster"}, {"job_cluster_key", "new_cluster"})
        _check_cluster(only, cluster["new_cluster"])
    if "performance_target" in settings and not environments:
        raise _refused("performance_target is of serverless compute, and no task runs on it")
    for task in settings["tasks"]:
        common = {"task_key", "max_retries", "python_wheel_task"}
        ways = {"environment_key", "job_cluster_key", "existing_cluster_id"} & set(task)
        if len(ways) != 1:
            raise _refused(f"Task {task['task_key']} must have one of environment_key, job_cluster_key and existing_cluster_id")
        [way] = ways
        own = {"disable_auto_optimization"} if way == "environment_key" else {"libraries"}
        only(task, common | ways | own, {"task_key", "python_wheel_task"})
        only(task["python_wheel_task"], {"package_name", "entry_point", "parameters"}, {"package_name", "entry_point"})
        known = {"environment_key": environments, "job_cluster_key": clusters, "existing_cluster_id": there}[way]
        if task[way] not in known:
            raise _refused(f"Task {task['task_key']}: {way} {task[way]} is not there")
        for library in task.get("libraries", []):
            _check_library(only, library)
    used = {task.get("environment_key") for task in settings["tasks"]}, {task.get("job_cluster_key") for task in settings["tasks"]}
    if set(environments) - used[0] or set(clusters) - used[1]:
        raise _refused("an environment or a cluster of the job is used by no task")


def _check_cluster(only: Only, cluster: dict[str, Any]) -> None:
    known = {
        "spark_version", "node_type_id", "num_workers", "autoscale", "data_security_mode", "spark_conf", "custom_tags", "policy_id",
        "apply_policy_default_values",
    }  # fmt: skip
    only(cluster, known, {"spark_version", "data_security_mode"})
    if cluster["data_security_mode"] not in _MODES:
        raise _refused(f"data_security_mode {cluster['data_security_mode']} gives no access to Unity Catalog")
    if "node_type_id" not in cluster:
        raise _refused("node_type_id is missing")
    if "autoscale" in cluster and "num_workers" in cluster:
        # https://github.com/databricks/terraform-provider-databricks/issues/4982
        raise _refused("Cluster validation error: num_workers and autoscale must not both be set")
    if cluster.get("apply_policy_default_values") and "policy_id" not in cluster:
        raise _refused("apply_policy_default_values without a policy_id")
    alone = cluster.get("spark_conf", {}).items() >= _ALONE.items() and cluster.get("custom_tags", {}).get("ResourceClass") == "SingleNode"
    if alone != ("autoscale" not in cluster and cluster.get("num_workers", 0) == 0):
        # https://github.com/databricks/cli/issues/1546
        raise _refused("NumWorkers could be 0 only for SingleNode clusters, which spark_conf and custom_tags must say too")


def _check_library(only: Only, library: dict[str, Any]) -> None:
    only(library, {"whl", "pypi"})
    if len(library) != 1:
        raise _refused("a library is one of whl and pypi")
    if "whl" in library and not (library["whl"].startswith("/Volumes/") and library["whl"].endswith(".whl")):
        raise _refused(f"{library['whl']} is no wheel on a volume: extras cannot be named")
    if "pypi" in library:
        only(library["pypi"], {"package", "repo"}, {"package"})


def wheel(settings: dict[str, Any], task: dict[str, Any]) -> str:
    """Path of the wheel that a task installs."""
    if key := task.get("environment_key"):
        [spec] = [one["spec"] for one in settings["environments"] if one["environment_key"] == key]
        return next(str(name) for name in spec["dependencies"] if ".whl" in name).partition("[")[0]
    return next(str(library["whl"]) for library in task["libraries"] if "whl" in library)


def _refused(message: str) -> Refused:
    return Refused(400, "INVALID_PARAMETER_VALUE", message)
