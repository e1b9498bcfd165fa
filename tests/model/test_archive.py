"""Removing trainings from a real MLflow store, and what is left of them."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from car_damage.adapters.mlflow.archive import ARCHIVE_TAG
from car_damage.adapters.mlflow.client import client
from car_damage.errors import RegistryError
from car_damage.model.run_files import evidence_file
from car_damage.pipeline import TidyReport, TidyRequest
from car_damage.platform import Target
from car_damage.ports import CHAMPION, KEY_TAG, RunContents
from car_damage.settings import Settings, Tracking
from car_damage.stage import silent
from car_damage.stages.tidy import STAGE


@pytest.fixture
def target(home: Path) -> Target:
    """A target that keeps no training for a day."""
    return Target(Settings(home=home, tracking=Tracking(keep_days=0)))


def trained(target: Target, contents: RunContents, number: int, **tags: str) -> str:
    """A finished training with a version. Returns the id of its run."""
    run_id = target.tracking.start(f"training {number}", {KEY_TAG: f"key {number}", "silver_version": str(number)})
    uri = target.tracking.log(run_id, contents)
    target.tracking.attach(run_id, {evidence_file(number): json.dumps({"version": number, "reasons": ["too little"]}).encode()})
    target.tracking.finish(run_id, uri)
    target.registry.create(run_id, uri, {"silver_version": str(number), "decision": "keep", "judged_against": "none", **tags}, "")
    return run_id


def files(home: Path) -> dict[str, int]:
    """Every file of the store, with its bytes, without the archive of decisions."""
    return {str(path): path.stat().st_size for path in (home / "artifacts").rglob("*") if path.is_file() and "decisions" not in path.parts}


def tidy(target: Target, **request: bool) -> TidyReport:
    return STAGE.work(TidyRequest(**request), target, silent)


def test_a_refused_training_leaves_its_decision_and_no_file(target: Target, contents: RunContents) -> None:
    """The second training stays, because the next run compares with it."""
    first = trained(target, contents, 1)
    alone = files(target.settings.home)
    second = trained(target, contents, 2)
    told = tidy(target, dry_run=True)
    assert [(of.kind, of.name) for of in told.leftovers] == [("training", "training 1, version 1")]
    assert told.bytes == sum(alone.values())
    assert tidy(target) == told
    assert not alone.keys() & files(target.settings.home).keys()
    assert [run.run_id for run in target.tracking.recent()] == [second]
    assert [version.version for version in target.registry.all_versions()] == [2]
    assert target.tracking.run_for("key 2", {}) is not None
    [archive] = client(target.settings).search_runs(["1"], f"tags.{ARCHIVE_TAG} LIKE '%'")
    document = json.loads(target.tracking.fetch(archive.info.run_id, "decisions/version-1.json"))
    assert document["decision"] == {"version": 1, "reasons": ["too little"]}
    assert (document["training"]["run_id"], document["tags"]["decision"]) == (first, "keep")
    assert tidy(target) == TidyReport(())


def test_all_decisions_are_in_one_archive_and_the_champion_stays_whole(target: Target, contents: RunContents) -> None:
    for number in (1, 2, 3, 4):
        trained(target, contents, number)
    target.registry.move(CHAMPION, 2)
    assert [of.name for of in tidy(target).leftovers] == ["training 3, version 3", "training 1, version 1"]
    assert [version.version for version in target.registry.all_versions()] == [2, 4]
    assert target.tracking.run_for("key 2", {}) is not None
    trained(target, contents, 5)
    tidy(target)
    [archive] = client(target.settings).search_runs(["1"], f"tags.{ARCHIVE_TAG} LIKE '%'")
    kept = {file.path for file in client(target.settings).list_artifacts(archive.info.run_id, "decisions")}
    assert kept == {f"decisions/version-{number}.json" for number in (1, 3, 4)}


def test_a_training_that_a_person_has_deleted_goes_with_its_files(target: Target, contents: RunContents) -> None:
    run_id = trained(target, contents, 1)
    target.registry.remove(1)
    client(target.settings).delete_run(run_id)
    assert [of.kind for of in tidy(target).leftovers] == ["deleted training"]
    assert files(target.settings.home) == {}
    assert tidy(target) == TidyReport(())


def test_a_store_that_is_not_in_the_home_folder_keeps_the_files_of_deleted_runs(target: Target, contents: RunContents) -> None:
    """Its server may want to restore them, and has a command of its own."""
    trained(target, contents, 1)
    trained(target, contents, 2)
    before = files(target.settings.home)
    elsewhere = Target(target.settings.model_copy(update={"tracking": replace_uri(target.settings.tracking, target.settings.tracking_uri)}))
    assert [of.name for of in tidy(elsewhere).leftovers] == ["training 1, version 1"]
    assert files(target.settings.home) == before
    assert len(target.tracking.recent()) == 1
    assert elsewhere.archive.deleted() == []


def replace_uri(tracking: Tracking, uri: str) -> Tracking:
    return tracking.model_copy(update={"uri": uri})


def test_a_run_that_is_gone_is_named(target: Target, contents: RunContents) -> None:
    trained(target, contents, 1)
    [run] = target.tracking.recent()
    with pytest.raises(RegistryError, match="f" * 32):
        target.archive.remove([replace(run, run_id="f" * 32)])


def test_a_file_of_a_run_or_of_its_model_is_replaced_or_removed_and_emptied_where_a_store_removes_none(
    target: Target, contents: RunContents
) -> None:
    (contents.folder / "sheet.png").write_bytes(b"photos")
    trained(target, contents, 1)
    elsewhere = Target(target.settings.model_copy(update={"tracking": Tracking(uri=target.settings.tracking_uri)}))
    [run] = target.tracking.recent()
    files = target.archive.files(run)
    [example] = [file for file in files if file.endswith("/serving_input_example.json")]
    assert {"run/evaluation.json", "run/sheet.png", "run/decision/1.json"} < set(files)
    for file in (example, "run/decision/1.json"):
        target.archive.replace(run, file, b"{}")
        assert target.archive.read(run, file) == b"{}"
    elsewhere.archive.replace(run, "run/sheet.png", None)
    assert target.archive.read(run, "run/sheet.png") == b""
    target.archive.replace(run, "run/sheet.png", None)
    assert set(target.archive.files(run)) == set(files) - {"run/sheet.png"}
