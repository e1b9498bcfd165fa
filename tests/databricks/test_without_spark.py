"""What a worker does without Spark: with the tables in Unity Catalog, only the jobs open them."""

import sys
from collections.abc import Iterator

import pytest
from typer.testing import CliRunner

from car_damage.adapters.databricks import census
from car_damage.adapters.databricks.workspace import client
from car_damage.cli import app
from car_damage.errors import PromotionRefused, RequestRefused, Unavailable
from car_damage.pipeline import ChooseRequest, EndpointRequest, LiveRequest, TidyRequest
from car_damage.platform import Target
from car_damage.settings import Settings
from car_damage.settings_sources import load
from car_damage.stage import silent
from car_damage.stages.choose import STAGE as CHOOSE
from car_damage.stages.endpoint import STAGE as ENDPOINT
from car_damage.stages.live import STAGE as LIVE
from car_damage.stages.tidy import STAGE as TIDY
from deployments import doctor
from deployments.databricks import access_control
from deployments.items import bootstrap
from tests.databricks.conftest import HANDOVERS, HastyClock
from tests.databricks.twin import Twin, workspace
from tests.databricks.twin.statements import WAREHOUSE

LANDING = "/Volumes/insurance_uc/landing/raw_data/data/training_imgs"
BRONZE, SILVER = "insurance_uc.bronze.raw_images", "insurance_uc.silver.training_images"
ROWS = {
    BRONZE: [
        *({"path": f"{LANDING}/{number}.jpg", "status": "valid", "reason": None} for number in range(3)),
        {"path": f"{LANDING}/x.jpg", "status": "rejected", "reason": "empty"},
        {"path": f"{LANDING}/y.jpg", "status": "vanished", "reason": None},
        {"path": "/Volumes/insurance_uc/landing/before/1.jpg", "status": "valid", "reason": None},
    ],
    SILVER: [{"label": "minor", "split": "train"}, {"label": "minor", "split": "test"}, {"label": "major", "split": "train"}],
}


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Twin]:
    """A workspace with an experiment, and with the folder of hand-overs."""
    with workspace(tmp_path_factory.mktemp("workspace") / "twin") as twin, pytest.MonkeyPatch.context() as patch:
        for name, value in twin.environment.items():
            patch.setenv(name, value)
        patch.setenv("CAR_DAMAGE_CONFIG", "deployments/settings/databricks.toml")
        patch.setenv("CAR_DAMAGE_HOME", str(tmp_path_factory.mktemp("home")))
        twin.schemas.add("insurance_uc.models")
        twin.volume(HANDOVERS).mkdir(parents=True)
        assert bootstrap(access_control.experiment_items(load(), client))
        yield twin


@pytest.fixture
def worker(twin: Twin, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The settings of deployments/settings/databricks.toml, on a machine that has neither Spark nor delta-rs."""
    for package in ("pyspark", "delta", "deltalake"):
        monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setenv("COLUMNS", "200")
    twin.rows, twin.looks = dict(ROWS), 1
    return load()


def target(settings: Settings, **databricks: str | None) -> Target:
    target = Target(settings.model_copy(update={"databricks": settings.databricks.model_copy(update=databricks)}))
    target.__dict__["clock"] = HastyClock()
    return target


def shown(command: str) -> str:
    done = CliRunner().invoke(app, [command])
    assert done.exit_code == 0, done.output
    return " ".join(done.output.split())


@pytest.mark.usefixtures("worker")
def test_status_says_which_tables_exist_and_that_it_does_not_look_at_their_rows(twin: Twin) -> None:
    told = "its rows are not looked at here: only the jobs open tables, or the SQL warehouse of databricks.warehouse"
    assert f"{BRONZE}, exists; {told}" in shown("status")
    twin.rows.clear()
    assert f"{SILVER}, does not exist yet: 0 photos" in shown("status")


@pytest.mark.usefixtures("worker")
def test_status_counts_the_rows_by_a_sql_warehouse(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAR_DAMAGE_DATABRICKS__WAREHOUSE", WAREHOUSE)
    printed = shown("status")
    assert f"{BRONZE}, exists: 4 files; rejected: 1 empty; 1 more from other landing folders, still used" in printed
    assert f"{SILVER}, exists: 3 photos (2 minor, 0 moderate, 1 major)" in printed


def test_a_warehouse_that_does_not_answer_in_time_or_fails_is_told(worker: Settings, twin: Twin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(census, "START", 20.0)
    twin.looks = 10_000
    with pytest.raises(Unavailable, match=f"the SQL warehouse {WAREHOUSE} has not counted the rows of {SILVER} within 20 s"):
        target(worker, warehouse=WAREHOUSE).census.count(SILVER, ["label"])
    twin.looks = 0
    with pytest.raises(RequestRefused, match=r"counting the rows of .* failed: \[UNRESOLVED_COLUMN\] 'weight'"):
        target(worker, warehouse=WAREHOUSE).census.count(SILVER, ["weight"])


def test_the_other_commands_and_the_stages_of_a_worker_open_no_table(worker: Settings) -> None:
    shown("history")
    shown("tidy")
    platform = target(worker)
    with pytest.raises(PromotionRefused, match="no version is live"):
        CHOOSE.run(ChooseRequest("previous"), platform, silent)
    assert ENDPOINT.run(EndpointRequest("flow-1", "somebody"), platform, silent).outcome == "nothing to serve"
    assert TIDY.run(TidyRequest("key"), platform, silent).leftovers == ()
    assert LIVE.run(LiveRequest("key", {}), platform, silent).run_id is None
    assert "not checked here" in doctor._tables(platform)
    assert "not checked here" in doctor._elsewhere(platform)
