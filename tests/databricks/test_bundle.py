"""databricks.yml as a bundle: the order of the documentation and of the workflow, jobs that bundles own, and who they run as."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from car_damage.adapters.mlflow.registry import DESCRIPTION
from car_damage.errors import SettingsError
from car_damage.settings import TABLES, Databricks, Settings, Workers
from deployments import doctor
from deployments.__main__ import app
from deployments.databricks import access_control, bundle, jobs, needs, unity_catalog, workspace_checks
from deployments.items import Item, bootstrap, plan
from tests.databricks import twin as twins
from tests.databricks.bundled import Bundle
from tests.databricks.twin import ADMIN, ADMIN_TOKEN, CLIENT, Twin

ROOT = Path(__file__).parents[2]
WORKFLOWS = ROOT / ".github" / "workflows"
WHEEL = "/Volumes/insurance_uc_dev/ops/wheels/car_damage-0-0-py3-none-any.whl"


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Twin]:
    """A workspace for the target dev with nothing but a catalog. This process has an administrator's credentials."""
    with twins.workspace(tmp_path / "workspace") as twin:
        for name, value in (twin.environment | {"DATABRICKS_TOKEN": ADMIN_TOKEN}).items():
            monkeypatch.setenv(name, value)
        twin.catalog = "insurance_uc_dev"
        yield twin


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("CAR_DAMAGE_CONFIG", str(ROOT / "deployments" / "settings" / "databricks.toml"))
    return Settings(databricks={"catalog": "insurance_uc_dev", "bundle_target": "dev", "service_principal": CLIENT})


def client() -> Any:
    from databricks.sdk import WorkspaceClient

    return WorkspaceClient()


def job_items(settings: Settings) -> list[Item]:
    return [item for item in needs.items(settings) if item.name.startswith("job ")]


def documented() -> list[str]:
    section = (ROOT / "docs" / "databricks.md").read_text().partition("\n## As a bundle\n")[2].partition("\n## ")[0]
    return re.findall(r"^\$ (.*)$", section.partition("```console")[2].partition("```")[0], re.MULTILINE)


def workflow(name: str) -> Any:
    return yaml.safe_load((WORKFLOWS / name).read_text())


def workflow_lines() -> list[str]:
    steps = workflow("databricks-target.yml")["jobs"]["deploy"]["steps"]
    return [line for step in steps for line in step.get("run", "").splitlines()]


def ours(lines: list[str]) -> list[str]:
    """The commands of the CLI and of this project among them, without the target."""
    found = [re.search(r"databricks bundle \w+|deployments (?:bootstrap|doctor)(?: --[\w-]+)?", line) for line in lines]
    return [one[0] for one in found if one]


ORDER = ["deployments bootstrap --wheel-only", "databricks bundle deploy", "deployments bootstrap"]


def test_the_documented_order_and_then_that_of_the_workflow_make_each_job_once(empty: Twin, settings: Settings) -> None:
    deployed = Bundle(client(), "dev")

    def deliver() -> None:
        (delivered.append(needs.deliver_wheel(settings)))

    def healthy() -> None:
        assert [finding for finding in doctor.in_databricks(settings) if finding.state == doctor.FAIL] == []

    def settled() -> None:
        assert [result for result in map(plan, needs.items(settings)) if result.problem] == []

    delivered: list[str | None] = []
    steps: dict[str, Callable[[], object]] = {
        "deployments bootstrap --wheel-only": deliver,
        "databricks bundle validate": lambda: None,  # only the CLI can
        "databricks bundle deploy": lambda: deployed.deploy(wheel=needs.wheel_path(settings), service_principal=CLIENT),
        "deployments bootstrap": lambda: bootstrap(needs.items(settings)),
        "deployments doctor": healthy,
        "deployments bootstrap --dry-run": settled,
    }
    assert ours(documented()) == ORDER
    assert ours(workflow_lines()) == [
        ORDER[0],
        "databricks bundle validate",
        *ORDER[1:],
        "deployments doctor",
        "deployments bootstrap --dry-run",
    ]
    for command in [*ours(documented()), *ours(workflow_lines())]:
        steps[command]()
    [first, second] = delivered
    assert "the volume insurance_uc_dev.ops.wheels is missing; `databricks bundle deploy`" in str(first)
    assert second is None
    jobs = list(empty.jobs.values())
    assert sorted(job.name for job in jobs) == [
        "car-damage-approval",
        "car-damage-ingest",
        "car-damage-monitor",
        "car-damage-score",
        "car-damage-train",
    ]
    assert {job.settings["deployment"]["kind"] for job in jobs} == {"BUNDLE"}
    assert {job.settings["run_as"]["service_principal_name"] for job in jobs} == {CLIENT}
    assert empty.owner("function", "insurance_uc_dev.models.car_damage_classifier") == CLIENT


