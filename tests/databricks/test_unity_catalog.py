"""MLflow's client against the twin, with tracking URI `databricks` and registry URI `databricks-uc`."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from car_damage.adapters.databricks import workspace
from car_damage.adapters.mlflow.archive import ARCHIVE_TAG
from car_damage.adapters.mlflow.client import client
from car_damage.errors import RegistryError, RequestRefused, Unavailable
from car_damage.packages import that_train_here
from car_damage.pipeline import TidyReport, TidyRequest
from car_damage.platform import Target
from car_damage.promotion.tags import is_approved
from car_damage.settings import Settings
from car_damage.stage import silent
from car_damage.stages.tidy import STAGE
from deployments.administrator import NeedsAdministrator
from deployments.databricks import approval_page
from deployments.items import bootstrap
from tests import small_model
from tests.databricks.conftest import HastyClock, Logged
from tests.databricks.twin import ADMIN, CLIENT
from tests.databricks.twin.registry import Version
from tests.prefect.service import until

MODEL = "insurance_uc.models.car_damage_classifier"
SILVER_TABLE = "insurance_uc.silver.training_images"


@pytest.fixture
def target(logged: Logged) -> Target:
    """The target, with no model registered."""
    target = Target(logged.settings)
    target.__dict__["clock"] = HastyClock()
    logged.twin.registered.clear()
    logged.twin.models.clear()
    logged.twin.faults.clear()
    logged.twin.ready_after = 0
    return target


def versions(logged: Logged) -> dict[int, Version]:
    model = logged.twin.registered.get(MODEL)
    return model.versions if model else {}


def test_a_run_with_its_files_and_its_model_is_found_again(logged: Logged, target: Target) -> None:
    found = target.tracking.run_for("k" * 64, that_train_here())
    assert found is not None
    assert (found.run_id, found.model_uri, found.metrics["test_accuracy"]) == (logged.run_id, logged.uri, 0.75)
    assert target.tracking.fetch(logged.run_id, "evaluation.json") == b"{}"
    target.tracking.attach(logged.run_id, {"decision/1.json": b"[]"})
    assert target.tracking.fetch(logged.run_id, "decision/1.json") == b"[]"
    url = target.tracking.url(logged.run_id)
    assert url is not None
    assert url.startswith(f"{logged.twin.host}/ml/experiments/")


def test_the_experiment_that_the_administrator_made_is_marked_as_one_of_trainings(logged: Logged) -> None:
    [(name, number)] = logged.twin.experiments.items()
    assert name == logged.settings.tracking.experiment
    assert logged.twin.experiment_tags[number] == {"mlflow.experimentKind": "custom_model_development"}


def test_files_go_another_way_where_the_files_api_fails(logged: Logged, target: Target) -> None:
    for method in ("PUT", "GET", "HEAD"):
        for what in ("files", "directories"):
            logged.twin.fault(method, f"/fs/{what}/WorkspaceInternal", 500, times=100)
    logged.twin.fault("POST", "/fs/create-download-url", 500, times=100)
    target.tracking.attach(logged.run_id, {"decision/another.json": b"[1]"})
    assert target.tracking.fetch(logged.run_id, "decision/another.json") == b"[1]"
    assert target.tracking.run_for("k" * 64, that_train_here()) is not None


def test_a_version_is_made_waited_for_tagged_and_found_by_its_run(logged: Logged, target: Target) -> None:
    logged.twin.ready_after = 3
    registry = target.registry
    version = registry.create(logged.run_id, logged.uri, {"flow_run": "f-1"}, "trained on 40 photos")
    assert (version.version, version.ready, version.run_id) == (1, True, logged.run_id)
    assert versions(logged)[1].description == "trained on 40 photos"
    assert versions(logged)[1].looks == 3, "it was looked at until it was READY"
    registry.tag(1, {"decision": "promote"})
    registry.move("champion", 1)
    champion = registry.champion()
    assert champion is not None
    assert champion.tags == {"flow_run": "f-1", "decision": "promote"}
    assert [version.version for version in registry.versions_for(logged.run_id)] == [1]
    registry.move("champion", None)
    assert registry.champion() is None


def test_a_version_whose_upload_was_killed_is_removed_and_the_model_registered_again(logged: Logged, target: Target) -> None:
    registry = target.registry
    assert registry.champion() is None
    # Version 1 is the state after a kill between the version's creation and the end of its upload.
    logged.twin.registered[MODEL].versions[1] = Version(1, logged.uri, logged.run_id, "", {})
    logged.twin.registered[MODEL].versions[2] = Version(2, "models:/m-other", "somebody else's run", "", {})
    logged.twin.registered[MODEL].last = 2
    assert registry.versions_for(logged.run_id) == []
    assert registry.create(logged.run_id, logged.uri, {}, "what it is").version == 3
    assert sorted(versions(logged)) == [2, 3], "another run's version may be on its way"


def test_a_version_that_never_becomes_ready_is_told_and_gone_after_the_next_run(logged: Logged, target: Target) -> None:
    logged.twin.ready_after = 100_000
    registry = target.registry
    with pytest.raises(RegistryError, match=rf"the registration of version 1 of {MODEL} was not READY after 300 s"):
        registry.create(logged.run_id, logged.uri, {}, "what it is")
    logged.twin.ready_after = 0
    registry.create(logged.run_id, logged.uri, {}, "what it is")
    assert sorted(versions(logged)) == [2]


def test_a_model_comes_back_as_it_was_registered(logged: Logged, target: Target, tmp_path: Path) -> None:
    version = target.registry.create(logged.run_id, logged.uri, {}, "what it is")
    folder = target.registry.download(version.uri, tmp_path)
    assert {"MLmodel", "artifacts", "car_damage"} & {path.name for path in folder.rglob("*")} == {"MLmodel", "artifacts", "car_damage"}


def test_a_model_goes_by_presigned_urls_where_the_workspace_wants_no_files_api(
    logged: Logged, target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logged.twin, "model_files", "presigned")
    refused = [logged.twin.fault(method, "/fs/files/Models", 403, times=100) for method in ("PUT", "GET")]
    version = target.registry.create(logged.run_id, logged.uri, {}, "what it is")
    assert "MLmodel" in {path.name for path in target.registry.download(version.uri, tmp_path).rglob("*")}
    assert [fault.seen for fault in refused] == [0, 0]


def test_a_package_of_the_cloud_that_is_missing_is_named_and_not_waited_for(
    logged: Logged, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logged.twin, "model_files", "cloud")
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(
        RegistryError, match=r"only with the package boto3: install it here, and for a job add it to the job's dependencies"
    ):
        target.registry.create(logged.run_id, logged.uri, {}, "what it is")
    monkeypatch.undo()
    assert target.registry.versions_for(logged.run_id) == []


def test_too_long_a_tag_is_refused_with_the_workspace_s_words(logged: Logged, target: Target) -> None:
    target.registry.create(logged.run_id, logged.uri, {}, "what it is")
    with pytest.raises(RegistryError, match="the value of tag reason has 1001 characters"):
        target.registry.tag(1, {"reason": "x" * 1001})


def test_an_experiment_s_name_must_be_a_path(logged: Logged, target: Target) -> None:
    settings = logged.settings
    other = settings.model_copy(update={"tracking": settings.tracking.model_copy(update={"experiment": "car-damage"})})
    with pytest.raises(RegistryError, match="An absolute path is expected"):
        Target(other).tracking.start("run", {})


@pytest.mark.parametrize("kind", [429, 500, 503, "reset before", "reset after"])
@pytest.mark.parametrize("call", ["create", "finalize", "get"])
def test_a_lost_answer_makes_no_second_version_that_counts(logged: Logged, target: Target, call: str, kind: int | str) -> None:
    registry = target.registry
    assert registry.champion() is None
    method = "GET" if call == "get" else "POST"
    logged.twin.fault(method, f"/mlflow/unity-catalog/model-versions/{call}", kind)
    for _ in range(3):  # like Prefect, which retries the task
        try:
            if not registry.versions_for(logged.run_id):
                registry.create(logged.run_id, logged.uri, {}, "what it is")
            break
        except Unavailable:
            continue
    assert [version.version for version in registry.versions_for(logged.run_id)] == [max(versions(logged))]
    assert [version.status for version in versions(logged).values()] == ["READY"]


def test_credentials_that_will_not_do_are_told_without_the_sdk_s_configuration(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABRICKS_TOKEN", "expired")
    with pytest.raises(RegistryError, match="reading the aliases of") as raised:
        target.registry.champion()
    assert "Config:" not in str(raised.value)


def test_tidying_deletes_a_refused_training_with_its_version_and_keeps_its_decision(logged: Logged, target: Target, tmp_path: Path) -> None:
    settings = logged.settings
    eager = Target(settings.model_copy(update={"tracking": settings.tracking.model_copy(update={"keep_days": 0})}))
    tracking = target.tracking
    refused, later = (tracking.start(name, {"training_key": name}) for name in ("refused", "later"))
    uri = tracking.log(refused, small_model.run_of(small_model.network(tmp_path), tmp_path / "run"))
    tracking.attach(refused, {"decision/1.json": b'{"version": 1}'})
    version = target.registry.create(refused, uri, {"decision": "keep", "judged_against": "none"}, "")
    for run_id in (refused, later):
        tracking.finish(run_id, uri)
    removed = STAGE.work(TidyRequest("k" * 64), eager, silent).leftovers
    assert [(of.kind, of.name) for of in removed] == [("training", f"refused, version {version.version}")]
    assert removed[0].bytes is None  # a workspace frees the files later, by rules of its own
    assert tracking.run_for("refused", {}) is None
    assert versions(logged) == {}
    assert {run.run_id for run in tracking.recent()} == {later, logged.run_id}
    assert tracking.run_for("k" * 64, {}) is not None
    [archive] = client(settings).search_runs([client(settings).get_run(later).info.experiment_id], f"tags.{ARCHIVE_TAG} LIKE '%'")
    document = json.loads(tracking.fetch(archive.info.run_id, f"decisions/version-{version.version}.json"))
    assert (document["decision"], document["tags"]["decision"]) == ({"version": 1}, "keep")
    assert STAGE.work(TidyRequest("k" * 64), eager, silent) == TidyReport(())


def test_the_lineage_of_a_version_names_the_silver_table_and_the_job(
    logged: Logged, target: Target, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A job on Databricks has the module `dbruntime`, from which MLflow learns the job."""
    here = SimpleNamespace(jobId="77", idInJob="78")
    monkeypatch.setitem(sys.modules, "dbruntime", ModuleType("dbruntime"))
    monkeypatch.setitem(sys.modules, "dbruntime.databricks_repl_context", SimpleNamespace(get_context=lambda: here))
    logged.twin.tables[SILVER_TABLE] = "table-1"
    contents = small_model.run_of(small_model.network(tmp_path), tmp_path / "run")
    run_id = target.tracking.start("run", {})
    dataset = replace(contents.dataset, table=SILVER_TABLE, fingerprint="cd" * 32)  # MLflow keeps the first source of a digest
    uri = target.tracking.log(run_id, replace(contents, dataset=dataset))
    target.registry.create(run_id, uri, {}, "")
    sent = logged.twin.lineages[-1]
    assert sent["entities"] == [{"job": {"id": "77", "job_run_id": "78"}}]
    assert {json.dumps(source) for source in sent["lineages"][0]["source_securables"]} == {
        json.dumps({"table": {"name": SILVER_TABLE, "table_id": "table-1"}})
    }
    logged.twin.tables.clear()


