"""The stage register: what it registers, with which decision, and what a kill or a lost answer leaves behind."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from car_damage.data.photos.trained import COLUMNS
from car_damage.errors import ModelRefused, RegistryError, Unavailable
from car_damage.model.pixels.photos import Photos as Decoded
from car_damage.model.run_files import PREDICTIONS_FILE, TRAINED_FILE, read_predictions, write_predictions, write_trained
from car_damage.model.served.process import ModelAnswer
from car_damage.moves import DONE, PROMOTION, ROLLBACK, Intention
from car_damage.pipeline import Evidence, RegisterReport, RegisterRequest, Score
from car_damage.promotion.tags import is_approved
from car_damage.settings import Landing, Promotion, Settings
from car_damage.stage import silent
from car_damage.stages import register
from car_damage.stages.register import work
from car_damage.stages.versions import judging
from tests.fakes import Endpoint, Photos, Runs, Table, Versions, World, sha256

CLASSES = ("minor", "moderate", "major")
COUNT = 30
PHOTOS = {f"/landing/{CLASSES[number % 3]}/{number}.jpg": b"photo %d" % number for number in range(COUNT)}
TRUTH = {sha256(data): CLASSES[number % 3] for number, data in enumerate(PHOTOS.values())}
REQUEST = RegisterRequest("flow", "run", "models:/m-1", 4)


def probabilities(label: str) -> dict[str, float]:
    return {name: 0.8 if name == label else 0.1 for name in CLASSES}


def wrong(label: str) -> str:
    return CLASSES[(CLASSES.index(label) + 1) % 3]


class Models:
    """Replaces the models' processes: gives each model's answers, by its folder's name, and records which models were queried."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.labels: dict[str, dict[str, str]] = {}
        self.asked: list[tuple[str, int]] = []
        for module in (register, judging):
            monkeypatch.setattr(module, "answers", self.answer)

    def answer(
        self, model: Path, photos: Iterable[bytes], timeout: float, environment: str, tick: Callable[[int], None] = lambda _: None
    ) -> list[ModelAnswer]:
        del timeout, environment
        labels = []
        for photo in photos:
            labels.append(self.labels[model.name][sha256(photo)])
            tick(len(labels))
        self.asked.append((model.name, len(labels)))
        return [ModelAnswer(label, 0.8, probabilities(label), "") for label in labels]


@pytest.fixture
def models(monkeypatch: pytest.MonkeyPatch) -> Models:
    return Models(monkeypatch)


def row(path: str, label: str, content: str, split: str) -> dict[str, Any]:
    """A row of bronze, silver and the table of splits in one. Different contents have hashes that are far apart."""
    phash = int.from_bytes(bytes.fromhex(content)[:8], signed=True)
    when = datetime.fromtimestamp(0, UTC)
    ours = {"path": path, "label": label, "sha256": content, "phash": phash, "split": split, "width": 1000, "height": 667}
    return ours | {"size": 1, "modified": when, "status": "valid"}


def world(models: Models, right: int = COUNT) -> World:
    """A candidate that is right on the first `right` test photos."""
    rows = [row(path, TRUTH[sha256(data)], sha256(data), "test") for path, data in PHOTOS.items()]
    labels = np.array([CLASSES.index(row["label"]) for row in rows])
    said = [row["label"] if number < right else wrong(row["label"]) for number, row in enumerate(rows)]
    models.labels["models:_m-1"] = dict(zip((row["sha256"] for row in rows), said, strict=True))
    decoded = Decoded(np.zeros((COUNT, 1, 1, 3), np.uint8), labels, tuple(row["sha256"] for row in rows), tuple(PHOTOS))
    told = write_predictions(decoded, np.array([list(probabilities(label).values()) for label in said]), CLASSES)
    settings = Settings(landing=Landing(folder="/landing"), promotion=Promotion(min_confidence=0.5, recall_floor={}))
    runs = Runs({("run", PREDICTIONS_FILE): told})
    learnt = [row(f"/landing/{number}.jpg", CLASSES[number % 3], sha256(b"learnt %d" % number), "train") for number in range(70)]
    return World(settings, Photos(PHOTOS), Versions(), Endpoint({}), runs, Table(pa.Table.from_pylist(learnt + rows)))


