"""Removes trainings from MLflow for good, and keeps the documents of their decisions, and the certificates of forgotten photos, as files of
one run, the archive.

In a store on this machine the files go at once, as with `mlflow gc`. A server or a workspace removes the files of deleted runs by
rules of its own, so there a run is only deleted.
"""

import contextlib
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from car_damage.adapters.mlflow.client import MlflowAdapter, experiment_id, translated
from car_damage.adapters.mlflow.provenance import software
from car_damage.adapters.mlflow.tracking import summary
from car_damage.adapters.mlflow.trials import PARENT_TAG
from car_damage.errors import RegistryError
from car_damage.machine import Scratch
from car_damage.ports import KEY_TAG, RunSummary

if TYPE_CHECKING:
    from mlflow.entities import FileInfo, LoggedModel
    from mlflow.store.artifact.artifact_repo import ArtifactRepository

ARCHIVE_TAG = "archive_of"
"""The tag of the archive; its value is the name of the registered model."""

_RUN = "run"
"""The owner of a run's own files, in the names of `MlflowArchive.files`. Others belong to the model with this id."""
_MODELS = 50
"""Logged models of a run, at most: one, and others that failed calls have left."""


class MlflowArchive(MlflowAdapter):
    """The port `Archive`. Every method raises Unavailable or RegistryError: see `client.translated`."""

    def deleted(self) -> list[RunSummary]:
        from mlflow.entities import ViewType

        if not self._is_here:
            return []
        with translated("listing deleted training runs"):
            return [summary(run) for run in self._runs(f"tags.{KEY_TAG} LIKE '%'", view=ViewType.DELETED_ONLY)]

    def bytes_of(self, run: RunSummary) -> int | None:
        if not self._is_here:
            return None
        with translated(f"listing the files of run {run.run_id}"):
            files = _size(partial(self._client.list_artifacts, run.run_id))
            models = [partial(self._client.list_logged_model_artifacts, model.model_id) for model in self._models_of(run.run_id)]
            return files + sum(map(_size, models))

    def files(self, run: RunSummary) -> list[str]:
        with translated(f"listing the files of run {run.run_id}"):
            found = [f"{_RUN}/{file}" for file in _paths(partial(self._client.list_artifacts, run.run_id))]
            for model in self._models_of(run.run_id):
                listing = partial(self._client.list_logged_model_artifacts, model.model_id)
                found += [f"{model.model_id}/{file}" for file in _paths(listing)]
            return found

    def read(self, run: RunSummary, file: str) -> bytes:
        with translated(f"reading {file} of run {run.run_id}"), Scratch("artifacts") as folder:
            repository, path = self._repository(run, file)
            return Path(repository.download_artifacts(path, str(folder))).read_bytes()

    def replace(self, run: RunSummary, file: str, data: bytes | None) -> None:
        with translated(f"changing {file} of run {run.run_id}"), Scratch("artifacts") as folder:
            repository, path = self._repository(run, file)
            if data is None and self._is_here:
                repository.delete_artifacts(path)
                return
            above, _, name = path.rpartition("/")
            # Empty, because DatabricksArtifactRepository of MLflow 3.17 removes no file.
            (folder / name).write_bytes(data or b"")
            repository.log_artifact(str(folder / name), above or None)

    def _repository(self, run: RunSummary, file: str) -> "tuple[ArtifactRepository, str]":
        """Where a file of `files` lies, and its path there."""
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
        from mlflow.utils.uri import add_databricks_profile_info_to_artifact_uri

        owner, _, path = file.partition("/")
        where = (
            self._client.get_run(run.run_id).info.artifact_uri if owner == _RUN else self._client.get_logged_model(owner).artifact_location
        )
        uri = self._settings.tracking_uri
        return get_artifact_repository(add_databricks_profile_info_to_artifact_uri(where, uri), tracking_uri=uri), path

    def keep(self, documents: Mapping[str, bytes]) -> None:
        with translated("archiving decisions"), Scratch("archive") as folder:
            for name, data in documents.items():
                (folder / name).write_bytes(data)
            self._client.log_artifacts(self._archive(), str(folder), "decisions")

    def remove(self, runs: Sequence[RunSummary]) -> None:
        from mlflow.entities import LifecycleStage

        models: list[str] = []
        trials: list[str] = []
        for run in runs:
            with translated(f"deleting the trials of run {run.run_id}"):
                for trial in self._runs(f"tags.`{PARENT_TAG}` = '{run.run_id}'"):
                    self._client.delete_run(trial.info.run_id)
                    trials.append(trial.info.run_id)
            with translated(f"deleting run {run.run_id}"):
                for model in self._models_of(run.run_id):
                    self._client.delete_logged_model(model.model_id)
                    models.append(model.model_id)
                if self._client.get_run(run.run_id).info.lifecycle_stage == LifecycleStage.ACTIVE:
                    self._client.delete_run(run.run_id)
        if runs and self._is_here:
            self._collect([*trials, *(run.run_id for run in runs)], models)

    @property
    def _is_here(self) -> bool:
        """Whether the store is in the home folder, so that nobody else removes its files."""
        return self._settings.tracking.uri is None

    def _archive(self) -> str:
        """The id of the archive, which is made if there is none."""
        name = self._settings.tracking.model
        found = self._runs(f"tags.{ARCHIVE_TAG} = '{name}'", 1)
        if found:
            return str(found[0].info.run_id)
        tags = {**software(), ARCHIVE_TAG: name}
        run = self._client.create_run(experiment_id(self._client, self._settings), tags=tags, run_name="archive of decisions")
        self._client.set_terminated(run.info.run_id, "FINISHED")
        return str(run.info.run_id)

    def _models_of(self, run_id: str) -> "list[LoggedModel]":
        experiment = experiment_id(self._client, self._settings)
        return list(self._client.search_logged_models([experiment], f"source_run_id = '{run_id}'", max_results=_MODELS))

    def _collect(self, runs: Iterable[str], models: Sequence[str]) -> None:
        """What the command `mlflow gc` does: MLflow's client cannot remove files."""
        from click import ClickException
        from mlflow.cli import gc

        uri = self._settings.tracking_uri
        arguments = ["--backend-store-uri", uri, "--tracking-uri", uri, "--run-ids", ",".join(runs)]
        arguments += ["--logged-model-ids", ",".join(models)] if models else []
        with translated("removing the files of deleted runs"), contextlib.redirect_stdout(io.StringIO()):
            try:
                gc.main(arguments, standalone_mode=False)
            except ClickException as error:
                raise RegistryError(f"removing the files of deleted runs: {error.message}") from error


def _paths(listing: "Callable[[str | None], list[FileInfo]]", folder: str | None = None) -> list[str]:
    """All files below a folder of a run or of a model."""
    entries: list[Any] = listing(folder)
    return [path for entry in entries for path in (_paths(listing, entry.path) if entry.is_dir else [entry.path])]


def _size(listing: "Callable[[str | None], list[FileInfo]]", folder: str | None = None) -> int:
    """Bytes of all files below a folder of a run or of a model."""
    entries: list[Any] = listing(folder)
    return sum(_size(listing, entry.path) if entry.is_dir else entry.file_size or 0 for entry in entries)
