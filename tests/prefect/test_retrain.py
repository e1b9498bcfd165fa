"""The flow on a real Prefect server with real tables, MLflow and endpoint. The tests tell one story in order."""

import base64
import hashlib
import json
import re
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pyarrow as pa
import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId, DeploymentFilterName
from prefect.client.schemas.objects import FlowRun
from prefect.flow_engine import run_flow
from prefect.states import Running, State

from car_damage.commands.status import Status, look
from car_damage.data.answers.inference_log import INFERENCE_LOG
from car_damage.data.forgotten import mark_of
from car_damage.errors import RegistryError, RequestRefused, SettingsError, Unavailable
from car_damage.photo.decoder import decode
from car_damage.promotion.tags import COVERAGE
from deployments import demo_photos
from flows.forget import forget
from flows.monitor import monitor
from flows.promote import promote
from flows.retrain import retrain
from flows.score import score
from flows.watch_landing import watch_landing
from tasks import approvals, degradation, doubtful_labels, events, progress, turns, variables
from tasks.flow_runs import FORGET
from tests.prefect.conftest import LocalTarget

SEED = 5


def run(**parameters: bool) -> State[Any]:
    state: State[Any] = retrain(return_state=True, **parameters)
    assert state.is_completed(), state.message
    return state


def word(reason: str, **parameters: Any) -> State[Any]:
    """A person's decision, made with the flow promote."""
    state: State[Any] = promote(reason, return_state=True, **parameters)
    assert state.is_completed(), state.message
    return state


def artifact(key: str) -> str:
    with get_client(sync_client=True) as client:
        found = client.request("POST", "/artifacts/latest/filter", json={"limit": 200}).json()
    return next(str(one["data"]) for one in found if one["key"] == key)


def now(target: LocalTarget) -> Status:
    return look(target.platform)


@pytest.fixture(scope="module", autouse=True)
def _bars_at_once() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(progress, "PATIENCE", 0.0)
        yield


@pytest.fixture(scope="module", autouse=True)
def _photos(target: LocalTarget) -> None:
    demo_photos.write(target.landing, seed=SEED)
    # The first model learns nothing, so that the second one, which learns something, is surely better.
    target.set(
        TRAINING__EPOCHS="1",
        TRAINING__LEARNING_RATE="1e-7",
        PROMOTION__MIN_TEST_PHOTOS="5",
        PROMOTION__MIN_TEST_PHOTOS_PER_CLASS="1",
        PROMOTION__FIRST_VERSION="any",
        PROMOTION__MIN_CONFIDENCE="0.5",
        PROMOTION__RECALL_FLOOR="{}",
    )


def test_the_first_run_ends_with_a_version_that_is_live(target: LocalTarget) -> None:
    state = run()
    assert state.name == "Promoted"
    assert state.message == "Version 1 is live: no version was live before."
    status = now(target)
    assert status.champion is not None
    assert status.champion.version == 1
    assert status.challenger is None
    assert status.endpoint is not None
    assert (status.endpoint.ready, status.endpoint.served) == (True, 1)
    assert status.champion.tags["decision"] == "promote"


def test_what_is_served_answers_as_the_trained_model_does(target: LocalTarget, tmp_path: Path) -> None:
    import keras

    champion = now(target).champion
    assert champion is not None
    model = target.platform.registry.download(champion.uri, tmp_path)
    (keras_file,) = model.rglob("*.keras")
    network = keras.saving.load_model(keras_file, compile=False)
    photos = [demo_photos.photo(label, seed=900 + seed) for label in ("minor", "moderate", "major") for seed in range(3)]
    expected = network.predict_on_batch(np.stack([decode(photo).pixels for photo in photos]))
    answers = target.platform.serving.query(photos)
    given = np.array([list(answer.probabilities.values()) for answer in answers])
    np.testing.assert_allclose(given, expected, atol=1e-4)
    assert [answer.label for answer in answers] == [("minor", "moderate", "major")[row] for row in expected.argmax(axis=1)]


