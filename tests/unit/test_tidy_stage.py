"""The stage tidy: what it removes, what it leaves, and for whom."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from car_damage.adapters.folder import Folder
from car_damage.data.people.desk import Desk
from car_damage.data.people.waiting import Answer
from car_damage.data.photos import features
from car_damage.moves import DONE, FAILED, PROMOTION, UNDERWAY, Intention
from car_damage.pipeline import Leftover, TidyReport, TidyRequest
from car_damage.ports import RunSummary, Space
from car_damage.promotion import outcome
from car_damage.settings import Settings, Tables, Tracking
from car_damage.stage import silent
from car_damage.stages.tidy import work
from tests.fakes import Endpoint, Photos, Runs, Shelf, Tidied, Time, Versions, World

BRONZE, SILVER, PREDICTIONS = Tables().bronze, Tables().silver, Tables().predictions
START = datetime(1970, 1, 1, tzinfo=UTC)


def run(name: str, status: str = "FINISHED", day: int = 99, **tags: str) -> RunSummary:
    """A training of this day, one of which is the last."""
    at = START + timedelta(days=day)
    return RunSummary(name, name, status, at, {}, tags, None if status == "RUNNING" else at)


NOW = timedelta(days=100)


def world(runs: list[RunSummary], registry: Versions, **spaces: Space | None) -> World:
    """A platform with the settings' defaults, 100 days after the epoch."""
    named = {table: spaces[table.split(".")[1]] for table in (BRONZE, SILVER, PREDICTIONS) if table.split(".")[1] in spaces}
    clock = Time()
    clock.sleep(NOW.total_seconds())
    return World(Settings(), Photos({}), registry, Endpoint({}), Runs({}, runs), Tidied(named), clock)


def needed(here: World) -> set[int]:
    work(TidyRequest(), here, silent)  # type: ignore[arg-type]
    assert isinstance(here.tables, Tidied)
    return here.tables.needed[SILVER]


def test_each_table_of_the_settings_is_tidied_for_the_days_of_the_settings() -> None:
    here = world([], Versions(), bronze=Space(2, 100), silver=Space(0, 0), gold=Space(1, 20))
    report = work(TidyRequest(), here, silent)  # type: ignore[arg-type]
    kind = "old versions of a table"
    assert report == TidyReport((Leftover(kind, BRONZE, 2, 100), Leftover(kind, PREDICTIONS, 1, 20)))
    assert report.bytes == 120
    assert isinstance(here.tables, Tidied)
    assert here.tables.days == {7}
    assert here.tables.needed.keys() == set(Tables().all)


def test_tables_that_the_catalog_tidies_are_no_leftover() -> None:
    assert work(TidyRequest(), world([], Versions(), bronze=None), silent) == TidyReport(())  # type: ignore[arg-type]


def test_a_dry_run_removes_nothing() -> None:
    here = world([], Versions(), bronze=Space(2, 100))
    told = work(TidyRequest(dry_run=True), here, silent)  # type: ignore[arg-type]
    assert work(TidyRequest(), here, silent) == told  # type: ignore[arg-type]
    assert work(TidyRequest(), here, silent) == TidyReport(())  # type: ignore[arg-type]


def test_silver_versions_of_the_champion_and_of_versions_that_may_go_live_are_needed() -> None:
    registry = Versions()
    registry.add(1, decision="promote", judged_against="none", silver_version="3")
    registry.add(2, decision="keep", judged_against="1", silver_version="5")
    registry.add(3, decision="await_approval", judged_against="1", silver_version="7")
    registry.add(4, decision="await_approval", judged_against="none", silver_version="9")
    registry.add(5, silver_version="11")
    registry.add(6, decision="deciding", silver_version="13")
    registry.add(7, decision="promote", judged_against="1", silver_version="15")
    registry.add(8, dry_run_decision="keep", silver_version="17")
    registry.aliases |= {"champion": 1, "challenger": 7}
    assert needed(world([], registry)) == {3, 7, 11, 13, 15}


@pytest.mark.parametrize(("status", "is_needed"), [("RUNNING", True), ("FINISHED", True), ("FAILED", False), ("KILLED", False)])
def test_the_silver_version_of_a_training_without_a_decision_is_needed_unless_it_failed(status: str, is_needed: bool) -> None:
    assert needed(world([run("run", status, silver_version="4")], Versions())) == ({4} if is_needed else set())


def test_the_silver_version_of_a_decided_training_is_not_needed() -> None:
    registry = Versions()
    registry.add(1, decision="keep", judged_against="none")
    assert needed(world([run("run-1", silver_version="4")], registry)) == set()


