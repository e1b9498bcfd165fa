"""The registry port on MLflow's own SQLite store, and on a server that does not answer."""

import sqlite3
from pathlib import Path
from typing import Any

import mlflow
import pytest

from car_damage.adapters.mlflow.client import client, fluent
from car_damage.adapters.mlflow.registry import MlflowRegistry
from car_damage.errors import RegistryError, Unavailable
from car_damage.settings import Settings, Tracking
from tests.fakes import Time


@pytest.fixture
def settings(home: Path) -> Settings:
    return Settings(home=home)


@pytest.fixture
def registry(settings: Settings) -> MlflowRegistry:
    return MlflowRegistry(settings, Time())


@pytest.fixture
def logged(settings: Settings, tmp_path: Path) -> tuple[str, str]:
    """A run and its logged model, the smallest that MLflow accepts. MLflow's own tracking URI points elsewhere."""
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/elsewhere.db")
    store = client(settings)
    run = store.create_run(store.create_experiment("e", str(settings.home / "artifacts")))
    model: Any = store.create_logged_model(run.info.experiment_id, name="model", source_run_id=run.info.run_id)
    store.finalize_logged_model(model.model_id, "READY")
    return run.info.run_id, f"models:/{model.model_id}"


def test_where_nothing_was_registered_there_is_no_champion_and_no_challenger(registry: MlflowRegistry) -> None:
    assert registry.champion() is None
    assert registry.challenger() is None
    assert registry.versions_for("no run") == []


def test_a_version_keeps_its_run_and_tags_and_is_found_by_its_run(registry: MlflowRegistry, logged: tuple[str, str]) -> None:
    created = registry.create(*logged, {"silver_version": "4"}, "what it is")
    registry.tag(created.version, {"decision": "promote"})
    (found,) = registry.versions_for(logged[0])
    assert (found.version, found.run_id, found.ready) == (1, logged[0], True)
    assert found.tags == {"silver_version": "4", "decision": "promote"}
    assert registry.get(1) == found


def test_a_version_is_described_for_people(registry: MlflowRegistry, settings: Settings, logged: tuple[str, str]) -> None:
    created = registry.create(*logged, {}, "a network, trained on 40 photos")
    assert (
        client(settings).get_model_version(settings.tracking.model, str(created.version)).description == "a network, trained on 40 photos"
    )


def test_a_description_gives_way_to_a_later_one_and_never_a_person_s(
    registry: MlflowRegistry, settings: Settings, logged: tuple[str, str]
) -> None:
    registry.create(*logged, {}, "Network cnn")
    registry.describe(1, "Network cnn; it goes live", "Network ")
    of_ours = client(settings).get_model_version(settings.tracking.model, "1").description
    client(settings).update_model_version(settings.tracking.model, "1", "the night of the hail")
    registry.describe(1, "Network cnn; it does not go live", "Network ")
    theirs = client(settings).get_model_version(settings.tracking.model, "1").description
    assert (of_ours, theirs) == ("Network cnn; it goes live", "the night of the hail")


def test_an_alias_moves_and_goes_and_may_go_twice(registry: MlflowRegistry, logged: tuple[str, str]) -> None:
    for _ in range(2):
        registry.create(*logged, {}, "what it is")
    registry.move("champion", 1)
    registry.move("challenger", 2)
    assert [version.version for version in (registry.champion(), registry.challenger()) if version] == [1, 2]
    registry.move("champion", 2)
    for _ in range(2):
        registry.move("challenger", None)
    assert registry.challenger() is None
    champion = registry.champion()
    assert champion is not None
    assert champion.version == 2


def test_a_version_of_another_model_with_the_same_run_is_none_of_ours(
    registry: MlflowRegistry, settings: Settings, logged: tuple[str, str]
) -> None:
    store = client(settings)
    fluent(settings)
    store.create_registered_model("other.models.name")
    store.create_model_version("other.models.name", logged[1], logged[0])
    assert registry.versions_for(logged[0]) == []


def test_a_version_that_is_not_there_is_an_error_and_not_nothing(registry: MlflowRegistry) -> None:
    with pytest.raises(RegistryError, match="version 9"):
        registry.get(9)


def test_an_alias_of_a_version_that_was_deleted_is_an_error_and_not_no_champion(
    registry: MlflowRegistry, home: Path, logged: tuple[str, str]
) -> None:
    registry.create(*logged, {}, "what it is")
    registry.move("champion", 1)
    with sqlite3.connect(home / "mlflow.db") as database:
        database.execute("UPDATE model_versions SET current_stage = 'Deleted_Internal'")
    database.close()
    with pytest.raises(RegistryError):
        registry.champion()


def test_a_registry_that_does_not_answer_is_an_error_and_not_no_champion(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    settings = Settings(home=home, tracking=Tracking(uri="http://127.0.0.1:9"))
    with pytest.raises(Unavailable, match="reading the aliases"):
        MlflowRegistry(settings, Time()).champion()


def test_a_version_that_never_gets_ready_is_named(registry: MlflowRegistry, home: Path, logged: tuple[str, str]) -> None:
    with sqlite3.connect(home / "mlflow.db") as database:
        database.execute(
            "CREATE TRIGGER slow AFTER INSERT ON model_versions BEGIN "
            "UPDATE model_versions SET status = 'PENDING_REGISTRATION' WHERE version = NEW.version; END"
        )
    database.close()
    with pytest.raises(RegistryError, match=r"version 1 .* was not READY after 300 s"):
        registry.create(*logged, {}, "what it is")
    assert registry.versions_for(logged[0]) == []


def test_a_model_is_downloaded_from_the_stores_of_the_settings_whatever_mlflow_was_told_before(
    settings: Settings, registry: MlflowRegistry, tmp_path: Path, logged: tuple[str, str]
) -> None:
    folder = settings.home / "files"
    folder.mkdir()
    (folder / "MLmodel").write_text("flavors: {}\n")
    client(settings).log_model_artifacts(logged[1].removeprefix("models:/"), str(folder))
    assert (registry.download(logged[1], tmp_path) / "MLmodel").read_text() == "flavors: {}\n"