def test_scoring_a_folder_keeps_what_the_endpoint_answers_and_asks_only_once(target: LocalTarget, tmp_path: Path) -> None:
    photos = {f"{label}.jpg": demo_photos.photo(label, seed=950) for label in ("minor", "moderate", "major")}
    for name, photo in photos.items():
        (tmp_path / name).write_bytes(photo)
    (tmp_path / "note.txt").write_text("no photo")
    state = score(str(tmp_path), return_state=True)
    assert state.name == "Scored"
    assert state.message is not None
    assert state.message.startswith(f"Version 1 on 3 photos of {tmp_path}: ")
    assert "It refused 1 file as no photo, such as " in state.message
    assert "note.txt" in artifact("predictions")
    tables = target.platform.settings.tables
    rows, _ = target.platform.tables.read(tables.predictions, ["path", "label", "probability"])
    kept = {Path(row["path"]).name: row for row in rows.to_pylist()}
    answers = dict(zip(photos, target.platform.serving.query(list(photos.values())), strict=True))
    assert {name: kept[name]["label"] for name in photos} == {name: answer.label for name, answer in answers.items()}
    assert [kept[name]["probability"] for name in photos] == pytest.approx([answers[name].probability for name in photos], abs=1e-4)
    again = score(str(tmp_path), return_state=True)
    assert (again.name, again.message) == ("Nothing new", f"Version 1 has answered all 4 photos of {tmp_path}.")


def test_the_latest_requests_are_compared_with_the_training_and_shown(target: LocalTarget) -> None:
    """Three hours of requests, in two of which most end with an error."""
    target.set(MONITORING__HOURS="1", MONITORING__LEAST_ROWS="20", MONITORING__WAIT="0", MONITORING__WINDOWS="3", MONITORING__SPEAKING="2")
    assert monitor(return_state=True).message == "Version 1 has no window yet, which needs 20 photos in 1 hours or more."
    start = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=3)
    seen = {
        "sha256": "0" * 64,
        "width": 640,
        "height": 480,
        "brightness": 0.5,
        "sharpness": 0.01,
        "warmth": 0.0,
        "review": False,
        "milliseconds": 4.0,
    }
    seen |= {"label": "minor", "probabilities": json.dumps({"minor": 0.9, "moderate": 0.05, "major": 0.05})}
    rows = [
        {"request_id": f"{hour}-{number}", "answered": start + timedelta(hours=hour, minutes=number), "model_version": 1}
        | {"endpoint": "car_damage_model_ep"}
        | (seen | {"status": 200} if hour == 0 or number < 5 else {"status": 500})
        for hour in range(3)
        for number in range(25)
    ]
    settings = target.platform.settings
    target.platform.tables.merge(settings.tables.inference_log, pa.Table.from_pylist(rows, schema=INFERENCE_LOG), ["request_id"])
    state = monitor(return_state=True)
    assert (state.name, state.message.rpartition("; ")[2]) == ("Worse", "worse: errors.")
    shown = artifact("monitoring")
    assert "## Version 1: worse, errors 80%" in shown
    assert "**errors**" in shown
    assert "data:image/png" in shown
    assert monitor(return_state=True).name == "Worse"
    champion = target.platform.registry.champion()
    assert champion is not None
    assert champion.tags["monitored"].endswith("worse: errors")
    assert len(json.loads(target.platform.tracking.fetch(champion.run_id, "monitoring/windows.json"))) == 3


def test_more_answers_ask_for_a_person_whom_nobody_can_reach_and_one_is_told_of_an_endpoint_that_cannot_be_updated(
    target: LocalTarget,
) -> None:
    target.set(MONITORING__MORE_REVIEWS="true")
    target.platform.registry.tag(1, {COVERAGE: "0.97"})
    variables.write(degradation.TOLD, degradation.AlarmMemory())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(events, "send", Mock(side_effect=Unavailable("no way to the server")))
        assert "no way to the server" in str(monitor(return_state=True).message)
    assert target.platform.serving.state().coverage == 0.97
    target.set(MONITORING__MORE_REVIEWS="false")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(target.platform.serving), "put", Mock(side_effect=RequestRefused("no permission")))
        assert "no permission" in str(monitor(return_state=True).message)
    assert degradation.told(1).alarm == ("errors",)


