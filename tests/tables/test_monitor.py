"""Stage monitor with real Delta tables and rows of the request log made by hand."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from car_damage.adapters.folder import Folder
from car_damage.adapters.tables.delta_rs import DeltaRs
from car_damage.data.answers.inference_log import INFERENCE_LOG
from car_damage.data.answers.monitoring import KEY, MONITORING
from car_damage.data.people import reviews
from car_damage.data.photos import features
from car_damage.data.photos.silver import SILVER
from car_damage.errors import RegistryError
from car_damage.model.answering import Answering, Nonconformity
from car_damage.model.run_files import ANSWERING_FILE, BASELINE_FILE, MONITORING_FILES, TRAINED_FILE, write_baseline, write_trained
from car_damage.monitoring.samples import BASELINE, of_log
from car_damage.moves import Intention
from car_damage.photo.columns import probability_column
from car_damage.photo.signals import Signals
from car_damage.pipeline import MonitorReport, MonitorRequest
from car_damage.ports import FEATURES_TAG, RunSummary
from car_damage.promotion.tags import COVERAGE, MONITORED
from car_damage.settings import Settings
from car_damage.stage import silent
from car_damage.stages.monitor import STAGE as MONITOR
from tests import engines
from tests.engines import DELTA_RS, SPARK
from tests.fakes import Moves, Runs, Time, Versions

CLASSES = ("minor", "moderate", "major")
START = datetime(2026, 3, 2, tzinfo=UTC)
DAY = timedelta(days=1)
PHOTOS = 80
"""Of a day."""
EMPTY = dict.fromkeys(("label", "probabilities", "review", "sha256", "width", "height", *Signals._fields))


def hash_of(number: int) -> str:
    return f"{number:064x}"


def facts(random: np.random.Generator, dark: float = 0.0) -> dict[str, Any]:
    return {
        "width": int(random.integers(200, 800)),
        "height": int(random.integers(200, 800)),
        "brightness": float(random.normal(0.5 - dark, 0.08)),
        "sharpness": float(random.lognormal(-4, 0.5)),
        "warmth": float(random.normal(0.02, 0.03)),
    }


@dataclass
class World:
    """Version 1 is live, with a baseline of 400 photos."""

    settings: Settings
    files: Folder = field(default_factory=Folder)
    registry: Versions = field(default_factory=Versions)
    tracking: Runs = field(default_factory=lambda: Runs({}))
    clock: Time = field(default_factory=Time)
    history: Moves = field(default_factory=Moves)
    tables: Any = None

    def __post_init__(self) -> None:
        self.tables = self.tables or DeltaRs(self.settings.home / "tables", self.files, self.settings.images)
        self.random, self.requests = np.random.default_rng(7), 0
        self.live(1)

    def live(self, version: int, *, baseline: bool = True) -> None:
        self.registry.add(version)
        self.registry.move("champion", version)
        self.tracking.files[f"run-{version}", TRAINED_FILE] = write_trained(pa.table({"sha256": [hash_of(0)]}))
        if baseline:
            self.tracking.files[f"run-{version}", BASELINE_FILE] = write_baseline(self.baseline())

    def baseline(self) -> pa.Table:
        names = [probability_column(name) for name in CLASSES]
        rows = []
        for number in range(400):
            answer = self.answer(names)
            label = self.random.choice(CLASSES, p=[answer[name] for name in names])  # so probabilities can be believed
            rows.append({"sha256": hash_of(10**6 + number), "split": "test", "label": label, **facts(self.random), **answer})
        return pa.Table.from_pylist(rows, schema=pa.schema([*BASELINE, *(pa.field(name, pa.float64()) for name in names)]))

    def answer(self, names: list[str] | tuple[str, ...]) -> dict[str, Any]:
        said = self.random.dirichlet(np.full(3, 0.3))
        return {**dict(zip(names, said.tolist(), strict=True)), "review": bool(said.max() < 0.6)}

    def log(self, day: int, photos: int = PHOTOS, dark: float = 0.0, version: int | None = 1, **given: Any) -> list[str]:
        """Requests of one day; returns the photos' hashes."""
        rows = []
        for number in range(photos):
            self.requests += 1
            answer = self.answer(CLASSES)
            review = answer.pop("review")
            at = START + day * DAY + DAY * number / photos
            said = {"label": max(answer, key=lambda name: answer[name]), "probabilities": json.dumps(answer), "review": review}
            row = {"request_id": str(self.requests), "answered": at, "endpoint": "car_damage_model_ep", "model_version": version}
            row |= {"sha256": hash_of(self.requests), "status": 200, "milliseconds": 5.0} | said | facts(self.random, dark) | given
            rows.append(row)
        self.tables.merge(self.settings.tables.inference_log, pa.Table.from_pylist(rows, schema=INFERENCE_LOG), ["request_id"])
        return [row["sha256"] for row in rows]

    def at(self, day: float) -> "World":
        """Two hours after the beginning of a day, so that the day before it is complete."""
        self.clock.seconds = (START + day * DAY + timedelta(hours=2)).timestamp()
        return self

    def monitor(self) -> MonitorReport:
        return MONITOR.run(MonitorRequest("flow"), self, silent)  # type: ignore[arg-type]

    def rows(self) -> list[dict[str, Any]]:
        rows, _ = self.tables.read(self.settings.tables.monitoring, MONITORING.names)
        return sorted(rows.to_pylist(), key=lambda row: (row["model_version"], row["begins"]))

    def answering(self, coverage: float) -> None:
        """How version 1 answers: the threshold of a coverage is the coverage."""
        file = self.settings.home / "answering.json"
        Answering(coverage=coverage, scores=(Nonconformity(99, tuple(np.linspace(0.01, 0.99, 99))),) * 3).write(file)
        self.tracking.files["run-1", ANSWERING_FILE] = file.read_bytes()

    def spoken(self) -> list[list[str]]:
        return [json.loads(row["speaks"]) for row in self.rows()]

    def reviewed(self, labels: Mapping[str, str]) -> None:
        said = [
            {"word": sha256, "sha256": sha256, "label": label, "by": "anna", "said": START, "version": 1, "answered": None}
            for sha256, label in labels.items()
        ]
        self.tables.merge(self.settings.tables.reviews, pa.Table.from_pylist(said, schema=reviews.REVIEWS), reviews.KEY)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(settings_in(tmp_path))