def test_an_administrator_connects_the_approval_job_which_fails_until_a_person_approves(logged: Logged, target: Target) -> None:
    twin, waits = logged.twin, approving(logged.settings)
    twin.make_job("car-damage-approval")
    target.registry.champion()  # which creates the registered model
    [connection] = approval_page.items(waits, workspace.client)
    assert bootstrap([connection])[0].problem == "lack the job car-damage-approval"
    assert bootstrap([connection])[0].problem is None
    version = target.registry.create(logged.run_id, logged.uri, {"decision": "await_approval"}, "")
    [run] = twin.runs()
    until(lambda: twin.settled(run), "the first run ends")
    assert (run.code, run.parameters) == ("RUN_EXECUTION_ERROR", {"model_name": MODEL, "model_version": "1"})
    assert f"PromotionRefused: version 1 of {MODEL} is not approved" in Path(run.output).read_text()
    assert not is_approved(target.registry.get(version.version))
    assert twin.approve(MODEL, 1) is run
    until(lambda: twin.settled(run), "the repaired run ends")
    assert run.code == "SUCCESS", Path(run.output).read_text()
    assert is_approved(target.registry.get(version.version))


def test_the_approval_job_is_disconnected_where_no_version_waits_and_another_s_job_stays(logged: Logged, target: Target) -> None:
    twin = logged.twin
    twin.jobs.clear()
    twin.connected.clear()
    job, theirs = (twin.make_job("car-damage-approval") for _ in range(2))
    theirs.settings = theirs.settings | {"name": "claims-approval"}
    target.registry.champion()
    bootstrap(approval_page.items(approving(logged.settings), workspace.client))
    assert twin.connected == {MODEL: job.job_id}
    [result] = bootstrap(approval_page.items(logged.settings, workspace.client))
    assert result.problem == "differs: the job car-damage-approval -> none, because promotion.mode is automatic"
    assert twin.connected == {}
    twin.connected[MODEL] = theirs.job_id
    [result] = bootstrap(approval_page.items(approving(logged.settings), workspace.client))
    assert f"is {theirs.job_id}, which is not car-damage-approval" in str(result.unresolved)
    assert twin.connected == {MODEL: theirs.job_id}
    del twin.jobs[theirs.job_id]
    [result] = bootstrap(approval_page.items(approving(logged.settings), workspace.client))
    assert result.problem == f"differs: the deleted job {theirs.job_id} -> the job car-damage-approval"
    twin.jobs.clear()
    twin.connected.clear()