def test_a_second_run_on_the_same_photos_ends_early_by_name_and_changes_nothing(target: LocalTarget) -> None:
    before = now(target)
    state = run()
    assert state.name == "Nothing new"
    assert state.message == f"No new photos: {before.photos} training photos as before, and version 1 goes on serving."
    assert now(target) == before


def test_an_unusable_new_photo_changes_nothing_and_is_told(target: LocalTarget) -> None:
    (target.landing / "minor" / "torn.jpg").write_bytes(b"")
    before = now(target)
    state = run()
    assert state.name == "Nothing new"
    assert state.message is not None
    assert state.message.startswith("1 new file, none of which changed the training photos")
    assert now(target).rejected["empty"] == before.rejected["empty"] + 1


def test_a_dry_run_judges_a_new_version_and_changes_nothing_that_is_live(target: LocalTarget) -> None:
    target.set(TRAINING__EPOCHS="25", TRAINING__LEARNING_RATE="1e-3")
    before = now(target)
    state = run(dry_run=True)
    assert state.name == "Dry run"
    assert state.message is not None
    assert state.message.startswith("Version 2 would go live: macro-F1")
    after = now(target)
    assert (after.champion, after.challenger, after.endpoint) == (before.champion, before.challenger, before.endpoint)
    second = target.platform.registry.get(2)
    assert "decision" not in second.tags
    assert second.tags["dry_run_decision"] == "promote"


def test_the_run_after_a_dry_run_decides_and_goes_live_without_training_again(target: LocalTarget) -> None:
    trained = len(now(target).runs)
    state = run()
    assert state.name == "Promoted"
    status = now(target)
    assert status.champion is not None
    assert status.champion.version == 2
    assert status.champion.tags["judged_against"] == "1"
    assert status.endpoint is not None
    assert status.endpoint.served == 2
    assert len(status.runs) == trained


def test_a_rollback_takes_the_version_before_live_and_is_written_down(target: LocalTarget) -> None:
    state = word("it calls wrecks minor")
    assert (state.name, state.message) == ("Rolled back", "Version 1 is live in place of version 2: it calls wrecks minor.")
    status = now(target)
    assert status.champion is not None
    assert status.champion.version == 1
    assert status.endpoint is not None
    assert status.endpoint.served == 1
    moves = [(move.intention.kind, move.intention.replaces, move.intention.version, move.state) for move in target.platform.history.moves()]
    assert moves == [("rollback", 2, 1, "done"), ("promotion", 1, 2, "done"), ("promotion", None, 1, "done")]
    latest = target.platform.history.moves()[0].intention
    assert (latest.reason, latest.by.partition(",")[0]) == ("it calls wrecks minor", "promote")


def test_a_version_that_was_rolled_back_is_not_promoted_again_and_there_is_no_previous_one(target: LocalTarget) -> None:
    decided = target.platform.registry.get(2).tags
    assert run().name == "Nothing new"
    assert target.platform.registry.get(2).tags == decided
    refused: State[Any] = promote("again", return_state=True)
    assert refused.is_failed()
    assert "the history has no version that was live before version 1" in str(refused.message)
    assert now(target).champion == target.platform.registry.get(1)


def test_with_approval_a_run_ends_awaiting_it_and_changes_nothing_that_is_live(target: LocalTarget) -> None:
    target.set(PROMOTION__MODE="approval")
    state = run(judge_again=True)
    assert state.name == "Awaiting approval"
    assert '.venv/bin/python -m flows.promote --version 2 --reason "<why>"' in str(state.message)
    assert target.platform.registry.get(2).tags["decision"] == "await_approval"
    assert "**It waits for a person's approval.** To take it live, as long as champion 1 is live:" in artifact("decision")
    status = now(target)
    assert status.champion is not None
    assert (status.champion.version, status.challenger) == (1, None)
    assert run().name == "Awaiting approval"