@pytest.fixture(params=[DELTA_RS, SPARK])
def on_each_engine(request: pytest.FixtureRequest, tmp_path: Path, sessions: engines.Sessions) -> World:
    """For what depends on the engine: rows by time, columns that change, rows that go. A run on Spark takes seconds."""
    return World(settings_in(tmp_path), tables=engines.tables(request.param, tmp_path / "tables", sessions))


def settings_in(home: Path) -> Settings:
    return Settings(home=home, monitoring={"hours": 24, "least_rows": 50, "windows": 3, "speaking": 2})


def test_a_window_that_has_ended_is_a_row_and_the_present_one_is_not(world: World) -> None:
    for day in (0, 1, 2):
        world.log(day)
    report = world.at(2).monitor()
    assert [(row["begins"], row["ends"], row["rows"]) for row in world.rows()] == [
        (START, START + DAY, 80),
        (START + DAY, START + 2 * DAY, 80),
    ]
    assert (report.windows, report.version, report.alarm) == (2, 1, ())
    assert report.said == world.rows()[-1]["said"]
    assert report.said.startswith("2026-03-03, 80 photos; estimated macro-F1 0.")
    assert report.said.endswith("nothing unusual")
    assert world.registry.get(1).tags[MONITORED] == report.said
    files = [world.tracking.files["run-1", name] for name in MONITORING_FILES]
    assert files[0].startswith(b"\x89PNG")
    assert len(json.loads(files[1])) == 2


def test_the_same_window_gives_one_row_however_often_it_is_looked_at(world: World) -> None:
    world.log(0)
    world.at(1).monitor()
    before = world.rows()
    assert world.monitor().windows == 0
    assert world.rows() == before


def test_a_run_that_was_killed_after_its_row_shows_it_all_the_same(world: World) -> None:
    world.log(0)
    world.at(1).monitor()
    before, said = world.rows(), world.registry.get(1).tags[MONITORED]
    world.registry.tag(1, {MONITORED: ""})  # as a run leaves it that was killed before the tag
    for name in MONITORING_FILES:
        del world.tracking.files["run-1", name]
    report = world.monitor()
    assert (report.said, world.registry.get(1).tags[MONITORED], world.rows()) == (said, said, before)
    assert ("run-1", MONITORING_FILES[0]) in world.tracking.files