def test_a_bundle_and_bootstrap_that_both_made_a_job_are_told_apart(empty: Twin, settings: Settings) -> None:
    bootstrap(job_items(settings))
    own = {job.name: job.job_id for job in empty.jobs.values()}
    Bundle(client(), "dev").deploy(wheel=needs.wheel_path(settings), service_principal=CLIENT)
    for item in job_items(settings):
        with pytest.raises(
            SettingsError, match=rf"of the bundle /Workspace/.*, {own[item.name[4:]]} of {ADMIN}\), and there must be one: "
        ) as told:
            item.check()
        assert re.findall(r"`(.*?)`", str(told.value)) == [f"databricks jobs delete {own[item.name[4:]]}"]
    for one in own.values():
        client().jobs.delete(one)
    assert [item.check() for item in job_items(settings)] == [None] * 4


def test_bootstrap_never_deletes_a_bundle_s_job_that_was_made_at_the_same_moment(empty: Twin, settings: Settings) -> None:
    name = settings.databricks.ingest_job
    bootstrap(job_items(settings)[:1])
    [made] = empty.jobs
    Bundle(client(), "dev").deploy(wheel=WHEEL, service_principal=CLIENT)
    with pytest.raises(SettingsError, match=f"`databricks jobs delete {made}`"):
        jobs._keep_one(client, name, made, ADMIN)
    assert len([job for job in empty.jobs.values() if job.name == name]) == 2


def test_two_bundles_with_the_same_job_are_told(empty: Twin, settings: Settings) -> None:
    one = Bundle(client(), "dev")
    one.deploy(wheel=WHEEL, service_principal=CLIENT)
    kept = {name: made for name, made in one.state.items() if not name.startswith("jobs.")}
    Bundle(client(), "dev", state=kept).deploy(wheel=WHEEL, service_principal=CLIENT)
    with pytest.raises(SettingsError, match="`databricks bundle destroy` for all bundles but one"):
        job_items(settings)[0].check()


def test_a_job_of_a_bundle_without_run_as_is_refused_with_the_remedy(empty: Twin, settings: Settings) -> None:
    deployed = Bundle(client(), "dev", without={"run_as"})
    deployed.deploy(wheel=WHEEL, service_principal=CLIENT)
    wanted = rf"a bundle owns it, and it runs as {ADMIN} instead of {CLIENT} .*: set run_as in databricks\.yml, and run "
    for item in job_items(settings):
        with pytest.raises(SettingsError, match=wanted):
            bootstrap([item])
    deployed.without.clear()
    deployed.deploy(wheel=WHEEL, service_principal=CLIENT)
    assert [item.check() for item in job_items(settings)] == [None] * 4


def test_the_bundle_declares_what_the_settings_name() -> None:
    """All but the landing volume and its schema, which belong to the team that uploads photos."""
    settings = Settings(
        databricks={"stages": "jobs", "catalog": "c"},
        tracking={"uri": "databricks", "registry_uri": "databricks-uc", "experiment": "/Shared/car-damage"},
        promotion={"mode": "approval"},
    )
    resources = yaml.safe_load(bundle.BUNDLE.read_text())["resources"]
    schemas = {f"c.{schema['name']}" for schema in resources["schemas"].values()}
    assert schemas == set(unity_catalog.schemas(settings)) - {"c.landing"}
    assert {f"c.ops.{volume['name']}" for volume in resources["volumes"].values()} == set(unity_catalog.volumes(settings))
    comments = unity_catalog.comments(settings)
    assert {f"c.{schema['name']}": schema["comment"] for schema in resources["schemas"].values()}.items() <= comments.items()
    assert {f"c.ops.{volume['name']}": volume["comment"] for volume in resources["volumes"].values()}.items() <= comments.items()
    assert [model["comment"] for model in resources["registered_models"].values()] == [DESCRIPTION]
    assert [f"c.models.{model['name']}" for model in resources["registered_models"].values()] == unity_catalog.models(settings)
    assert [experiment["name"] for experiment in resources["experiments"].values()] == access_control.experiments(settings)
    assert {job["name"] for job in resources["jobs"].values()} == set(settings.jobs.values())
    kept = [one for kind, those in resources.items() if kind != "jobs" for one in those.values()]
    assert all(one["lifecycle"] == {"prevent_destroy": True} for one in kept), "a bundle that is taken away must not take the data along"


