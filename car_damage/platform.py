"""Chooses the adapter behind each port. Nothing else knows the adapters, so a target is only a choice of settings."""

from functools import cache, cached_property, partial

from car_damage.ports import Archive, Clock, Files, History, Registry, Serving, Tables, Tracking
from car_damage.settings import Settings


class Target:
    """The platform that the settings describe."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @cached_property
    def files(self) -> Files:
        return _files_of(self.settings.landing.folder)

    @cached_property
    def handovers(self) -> Files:
        """The files of the folder through which work is handed over to a job."""
        return _files_of(self.settings.databricks.handovers)

    @cached_property
    def tables(self) -> Tables:
        if self.settings.tables.engine == "spark":
            from car_damage.adapters.tables.spark import SparkDelta
            from car_damage.adapters.tables.spark_session import session

            home = self.settings.home
            root = home / "tables" if self.settings.tables.names == "folders" else None
            return SparkDelta(cache(partial(session, self.settings.spark, home / "spark")), self.files, root)
        from car_damage.adapters.tables.delta_rs import DeltaRs

        return DeltaRs(self.settings.home / "tables", self.files, self.settings.images)

    @cached_property
    def tracking(self) -> Tracking:
        from car_damage.adapters.mlflow.tracking import MlflowTracking

        return MlflowTracking(self.settings)

    @cached_property
    def registry(self) -> Registry:
        from car_damage.adapters.mlflow.registry import MlflowRegistry

        return MlflowRegistry(self.settings, self.clock)

    @cached_property
    def archive(self) -> Archive:
        from car_damage.adapters.mlflow.archive import MlflowArchive

        return MlflowArchive(self.settings)

    @cached_property
    def history(self) -> History:
        from car_damage.adapters.mlflow.history import MlflowHistory

        return MlflowHistory(self.settings)

    @cached_property
    def serving(self) -> Serving:
        from car_damage.adapters.databricks.serving import DatabricksServing

        return DatabricksServing(self.settings)

    @cached_property
    def clock(self) -> Clock:
        from car_damage.adapters.clock import SystemClock

        return SystemClock()


def _files_of(folder: str) -> Files:
    from car_damage.adapters.databricks import volume
    from car_damage.adapters.folder import Folder

    return volume.Volume() if volume.is_elsewhere(folder) else Folder()