def test_it_rings_when_enough_windows_are_dark_and_says_how_much(world: World) -> None:
    world.log(0)
    world.log(1, dark=0.25)
    first = world.at(2).monitor()
    assert (first.alarm, json.loads(world.rows()[-1]["speaks"])) == ((), ["brightness"])
    assert "unusual, not yet often enough: brightness" in first.said
    world.log(2, dark=0.25)
    second = world.at(3).monitor()
    assert second.alarm == ("brightness",)
    assert second.how_much.startswith("brightness ")
    assert second.unlabelled == 240
    assert "worse: brightness" in second.said


def test_one_odd_day_does_not_ring(world: World) -> None:
    for day in range(6):
        world.log(day, dark=0.25 if day == 1 else 0.0)
    world.at(6).monitor()
    assert [row["alarm"] for row in world.rows()] == ["[]"] * 6
    world.reviewed(dict.fromkeys(world.log(6)[:30], "moderate"))
    for day in (7, 8, 9):
        world.log(day)
        assert not world.at(day + 1).monitor().alarm
    assert world.spoken() == [[], ["brightness"], [], [], [], [], ["wrong answers to labelled photos"], [], [], []]


def test_that_more_answers_ask_for_a_person_because_the_coverage_was_raised_does_not_ring(world: World) -> None:
    world.answering(0.6)
    for day in (0, 1, 2):
        world.log(day, review=True)
    world.at(3).monitor()
    assert (world.spoken(), [row["review_share"] for row in world.rows()]) == ([[]] * 3, [1.0] * 3)


def test_of_two_answers_to_a_photo_the_first_one_counts_in_whatever_order_the_table_has_them(world: World) -> None:
    for hour, answer in ((2, "major"), (1, "minor")):
        at = [START + timedelta(hours=hour, seconds=number) for number in range(PHOTOS)]
        said = {"label": answer, "probabilities": json.dumps({name: float(name == answer) for name in CLASSES})}
        rows = [
            {
                "request_id": f"{hour}-{n}",
                "sha256": hash_of(n + 1),
                "answered": at[n],
                "endpoint": "car_damage_model_ep",
                "model_version": 1,
            }
            | said
            for n in range(PHOTOS)
        ]
        world.tables.merge(world.settings.tables.inference_log, pa.Table.from_pylist(rows, schema=INFERENCE_LOG), ["request_id"])
    world.reviewed({hash_of(n + 1): "minor" for n in range(PHOTOS)})
    world.at(1).monitor()
    world.monitor()
    assert world.rows()[0]["accuracy"] == 1.0


def test_labels_of_an_earlier_window_are_shown_too_and_what_could_not_be_shown_is_shown_by_the_next_run(world: World) -> None:
    hashes = world.log(0)
    world.log(1)
    world.at(2).monitor()
    world.reviewed(dict.fromkeys(hashes[:30], "minor"))
    world.tracking.attach = lambda *_: (_ for _ in ()).throw(RegistryError("no room"))  # type: ignore[method-assign,assignment]
    world.registry.tag(1, {MONITORED: ""})
    world.monitor()
    assert world.registry.get(1).tags[MONITORED] == "", "the tag says that the files are there"
    del world.tracking.attach
    world.monitor()
    assert [row["labelled"] for row in json.loads(world.tracking.files["run-1", MONITORING_FILES[1]])] == [30, 0]
    assert world.registry.get(1).tags[MONITORED] == world.rows()[-1]["said"]


def test_what_is_shown_already_is_not_written_again(world: World) -> None:
    world.log(0)
    world.at(1).monitor()
    world.tracking.attach = lambda *_: pytest.fail("again")  # type: ignore[method-assign,assignment]
    world.monitor()


def test_answers_of_an_unknown_version_are_told(world: World) -> None:
    world.log(0, version=None)
    told = "answered requests of the last 2 days are in no window, because their version is not known"
    assert world.at(1).monitor().said.endswith(f"; 80 {told}")
    world.log(1)
    world.log(1, version=None, photos=1)
    assert world.at(2).monitor().said.endswith(f"; 74 {told}")