def test_every_schema_and_volume_has_a_comment_wherever_it_is() -> None:
    settings = Settings(
        databricks={"stages": "jobs", "catalog": "c"},
        tables={name: f"c.of_{name}.rows" for name in TABLES},
        answers={"keep_for_review": "/Volumes/c/of_kept/kept"},
        monitoring={"log_folder": "/Volumes/c/of_requests/requests"},
        serving={"host": "databricks", "inference_table": "c.of_endpoint.requests"},
    )
    assert {*unity_catalog.schemas(settings), *unity_catalog.volumes(settings)} <= unity_catalog.comments(settings).keys()


def test_a_target_s_variables_are_those_of_bootstrap_s_jobs(tmp_path: Path) -> None:
    def performance(target: str | None, path: Path = bundle.BUNDLE) -> set[str]:
        return {job["performance_target"] for job in bundle.jobs({"wheel": WHEEL}, path, target).values()}

    assert performance(None) == performance("dev") == {"PERFORMANCE_OPTIMIZED"}
    assert performance("prod") == {"STANDARD"}
    with pytest.raises(SettingsError, match=r"no target test, which databricks\.bundle_target names; it has dev, staging, prod"):
        performance("test")
    changes: dict[str, dict[str, Any]] = {
        "targets.dev contains resources": {"resources": {"jobs": {}}},
        "targets.dev has mode development, which renames jobs": {"mode": "development"},
    }
    for told, change in changes.items():
        whole = yaml.safe_load(bundle.BUNDLE.read_text())
        whole["targets"]["dev"] |= change
        path = tmp_path / "databricks.yml"
        path.write_text(yaml.safe_dump(whole))
        assert performance(None, path) == {"PERFORMANCE_OPTIMIZED"}
        with pytest.raises(SettingsError, match=told):
            performance("dev", path)


def test_the_path_of_the_wheel_is_all_that_a_shell_gets_and_needs_no_workspace(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABRICKS_HOST", "https://127.0.0.1:1")
    monkeypatch.setenv("CAR_DAMAGE_DATABRICKS__CATALOG", "insurance_uc_dev")
    done = CliRunner().invoke(app, ["bootstrap", "--wheel-only", "--dry-run"])
    assert (done.exit_code, done.stdout) == (0, f"{needs.wheel_path(settings)}\n")


def test_the_workflow_goes_from_target_to_target_with_variables_that_exist() -> None:
    jobs = workflow("databricks.yml")["jobs"]
    assert [(name, job.get("needs")) for name, job in jobs.items()] == [("dev", None), ("staging", "dev"), ("prod", "staging")]
    whole = yaml.safe_load(bundle.BUNDLE.read_text())
    assert list(jobs) == list(whole["targets"])
    for name, job in jobs.items():
        catalog = whole["targets"][name]["variables"].get("catalog", whole["variables"]["catalog"]["default"])
        assert (job["uses"], job["with"]) == ("./.github/workflows/databricks-target.yml", {"target": name, "catalog": catalog})
    [deploy] = workflow("databricks-target.yml")["jobs"].values()
    named = {name.removeprefix("CAR_DAMAGE_DATABRICKS__").lower() for name in deploy["env"] if name.startswith("CAR_DAMAGE_D")}
    assert named == {"catalog", "bundle_target", "service_principal"}
    assert named <= set(Databricks.model_fields)
    assert deploy["env"]["CAR_DAMAGE_WORKERS__CODE"] == "${{ vars.WORKERS_CODE }}", "no worker has the checkout of the runner"
    with pytest.raises(ValueError, match="should match pattern"):
        Workers(code="")  # where the variable is not set, the workflow fails and deploys nothing
    assert (ROOT / deploy["env"]["CAR_DAMAGE_CONFIG"]).is_file()
    given = set(re.findall(r"BUNDLE_VAR_(\w+)", (WORKFLOWS / "databricks-target.yml").read_text()))
    assert given == {name for name, variable in whole["variables"].items() if "default" not in variable}


def test_doctor_sees_the_jobs_that_bootstrap_sees(empty: Twin, settings: Settings) -> None:
    Bundle(client(), "dev").deploy(wheel=WHEEL, service_principal=CLIENT)
    for name, check in workspace_checks.checks(settings).items():
        if name.startswith("wheel of"):
            with pytest.raises(SettingsError, match=rf"`databricks bundle deploy --var wheel={needs.wheel_path(settings)}` fixes it"):
                check()
