import ast
import importlib
import inspect
import json
import re
from dataclasses import asdict, replace
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import pytest
from prefect import Flow, Task
from prefect.serializers import JSONSerializer
from pydantic import TypeAdapter

import car_damage.stages as stages_package
from car_damage import pipeline
from car_damage.moves import PROMOTION, ROLLBACK
from car_damage.packages import that_train_here
from car_damage.pipeline import (
    AWAIT,
    KEEP,
    PROMOTE,
    ChooseReport,
    Comparison,
    EndpointReport,
    Evidence,
    LiveReport,
    LiveRequest,
    RegisterReport,
    Score,
    SilverReport,
    SilverRequest,
    TrainReport,
    ValidateReport,
    ValidateRequest,
    live_request,
    promote_request,
    register_request,
    silver_request,
    train_request,
    training_key,
)
from car_damage.promotion import outcome
from car_damage.settings import Answers, Databricks, Settings, Training
from car_damage.stage import Stage
from car_damage.stages import job_chain, stage_named, validate
from car_damage.stages import train as train_stage
from flows.forget import forget
from flows.monitor import monitor
from flows.promote import promote
from flows.retrain import retrain
from flows.score import score
from tasks import commands
from tasks import stages as task_module

VALIDATED = ValidateReport(60, 56, {"empty": 1}, ("/landing/locked.jpg",), 1, 0, 0, 3, "f" * 64)
BALANCE = {"minor": {"train": 10, "test": 2}}
SILVER = SilverReport(
    4, 2, "a" * 64, 56, 56, 0, 0, 60, {"empty": 1}, BALANCE, {"empty": ("/landing/a.jpg",)}, {"/landing/a.jpg": "0 bytes"}, {"empty": 1}
)
TRAINED = TrainReport("key", "run", "models:/m-1", {"test_accuracy": 0.9})
SCORE = Score(0.9, {"minor": 0.8, "major": None}, [[4, 1], [0, 0]], 0.2, (0.8, 0.95))
EVIDENCE = Evidence(5, SCORE, SCORE, Comparison(0.0, 0.5, (-0.1, 0.1)))
REGISTERED = RegisterReport(3, PROMOTE, ("macro-F1 0.9 against the champion's 0.8",), 2, False, EVIDENCE)
ENDPOINT = EndpointReport("promoted", 3, 2, "READY", 0.05, "version 3 answers")
LIVE = LiveReport("run", 3, 3, None, 3)
CHOSEN = ChooseReport(1, 3, ROLLBACK)
WENT_BACK = EndpointReport("promoted", 1, 3, "READY", 0.05, "version 1 answers", ROLLBACK, "wrong answers.", True)


@pytest.mark.parametrize("report", [VALIDATED, SILVER, TRAINED, REGISTERED, ENDPOINT, LIVE, CHOSEN])
def test_a_report_survives_being_stored_and_read_back(report: Any) -> None:
    serializer = JSONSerializer()
    assert serializer.loads(serializer.dumps(report)) == report
    json.dumps(asdict(report))


def test_evidence_of_an_earlier_version_is_read_with_what_it_has() -> None:
    flat = {"test_photos": 5, "candidate_macro_f1": 0.9, "champion_macro_f1": None, "gain": None, "candidate_recall": {"minor": 0.8}}
    old = {**asdict(REGISTERED), "evidence": flat}
    assert TypeAdapter(RegisterReport).validate_python(old).evidence == Evidence(5, Score(0.9, {"minor": 0.8}, [], None))
    compared = flat | {"champion_macro_f1": 0.5, "gain": 0.4, "confidence": 0.9, "gain_interval": [0.1, 0.6], "champion_cost": 1.5}
    evidence = TypeAdapter(RegisterReport).validate_python({**old, "evidence": compared}).evidence
    assert (evidence.champion, evidence.comparison) == (Score(0.5, {}, [], 1.5), Comparison(0.4, 0.9, (0.1, 0.6)))


def test_evidence_from_before_looks_were_counted_is_read() -> None:
    """As the version before wrote it: without intervals, looks, fresh and excluded photos."""
    score = {"macro_f1": 0.9, "recall": {"minor": 0.8}, "confusion": [[4, 1], [0, 0]], "cost": 0.2}
    comparison = {"gain": 0.1, "confidence": 0.9, "interval": [-0.1, 0.3]}
    document = {"test_photos": 5, "candidate": score, "champion": score, "comparison": comparison}
    read = TypeAdapter(RegisterReport).validate_python({**asdict(REGISTERED), "evidence": document}).evidence
    assert read is not None
    assert (read.looks, read.fresh, read.excluded, read.candidate.interval) == (1, None, 0, None)
    assert read.comparison == Comparison(0.1, 0.9, (-0.1, 0.3))


