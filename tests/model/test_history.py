"""The champion's history in MLflow's own SQLite store, next to the training runs."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from car_damage.adapters.mlflow.client import client
from car_damage.adapters.mlflow.history import MlflowHistory
from car_damage.adapters.mlflow.tracking import MlflowTracking
from car_damage.commands.history import history as print_history
from car_damage.errors import Unavailable
from car_damage.moves import ABANDONED, DONE, FAILED, PROMOTION, ROLLBACK, UNDERWAY, Intention
from car_damage.platform import Target
from car_damage.settings import Settings, Tracking

FIRST = Intention(PROMOTION, 1, None, "no version was live before", "retrain, by the schedule", "flow-1", metrics={"test_macro_f1": 0.8})
BACK = Intention(ROLLBACK, 1, 2, "it calls [wrecks] minor", "promote, by anna", "flow-2", by_person=True, displaced=3)


@pytest.fixture
def settings(home: Path) -> Settings:
    return Settings(home=home)


@pytest.fixture
def history(settings: Settings) -> MlflowHistory:
    return MlflowHistory(settings)


def test_a_move_is_a_run_of_its_own_with_everything_that_was_known(history: MlflowHistory, settings: Settings) -> None:
    move = history.begin(FIRST)
    run = client(settings).get_run(move.run_id)
    assert (run.info.run_name, run.info.status) == ("promote version 1", "RUNNING")
    assert run.data.metrics == {"test_macro_f1": 0.8}
    assert history.moves() == [move]
    assert (move.intention, move.state, move.ended) == (FIRST, UNDERWAY, None)


@pytest.mark.parametrize("state", [DONE, FAILED, ABANDONED])
def test_a_move_ends_in_a_state_and_says_why(history: MlflowHistory, state: str) -> None:
    history.close(history.begin(FIRST), state, "so it was")
    (move,) = history.moves(state)
    assert (move.state, move.failure) == (state, "so it was")
    assert move.ended is not None
    assert history.moves(UNDERWAY) == []


def test_the_newest_move_comes_first_and_trainings_are_none(history: MlflowHistory, settings: Settings) -> None:
    tracking = MlflowTracking(settings)
    tracking.start("cnn", {"training_key": "k"})
    history.close(history.begin(FIRST), DONE)
    history.close(history.begin(BACK), DONE)
    assert [move.intention for move in history.moves()] == [BACK, FIRST]
    assert [run.name for run in tracking.recent(10)] == ["cnn"]


def test_moves_of_another_model_in_the_same_experiment_are_not_ours(history: MlflowHistory, settings: Settings) -> None:
    other = settings.model_copy(update={"tracking": Tracking(model="insurance_uc.models.another")})
    MlflowHistory(other).begin(FIRST)
    assert history.moves() == []


def test_more_moves_than_one_page_holds_are_all_there(history: MlflowHistory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("car_damage.adapters.mlflow.client.PAGE", 2)
    for _ in range(5):
        history.begin(FIRST)
    assert len(history.moves()) == 5


def test_a_reason_that_is_longer_than_a_tag_is_cut_and_refuses_nothing(history: MlflowHistory) -> None:
    history.begin(Intention(PROMOTION, 1, None, "x" * 5000, "who", "flow"))
    assert history.moves()[0].intention.reason == "x" * 1000


def test_a_server_that_is_not_there_is_unavailable_and_no_empty_history(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(Unavailable):
        MlflowHistory(settings.model_copy(update={"tracking": Tracking(uri="http://127.0.0.1:9")})).moves()


@pytest.fixture
def told(settings: Settings, history: MlflowHistory) -> Callable[..., list[str]]:
    """The output of `car-damage history` after two completed moves and one failed move."""
    history.close(history.begin(FIRST), DONE)
    history.close(history.begin(BACK), DONE)
    history.close(history.begin(Intention(PROMOTION, 3, 1, "better", "retrain", "flow-3")), FAILED, "it did not start")

    def run(limit: int = 20, as_json: bool = False) -> list[str]:
        lines: list[str] = []
        print_history(Target(settings), limit, as_json, lines.append)
        return lines

    return run


def test_the_command_prints_one_object_a_move(told: Callable[..., list[str]]) -> None:
    objects = [json.loads(line) for line in told(as_json=True)]
    assert [(one["kind"], one["from"], one["to"], one["state"]) for one in objects] == [
        ("promotion", 1, 3, "failed"),
        ("rollback", 2, 1, "done"),
        ("promotion", None, 1, "done"),
    ]
    assert (objects[0]["failure"], objects[1]["reason"]) == ("it did not start", "it calls [wrecks] minor")
    assert len(told(limit=1, as_json=True)) == 1


def test_the_command_prints_a_table_in_which_brackets_are_no_markup(
    told: Callable[..., list[str]], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    told()
    printed = capsys.readouterr().out
    assert "it calls [wrecks] minor" in printed
    assert "promotion: failed" in printed
    assert "it did not start" in printed
    assert "0.800" in printed


def test_the_command_says_that_nothing_has_gone_live_yet(settings: Settings) -> None:
    lines: list[str] = []
    print_history(Target(settings), 20, False, lines.append)
    assert lines == ["no version has gone live yet"]


def test_in_a_pipe_every_move_is_one_line(
    told: Callable[..., list[str]], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    told()
    assert len(capsys.readouterr().out.splitlines()) == 1 + 3