def past(*versions: tuple[str, str]) -> World:
    """Trainings of day 1, in this order, with (decision, judged against), and one of yesterday that the next run compares with."""
    registry = Versions()
    for number, (decision, against) in enumerate(versions, 1):
        registry.add(number, decision=decision, judged_against=against)
    old = [run(f"run-{number}", day=1) for number in range(len(versions), 0, -1)]
    return world([run("latest"), *old], registry)


def removed(here: World, **request: Any) -> list[str]:
    work(TidyRequest(**request), here, silent)  # type: ignore[arg-type]
    return here.archive.removed


def test_an_old_training_whose_version_was_refused_goes_with_its_version_and_leaves_its_decision() -> None:
    here = past(("keep", "none"))
    evidence = {"version": 1, "reasons": ["too little"]}
    here.tracking.files["run-1", "decision/1.json"] = json.dumps(evidence).encode()
    report = work(TidyRequest(), here, silent)  # type: ignore[arg-type]
    assert report.leftovers == (Leftover("training", "run-1, version 1", 1, 1_000),)
    assert (here.archive.removed, here.registry.versions) == (["run-1"], {})
    document = json.loads(here.archive.documents["version-1.json"])
    assert (document["decision"], document["tags"]["decision"], document["training"]["run_id"]) == (evidence, "keep", "run-1")


def test_the_decision_stays_even_where_its_evidence_is_gone() -> None:
    here = past(("keep", "none"))
    removed(here)
    assert json.loads(here.archive.documents["version-1.json"])["decision"] is None


def test_a_young_training_stays() -> None:
    here = past(("keep", "none"))
    here.tracking.runs[-1] = run("run-1", day=71)
    assert removed(here) == []


def test_a_training_that_a_person_has_deleted_goes_unless_its_version_is_needed() -> None:
    here = past(("promote", "none"), ("keep", "1"))
    here.registry.aliases["champion"] = 1
    here.archive.trash = [here.tracking.runs.pop(), here.tracking.runs.pop()]
    assert removed(here) == ["run-2"]


def test_a_training_that_is_in_progress_is_not_taken_for_one_that_was_killed() -> None:
    began = START + NOW - timedelta(hours=11)
    here = world([replace(run("run", "RUNNING"), started=began)], Versions())
    here.settings = Settings(tracking=Tracking(keep_days=0))
    assert removed(here) == []
    here.clock.sleep(timedelta(days=1).total_seconds())
    assert removed(here) == ["run"]


@pytest.mark.parametrize("alias", ["champion", "challenger"])
def test_a_version_with_an_alias_stays(alias: str) -> None:
    here = past(("promote", "none"))
    here.registry.aliases[alias] = 1
    assert removed(here) == []


@pytest.mark.parametrize("state", [DONE, FAILED, UNDERWAY])
def test_a_version_that_the_champion_s_history_names_stays(state: str) -> None:
    here = past(("promote", "none"), ("promote", "1"), ("promote", "1"), ("keep", "1"))
    move = here.history.begin(Intention(PROMOTION, 1, 2, "why", "who", "flow", displaced=3))
    if state != UNDERWAY:
        here.history.close(move, state)
    assert removed(here) == ["run-4"]


@pytest.mark.parametrize(
    ("decision", "against", "stays"), [("await_approval", "none", True), ("await_approval", "7", False), ("deciding", "none", True)]
)
def test_a_version_that_may_go_live_stays(decision: str, against: str, stays: bool) -> None:
    assert (removed(past((decision, against))) == []) is stays


def test_a_version_that_only_a_dry_run_has_judged_goes_when_it_is_old() -> None:
    here = past(("", ""))
    here.registry.versions[1] = replace(here.registry.versions[1], tags={"dry_run_decision": "promote"})
    assert removed(here) == ["run-1"]


def test_the_training_that_the_next_run_compares_with_stays() -> None:
    runs = [run("newer", day=2), run("failed", "FAILED", day=2), run("same", day=1, training_key="key"), run("other", day=1)]
    assert removed(world(runs, Versions()), training_key="key") == ["failed", "other"]
    assert removed(world(runs, Versions())) == ["failed", "same", "other"]


def test_a_training_that_was_killed_long_ago_goes_and_one_in_progress_stays() -> None:
    assert removed(world([run("now", "RUNNING"), run("long-ago", "RUNNING", day=1)], Versions())) == ["long-ago"]


def test_a_training_that_a_person_has_deleted_goes_after_as_many_days() -> None:
    here = world([], Versions())
    here.archive = Shelf([run("young"), run("old", day=1)])
    assert work(TidyRequest(), here, silent).leftovers == (Leftover("deleted training", "old", 1, 1_000),)  # type: ignore[arg-type]
    assert here.archive.removed == ["old"]


