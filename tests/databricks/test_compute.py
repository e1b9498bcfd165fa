"""Jobs run on serverless compute, a job cluster or an existing cluster. A change of compute leaves no settings of the previous one."""

import re
import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect.logging import disable_run_logger
from pydantic import ValidationError

from car_damage.errors import RequestRefused, SettingsError
from car_damage.pipeline import ValidateRequest
from car_damage.settings import Databricks, Settings
from car_damage.stage import silent
from car_damage.stages.validate import STAGE as VALIDATE
from deployments.databricks import bundle, compute, needs, workspace_checks
from deployments.databricks.differences import differences, stated
from deployments.items import bootstrap
from tests.databricks import twin as twins
from tests.databricks.conftest import LANDING, Seen, make_runner
from tests.databricks.twin import Job, Twin

WHEEL = "/Volumes/insurance_uc/ops/wheels/car_damage-0-0-py3-none-any.whl"
FILLED_IN = {"format", "email_notifications"}
"""Fields that the API fills in by itself."""
GIVEN: dict[str, dict[str, Any]] = {
    "serverless": {},
    "job_cluster": {"node_type": "m5d.xlarge"},
    "existing_cluster": {"existing_cluster": "0923-164208-meows279"},
}


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Twin]:
    """A workspace with a catalog and an all-purpose cluster."""
    with twins.workspace(tmp_path / "workspace") as twin:
        for name, value in twin.environment.items():
            monkeypatch.setenv(name, value)
        twin.clusters.add("0923-164208-meows279")
        yield twin


def on(settings: Settings, kind: str, **more: Any) -> Settings:
    given = {"compute": kind} | GIVEN[kind] | more
    return settings.model_copy(update={"databricks": Databricks(**settings.databricks.model_dump() | given)})


def written(twin: Twin, name: str = "car-damage-train") -> Job:
    return next(job for job in twin.jobs.values() if job.name == name)


def form(name: str, **given: Any) -> dict[str, Any]:
    return compute.form(bundle.jobs({"wheel": WHEEL})[name], Databricks(**given), compute.extras(needs.ROOT))


@pytest.mark.parametrize("kind", GIVEN)
def test_a_stage_runs_on_each_compute_and_bootstrap_leaves_it_alone_a_second_time(
    empty: Twin, settings: Settings, drawn: Path, kind: str
) -> None:
    chosen = on(settings, kind)
    bootstrap(needs.items(chosen))
    assert [result.problem for result in bootstrap(needs.items(chosen)) if result.problem] == []
    shutil.copytree(drawn, empty.volume(LANDING), dirs_exist_ok=True)
    with disable_run_logger():
        assert make_runner(chosen, Seen()).run(VALIDATE, ValidateRequest("flow-1"), silent).accepted == 59


@pytest.mark.parametrize("before", GIVEN)
@pytest.mark.parametrize("after", GIVEN)
def test_another_compute_is_told_as_a_difference_and_leaves_nothing_of_the_one_before(
    empty: Twin, settings: Settings, before: str, after: str
) -> None:
    bootstrap(needs.items(on(settings, before)))
    first = dict(written(empty).settings) | {"tags": {"team": "claims"}}
    written(empty).settings["tags"] = {"team": "claims"}
    told = [result.problem for result in bootstrap(needs.items(on(settings, after))) if result.problem]
    assert len(told) == (0 if before == after else 3)
    keys = {"serverless": "environment_key", "job_cluster": "job_cluster_key", "existing_cluster": "existing_cluster_id"}
    assert all(f"tasks[stages].{keys[kind]}: " in problem for problem in told for kind in (before, after))
    [task] = written(empty).settings["tasks"]
    forms = {
        "serverless": ({"environments", "performance_target"}, {"environment_key", "disable_auto_optimization"}),
        "job_cluster": ({"job_clusters"}, {"job_cluster_key", "libraries"}),
        "existing_cluster": (set(), {"existing_cluster_id", "libraries"}),
    }
    assert set(written(empty).settings) & {"environments", "performance_target", "job_clusters"} == forms[after][0]
    assert set(task) - {"task_key", "max_retries", "python_wheel_task"} == forms[after][1]
    assert written(empty).settings["tags"] == {"team": "claims"}
    bootstrap(needs.items(on(settings, before)))
    assert {key: value for key, value in written(empty).settings.items() if key not in FILLED_IN} == first


def test_what_somebody_left_of_another_compute_is_told_and_taken_off() -> None:
    there = form("car-damage-ingest", compute="job_cluster", node_type="m5d.xlarge")
    left = there | {"environments": [{"environment_key": "x", "spec": {"environment_version": "5"}}], "performance_target": "STANDARD"}
    assert [told.partition(":")[0] for told in differences(there, left)] == ["performance_target", "environments"]
    # The API may return this default for any job.
    assert differences(there, there | {"performance_target": "PERFORMANCE_OPTIMIZED"}) == []


