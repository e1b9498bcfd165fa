"""Bootstrap prepares an empty workspace to run stages as jobs. A second bootstrap changes nothing. Nothing is ever dropped."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from car_damage.errors import SettingsError
from car_damage.job.jobs import Jobs
from car_damage.pipeline import ValidateRequest
from car_damage.promotion.tags import APPROVAL
from car_damage.settings import Settings
from car_damage.stage import silent
from car_damage.stages.validate import STAGE as VALIDATE
from deployments.administrator import NeedsAdministrator
from deployments.databricks import bundle, needs, unity_catalog
from deployments.items import Result, bootstrap, plan
from tests.databricks import twin as twins
from tests.databricks.conftest import LANDING, Seen, make_runner
from tests.databricks.twin import ADMIN, ADMIN_TOKEN, CLIENT, OTHER, Twin

OURS = [
    "catalog insurance_uc",
    "schema insurance_uc.landing",
    "schema insurance_uc.bronze",
    "schema insurance_uc.silver",
    "schema insurance_uc.gold",
    "schema insurance_uc.models",
    "schema insurance_uc.ops",
    "volume insurance_uc.landing.raw_data",
    "volume insurance_uc.ops.corrections",
    "volume insurance_uc.ops.runs",
    "volume insurance_uc.ops.wheels",
    "wheel",
    "job car-damage-ingest",
    "job car-damage-train",
    "job car-damage-score",
]
MISSING = [(name, None if name.startswith("catalog") else "is missing") for name in OURS]
AS_THEY_ARE = [(name, None) for name in OURS]


def told(results: list[Result]) -> list[tuple[str, str | None]]:
    """Results for the things that must exist; test_permissions.py tests the other results."""
    named = [(result.name.partition(" car_damage-")[0], result) for result in results]
    return [(name, result.problem) for name, result in named if not name.startswith(("grants", "permissions", "owner", "description"))]


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Twin]:
    """A workspace with nothing but a catalog."""
    with twins.workspace(tmp_path / "workspace") as twin:
        for name, value in twin.environment.items():
            monkeypatch.setenv(name, value)
        yield twin


def administrator(twin: Twin) -> Callable[[], Any]:
    """Return a function that creates the client of an administrator."""

    def client() -> Any:
        from databricks.sdk import WorkspaceClient

        return WorkspaceClient(host=twin.host, token=ADMIN_TOKEN)

    return client


@pytest.fixture
def _bootstrapped(empty: Twin, settings: Settings) -> None:
    bootstrap(needs.items(settings))


@pytest.fixture
def job(empty: Twin, _bootstrapped: None) -> "twins.Job":
    return next(job for job in empty.jobs.values() if job.name == "car-damage-ingest")


def test_an_empty_workspace_is_made_ready_and_then_left_alone(empty: Twin, settings: Settings) -> None:
    assert told([plan(item) for item in needs.items(settings)]) == MISSING
    assert (empty.jobs, empty.schemas, list(empty.storage.rglob("*"))) == ({}, set(), [])
    assert told(bootstrap(needs.items(settings))) == MISSING
    asked = len(empty.asked)
    assert told(bootstrap(needs.items(settings))) == AS_THEY_ARE
    assert {call.split()[0] for call in empty.asked[asked:]} <= {"GET", "HEAD"}


@pytest.mark.usefixtures("_bootstrapped")
def test_a_stage_runs_by_the_job_and_the_wheel_that_were_made(
    empty: Twin, settings: Settings, drawn: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect.logging import disable_run_logger

    shutil.copytree(drawn, empty.volume(LANDING), dirs_exist_ok=True)
    with disable_run_logger():
        report = make_runner(settings, Seen()).run(VALIDATE, ValidateRequest("flow-1"), silent)
    assert report.accepted == 59
    assert len(empty.runs()) == 1
    assert next((empty.folder / "installed").iterdir()).name == Path(needs.wheel_path(settings)).stem


def test_the_folder_in_which_photos_land_is_made_with_its_volume(empty: Twin, settings: Settings) -> None:
    folder = f"{LANDING}data/training_imgs"
    deeper = settings.model_copy(update={"landing": settings.landing.model_copy(update={"folder": folder})})
    assert (f"folder {folder}", "is missing") in told(bootstrap(needs.items(deeper)))
    assert empty.volume(folder).is_dir()
    assert (f"folder {folder}", None) in told(bootstrap(needs.items(deeper)))


def test_other_code_is_another_wheel(settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "car_damage").mkdir()
    (tmp_path / "pyproject.toml").touch()
    module = tmp_path / "car_damage" / "x.py"
    monkeypatch.setattr(needs, "ROOT", tmp_path)
    names = set()
    for text in ("a = 1", "a = 2", "a = 1"):
        module.write_text(text)
        names.add(needs.wheel_path(settings))
    assert len(names) == 2


def test_what_somebody_changed_by_hand_is_told_and_put_right_but_not_what_is_others_business(
    empty: Twin, settings: Settings, job: "twins.Job"
) -> None:
    job.settings["tasks"][0]["max_retries"] = 3
    job.settings["max_concurrent_runs"] = 5
    others = {
        "run_as": {"service_principal_name": "somebody"},
        "tags": {"team": "claims"},
        "email_notifications": {"on_failure": ["a@b.c"]},
    }
    job.settings |= others
    results = {result.name: result.problem for result in bootstrap(needs.items(settings)) if result.problem}
    assert results == {"job car-damage-ingest": "differs: max_concurrent_runs: 5 -> 1; tasks[stages].max_retries: 3 -> 0"}
    assert (job.settings["max_concurrent_runs"], job.settings["tasks"][0]["max_retries"]) == (1, 0)
    assert {name: job.settings[name] for name in others} == others
    assert all(result.problem is None for result in bootstrap(needs.items(settings)))


def test_a_job_of_a_bundle_is_its_bundle_s(empty: Twin, settings: Settings, job: "twins.Job") -> None:
    job.settings["deployment"] = {"kind": "BUNDLE", "metadata_file_path": "/x"}
    job.settings["max_concurrent_runs"] = 5
    assert all(result.problem is None for result in bootstrap(needs.items(settings)))
    assert job.settings["max_concurrent_runs"] == 5


@pytest.mark.parametrize("fault", [503, "reset after"])
@pytest.mark.parametrize("path", ["/unity-catalog/schemas", "/unity-catalog/volumes", "/jobs/create"])
def test_an_answer_that_is_lost_makes_nothing_twice(empty: Twin, settings: Settings, path: str, fault: int | str) -> None:
    lost = empty.fault("POST", path, fault)
    bootstrap(needs.items(settings))
    assert lost.seen == 1
    assert told(bootstrap(needs.items(settings))) == AS_THEY_ARE
    assert sorted(job.name for job in empty.jobs.values()) == ["car-damage-ingest", "car-damage-score", "car-damage-train"]


def test_a_catalog_is_an_administrator_s_to_make(empty: Twin, settings: Settings) -> None:
    empty.catalog = "other"
    with pytest.raises(SettingsError, match="the catalog insurance_uc is missing: let an administrator create it"):
        bootstrap(needs.items(settings))


@pytest.mark.usefixtures("_bootstrapped")
def test_two_jobs_of_one_name_are_told_by_their_ids(empty: Twin, settings: Settings) -> None:
    again = empty.make_job("car-damage-ingest")
    told = rf"there are 2 jobs car-damage-ingest \(\d+ of {CLIENT}, .* of {CLIENT}\), and .*: `databricks jobs delete {again.job_id}`$"
    with pytest.raises(SettingsError, match=told):
        bootstrap(needs.items(settings))


def test_a_job_that_somebody_else_makes_meanwhile_survives_and_is_told(empty: Twin, settings: Settings) -> None:
    empty.rivals.append(OTHER)
    with pytest.raises(SettingsError, match=rf"there are 2 jobs car-damage-ingest \(\d+ of {OTHER}, \d+ of {ADMIN}\)"):
        bootstrap(needs.items(settings, administrator(empty)))
    assert [(job.name, job.creator) for job in empty.jobs.values()] == [("car-damage-ingest", OTHER), ("car-damage-ingest", ADMIN)]


def test_two_bootstraps_at_once_keep_the_same_job(empty: Twin, settings: Settings) -> None:
    last = empty.make_job("car-damage-train").job_id
    empty.rivals.append(CLIENT)
    bootstrap(needs.items(settings))
    assert [job.job_id for job in empty.jobs.values() if job.name == "car-damage-ingest"] == [last + 1]
    assert told(bootstrap(needs.items(settings))) == AS_THEY_ARE


def test_a_name_in_capitals_is_another_team_s_job(empty: Twin, settings: Settings) -> None:
    theirs = empty.make_job("car-damage-ingest")
    theirs.settings["name"] = "CAR-DAMAGE-INGEST"
    before = dict(theirs.settings)
    bootstrap(needs.items(settings))
    assert told(bootstrap(needs.items(settings))) == AS_THEY_ARE
    assert empty.jobs[theirs.job_id].settings == before
    [ours] = [job.job_id for job in empty.jobs.values() if job.name == "car-damage-ingest"]
    assert Jobs().find("car-damage-ingest") == ours


def test_a_missing_permission_is_named(empty: Twin, settings: Settings) -> None:
    empty.fault("POST", "/unity-catalog/schemas", 403, times=10)
    wanted = (
        r"^creating the schema insurance_uc\.landing was refused: not now; it needs CREATE SCHEMA on the catalog insurance_uc; somebody"
    )
    with pytest.raises(NeedsAdministrator, match=wanted):
        bootstrap(needs.items(settings))


def test_folders_that_are_on_no_volume_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"databricks\.wheels is .*; it must lie on a volume: /Volumes/catalog/schema/volume/\.\.\."):
        unity_catalog.volumes(Settings(databricks={"stages": "jobs", "wheels": str(tmp_path)}))


def test_a_volume_for_noted_requests_is_needed_only_where_the_settings_name_one() -> None:
    jobs = {"stages": "jobs"}
    before, log = unity_catalog.volumes(Settings(databricks=jobs)), {"log_folder": "/Volumes/insurance_uc/ops/requests"}
    assert sorted(unity_catalog.volumes(Settings(databricks=jobs, monitoring=log))) == sorted([*before, "insurance_uc.ops.requests"])


def ingest(whole: Any) -> Any:
    return whole["resources"]["jobs"]["ingest"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda whole: whole.update(include=["*.yml"]), "databricks.yml contains include, which bootstrap does not support"),
        (lambda whole: whole["resources"].update(models={}), "resources contains models, which bootstrap does not support"),
        (
            lambda whole: whole["resources"]["jobs"]["ingest"].update(max_concurent_runs=1),
            "databricks-sdk does not know max_concurent_runs",
        ),
        (
            lambda whole: whole["resources"]["jobs"]["train"]["tasks"][0]["python_wheel_task"].update(params=["x"]),
            r"databricks-sdk does not know tasks\[stages\]\.python_wheel_task\.params",
        ),
        (
            lambda whole: whole["resources"]["jobs"]["ingest"].update(name="${var.nmae}"),
            r"\$\{var\.nmae\} is not a variable of this file",
        ),
        (lambda whole: whole["resources"]["jobs"]["ingest"].update(name="${bundle.name}"), r"\$\{bundle\.name\} is not a variable"),
    ],
)
def test_a_bundle_that_says_more_than_is_done_is_refused(change: Callable[[Any], None], told: str, tmp_path: Path) -> None:
    whole = yaml.safe_load(bundle.BUNDLE.read_text())
    change(whole)
    path = tmp_path / "databricks.yml"
    path.write_text(yaml.safe_dump(whole))
    with pytest.raises(SettingsError, match=told):
        bundle.jobs({"wheel": "/Volumes/x.whl"}, path)


def test_a_variable_that_the_bundle_lacks_is_refused() -> None:
    with pytest.raises(SettingsError, match="has no variables wheal"):
        bundle.jobs({"wheal": "x"})


def test_the_jobs_install_what_their_stages_need_and_databricks_retries_nothing() -> None:
    jobs = bundle.jobs({"wheel": "/Volumes/x.whl"})
    needs = {name: job["environments"][0]["spec"]["dependencies"] for name, job in jobs.items()}
    trained = ["/Volumes/x.whl[train]", "tensorflow<2.21", "onnx<1.23"]
    assert needs == {
        "car-damage-ingest": ["/Volumes/x.whl"],
        "car-damage-train": trained,
        "car-damage-score": trained,
        "car-damage-approval": ["/Volumes/x.whl"],
    }
    for job in jobs.values():
        assert (job["max_concurrent_runs"], job["queue"]) == (1, {"enabled": True})
        [task] = job["tasks"]
        assert (task["max_retries"], task["disable_auto_optimization"]) == (0, True)


def test_the_approval_task_has_the_name_of_the_tag_that_the_button_sets() -> None:
    job = bundle.jobs({"wheel": "/Volumes/x.whl"})["car-damage-approval"]
    assert [task["task_key"] for task in job["tasks"]] == [APPROVAL]
    assert APPROVAL.lower().startswith("approval")
    assert [parameter["name"] for parameter in job["parameters"]] == ["model_name", "model_version"]