def test_a_new_champion_needs_the_log_from_its_own_first_request_on(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for day in range(6):
        world.log(day)
    world.at(6).monitor()
    world.live(2)
    world.log(6, photos=10)  # too few for a window
    world.log(7, version=2)
    read, answers = world.tables.read, []

    def noting(table: str, columns: list[str], *more: Any, **named: Any) -> Any:
        found = read(table, columns, *more, **named)
        if "probabilities" in columns:
            answers.append(found[0].num_rows)
        return found

    monkeypatch.setattr(world.tables, "read", noting)
    assert world.at(7.5).monitor().said.startswith("version 2 has no window yet")
    world.log(6, photos=60)
    world.monitor()
    assert answers == [PHOTOS, PHOTOS + 70 + 3 * PHOTOS], "the version before has a window of day 6, which has two before it"
    assert [row["model_version"] for row in world.rows()] == [1] * 7


def test_no_answer_is_parsed_for_labels_that_nobody_has_given(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    hashes = world.log(0)
    world.at(1).monitor()
    parsed = []
    monkeypatch.setattr("car_damage.stages.monitor.of_log", lambda rows, *more: (parsed.append(rows.num_rows), of_log(rows, *more))[1])
    world.monitor()
    world.reviewed(dict.fromkeys(hashes[:30], "minor"))
    world.monitor()
    assert parsed == [0, 30]


def test_labels_that_arrive_later_make_the_scores_of_the_window_true(on_each_engine: World) -> None:
    world = on_each_engine
    hashes = world.log(0)
    world.at(1).monitor()
    [before] = world.rows()
    assert (before["labelled"], before["macro_f1"]) == (0, None)
    world.reviewed(dict.fromkeys(hashes[:30], "minor"))
    report = world.monitor()
    [after] = world.rows()
    assert after["labelled"] == 30
    assert after["accuracy_low"] <= after["accuracy"] <= after["accuracy_high"]
    assert {name: value for name, value in before.items() if after[name] == value}.keys() >= {*KEY, "findings", "estimated_macro_f1"}
    assert (report.windows, report.to_learn, report.unlabelled) == (0, 30, 50)
    assert "on 30 labelled" in report.said


def test_a_new_champion_leaves_the_measured_scores_of_the_version_before_as_they_are(world: World) -> None:
    world.reviewed(dict.fromkeys(world.log(0), "minor"))
    world.at(1).monitor()
    before = world.rows()
    assert before[0]["labelled"] == PHOTOS
    world.live(2)
    for day in (1, 2):
        world.log(day, version=2)
    world.log(2, version=1, photos=10)  # answers that were under way
    world.at(3).monitor()
    world.monitor()
    assert world.rows()[0] == before[0]


def test_old_requests_go_and_what_their_windows_say_stays(on_each_engine: World) -> None:
    world = on_each_engine
    world.log(0)
    world.at(1).monitor()
    before = world.rows()
    world.log(400)
    world.at(401).monitor()
    left, _ = world.tables.read(world.settings.tables.inference_log, ["answered"])
    assert (left.num_rows, min(left["answered"].to_pylist())) == (PHOTOS, START + 400 * DAY)
    assert world.rows()[0] == before[0]


def test_labels_that_say_that_sure_answers_are_wrong_ring(world: World) -> None:
    for day in (0, 1):
        hashes = world.log(day)
        world.reviewed(dict.fromkeys(hashes, "moderate"))
    report = world.at(2).monitor()
    assert [row["labelled"] for row in world.rows()] == [80, 80]
    assert report.alarm == ("wrong answers to labelled photos",)
    assert report.unlabelled == 0


def test_photos_that_the_version_has_learned_from_do_not_say_how_good_it_is(world: World) -> None:
    hashes = world.log(0)
    world.tracking.files["run-1", TRAINED_FILE] = write_trained(pa.table({"sha256": hashes[:10]}))
    world.reviewed(dict.fromkeys(hashes[:15], "minor"))
    report = world.at(1).monitor()
    assert (world.rows()[0]["labelled"], report.to_learn) == (5, 5)


def test_what_a_person_has_just_said_counts_before_any_run_has_validated(world: World) -> None:
    hashes = world.log(0)
    for sha256 in hashes[:3]:
        reviews.say(world.files, world.settings.answers.corrections, reviews.Word(sha256, "minor", "anna", START), "a")
    report = world.at(1).monitor()
    assert (world.rows()[0]["labelled"], report.to_learn) == (3, 3)
    assert world.monitor().to_learn == 3


def test_a_label_of_the_landing_folder_counts_and_a_test_photo_is_nothing_to_learn_from(world: World) -> None:
    hashes = world.log(0)
    silver = [
        dict.fromkeys(SILVER.names) | {"path": f"/{place}.jpg", "sha256": sha256, "label": "minor", "split": split}
        for place, (sha256, split) in enumerate(zip(hashes, ("test", "train", "validation"), strict=False))
    ]
    nullable = pa.schema([item.with_nullable(True) for item in SILVER])
    world.tables.merge(world.settings.tables.silver, pa.Table.from_pylist(silver, schema=nullable), ["path"])
    report = world.at(1).monitor()
    assert (world.rows()[0]["labelled"], report.to_learn) == (3, 2)


def test_a_version_without_a_baseline_says_so_and_is_compared_as_far_as_possible(world: World) -> None:
    world.live(2, baseline=False)
    world.log(0, version=2)
    world.log(1, version=2, status=500, **EMPTY)
    report = world.at(2).monitor()
    assert [json.loads(row["speaks"]) for row in world.rows()] == [[], ["errors"]]
    assert "without a baseline" in world.rows()[0]["said"]
    assert report.version == 2


def test_each_version_is_compared_with_its_own_training(world: World) -> None:
    world.log(0)
    world.live(2)
    world.log(1, version=2)
    world.log(1, version=3)  # removed from the registry
    report = world.at(2).monitor()
    assert [row["model_version"] for row in world.rows()] == [1, 2]
    assert report.version == 2


def test_requests_of_other_endpoints_do_not_count(world: World) -> None:
    world.log(0, endpoint="another")
    assert world.at(1).monitor().said == "version 1 has no window yet, which needs 50 photos in 24 hours or more"
    assert not world.rows()


def test_without_a_live_version_there_is_nothing_to_look_at(tmp_path: Path) -> None:
    world = World(Settings(home=tmp_path))
    world.registry.move("champion", None)
    assert world.at(1).monitor() == MonitorReport(said="no version is live")


def test_features_are_compared_where_the_table_has_most_of_them(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first day somebody has labelled a few of the photos, and the second day nearly all."""
    world.tracking.runs = [RunSummary("run-1", "run", "FINISHED", START, {}, {FEATURES_TAG: "d" * 64})]
    known = [*world.log(0)[:30], *world.log(1)[:70], *(hash_of(10**6 + number) for number in range(400))]
    seen = world.random.normal(size=(500, 8)).astype(np.float32)
    seen[:100] += 2
    world.tables.merge(world.settings.tables.features, features.rows("d" * 64, known, "plain", seen), features.KEY)
    read, asked = world.tables.read, []

    def noting(table: str, *more: Any, **named: Any) -> Any:
        if table == world.settings.tables.features:
            asked.append(len(named["where"].among))
        return read(table, *more, **named)

    monkeypatch.setattr(world.tables, "read", noting)
    world.at(2).monitor()
    assert world.spoken() == [[], ["features"]]
    assert asked == [PHOTOS, PHOTOS, 200]


def test_a_worse_version_gets_the_coverage_that_its_photos_need_once_and_by_setting(world: World) -> None:
    world.answering(0.8)
    for day in (0, 1):
        world.log(day, dark=0.25)
    assert world.at(2).monitor().coverage is None
    more = world.settings.monitoring.model_copy(update={"more_reviews": True})
    others = {"classes": (*CLASSES, "total")}  # of the next training; the version still has its own
    world.settings = Settings(home=world.settings.home, monitoring=more, labels=others)
    first = world.monitor().coverage
    assert first is not None
    assert 0.8 < first <= 0.99
    assert world.registry.get(1).tags[COVERAGE] == f"{first:g}"
    world.log(2, dark=0.25)
    assert world.at(3).monitor().coverage == first
    world.live(2)
    assert world.monitor().coverage is None


def test_a_version_that_was_worse_and_is_taken_live_again_gets_no_coverage_for_what_it_answered_before(world: World) -> None:
    world.answering(0.8)
    world.settings = world.settings.model_copy(update={"monitoring": world.settings.monitoring.model_copy(update={"more_reviews": True})})
    for day in (0, 1):
        world.log(day, dark=0.25)
    rollback = world.history.begin(Intention("rollback", 1, 2, "why", "who", "flow"))
    world.history.all = [replace(rollback, state="done", ended=START + 2 * DAY)]
    assert (world.at(2).monitor().alarm, world.monitor().coverage) == (("brightness",), None)
    world.log(2, dark=0.25)
    assert world.at(3).monitor().coverage is not None
