"""The model registry on MLflow: SQLite, an MLflow server, or Unity Catalog, with the same code.

Aliases are read from the registered model, never requested by name: a missing alias and a bad call have the
same error code, and a failed lookup must never count as "there is no champion".
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from car_damage.adapters.mlflow.client import ABSENT, PAGE, MlflowAdapter, fluent, requirements, translated
from car_damage.errors import RegistryError
from car_damage.ports import CHALLENGER, CHAMPION, Clock, ModelVersion
from car_damage.settings import Settings

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion as MlflowVersion

DESCRIPTION = "Severity of car damage from a photo"
"""Of the registered model."""
READY_TIMEOUT = 300.0
"""Seconds that a new version may take to become READY: enough for uploading a model of a few MB, with a wide margin."""
READY_POLL = 3.0
"""Seconds between two checks whether the version is READY."""
_EXISTS = frozenset({"RESOURCE_ALREADY_EXISTS", "ALREADY_EXISTS"})
"""The error codes of MLflow and of Unity Catalog for an object that exists already."""

_log = logging.getLogger(__name__)


class MlflowRegistry(MlflowAdapter):
    """The port `Registry` on `MlflowClient`."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        super().__init__(settings)
        self._name = settings.tracking.model
        self._clock = clock

    def versions_for(self, run_id: str) -> list[ModelVersion]:
        with translated(f"looking for versions of run {run_id} in {self._name}"):
            versions = self._versions_of(run_id)
        return [version for version in versions if version.ready]

    def create(self, run_id: str, model_uri: str, tags: Mapping[str, str], description: str) -> ModelVersion:
        with translated(f"registering {model_uri} as a version of {self._name}"):
            self._ensure_model()
            self._remove_unfinished(run_id)
            fluent(self._settings)  # the client looks up the logged model in the process's store instead of its own
            # Not register_model: it requires the permission to create the registered model, even if it exists.
            created = self._client.create_model_version(
                self._name,
                model_uri,
                run_id,
                dict(tags),
                description=description,
                await_creation_for=0,
                model_id=model_uri.removeprefix("models:/"),
            )
            deadline = self._clock.monotonic() + READY_TIMEOUT
            while (found := self._client.get_model_version(self._name, created.version)).status != "READY":
                failed = found.status == "FAILED_REGISTRATION"
                if failed or self._clock.monotonic() > deadline:
                    why = f"failed: {found.status_message}" if failed else f"was not READY after {READY_TIMEOUT:.0f} s"
                    raise RegistryError(
                        f"the registration of version {created.version} of {self._name} {why}; look at the version in the registry; "
                        "the next run removes it and registers the model again"
                    )
                self._clock.sleep(READY_POLL)
            self._remove_unfinished(run_id)  # MLflow's client retries after a lost response, and each attempt creates a version
        return self._version(found)

    def all_versions(self) -> list[ModelVersion]:
        with translated(f"listing the versions of {self._name}"):
            return self._found(f"name = '{self._name}'")

    def get(self, version: int) -> ModelVersion:
        with translated(f"reading version {version} of {self._name}"):
            return self._version(self._client.get_model_version(self._name, str(version)))

    def champion(self) -> ModelVersion | None:
        return self._alias(CHAMPION)

    def challenger(self) -> ModelVersion | None:
        return self._alias(CHALLENGER)

    def move(self, alias: str, to: int | None) -> None:
        with translated(f"moving the alias {alias} of {self._name}"):
            if to is not None:
                self._client.set_registered_model_alias(self._name, alias, str(to))
            elif alias in self._aliases():
                self._client.delete_registered_model_alias(self._name, alias)

    def tag(self, version: int, tags: Mapping[str, str]) -> None:
        with translated(f"tagging version {version} of {self._name}"):
            for key, value in tags.items():
                self._client.set_model_version_tag(self._name, str(version), key, value)

    def describe(self, version: int, description: str, ours: str) -> None:
        with translated(f"describing version {version} of {self._name}"):
            found = self._client.get_model_version(self._name, str(version)).description or ""
            if found.startswith(ours) and found != description:
                self._client.update_model_version(self._name, str(version), description)

    def remove(self, version: int) -> None:
        with translated(f"removing version {version} of {self._name}"):
            self._client.delete_model_version(self._name, str(version))

    def download(self, model_uri: str, into: Path) -> Path:
        with translated(f"downloading {model_uri}"):
            mlflow = fluent(self._settings)
            return Path(mlflow.artifacts.download_artifacts(model_uri, dst_path=str(into)))

    def requirements(self, model_uri: str) -> str:
        with translated(f"reading the requirements of {model_uri}"):
            return requirements(self._settings, model_uri)

    def _versions_of(self, run_id: str) -> list[ModelVersion]:
        """All versions of a run, including those that are not READY; lowest first."""
        return self._found(f"run_id = '{run_id}'")

    def _found(self, condition: str) -> list[ModelVersion]:
        from mlflow.utils import get_results_from_paginated_fn

        def page(_size: int, token: str | None) -> Any:
            return self._client.search_model_versions(condition, page_token=token)

        # Unity Catalog filters by one field only and returns no tags: so filter by name here, and get each version's tags.
        found = get_results_from_paginated_fn(page, PAGE)
        numbers = sorted(int(version.version) for version in found if version.name == self._name)
        return [self._version(self._client.get_model_version(self._name, str(number))) for number in numbers]

    def _remove_unfinished(self, run_id: str) -> None:
        """Remove the run's versions whose files are missing after a kill or a lost response: they would stay pending for ever."""
        for version in self._versions_of(run_id):
            if not version.ready:
                _log.warning("removing version %d of %s: its registration was not finished", version.version, self._name)
                self._client.delete_model_version(self._name, str(version.version))

    def _alias(self, alias: str) -> ModelVersion | None:
        with translated(f"reading the aliases of {self._name}"):
            version = self._aliases().get(alias)
        return None if version is None else self.get(int(version))

    def _aliases(self) -> dict[str, str]:
        """Alias -> version. The registered model is created first, so that an error of the lookup never means that it is missing."""
        self._ensure_model()
        return dict(self._client.get_registered_model(self._name).aliases)

    def _ensure_model(self) -> None:
        if self._model_is_there:
            return
        from mlflow.exceptions import MlflowException

        try:
            self._client.get_registered_model(self._name)
        except MlflowException as error:
            if error.error_code not in ABSENT:
                raise
            try:
                self._client.create_registered_model(self._name, description=DESCRIPTION)
            except MlflowException as created:
                if created.error_code not in _EXISTS:  # another run has just created it
                    raise
        self._model_is_there = True

    _model_is_there = False

    def _version(self, found: "MlflowVersion") -> ModelVersion:
        return ModelVersion(
            version=int(found.version),
            run_id=found.run_id or "",
            tags=dict(found.tags or {}),
            ready=found.status == "READY",
            uri=f"models:/{self._name}/{found.version}",
        )