def replace_promotion(here: World, **values: Any) -> Settings:
    return here.settings.model_copy(update={"promotion": here.settings.promotion.model_copy(update=values)})


def written(table: pa.Table) -> bytes:
    """A Parquet file."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return bytes(sink.getvalue())


def with_champion(here: World, models: Models, right: int) -> None:
    """Version 1 is live, and is right on the first `right` test photos."""
    here.registry.add(1, decision="promote", judged_against="none", silver_version="4")
    here.registry.aliases["champion"] = 1
    models.labels["models:_model_1"] = {
        name: label if number < right else wrong(label) for number, (name, label) in enumerate(TRUTH.items())
    }


def judge(here: World, **parameters: Any) -> RegisterReport:
    request = RegisterRequest(REQUEST.flow_run, REQUEST.run_id, REQUEST.model_uri, REQUEST.silver_version, **parameters)
    return work(request, here, silent)  # type: ignore[arg-type]


def test_the_first_version_is_registered_decided_and_meant_to_go_live(models: Models) -> None:
    here = world(models)
    report = judge(here)
    assert (report.version, report.decision, report.champion, report.decided_before) == (1, "promote", None, False)
    assert here.registry.aliases == {"challenger": 1}
    tags = here.registry.get(1).tags
    assert (tags["decision"], tags["judged_against"], tags["silver_version"], tags["flow_run"]) == ("promote", "none", "4", "flow")
    document = json.loads(here.tracking.files["run", "decision/1.json"])
    assert document["evidence"]["test_photos"] == COUNT
    assert models.asked == [("models:_m-1", 1)]


def test_a_model_that_answers_otherwise_in_a_process_of_its_own_is_not_registered(models: Models) -> None:
    here = world(models)
    models.labels["models:_m-1"] = {name: wrong(label) for name, label in TRUTH.items()}
    with pytest.raises(ModelRefused, match="it was not registered"):
        judge(here)
    assert here.registry.versions == {}


def test_the_champion_is_run_on_the_same_photos_and_a_better_version_is_to_replace_it(models: Models) -> None:
    here = world(models)
    with_champion(here, models, right=15)
    report = judge(here)
    assert (report.version, report.decision, report.champion) == (2, "promote", 1)
    assert models.asked[-1] == ("models:_model_1", COUNT)
    assert report.evidence.champion.macro_f1 == pytest.approx(0.5)


def test_a_person_sees_how_far_the_champion_s_answers_are(models: Models) -> None:
    here = world(models)
    with_champion(here, models, right=15)
    told: list[tuple[str, int, int]] = []
    work(REQUEST, here, lambda step, done, total, _="": told.append((step, done, total)))  # type: ignore[arg-type]
    assert told == [("judge", done, COUNT) for done in range(COUNT + 1)]


def test_a_worse_version_is_registered_and_not_meant_to_go_live(models: Models) -> None:
    here = world(models, right=15)
    with_champion(here, models, right=COUNT)
    assert judge(here).decision == "keep"
    assert here.registry.aliases == {"champion": 1}
    assert here.registry.get(2).tags["decision"] == "keep"


def test_a_decision_is_made_once_and_found_the_next_time(models: Models) -> None:
    here = world(models)
    first = judge(here)
    asked = len(models.asked)
    with_champion_later = judge(here)
    assert (with_champion_later.decided_before, with_champion_later.evidence) == (True, first.evidence)
    assert len(models.asked) == asked


def test_an_approval_counts_for_the_evidence_that_the_person_saw(models: Models) -> None:
    here = world(models)
    here.settings = replace_promotion(here, mode="approval")
    assert judge(here).decision == "await_approval"
    here.registry.tag(1, {"Approval": "Approved"})
    assert is_approved(here.registry.get(1))
    assert judge(here).decided_before
    assert is_approved(here.registry.get(1))
    assert not judge(here, judge_again=True).decided_before
    assert here.registry.get(1).tags["Approval"] == "Not yet"


def test_the_description_tells_the_decision_and_its_run_unless_a_person_wrote_another(models: Models) -> None:
    here = world(models, right=15)
    with_champion(here, models, right=COUNT)
    judge(here)
    first, decision, run = here.registry.descriptions[2].split("\n\n")
    assert first.startswith("Network cnn, trained on 70 photos of insurance_uc.silver.training_images version 4; macro-F1 0.500 on 30 test")
    assert decision.startswith("Does not go live in place of version 1: macro-F1 0.500 against the champion's 1.000: ")
    assert run == "MLflow run: run"
    here.registry.descriptions[2] = "the one from the night of the hail"
    judge(here, judge_again=True)
    assert here.registry.descriptions[2] == "the one from the night of the hail"


def with_another_champion(models: Models, *, by_person: bool) -> World:
    """Version 1 was decided for; since then, version 2, which is better, has gone live."""
    here = world(models, right=20)
    assert judge(here).decision == "promote"
    here.registry.move("challenger", None)
    here.registry.add(2, decision="promote", judged_against="none")
    here.registry.aliases["champion"] = 2
    here.history.close(here.history.begin(Intention(PROMOTION, 2, None, "why", "who", "flow", by_person=by_person)), DONE)
    models.labels["models:_model_2"] = dict(TRUTH)
    return here


def test_a_decision_against_an_earlier_champion_is_made_again(models: Models) -> None:
    here = with_another_champion(models, by_person=False)
    again = judge(here)
    assert (again.decision, again.champion, again.decided_before) == ("keep", 2, False)
    assert here.registry.get(1).tags["judged_against"] == "2"
    assert judge(here).decided_before


def test_a_champion_that_a_person_chose_reopens_no_decision_and_judge_again_does(models: Models) -> None:
    here = with_another_champion(models, by_person=True)
    assert judge(here).decided_before
    again = judge(here, judge_again=True)
    assert (again.decision, again.champion, again.decided_before) == ("keep", 2, False)


def test_a_version_that_is_judged_again_is_undecided_until_the_end(models: Models) -> None:
    here = world(models, right=20)
    judge(here)
    here.registry.add(2, decision="promote", judged_against="none")
    here.registry.aliases["champion"] = 2
    models.labels["models:_model_2"] = dict(TRUTH)
    move = here.registry.move

    def killed(alias: str, to: int | None) -> None:
        raise KeyboardInterrupt

    here.registry.move = killed  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        judge(here, judge_again=True)
    assert here.registry.get(1).tags["decision"] == "deciding"
    here.registry.move = move  # type: ignore[method-assign]
    assert judge(here).decision == "keep"
    assert here.registry.aliases == {"champion": 2}


def test_a_version_that_was_taken_back_waits_for_a_person_when_it_is_judged_again(models: Models) -> None:
    here = world(models)
    with_champion(here, models, right=15)
    assert judge(here).decision == "promote"
    for replaces, version, kind in ((1, 2, PROMOTION), (2, 1, ROLLBACK)):
        here.history.close(here.history.begin(Intention(kind, version, replaces, "calls wrecks minor", "who", "flow")), DONE)
    here.registry.move("challenger", None)
    again = judge(here, judge_again=True)
    assert again.decision == "await_approval"
    assert again.reasons[-1] == "it was taken back on 1970-01-01 (calls wrecks minor), so a person must approve it"
    assert here.registry.aliases == {"champion": 1}


def test_a_twin_of_a_version_that_was_taken_back_waits_for_a_person_too(models: Models) -> None:
    here = world(models)
    with_champion(here, models, right=15)
    here.registry.add(2, decision="promote", judged_against="1", training_key="key")
    for replaces, version, kind in ((1, 2, PROMOTION), (2, 1, ROLLBACK)):
        here.history.close(here.history.begin(Intention(kind, version, replaces, "calls wrecks minor", "who", "flow")), DONE)
    other = judge(here, training_key="another key")
    assert (other.version, other.decision) == (3, "promote")
    again = judge(here, training_key="key", judge_again=True)
    assert again.decision == "await_approval"
    assert again.reasons[-1].startswith("version 2, of the same photos and settings, was taken back on 1970-01-01 (calls wrecks minor)")


def test_evidence_of_a_new_decision_never_lies_beside_the_old_one(models: Models) -> None:
    here = world(models, right=20)
    judge(here)
    decisions = []
    attach = here.tracking.attach

    def watched(run_id: str, artifacts: Mapping[str, bytes]) -> None:
        decisions.append(here.registry.get(1).tags["decision"])
        attach(run_id, artifacts)

    here.tracking.attach = watched  # type: ignore[method-assign]
    judge(here, judge_again=True)
    assert decisions == ["deciding"]


def test_the_version_that_is_live_is_not_judged_against_itself(models: Models) -> None:
    here = world(models)
    judge(here)
    here.registry.aliases = {"champion": 1}
    assert judge(here, judge_again=True).decided_before


def test_a_dry_run_leaves_the_version_undecided_and_the_aliases_alone(models: Models) -> None:
    here = world(models)
    assert judge(here, dry_run=True).decision == "promote"
    assert here.registry.aliases == {}
    assert "decision" not in here.registry.get(1).tags
    real = judge(here)
    assert (real.version, real.decided_before) == (1, False)


def test_a_version_says_what_it_is_and_how_good(models: Models) -> None:
    here = world(models, right=27)
    judge(here)
    assert here.registry.descriptions[1].startswith(
        "Network cnn, trained on 70 photos of insurance_uc.silver.training_images version 4; macro-F1 0.900 on 30 test photos\n\nGoes live"
    )


def test_an_undecided_version_that_a_kill_left_is_used_and_no_second_one_made(models: Models) -> None:
    here = world(models)
    here.registry.create("run", "models:/m-1", {}, "what it is")
    assert judge(here).version == 1
    assert list(here.registry.versions) == [1]


def test_a_champion_that_cannot_be_looked_up_is_an_error_and_not_no_champion(models: Models) -> None:
    here = world(models)

    def unreachable() -> None:
        raise Unavailable("the registry does not answer")

    here.registry.champion = unreachable  # type: ignore[assignment, method-assign]
    with pytest.raises(Unavailable):
        judge(here)
    assert here.registry.aliases == {}


def test_test_photos_without_a_prediction_are_an_error_that_says_what_to_do(models: Models) -> None:
    here = world(models)
    assert here.tables is not None
    other = row("/landing/new.jpg", "minor", "f" * 64, "test")
    here.tables.rows = pa.concat_tables([here.tables.rows, pa.Table.from_pylist([other])])
    assert judge(here).evidence.test_photos == COUNT
    here.tables.rows = pa.Table.from_pylist([other])
    with pytest.raises(RegistryError, match=r"no prediction for the test photos .* train_again"):
        judge(here, judge_again=True)


def test_a_decision_is_made_on_the_test_photos_that_are_still_there_and_changed_ones_get_a_verdict(models: Models) -> None:
    here = world(models)
    with_champion(here, models, right=15)
    here.files.photos["/landing/major/29.jpg"] = b"another photo"
    del here.files.photos["/landing/minor/0.jpg"]
    here.settings = replace_promotion(here, min_test_photos=28)
    report = judge(here)
    assert (report.decision, report.evidence.test_photos) == ("promote", COUNT - 2)
    ((table, marked),) = here.tables.merged
    assert (table, marked["path"].to_pylist(), marked["judged_under"].to_pylist()) == (
        here.settings.tables.bronze,
        ["/landing/major/29.jpg"],
        [None],
    )


def test_a_changed_photo_of_another_landing_folder_is_not_marked_because_it_would_get_no_verdict(models: Models) -> None:
    here = world(models)
    with_champion(here, models, right=15)
    here.settings = here.settings.model_copy(update={"landing": Landing(folder="/present")})
    here.files.photos["/landing/major/29.jpg"] = b"another photo"
    assert judge(here).evidence.test_photos == COUNT - 1
    assert here.tables.merged == []


def test_too_few_test_photos_that_are_still_there_keep_the_champion(models: Models) -> None:
    here = world(models)
    with_champion(here, models, right=15)
    del here.files.photos["/landing/minor/0.jpg"]
    report = judge(here)
    assert (report.decision, report.evidence.test_photos) == ("keep", COUNT - 1)
    assert report.reasons == ("29 test photos are too few to judge on; 30 are needed",)


def test_test_photos_that_one_of_the_models_was_trained_on_or_that_look_like_such_take_no_part(models: Models) -> None:
    here = world(models)
    with_champion(here, models, right=15)
    here.settings = replace_promotion(here, min_test_photos=20)
    test = [photo for photo in here.tables.rows.to_pylist() if photo["split"] == "test"]
    alike = {**test[1], "sha256": "0" * 64, "phash": test[1]["phash"] ^ 0b111}
    for run, photos in {"run-1": [test[0], alike], "run": [test[2]]}.items():
        listed = pa.Table.from_pylist([{**photo, "split": "train"} for photo in photos]).select(COLUMNS)
        here.tracking.files[run, TRAINED_FILE] = write_trained(listed)
    evidence = judge(here).evidence
    assert (evidence.excluded, evidence.test_photos) == (3, COUNT - 3)
    assert models.asked[-1] == ("models:_model_1", COUNT - 3)


def test_photos_that_arrived_after_the_champion_was_chosen_are_fresh(models: Models) -> None:
    here = world(models)
    with_champion(here, models, right=15)
    told = read_predictions(here.tracking.files["run", PREDICTIONS_FILE]).slice(0, 20)
    here.tracking.files["run-1", PREDICTIONS_FILE] = written(told)
    assert judge(here).evidence.fresh == COUNT - 20


def test_a_class_that_the_champion_knows_and_the_candidate_does_not_is_a_reason(models: Models) -> None:
    here = world(models)
    with_champion(here, models, right=15)
    for run, labels in {"run-1": CLASSES, "run": CLASSES[1:]}.items():
        learnt = [row("", label, sha256(label.encode()), "train") for label in labels]
        here.tracking.files[run, TRAINED_FILE] = write_trained(pa.Table.from_pylist(learnt).select(COLUMNS))
    report = judge(here)
    assert (report.decision, report.reasons) == ("keep", ("the champion knows minor, and this version was trained on no photo of it",))


def test_a_class_that_the_settings_no_longer_have_is_not_lost(models: Models) -> None:
    here = world(models)
    with_champion(here, models, right=15)
    for run, labels in {"run-1": (*CLASSES, "total loss"), "run": CLASSES}.items():
        learnt = [row("", label, sha256(label.encode()), "train") for label in labels]
        here.tracking.files[run, TRAINED_FILE] = write_trained(pa.Table.from_pylist(learnt).select(COLUMNS))
    assert judge(here).decision == "promote"


@pytest.mark.parametrize(("known", "photos"), [(20, COUNT - 20), (None, 0)])
def test_where_nobody_knows_what_the_champion_was_trained_on_only_fresh_photos_count(
    models: Models, known: int | None, photos: int
) -> None:
    here = world(models)
    with_champion(here, models, right=15)
    here.registry.versions[1] = replace(here.registry.versions[1], tags={})
    if known is not None:
        told = read_predictions(here.tracking.files["run", PREDICTIONS_FILE]).slice(0, known)
        here.tracking.files["run-1", PREDICTIONS_FILE] = written(told)
    report = judge(here)
    assert (report.decision, report.evidence.test_photos, report.evidence.excluded) == ("keep", photos, COUNT - photos)


def test_a_version_of_an_earlier_state_that_is_judged_again_is_a_further_look(models: Models) -> None:
    here = world(models)
    judge(here)
    for version in (2, 3, 4):
        here.registry.add(version, decision="keep", judged_against="1" if version == 2 else "2")
    here.registry.aliases = {"champion": 2}
    models.labels["models:_model_2"] = dict(TRUTH)
    assert judge(here).evidence.looks == 3


@pytest.mark.parametrize(("earlier", "looks"), [(1, 1), (4, 4)])
def test_candidates_are_counted_since_the_champion_was_chosen(models: Models, earlier: int, looks: int) -> None:
    here = world(models)
    with_champion(here, models, right=15)
    for version in range(2, earlier + 1):
        here.registry.add(version, decision="keep", judged_against="1")
    assert judge(here).evidence.looks == looks


def test_after_a_rollback_candidates_are_counted_from_the_version_that_was_taken_back(models: Models) -> None:
    here = world(models)
    with_champion(here, models, right=15)
    for version in range(2, 5):
        here.registry.add(version, decision="keep", judged_against="1")
    here.history.close(here.history.begin(Intention(ROLLBACK, 1, 4, "why", "who", "flow", by_person=True)), DONE)
    assert judge(here).evidence.looks == 1


def test_a_champion_that_answers_with_a_class_of_its_own_is_wrong_there(models: Models) -> None:
    here = world(models)
    with_champion(here, models, right=COUNT)
    models.labels["models:_model_1"] = dict.fromkeys(TRUTH, "total loss")
    report = judge(here)
    assert (report.decision, report.evidence.champion.macro_f1) == ("promote", 0.0)


def test_the_evidence_fits_into_tags(models: Models) -> None:
    here = world(models)
    judge(here)
    tags: dict[str, Any] = dict(here.registry.get(1).tags)
    assert len(tags) <= 50
    assert all(len(value) <= 1000 for value in tags.values())
    assert all(name.replace("_", "").isalnum() for name in tags)


def test_a_decision_that_the_version_before_wrote_is_found_without_the_numbers_that_it_did_not_have(models: Models) -> None:
    here = world(models)
    judge(here)
    document = json.loads(here.tracking.files["run", "decision/1.json"])
    # The format without costs: one flat table.
    document["evidence"] = {
        "test_photos": COUNT,
        "candidate_macro_f1": 1.0,
        "champion_macro_f1": None,
        "gain": None,
        "confidence": None,
        "gain_interval": None,
        "candidate_recall": {"minor": 1.0},
        "champion_recall": None,
        "candidate_confusion": [[COUNT]],
        "champion_confusion": None,
    }
    here.tracking.files["run", "decision/1.json"] = json.dumps(document).encode()
    assert judge(here).evidence == Evidence(COUNT, Score(1.0, {"minor": 1.0}, [[COUNT]], None))


def test_a_version_that_is_bad_on_photos_of_one_size_stays_out_by_the_floor_and_the_evidence_says_why(models: Models) -> None:
    here = world(models, right=20)
    here.settings = replace_promotion(here, group_floor=0.7)
    report = judge(here)
    assert (report.decision, report.reasons) == ("keep", ("macro-F1 of group size_large (30 test photos) is 0.666; 0.700 is needed",))
    document = json.loads(here.tracking.files["run", "decision/1.json"])["evidence"]
    assert (document["groups"], document["candidate"]["groups"]) == ({"size_large": 30}, {"size_large": pytest.approx(0.666, abs=1e-3)})
    assert here.registry.get(1).tags["worst_group_macro_f1"].startswith("0.66")
    assert judge(here).evidence == report.evidence


def test_evidence_from_before_there_were_groups_is_read(models: Models) -> None:
    here = world(models)
    with_champion(here, models, right=15)
    judge(here)
    document = json.loads(here.tracking.files["run", "decision/2.json"])
    for part in (document["evidence"], document["evidence"]["candidate"], document["evidence"]["champion"]):
        del part["groups"]
    here.tracking.files["run", "decision/2.json"] = json.dumps(document).encode()
    evidence = judge(here).evidence
    assert evidence.comparison is not None
    assert (evidence.groups, evidence.candidate.groups, evidence.champion.groups, evidence.worst_group) == ({}, {}, {}, None)


@pytest.mark.parametrize("lost", [None, b"{}", b"no JSON", b'{"reasons": [], "evidence": {"of": "another form"}}'])
def test_a_decision_whose_evidence_is_lost_is_found_by_the_version_s_tags(models: Models, lost: bytes | None) -> None:
    here = world(models)
    first = judge(here)
    if lost is None:
        del here.tracking.files["run", "decision/1.json"]
    else:
        here.tracking.files["run", "decision/1.json"] = lost
    found = judge(here)
    assert (found.version, found.decision, found.champion, found.decided_before) == (1, first.decision, None, True)
    assert (found.reasons, found.evidence) == (first.reasons, None)