def promotions() -> list[FlowRun]:
    """The runs that looks have started, oldest first."""
    with get_client(sync_client=True) as client:
        found = client.read_flow_runs(deployment_filter=DeploymentFilter(name=DeploymentFilterName(any_=["promote"])))
    return sorted(found, key=lambda run: str(run.created))


def taken_up(run: FlowRun) -> State[Any]:
    """Execute a run, as a worker does, in this process."""
    run_flow(promote, flow_run=run, parameters=run.parameters, return_type="state")
    with get_client(sync_client=True) as client:
        state = client.read_flow_run(run.id).state
    assert state is not None
    return state


def test_an_approval_on_the_version_s_page_starts_one_promotion(target: LocalTarget) -> None:
    registry = target.platform.registry
    assert approvals.look(target.platform) == []
    registry.tag(2, {"Approval": "Approved"})
    with pytest.raises(SettingsError, match=r"version 2 was approved, but the flow promote is not deployed: run `.*bootstrap`"):
        approvals.look(target.platform)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(registry), "get", Mock(side_effect=RegistryError("no permission")))
        with pytest.raises(RegistryError, match="no permission"):  # not a version that is gone, which would forget the approval
            approvals.look(target.platform)
    with get_client(sync_client=True) as client:
        client.create_deployment(client.create_flow(promote), "promote")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(variables, "write", Mock(side_effect=KeyboardInterrupt))  # a kill between the two effects
        with pytest.raises(KeyboardInterrupt):
            approvals.look(target.platform)
    assert watch_landing(return_state=True).message.endswith("Approved: version 2; promote checks it.")
    assert approvals.look(target.platform) == []
    [run] = promotions()
    state = taken_up(run)
    assert (state.name, now(target).champion) == ("Promoted", registry.get(2))
    [move, *_] = target.platform.history.moves()
    assert (move.intention.by, move.intention.reason) == ("promote, by a person in MLflow", "approved on the model's page in MLflow")
    assert registry.get(2).tags["approved_by"] == "promote, by a person in MLflow"


def test_what_a_person_approved_is_live(target: LocalTarget) -> None:
    assert word("looked once more", version=2).name == "Already live"
    assert run().name == "Nothing new"
    target.set(PROMOTION__MODE="automatic")


def test_a_worse_version_is_registered_and_kept_out(target: LocalTarget) -> None:
    target.set(TRAINING__EPOCHS="1", TRAINING__LEARNING_RATE="1e-7", TRAINING__SEED="7")
    state = run()
    assert state.name == "Kept the champion"
    status = now(target)
    assert status.champion is not None
    assert status.champion.version == 2
    assert target.platform.registry.get(3).tags["decision"] == "keep"
    refused: State[Any] = promote("I want it", version=3, return_state=True)
    assert refused.is_failed()
    assert "version 3 was judged, and the decision is against it: " in str(refused.message)
    assert run().name == "Nothing new"


def test_an_approval_of_what_the_champion_has_overtaken_is_refused_once_and_in_promote_s_words(target: LocalTarget) -> None:
    registry, before = target.platform.registry, dict(target.platform.registry.get(3).tags)
    registry.tag(3, {"decision": "await_approval", "judged_against": "1", "Approval": "approved"})
    seen = {run.id for run in promotions()}
    for _ in range(2):  # as after nights that note it again
        approvals.remember(3)
        assert approvals.look(target.platform) == [3]
    [run] = [run for run in promotions() if run.id not in seen]
    state = taken_up(run)
    assert state.is_failed()
    assert "version 3 was judged against champion 1, but the champion is 2; run retrain with judge_again" in str(state.message)
    assert approvals.look(target.platform) == []
    registry.tag(3, before | {"Approval": ""})