def test_a_dry_run_shows_trainings_and_removes_none() -> None:
    here = past(("keep", "none"))
    told = work(TidyRequest(dry_run=True), here, silent)  # type: ignore[arg-type]
    assert (here.archive.removed, here.archive.documents, list(here.registry.versions)) == ([], {}, [1])
    assert work(TidyRequest(), here, silent) == told  # type: ignore[arg-type]


def test_after_a_kill_between_archive_and_removal_the_next_run_removes_the_rest() -> None:
    here = past(("keep", "none"), ("keep", "none"))
    stopped = past(("keep", "none"), ("keep", "none")).registry
    stopped.remove(1)
    here.registry = stopped  # killed after the first version was removed
    assert removed(here) == ["run-2", "run-1"]
    assert here.registry.versions == {}


def test_an_ending_says_how_much_was_freed_and_nothing_if_it_was_nothing() -> None:
    ending = outcome.Outcome("Nothing new", "No new photos.")
    freed = TidyReport((Leftover("table", BRONZE, 2, 1_500_000), Leftover("training", "t", 1, None)))
    assert outcome.after_tidying(ending, freed) == replace(ending, message="No new photos. 1.5 MB were freed.")
    assert outcome.after_tidying(ending, TidyReport(())) == ending


def test_requests_older_than_the_days_of_the_settings_are_removed() -> None:
    log = Tables().inference_log
    rows = [{"request_id": str(day), "answered": START + timedelta(days=day)} for day in (1, 9, 11, 99)]
    here = world([], Versions())
    here.settings = Settings(monitoring={"keep_days": 90})
    here.tables = Tidied({}, {log: pa.Table.from_pylist(rows)})
    told = work(TidyRequest(dry_run=True), here, silent)  # type: ignore[arg-type]
    assert told == TidyReport((Leftover("requests", log, 2, None),))
    assert here.tables.rows[log].num_rows == 4
    assert work(TidyRequest(), here, silent) == told  # type: ignore[arg-type]
    assert here.tables.rows[log]["request_id"].to_pylist() == ["11", "99"]
    here.settings = Settings(monitoring={"keep_days": 0})
    assert work(TidyRequest(), here, silent) == TidyReport(())  # type: ignore[arg-type]


def test_photos_that_nobody_has_reviewed_go_without_a_look_at_the_desk(tmp_path: Path) -> None:
    here = world([], Versions())
    here.settings = Settings(home=tmp_path, answers={"keep_for_review": str(tmp_path / "kept")})
    here.files = Folder()  # type: ignore[assignment]
    here.clock.seconds = datetime.now(UTC).timestamp()
    answer = Answer("minor", {"minor": 1.0}, (), "model-3", "2026-06-01T12:00:00+00:00")
    assert Desk(here.files, here.settings.answers, here.clock).keep(b"a photo", answer)  # type: ignore[arg-type]
    assert work(TidyRequest(), here, silent) == TidyReport(())  # type: ignore[arg-type]
    here.clock.sleep(timedelta(days=31).total_seconds())
    told = work(TidyRequest(dry_run=True), here, silent)  # type: ignore[arg-type]
    [leftover] = told.leftovers
    assert (leftover.kind, leftover.items, len(list((tmp_path / "kept").iterdir()))) == ("photos kept for review", 2, 2)
    assert work(TidyRequest(), here, silent) == told  # type: ignore[arg-type]
    assert not list((tmp_path / "kept").iterdir())


def test_features_of_photos_that_left_and_of_backbones_that_no_needed_training_has_are_removed() -> None:
    runs = [
        run("running", "RUNNING", features="running"),
        run("latest", features="latest"),
        run("champion", features="champion"),
        run("old", features="old"),
    ]
    registry = Versions()
    registry.add(1, decision="promote", judged_against="none")
    registry.versions[1] = replace(registry.versions[1], run_id="champion")
    registry.aliases["champion"] = 1
    kept = [features.rows(one.run_id, ["here", "left"], "plain", np.zeros((2, 3), np.float32)) for one in runs]
    here = world(runs, registry)
    here.tables = Tidied({}, {Tables().features: pa.concat_tables(kept), SILVER: pa.table({"sha256": ["here"]})})
    told = work(TidyRequest(dry_run=True), here, silent)  # type: ignore[arg-type]
    assert told.leftovers == (Leftover("features", Tables().features, 5, None),)
    assert work(TidyRequest(), here, silent) == told  # type: ignore[arg-type]
    left = here.tables.rows[Tables().features].to_pylist()
    assert {(row["digest"], row["sha256"]) for row in left} == {(digest, "here") for digest in ("running", "latest", "champion")}
    assert work(TidyRequest(), here, silent) == TidyReport(())  # type: ignore[arg-type]