def test_who_may_not_connect_the_job_is_told_the_command(logged: Logged, target: Target) -> None:
    job = logged.twin.make_job("car-damage-approval")
    target.registry.champion()
    logged.twin.models[MODEL] = logged.twin.owners["schema", "insurance_uc.models"] = ADMIN
    logged.twin.grants["schema", "insurance_uc.models"] = {CLIENT: {"USE_SCHEMA", "EXECUTE"}}
    [connection] = approval_page.items(approving(logged.settings), workspace.client)
    with pytest.raises(NeedsAdministrator) as refused:
        bootstrap([connection])
    body = f'{{"name": "{MODEL}", "deployment_job_id": "{job.job_id}"}}'
    assert refused.value.command == f"databricks api patch /api/2.0/mlflow/unity-catalog/registered-models/update --json '{body}'"
    logged.twin.jobs.clear()
    del logged.twin.grants["schema", "insurance_uc.models"], logged.twin.owners["schema", "insurance_uc.models"]


def test_a_job_without_the_parameters_of_a_deployment_job_is_refused(logged: Logged, target: Target) -> None:
    job = logged.twin.make_job("car-damage-approval")
    job.settings = job.settings | {"parameters": []}
    target.registry.champion()
    with pytest.raises(RequestRefused, match="does not have the parameters"):
        bootstrap(approval_page.items(approving(logged.settings), workspace.client))
    logged.twin.jobs.clear()


def approving(settings: Settings) -> Settings:
    """The settings with which versions wait for a person."""
    return settings.model_copy(update={"promotion": settings.promotion.model_copy(update={"mode": "approval"})})