def job_stages() -> list[Stage[Any, Any]]:
    """Every stage that a job does."""
    modules = (importlib.import_module(f"car_damage.stages.{module.name}") for module in iter_modules(stages_package.__path__))
    found = (getattr(module, "STAGE", None) for module in modules)
    return [stage for stage in found if isinstance(stage, Stage) and stage.job is not None]


def test_every_stage_that_follows_in_a_job_is_of_that_job_and_no_stage_follows_two() -> None:
    stages = job_stages()
    assert {stage.name for stage in stages} == {"validate", "silver", "train", "register", "score", "monitor", "forget"}
    followers = [stage.next.stage for stage in stages if stage.next is not None]
    assert len(followers) == len(set(followers))
    for stage in stages:
        assert {follower.job for follower in job_chain(stage)} == {stage.job}


@pytest.mark.parametrize("flow", [retrain, promote, score, monitor, forget])
def test_a_flow_runs_the_stages_of_a_job_in_the_order_in_which_the_job_does(flow: Flow[..., Any]) -> None:
    calls = [node for node in ast.walk(ast.parse(inspect.getsource(flow.fn))) if isinstance(node, ast.Name)]
    names = [call.id for call in sorted(calls, key=lambda call: (call.lineno, call.col_offset))]
    tasks = [
        task
        for task in map(vars(task_module).get, dict.fromkeys(names))
        if isinstance(task, Task) and task not in {task_module.put_right, task_module.raise_coverage}
    ]
    stages = [stage_named(name) for task in tasks if (name := _stage_of(task)) in {stage.name for stage in job_stages()}]
    for job in {stage.job for stage in stages}:
        ran = [stage for stage in stages if stage.job == job]
        assert job_chain(ran[0]) == tuple(ran)


def _stage_of(task: Task[..., Any]) -> str:
    """The name of the stage that the task runs, read from its source."""
    [name] = re.findall(r"\b(\w+)\.STAGE\b", inspect.getsource(task.fn))
    return str(name)


def test_silver_is_made_from_the_bronze_version_that_validation_left() -> None:
    assert silver_request(ValidateRequest("flow"), VALIDATED) == SilverRequest("flow", 3)


def test_what_a_person_says_of_removals_holds_for_silver_too() -> None:
    assert silver_request(ValidateRequest("flow", allow_removals=True), VALIDATED).allow_removals
    assert not silver_request(ValidateRequest("flow", retire_other_folders=True), VALIDATED).allow_removals


def test_register_takes_the_silver_version_from_silver_and_not_from_a_cached_train_report() -> None:
    request = register_request("flow", SILVER, TRAINED)
    assert (request.silver_version, request.run_id, request.model_uri) == (2, "run", "models:/m-1")


def test_a_job_goes_on_with_the_very_request_that_the_flow_makes() -> None:
    silver = validate.STAGE.next
    assert silver is not None
    assert silver.request(ValidateRequest("flow"), VALIDATED, {}) == silver_request(ValidateRequest("flow"), VALIDATED)
    register = train_stage.STAGE.next
    assert register is not None
    train = train_request("flow", SILVER, LIVE, live_request(SILVER, Settings()))
    for options in ({}, {"dry_run": True}, {"judge_again": True, "train_again": True}):
        chosen = {name: value for name, value in options.items() if name != "train_again"}
        assert register.request(train, TRAINED, options) == register_request("flow", SILVER, TRAINED, **chosen)


def test_the_training_key_follows_data_settings_and_recipe_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings()
    key = training_key("data", settings)
    assert key == training_key("data", Settings())
    assert key != training_key("other data", settings)
    assert key != training_key("data", Settings(training=Training(epochs=3)))
    assert key != training_key("data", Settings(training=Training(int8=True)))
    assert key == training_key("data", Settings(training=Training(resolution="as_is")))
    assert key != training_key("data", Settings(training=Training(resolution="common")))
    assert key == training_key("data", Settings(answers=Answers(coverage=0.9, review_cost=3.0)))
    assert key != training_key("data", Settings(answers=Answers(coverage=0.8)))
    assert key != training_key("data", Settings(answers=Answers(group_thresholds=True)))
    cheapest = [training_key("data", Settings(answers=Answers(coverage="cheapest", review_cost=cost))) for cost in (1.0, 3.0)]
    assert len({key, *cheapest}) == 3
    monkeypatch.setattr(pipeline, "RECIPE", pipeline.RECIPE + 1)
    assert key != training_key("data", settings)


