"""Chooses the adapter behind each port. Nothing else knows the adapters, so a target is only a choice of settings."""

from functools import cache, cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

from car_damage.ports import Archive, Census, Clock, Files, History, Registry, Serving, Tables, Tracking
from car_damage.settings import Settings

if TYPE_CHECKING:
    from car_damage.adapters.home import OpenHome


class Target:
    """The platform that the settings describe."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @cached_property
    def files(self) -> Files:
        settings = self.settings
        answers, log = settings.answers, settings.monitoring.log_folder
        return _files_of(settings.landing.folder, answers.corrections, answers.keep_for_review or "", log)

    @cached_property
    def handovers(self) -> Files:
        """The files of the folder through which work is handed over to a job."""
        return _files_of(self.settings.databricks.handovers)

    @cached_property
    def home(self) -> "OpenHome | None":
        """The home folder, which this process uses from now on; None if the settings keep neither tables nor MLflow's database there.

        Raises what `open_home` raises, and what `Tables.merge` raises where the home was at another path before.
        """
        from car_damage.adapters import home, relocation

        settings, path = self.settings, self.settings.home

        def move(before: Path) -> None:
            relocation.move_locations(path / "mlflow.db", before, path)
            relocation.move_photos(self._tables, settings, before)

        if settings.tables.names != "folders" and settings.tracking.uri is not None:
            return None
        return home.open_home(path, partial(relocation.unnoted_home, path), move)

    @property
    def tables(self) -> Tables:
        tables = self._tables
        if self.settings.tables.names == "folders":
            _ = self.home
        return tables

    @cached_property
    def census(self) -> Census:
        databricks = self.settings.databricks
        if databricks.stages == "jobs" and self.settings.tables.names == "catalog":  # only the jobs have Spark
            from car_damage.adapters.databricks.census import WorkspaceCensus

            return WorkspaceCensus(databricks.warehouse, self.clock)
        from car_damage.adapters.tables.census import TablesCensus

        return TablesCensus(self.tables)

    @cached_property
    def tracking(self) -> Tracking:
        from car_damage.adapters.mlflow.tracking import MlflowTracking

        return MlflowTracking(self._trainings)

    @cached_property
    def registry(self) -> Registry:
        from car_damage.adapters.mlflow.registry import MlflowRegistry

        return MlflowRegistry(self._trainings, self.clock)

    @cached_property
    def archive(self) -> Archive:
        from car_damage.adapters.mlflow.archive import MlflowArchive

        return MlflowArchive(self._trainings)

    @cached_property
    def history(self) -> History:
        from car_damage.adapters.mlflow.history import MlflowHistory

        return MlflowHistory(self._trainings)

    @cached_property
    def serving(self) -> Serving:
        from car_damage.adapters.databricks.serving import DatabricksServing

        return DatabricksServing(self.settings)

    @cached_property
    def clock(self) -> Clock:
        from car_damage.adapters.clock import SystemClock

        return SystemClock()

    @cached_property
    def _tables(self) -> Tables:
        if self.settings.tables.engine == "spark":
            from car_damage.adapters.tables.spark import SparkDelta
            from car_damage.adapters.tables.spark_session import session

            home = self.settings.home
            root = home / "tables" if self.settings.tables.names == "folders" else None
            return SparkDelta(cache(partial(session, self.settings.spark, home / "spark")), self.files, root)
        from car_damage.adapters.tables.delta_rs import DeltaRs

        return DeltaRs(self.settings.home / "tables", self.files, self.settings.images)

    @property
    def _trainings(self) -> Settings:
        """The settings, after the home folder with MLflow's database is open."""
        if self.settings.tracking.uri is None:
            _ = self.home
        return self.settings


def as_first_used(settings: Settings) -> Settings:
    """The settings with the path at which the home folder was used first. So the key of a training does not change when the home moves."""
    from car_damage.adapters.home import noted

    note = noted(settings.home)
    return settings if note is None else settings.model_copy(update={"home": note.first})


def _files_of(*folders: str) -> Files:
    from car_damage.adapters.databricks import volume
    from car_damage.adapters.folder import Folder

    return volume.Volume() if any(map(volume.is_elsewhere, folders)) else Folder()
