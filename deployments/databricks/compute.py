"""The compute of the jobs: serverless as in databricks.yml, or a cluster if the settings ask for one.

A job's settings have a form for each kind of compute. Keys of the other forms are None: bootstrap shows them as a difference if
the job still has them, and removes them when it writes the job.
"""

import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from car_damage.errors import SettingsError
from car_damage.settings import Databricks

CLUSTER = "stages"
"""The key of the job's cluster."""
_OF_A_JOB = ("environments", "job_clusters", "performance_target")
_OF_A_TASK = ("environment_key", "disable_auto_optimization", "job_cluster_key", "existing_cluster_id", "new_cluster", "libraries")
_WHEEL = re.compile(r"(?P<path>/.+\.whl)(\[(?P<extras>[^\]]+)\])?")

# A single node: its driver does the work of an executor too.
# https://docs.databricks.com/aws/en/dev-tools/bundles/examples and https://docs.databricks.com/api/workspace/jobs/create
_SINGLE_NODE = {
    "spark_conf": {"spark.databricks.cluster.profile": "singleNode", "spark.master": "local[*, 4]"},
    "custom_tags": {"ResourceClass": "SingleNode"},
}


def extras(root: Path) -> dict[str, list[str]]:
    """Extra of the wheel -> its requirements, from the checkout's pyproject.toml."""
    found: dict[str, list[str]] = tomllib.loads((root / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    return found


def form(job: Mapping[str, Any], settings: Databricks, extras: Mapping[str, list[str]]) -> dict[str, Any]:
    """A job's settings for the compute that `databricks.compute` names.

    Args:
        job: the job's settings for serverless compute, from databricks.yml.
        settings: of this target.
        extras: extra of the wheel -> its requirements.

    Raises:
        SettingsError: a task depends on something that a cluster cannot install, or on an extra that the wheel does not have.
    """
    if settings.compute == "serverless":
        tasks = [dict.fromkeys(_OF_A_TASK) | task for task in job["tasks"]]
        environments = [_environment(settings.package_index, environment) for environment in job["environments"]]
        return dict.fromkeys(_OF_A_JOB) | dict(job) | {"environments": environments, "tasks": tasks}
    needs = {environment["environment_key"]: environment["spec"].get("dependencies", []) for environment in job["environments"]}
    own = settings.compute == "job_cluster"
    where = {"job_cluster_key": CLUSTER} if own else {"existing_cluster_id": settings.existing_cluster or ""}
    clusters = [{"job_cluster_key": CLUSTER, "new_cluster": _cluster(settings)}] if own else None
    tasks = [
        dict(task)
        | dict.fromkeys(_OF_A_TASK)
        | where
        | {"libraries": libraries(needs[task["environment_key"]], extras, settings.package_index)}
        for task in job["tasks"]
    ]
    return dict(job) | dict.fromkeys(_OF_A_JOB) | {"job_clusters": clusters, "tasks": tasks}


def libraries(dependencies: Iterable[str], extras: Mapping[str, list[str]], index: str | None = None) -> list[dict[str, Any]]:
    """Dependencies of a serverless environment, as libraries of a cluster.

    The version bounds for the environment also fit a cluster of the LTS runtime 17.3, which has the same Python (3.12), numpy (2.1),
    pandas (2.2) and protobuf (5.29): https://docs.databricks.com/aws/en/release-notes/runtime/17.3lts
    A wheel as a library cannot name extras, so each requirement of an extra becomes a library. Libraries are installed one after
    another, so two requirements for one package become one library with the bounds of both.
    """
    from packaging.requirements import InvalidRequirement, Requirement

    wheels: list[str] = []
    named: dict[str, Requirement] = {}
    for dependency in dependencies:
        lines = [dependency]
        if wheel := _WHEEL.fullmatch(dependency):
            wheels.append(wheel["path"])
            lines = [line for extra in (wheel["extras"] or "").split(",") if extra for line in _requirements(extra.strip(), extras)]
        for line in lines:
            try:
                wanted = Requirement(line)
            except InvalidRequirement as error:
                raise SettingsError(
                    f"a cluster cannot install {line}: remove it from databricks.yml, or set databricks.compute to serverless"
                ) from error
            if wanted.name in named:
                wanted.specifier &= named[wanted.name].specifier
            named[wanted.name] = wanted
    repo = {"repo": index} if index else {}
    return [{"whl": path} for path in wheels] + [{"pypi": {"package": str(wanted), **repo}} for wanted in named.values()]


def _requirements(extra: str, extras: Mapping[str, list[str]]) -> list[str]:
    if extra not in extras:
        raise SettingsError(f"databricks.yml names the extra {extra}, and the wheel has {', '.join(extras)}: correct the name")
    return extras[extra]


def _environment(index: str | None, environment: Mapping[str, Any]) -> dict[str, Any]:
    """A serverless environment that installs from this package index. Each dependency is a line of a pip requirements file."""
    if index is None:
        return dict(environment)
    spec = environment["spec"]
    return dict(environment) | {"spec": spec | {"dependencies": [f"--index-url {index}", *spec.get("dependencies", [])]}}


def _cluster(settings: Databricks) -> dict[str, Any]:
    """The cluster that Databricks creates for each run of a job and terminates after it. Keys that it must not have are None."""
    cluster: dict[str, Any] = {
        "spark_version": settings.spark_version,
        # Dedicated to the identity that the job runs as: Unity Catalog needs standard or dedicated access mode, the ML runtime dedicated.
        # DATA_SECURITY_MODE_DEDICATED is the later name of the same mode, but needs kind CLASSIC_PREVIEW.
        "data_security_mode": "SINGLE_USER",
    }
    if settings.node_type:
        cluster["node_type_id"] = settings.node_type
    if settings.cluster_policy:
        cluster |= {"policy_id": settings.cluster_policy, "apply_policy_default_values": True}
    else:
        cluster |= {"policy_id": None, "autoscale": None}
    return cluster | _size(settings)


def _size(settings: Databricks) -> dict[str, Any]:
    if settings.workers is None and settings.cluster_policy:
        # A number beside a policy's autoscale is refused: https://github.com/databricks/terraform-provider-databricks/pull/5380
        return {}
    if not settings.workers:
        return {"num_workers": 0, **_SINGLE_NODE}
    return {"num_workers": settings.workers, **{key: dict.fromkeys(values) for key, values in _SINGLE_NODE.items()}}
