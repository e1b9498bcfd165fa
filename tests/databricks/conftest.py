import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from prefect.logging import disable_run_logger

from car_damage.adapters.clock import SystemClock
from car_damage.adapters.databricks import workspace
from car_damage.job.jobs import JobRun, Jobs
from car_damage.platform import Target
from car_damage.settings import Settings
from deployments import demo_photos
from deployments.databricks import access_control
from deployments.items import bootstrap
from tasks import workspace as entrance
from tasks.databricks_jobs import DatabricksJobs, Workspace
from tests import small_model
from tests.databricks import twin as twins

HANDOVERS = "/Volumes/insurance_uc/ops/runs/"
LANDING = "/Volumes/insurance_uc/landing/raw_data/"


@dataclass
class Seen:
    """The links and progress that a runner showed, and whether its flow run is being cancelled."""

    links: list[tuple[str, JobRun]] = field(default_factory=list)
    progress: list[tuple[Any, ...]] = field(default_factory=list)
    cancelled: bool = False
    cancelled_when_linked: bool = False
    when_linked: Callable[[], None] = lambda: None

    def link(self, stage: str, run: JobRun) -> None:
        self.links.append((stage, run))
        self.cancelled = self.cancelled or self.cancelled_when_linked
        self.when_linked()


class HastyClock(SystemClock):
    """Real time, except that a wait takes a hundredth of its length and counts in full."""

    def __init__(self) -> None:
        self.waited = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.waited

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds / 100)
        self.waited += seconds


@pytest.fixture(autouse=True)
def _hasty_sdk(monkeypatch: pytest.MonkeyPatch) -> None:
    """The waits of databricks-sdk between two tries of a call are as hasty."""
    from databricks.sdk.clock import RealClock

    clock = HastyClock()
    monkeypatch.setattr(RealClock, "time", lambda _: clock.monotonic())
    monkeypatch.setattr(RealClock, "sleep", lambda _, seconds: clock.sleep(seconds))


@dataclass
class Logged:
    """A workspace with a finished MLflow run and the URI of its model. No model is registered."""

    twin: twins.Twin
    settings: Settings
    run_id: str
    uri: str


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Logged]:
    folder = tmp_path_factory.mktemp("logged")
    with twins.workspace(folder / "workspace") as twin, pytest.MonkeyPatch.context() as patch:
        for name, value in twin.environment.items():
            patch.setenv(name, value)
        twin.schemas.add("insurance_uc.models")
        settings = Settings(
            home=folder / "home",
            tracking={"uri": "databricks", "registry_uri": "databricks-uc", "experiment": "/Shared/car-damage"},
            serving={"host": "databricks", "poll": 0.1},
        )
        tracking = Target(settings).tracking
        assert bootstrap(access_control.experiment_items(settings, workspace.client))
        run_id = tracking.start("run", {"training_key": "k" * 64})
        uri = tracking.log(run_id, small_model.run_of(small_model.network(folder), folder / "run"))
        tracking.finish(run_id, uri)
        yield Logged(twin, settings, run_id, uri)


@pytest.fixture
def twin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[twins.Twin]:
    """A workspace with four jobs and two volumes. This process has credentials for it."""
    with twins.workspace(tmp_path / "workspace") as twin:
        for name, value in twin.environment.items():
            monkeypatch.setenv(name, value)
        for volume in (HANDOVERS, LANDING):
            twin.volume(volume).mkdir(parents=True)
        for name in ("ingest", "train", "score", "monitor"):
            twin.make_job(f"car-damage-{name}")
        yield twin


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        home=tmp_path / "home",
        landing={"folder": LANDING},
        databricks={"stages": "jobs", "handovers": HANDOVERS, "poll": 10, "patience": 200},
    )


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture
def runner(twin: twins.Twin, settings: Settings, seen: Seen) -> Iterator[DatabricksJobs]:
    """The runner of a flow run, with the real clients of the workspace."""
    with disable_run_logger():
        yield make_runner(settings, seen)


def make_runner(settings: Settings, seen: Seen) -> DatabricksJobs:
    target = Target(settings)
    target.__dict__["clock"] = HastyClock()
    return DatabricksJobs(
        target,
        Workspace(
            target.handovers,
            Jobs(),
            entrance.start,
            options={},
            cancelled=lambda: seen.cancelled,
            linked=seen.link,
            since=lambda: target.clock.now() - timedelta(days=1),
        ),
    )


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """68 photos, 12 of them unusable. Drawing them takes two seconds of processor time, so tests copy them."""
    folder = tmp_path_factory.mktemp("drawn")
    demo_photos.write(folder)
    return folder


@pytest.fixture
def photos(twin: twins.Twin, drawn: Path) -> None:
    """The photos on the landing volume."""
    shutil.copytree(drawn, twin.volume(LANDING), dirs_exist_ok=True)