def test_a_job_cluster_has_dedicated_access_and_is_one_node_unless_workers_are_asked_for() -> None:
    [alone] = form("car-damage-train", compute="job_cluster", node_type="m5d.xlarge")["job_clusters"]
    cluster = alone["new_cluster"]
    assert (cluster["spark_version"], cluster["node_type_id"], cluster["num_workers"]) == ("17.3.x-scala2.13", "m5d.xlarge", 0)
    assert (cluster["data_security_mode"], cluster["custom_tags"]) == ("SINGLE_USER", {"ResourceClass": "SingleNode"})
    [more] = form("car-damage-train", compute="job_cluster", cluster_policy="ABC123", workers=2)["job_clusters"]
    assert (more["new_cluster"]["num_workers"], stated(more["new_cluster"]["spark_conf"])) == (2, {})


POLICIES = {
    "autoscaled": {
        "node_type_id": {"type": "fixed", "value": "m5d.xlarge"},
        "autoscale.min_workers": {"type": "fixed", "value": 1},
        "autoscale.max_workers": {"type": "range", "maxValue": 4, "defaultValue": 2},
        "custom_tags.team": {"type": "fixed", "value": "claims"},
    },
    "sized": {
        "node_type_id": {"type": "allowlist", "values": ["m5d.xlarge"], "defaultValue": "m5d.xlarge"},
    },
}


def write_jobs(settings: Settings) -> list[str]:
    """Bootstrap the jobs only, and return what was wrong with them."""
    jobs = [item for item in needs.items(settings) if item.name.startswith("job ")]
    return [result.problem for result in bootstrap(jobs) if result.problem]


@pytest.mark.parametrize("given", [{"cluster_policy": "autoscaled"}, {"cluster_policy": "sized", "workers": 0}])
def test_a_job_under_a_cluster_policy_is_left_alone_a_second_time_and_changed_when_the_policy_is_taken_out(
    empty: Twin, settings: Settings, given: dict[str, Any]
) -> None:
    empty.policies |= POLICIES
    chosen, without = on(settings, "job_cluster", node_type=None, **given), on(settings, "job_cluster")
    write_jobs(chosen)
    [cluster] = written(empty).settings["job_clusters"]
    assert cluster["new_cluster"]["node_type_id"] == "m5d.xlarge"
    assert ("autoscale" in cluster["new_cluster"]) == ("workers" not in given)
    assert write_jobs(chosen) == []
    told = write_jobs(without)
    assert len(told) == 3
    assert all("new_cluster.policy_id: " in problem for problem in told)
    [cluster] = written(empty).settings["job_clusters"]
    assert {"policy_id", "autoscale"} & cluster["new_cluster"].keys() == set()
    assert write_jobs(without) == []


def test_a_policy_without_a_size_needs_one_in_the_settings(empty: Twin, settings: Settings) -> None:
    empty.policies |= POLICIES
    with pytest.raises(RequestRefused, match="NumWorkers could be 0 only for SingleNode clusters"):
        write_jobs(on(settings, "job_cluster", node_type=None, cluster_policy="sized"))


@pytest.mark.parametrize(("before", "after"), [(2, 0), (0, 2)])
def test_another_number_of_workers_is_a_difference_and_leaves_no_single_node(
    empty: Twin, settings: Settings, before: int, after: int
) -> None:
    for workers in (before, after):
        chosen = on(settings, "job_cluster", workers=workers)
        assert len(write_jobs(chosen)) == 3
        assert write_jobs(chosen) == []


def test_an_extra_of_the_wheel_becomes_libraries_and_what_is_asked_for_twice_is_one() -> None:
    dependencies = [f"{WHEEL}[train]", "tensorflow<2.21"]
    assert compute.libraries(dependencies, {"train": ["tensorflow>=2.20,<2.22", "mlflow>=3.5"]}) == [
        {"whl": WHEEL},
        {"pypi": {"package": "tensorflow<2.21,<2.22,>=2.20"}},
        {"pypi": {"package": "mlflow>=3.5"}},
    ]
    assert compute.libraries([WHEEL], {}) == [{"whl": WHEEL}]


def test_another_package_index_is_named_to_each_compute_and_holds_no_secret() -> None:
    index = "https://packages.example.com/simple"
    [environment] = form("car-damage-ingest", package_index=index)["environments"]
    assert environment["spec"]["dependencies"] == [f"--index-url {index}", WHEEL]
    [task] = form("car-damage-train", package_index=index, compute="job_cluster", node_type="m5d.xlarge")["tasks"]
    assert {library["pypi"]["repo"] for library in task["libraries"] if "pypi" in library} == {index}
    with pytest.raises(ValidationError, match="package_index"):
        Databricks(package_index="https://user:secret@packages.example.com/simple")