def test_deleted_photos_leave_silver_and_a_new_model_is_trained_without_them(target: LocalTarget) -> None:
    before = now(target)
    for photo in sorted((target.landing / "minor").glob("minor_00*.jpg"))[:3]:
        photo.unlink()
    run()
    after = now(target)
    assert after.photos == before.photos - 3
    assert after.runs[0].run_id != before.runs[0].run_id


def test_photos_added_overwritten_and_moved_are_one_new_version_and_keep_their_splits(target: LocalTarget) -> None:
    before = now(target)
    splits = silver_by_path(target, "split")
    versions = versions_of(target)
    (target.landing / "major" / "added.jpg").write_bytes(demo_photos.photo("major", seed=801))
    (target.landing / "major" / "major_002.jpg").write_bytes(demo_photos.photo("major", seed=802))
    moved = (target.landing / "minor" / "minor_010.jpg").rename(target.landing / "moderate" / "moved.jpg")
    run()
    after = now(target)
    assert after.photos == before.photos + 1
    labels, kept = silver_by_path(target, "label"), silver_by_path(target, "split")
    assert labels[str(moved)] == "moderate"
    assert kept[str(moved)] == splits[str(target.landing / "minor" / "minor_010.jpg")]
    unchanged = set(splits) & set(kept) - {str(target.landing / "major" / "major_002.jpg")}
    assert {path: splits[path] for path in unchanged} == {path: kept[path] for path in unchanged}
    assert versions_of(target) == versions + 1
    assert run().name == "Nothing new"
    assert versions_of(target) == versions + 1


def silver_by_path(target: LocalTarget, column: str) -> dict[str, str]:
    platform = target.platform
    silver, _ = platform.tables.read(platform.settings.tables.silver, ["path", column])
    return dict(zip(silver["path"].to_pylist(), silver[column].to_pylist(), strict=True))


def versions_of(target: LocalTarget) -> int:
    platform = target.platform
    return sum(len(platform.registry.versions_for(run.run_id)) for run in platform.tracking.recent(100))


def test_a_model_that_was_deleted_is_trained_again_whatever_prefect_has_cached(target: LocalTarget) -> None:
    platform = target.platform
    silver, _ = platform.tables.read(platform.settings.tables.silver, ["sha256"])
    latest = platform.tracking.recent(1)[0]
    (version,) = platform.registry.versions_for(latest.run_id)
    for file in list((target.home / "artifacts").rglob("MLmodel")):
        if latest.run_id in file.read_text():
            shutil.rmtree(file.parent)
    run()
    again = platform.tracking.recent(1)[0]
    assert again.run_id != latest.run_id
    assert platform.registry.versions_for(again.run_id)[0].version == version.version + 1
    assert silver.num_rows == now(target).photos


def test_a_landing_folder_that_is_suddenly_empty_fails_the_run_and_loses_nothing(target: LocalTarget) -> None:
    before = now(target)
    hidden = target.landing.rename(target.landing.with_name("unmounted"))
    target.landing.mkdir()
    state: State[Any] = retrain(return_state=True)
    assert state.is_failed()
    assert state.message is not None
    assert "allow_removals" in state.message
    target.landing.rmdir()
    hidden.rename(target.landing)
    assert now(target) == before
    assert run().name == "Nothing new"