def test_settings_that_a_network_does_not_read_are_no_part_of_its_training_key() -> None:
    """Otherwise a change of one would train the same model again."""

    def key(**training: Any) -> str:
        return training_key("data", Settings(training=Training(**training)))

    tuned: dict[str, Any] = {"network": "transfer", "fine_tune": "if_better", "fine_tune_from": "block14_add"}
    assert key() == key(fine_tune_rate=0.5, fine_tune="if_better", fine_tune_from="block14_add")
    assert key() != key(augmentation="wide")
    assert key(network="transfer") == key(network="transfer", augmentation="wide", precision="mixed_float16", warm_start="champion")
    assert key(network="transfer") != key(**tuned)
    assert len({key(**tuned), key(**tuned, warm_start="champion"), key(**tuned, fine_tune_mixup=0.2), key(**tuned, epochs=1)}) == 4


def test_the_training_key_takes_a_setting_that_is_a_list() -> None:
    class WithSizes(Training):
        sizes: tuple[int, ...] = (3, 4)

    others = WithSizes(sizes=(5,))
    keys = {training_key("data", Settings().model_copy(update={"training": training})) for training in (Training(), WithSizes(), others)}
    assert len(keys) == 3


def test_the_training_key_of_the_version_before_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it changes, all models are trained again after the update, and the changelog must say so."""
    monkeypatch.setattr(pipeline, "RECIPE", 2)
    assert training_key("data", Settings(home=Path("/home"))) == "1b6dcfb210ef5b8bb6029bee4241ece03f5ef38fd167b20e3663423b6f848926"


def test_a_training_here_is_asked_for_with_the_packages_that_are_here() -> None:
    assert live_request(SILVER, Settings()).packages == that_train_here()


def test_a_training_in_a_job_is_asked_for_without_packages_which_only_the_job_knows() -> None:
    settings = Settings(databricks=Databricks(stages="jobs"))
    assert live_request(SILVER, settings) == LiveRequest(live_request(SILVER, Settings()).training_key)


def test_the_training_key_is_the_same_for_another_run_of_the_same_data() -> None:
    first = live_request(SILVER, Settings())
    assert first == live_request(replace(SILVER, silver_version=9, added=0), Settings())
    assert train_request("flow", SILVER, LIVE, first).training_key == first.training_key
    assert train_request("flow", SILVER, LIVE, first).finished_run == "run"
    assert train_request("flow", SILVER, LIVE, first).bronze_version == SILVER.bronze_version


@pytest.mark.parametrize(
    ("live", "settled"),
    [
        (LIVE, True),
        (replace(LIVE, decided=None), False),
        (replace(LIVE, challenger=4), False),
        (replace(LIVE, underway=1), False),
        (replace(LIVE, awaiting=True), True),
        (replace(LIVE, outdated=True), False),
        (replace(LIVE, served=2), False),
        (replace(LIVE, served=None), False),
        (LiveReport("run", 1, None, None, None), True),
    ],
)
def test_nothing_is_left_only_when_decided_and_served_without_a_challenger(live: LiveReport, settled: bool) -> None:
    assert live.settled is settled


def test_a_promotion_says_what_is_live_in_place_of_what() -> None:
    ending = outcome.after_endpoint(replace(VALIDATED, unreadable_count=0), REGISTERED, ENDPOINT)
    assert ending.name == "Promoted"
    assert ending.message == "Version 3 is live in place of version 2: macro-F1 0.9 against the champion's 0.8."


def test_a_file_that_could_not_be_read_is_part_of_every_ending() -> None:
    told = "1 file could not be read and will be tried again, such as /landing/locked.jpg."
    kept = replace(REGISTERED, decision=KEEP, reasons=("too little",))
    for ending in (
        outcome.nothing_new(VALIDATED, SILVER, LIVE),
        outcome.dry_run(VALIDATED, REGISTERED),
        outcome.after_endpoint(VALIDATED, REGISTERED, ENDPOINT),
        outcome.after_endpoint(VALIDATED, kept, replace(ENDPOINT, outcome="unchanged", champion=2)),
    ):
        assert ending.message.endswith(told)


def test_a_version_that_is_kept_out_names_the_reason_and_what_goes_on_serving() -> None:
    kept = replace(REGISTERED, decision=KEEP, reasons=("a gain of +0.001, and +0.010 or more is needed",))
    ending = outcome.after_endpoint(replace(VALIDATED, unreadable_count=0), kept, replace(ENDPOINT, outcome="unchanged", champion=2))
    assert ending.name == "Kept the champion"
    assert ending.message == ("Version 3 does not go live: a gain of +0.001, and +0.010 or more is needed; version 2 goes on serving.")


def test_a_challenger_that_lost_its_champion_meanwhile_is_told_with_the_endpoint_s_own_words() -> None:
    message = "version 3 was judged against champion 2, which is 5 by now"
    ending = outcome.after_endpoint(
        replace(VALIDATED, unreadable_count=0), REGISTERED, replace(ENDPOINT, outcome="kept", champion=5, message=message)
    )
    assert ending.name == "Kept the champion"
    assert ending.message == "Version 3 was judged against champion 2, which is 5 by now."


def test_a_version_that_is_live_already_is_not_said_to_be_kept_out() -> None:
    ending = outcome.after_endpoint(
        replace(VALIDATED, unreadable_count=0), replace(REGISTERED, decided_before=True), replace(ENDPOINT, outcome="repaired")
    )
    assert ending.message == "Version 3 is the champion already; the endpoint was put back to version 3."


def test_a_version_that_waits_for_approval_is_told_with_the_command_by_the_run_that_made_it_and_by_those_after_it() -> None:
    command = '.venv/bin/python -m flows.promote --version 3 --reason "<why>"'
    waiting = replace(REGISTERED, decision=AWAIT)
    ending = outcome.after_endpoint(replace(VALIDATED, unreadable_count=0), waiting, replace(ENDPOINT, outcome="unchanged", champion=2))
    assert ending.name == "Awaiting approval"
    message = "Version 3 may go live when a person approves it: macro-F1 0.9 against the champion's 0.8; version 2 goes on serving."
    assert ending.message == message
    assert (
        commands.with_approval(ending) == f"{message} To take the version live, approve it on its page (Approval: Approved), or: {command}"
    )
    later = outcome.nothing_new(VALIDATED, SILVER, replace(LIVE, champion=2, served=2, awaiting=True))
    assert later.name == "Awaiting approval"
    assert command in commands.with_approval(later)


def test_a_dry_run_with_approval_says_that_a_person_would_be_asked() -> None:
    ending = outcome.dry_run(VALIDATED, replace(REGISTERED, decision=AWAIT))
    assert "Version 3 would wait for a person's approval" in ending.message


def test_approval_of_evidence_about_an_earlier_champion_is_not_asked_for() -> None:
    waiting = replace(REGISTERED, decision=AWAIT, decided_before=True)
    ending = outcome.after_endpoint(VALIDATED, waiting, replace(ENDPOINT, outcome="unchanged", champion=5))
    assert ending.name == "Kept the champion"
    assert ending.message.startswith("Version 3 was judged against another champion than the present one; run again with judge_again")


def test_a_promotion_by_a_person_asks_for_what_was_chosen_and_nothing_else() -> None:
    request = promote_request("flow", "promote, by anna", CHOSEN, "wrong answers")
    assert (request.version, request.replaces, request.kind, request.reason) == (1, 3, "rollback", "wrong answers")


@pytest.mark.parametrize(
    ("report", "name", "message"),
    [
        (replace(WENT_BACK, kind=ROLLBACK), "Rolled back", "Version 1 is live in place of version 3: wrong answers."),
        (replace(WENT_BACK, kind=PROMOTION, champion=4), "Promoted", "Version 4 is live in place of version 3: wrong answers."),
        (replace(WENT_BACK, kind=PROMOTION, champion=4, previous=None), "Promoted", "Version 4 is live: wrong answers."),
        (
            replace(ENDPOINT, outcome="unchanged", message="version 3 is served already"),
            "Already live",
            "Version 3 is the champion; version 3 is served already.",
        ),
    ],
)
def test_a_person_s_promotion_ends_by_its_name(report: EndpointReport, name: str, message: str) -> None:
    ending = outcome.after_promote(report)
    assert (ending.name, ending.message) == (name, message)


def test_a_rollback_that_was_killed_and_ended_by_a_retraining_is_called_one() -> None:
    ending = outcome.after_endpoint(replace(VALIDATED, unreadable_count=0), REGISTERED, replace(WENT_BACK, kind=ROLLBACK))
    assert (ending.name, ending.message) == ("Rolled back", "Version 1 is live in place of version 3: decided earlier: wrong answers.")