def test_the_extra_is_the_checkout_s() -> None:
    [task] = form("car-damage-train", compute="job_cluster", node_type="m5d.xlarge")["tasks"]
    packages = [library["pypi"]["package"] for library in task["libraries"] if "pypi" in library]
    assert [package.partition("<")[0].partition(">")[0] for package in packages] == [
        "tensorflow",
        "mlflow",
        "matplotlib",
        "scikit-learn",
        "threadpoolctl",
        "scipy",
        "onnxruntime",
        "onnx",
        "tf2onnx",
        "optuna",
    ]


def test_databricks_sdk_may_be_as_old_as_serverless_compute_has_it_and_no_older() -> None:
    held = Path(__file__).with_name("serverless-5.txt").read_text()
    [version] = re.findall(r"^databricks-sdk==(.+)$", held, re.MULTILINE)
    project = tomllib.loads((needs.ROOT / "pyproject.toml").read_text())["project"]
    assert f"databricks-sdk>={version.removesuffix('.0')}" in project["dependencies"]


def test_an_extra_that_the_wheel_has_not_is_refused_for_a_cluster() -> None:
    with pytest.raises(SettingsError, match=r"databricks\.yml names the extra trian, and the wheel has train"):
        compute.libraries([f"{WHEEL}[trian]"], {"train": []})


def test_a_line_that_only_pip_understands_is_refused_for_a_cluster() -> None:
    with pytest.raises(SettingsError, match=r"a cluster cannot install --index-url=https://x: remove it from databricks\.yml"):
        compute.libraries(["--index-url=https://x"], {})


def test_each_form_is_one_that_databricks_sdk_knows_and_order_makes_no_difference() -> None:
    from databricks.sdk.service.jobs import JobSettings

    for kind, given in GIVEN.items():
        job = form("car-damage-train", compute=kind, **given)
        known = JobSettings.from_dict(job).as_dict()
        for task in known["tasks"]:
            task["libraries"] = list(reversed(task.get("libraries", [])))
        assert differences(job, known) == []


def test_a_library_more_or_less_is_a_difference() -> None:
    job = form("car-damage-train", compute="job_cluster", node_type="m5d.xlarge")
    [task] = job["tasks"]
    for others in (task["libraries"][1:], [*task["libraries"], {"pypi": {"package": "x"}}]):
        [told] = differences(job, job | {"tasks": [task | {"libraries": others}]})
        assert told.startswith("tasks[stages].libraries: ")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"compute": "job_cluster"}, "compute job_cluster needs node_type, or a cluster_policy that sets it"),
        ({"compute": "existing_cluster"}, "compute existing_cluster needs the cluster's id in existing_cluster"),
        ({"node_type": "m5d.xlarge"}, "node_type is only for compute job_cluster, but compute is serverless"),
        ({"workers": 2}, "workers is only for compute job_cluster"),
        (
            {"compute": "existing_cluster", "existing_cluster": "a-1", "cluster_policy": "A"},
            "cluster_policy is only for compute job_cluster",
        ),
        ({"compute": "job_cluster", "node_type": "x", "existing_cluster": "a-1"}, "existing_cluster is only for compute existing_cluster"),
    ],
)
def test_settings_that_do_not_go_together_are_refused_when_they_are_read(given: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        Databricks(**given)


@pytest.mark.parametrize("kind", GIVEN)
def test_doctor_finds_the_wheel_on_each_compute(empty: Twin, settings: Settings, kind: str) -> None:
    chosen = on(settings, kind)
    bootstrap(needs.items(chosen))
    found = {name: check() for name, check in workspace_checks.checks(chosen).items() if name.startswith("wheel of")}
    assert set(found.values()) == {Path(needs.wheel_path(chosen)).name}
    assert len(found) == 3


def test_a_wheel_that_is_gone_is_told_as_a_library_that_could_not_be_installed(empty: Twin, settings: Settings) -> None:
    from car_damage.errors import Terminal

    chosen = on(settings, "job_cluster")
    bootstrap(needs.items(chosen))
    empty.volume(needs.wheel_path(chosen)).unlink()
    with disable_run_logger(), pytest.raises(Terminal, match=r"LIBRARY_INSTALLATION_ERROR: /Volumes/.*\.whl is not there"):
        make_runner(chosen, Seen()).run(VALIDATE, ValidateRequest("flow-1"), silent)