def test_a_photo_is_forgotten_with_what_prefect_knows_of_it_and_the_next_run_trains_without_it(target: LocalTarget) -> None:
    photo = Path(min(path for path, split in silver_by_path(target, "split").items() if split == "train"))
    sha256 = hashlib.sha256(photo.read_bytes()).hexdigest()
    before = now(target).photos
    state = forget(sha256, return_state=True)
    assert (state.name, str(photo) in str(state.message)) == ("Forgotten", True), state.message
    assert "Trained with it: version" in str(state.message)
    with get_client(sync_client=True) as client:
        [run] = client.read_flow_runs(flow_filter=FORGET)
        assert run.parameters == {"photo": f"mark:{mark_of(sha256)}"}
        assert sha256 not in json.dumps(client.request("POST", "/artifacts/filter", json={"limit": 200}).json())
    assert "A model cannot unlearn" in artifact("forgotten").replace("\\", "")
    again = forget(run.parameters["photo"], return_state=True)
    assert again.message == state.message
    with get_client(sync_client=True) as client, pytest.MonkeyPatch.context() as patch:
        patch.setattr(turns, "PATIENCE", 0.0)
        patch.setattr(turns, "POLL", 0.0)
        other = client.create_flow_run(retrain, state=Running())
        assert f"the run {other.name} has not ended" in str(forget(sha256, return_state=True).message)
        client.delete_flow_run(other.id)
        first = client.create_flow_run(forget, parameters={"photo": sha256}, state=Running())
        for later in (retrain, score, monitor):
            assert f"the run {first.name} has not ended" in str(later(return_state=True).message)
        client.delete_flow_run(first.id)
        target.set(FORGETTING__RETRAIN="true")
        deployment = client.create_deployment(client.create_flow(retrain), "retrain")
        for _ in range(2):
            forget(sha256, return_state=True)
        [started] = client.read_flow_runs(deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[deployment])))
        client.delete_flow_run(started.id)
    night = retrain(return_state=True)
    assert now(target).photos == before - 1
    assert "forgotten" in artifact("data-quality")
    assert night.name != "Nothing new"


def test_a_person_finds_what_each_stage_did_in_the_ui(server: str) -> None:
    with get_client(sync_client=True) as client:
        artifacts = client.request("POST", "/artifacts/latest/filter", json={"limit": 200}).json()
        runs = client.request("POST", "/flow_runs/filter", json={"limit": 200}).json()
    by_key = {artifact["key"]: artifact for artifact in artifacts}
    wanted = {"landed": "table", "training-photos": "markdown", "model": "markdown", "decision": "markdown", "endpoint": "table"}
    wanted |= {"champion-history": "table", "data-quality": "markdown"}
    wanted |= {"progress-validation": "progress", "progress-training": "progress"}
    assert wanted.items() <= {key: artifact["type"] for key, artifact in by_key.items()}.items()
    model = by_key["model"]["data"]
    pictures = model.split("data:image/png;base64,")[1:]
    assert len(pictures) == 4 + ("None of the" not in model.partition(f"### {doubtful_labels.TITLE}")[2])
    assert "report.html" in model
    assert all(base64.b64decode(picture.split(")")[0]).startswith(b"\x89PNG") for picture in pictures)
    decision = by_key["decision"]
    assert decision["data"].count("data:image/png;base64,") == 1
    assert re.fullmatch(r"Version \d+: (promote|keep the champion)", decision["description"])
    assert f"## {decision['description']}\n" in decision["data"]
    names = [run["name"] for run in runs if run["name"].startswith(("retrain", "promote"))]
    day = r"20\d\d-\d\d-\d\d"
    assert all(
        re.fullmatch(
            rf"retrain {day}(, (dry run|train again|judge again|allow removals))*( · .+)?|promote {day} · (version \d+|previous version)",
            name,
        )
        for name in names
    )
    told = {name.partition(" · ")[2] for name in names}
    assert {"59 new photos, 9 rejected", "1 rejected", "no new photos", "3 new photos, 1 gone", "version 2"} <= told
    assert by_key["training-photos"]["data"].count("data:image/png;base64,") == 1
    quality = by_key["data-quality"]["data"]
    assert "| **truncated** | 1 | " in quality
    assert "upload it again" in quality
    # One for each kind that can be drawn: no label, unknown label, truncated, too small, duplicate; and both twins.
    assert quality.count("data:image/jpeg;base64,") == 7
    assert len(quality) < 300_000
