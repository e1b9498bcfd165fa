"""Training runs in MLflow: SQLite in the home folder, an MLflow server, or Databricks, with the same code.

Lookups by training key return only FINISHED runs, and a run is finished last, after its model is logged. So the
run of a killed training never counts as a result. The next start with the same key ends it.
"""

import logging
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from car_damage.adapters.mlflow import datasets
from car_damage.adapters.mlflow.client import ABSENT, FOR_TRAININGS, fluent, repeated, requirements, translated
from car_damage.adapters.mlflow.provenance import software
from car_damage.adapters.mlflow.trials import MlflowTrials
from car_damage.errors import RegistryError
from car_damage.machine import Scratch
from car_damage.model.served import package
from car_damage.packages import trained_with
from car_damage.ports import FLOW_RUN_TAG, KEY_TAG, NETWORK_TAG, PACKAGES_TAG, TAG_LIMIT, RunContents, RunSummary, TrainedRun
from car_damage.settings import Settings

if TYPE_CHECKING:
    from mlflow.entities import Metric, Run

_log = logging.getLogger(__name__)

MODEL_TAG = "model_uri"
FAILURE_TAG = "failure"

_METRICS = 500
_PARAMS = 100
"""Items in one batch: half of MLflow's limit for metrics, and its limit for params."""
_NOT_IN_A_NAME = "/:.%\"'"
"""Characters that MLflow refuses in a logged model's name, while a registry may take some of them."""


class MlflowTracking(MlflowTrials):
    """The port `Tracking` on `MlflowClient`. Every method raises Unavailable or RegistryError: see `client.translated`."""

    def run_for(self, training_key: str, packages: Mapping[str, str]) -> TrainedRun | None:
        with translated("looking for a finished run with this training key"):
            for run in self._search(KEY_TAG, training_key, "FINISHED"):
                uri = run.data.tags.get(MODEL_TAG, "")
                if uri and self._readable(uri) and (not packages or trained_with(self._trained_with(run, uri), packages)):
                    tags = run.data.tags
                    return TrainedRun(run.info.run_id, uri, dict(run.data.metrics), tags.get(FLOW_RUN_TAG, ""), tags.get(NETWORK_TAG, ""))
        return None

    def recent(self, limit: int | None = None) -> list[RunSummary]:
        with translated("listing the latest training runs"):
            runs = self._runs(f"tags.{KEY_TAG} LIKE '%'", limit)
        return [summary(run) for run in runs]

    def start(self, name: str, tags: Mapping[str, str]) -> str:
        with translated(f"starting the run {name}"):
            if key := tags.get(KEY_TAG):
                for run in self._search(KEY_TAG, key, "RUNNING"):
                    self._client.set_terminated(run.info.run_id, "KILLED")
                    _log.warning(
                        "marking MLflow run %s as killed: an earlier process with the same training did not end it", run.info.run_id
                    )
            return self._create(name, {**_job(), **software(), **tags})

    def log(self, run_id: str, contents: RunContents) -> str:
        from mlflow.entities import Param
        from mlflow.exceptions import MlflowException
        from mlflow.utils import chunk_list

        with translated(f"logging run {run_id}"):
            for key, value in contents.tags.items():
                self._client.set_tag(run_id, key, value)
            params = [Param(key, str(value)) for key, value in contents.params.items()]
            for chunk in chunk_list(params, _PARAMS):
                self._client.log_batch(run_id, params=chunk)
            for batch in chunk_list(_metrics(contents), _METRICS):
                self._client.log_batch(run_id, metrics=batch)
            self._client.log_inputs(run_id, datasets.inputs(contents.dataset, self._settings))
            self._client.log_artifacts(run_id, str(contents.folder))
            try:
                return self._log_model(run_id, contents)
            except MlflowException as error:
                if not repeated(error):
                    raise
                # Once more, instead of a second training. The first try leaves a logged model without files, which nothing uses.
                return self._log_model(run_id, contents)

    def finish(self, run_id: str, model_uri: str, training_key: str | None = None) -> None:
        with translated(f"finishing run {run_id}"):
            if training_key is not None:
                self._client.set_tag(run_id, KEY_TAG, training_key)
            self._client.set_tag(run_id, MODEL_TAG, model_uri)
            self._client.set_terminated(run_id, "FINISHED")

    def fail(self, run_id: str, message: str) -> None:
        with translated(f"marking run {run_id} as failed"):
            self._client.set_tag(run_id, FAILURE_TAG, message[:TAG_LIMIT])
            self._client.set_terminated(run_id, "FAILED")

    def abandon(self, flow_run: str) -> None:
        with translated(f"ending the runs of the cancelled flow run {flow_run}"):
            for run in self._search(FLOW_RUN_TAG, flow_run, "RUNNING"):
                if KEY_TAG in run.data.tags:  # runs of the champion's history have the tag flow_run too
                    self._client.set_terminated(run.info.run_id, "KILLED")

    def fetch(self, run_id: str, artifact: str) -> bytes:
        folder = artifact.rpartition("/")[0]
        with translated(f"fetching {artifact} of run {run_id}"), Scratch("artifacts") as temporary:
            if artifact not in (file.path for file in self._client.list_artifacts(run_id, folder or None)):
                raise RegistryError(
                    f"run {run_id} has no file {artifact}: the file was deleted, or the run is not a training of this project"
                )
            return Path(self._client.download_artifacts(run_id, artifact, str(temporary))).read_bytes()

    def attach(self, run_id: str, artifacts: Mapping[str, bytes]) -> None:
        with translated(f"adding {', '.join(artifacts)} to run {run_id}"), Scratch("artifacts") as temporary:
            for name, data in artifacts.items():
                path = temporary / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
            self._client.log_artifacts(run_id, str(temporary))

    def url(self, run_id: str, file: str = "") -> str | None:
        uri, query = self._settings.tracking.ui or self._settings.tracking_uri, ""
        if uri.startswith("databricks"):
            from mlflow.utils.databricks_utils import get_databricks_host_creds

            with translated("looking up the workspace's address"):
                base = f"{str(get_databricks_host_creds(uri).host).rstrip('/')}/ml"
        elif uri.startswith(("http://", "https://")):
            base, query = f"{uri.rstrip('/')}/#", f"?{FOR_TRAININGS}"
        else:
            return None
        with translated(f"looking up run {run_id}"):
            page = f"{base}/experiments/{self._client.get_run(run_id).info.experiment_id}/runs/{run_id}"
        return f"{page}{f'/artifacts/{file}' if file else ''}{query}"

    def _search(self, tag: str, value: str, status: str) -> "list[Run]":
        return self._runs(f"tags.{tag} = '{value}' and attributes.status = '{status}'")

    def _trained_with(self, run: "Run", model_uri: str) -> str:
        """The packages that have trained a run's network. Runs of earlier releases have them in their model's requirements."""
        return run.data.tags.get(PACKAGES_TAG) or requirements(self._settings, model_uri)

    def _readable(self, model_uri: str) -> bool:
        """Whether the model is still recorded, and its files are where MLflow expects them."""
        from mlflow.exceptions import MlflowException

        model_id = model_uri.removeprefix("models:/")
        try:
            self._client.get_logged_model(model_id)  # the files of a deleted model may still exist for a while
            files = self._client.list_logged_model_artifacts(model_id)
        except MlflowException as error:
            if error.error_code in ABSENT:
                return False
            raise
        return {"MLmodel", "artifacts"} <= {Path(file.path).name for file in files}

    def _log_model(self, run_id: str, contents: RunContents) -> str:
        """Make this run the active one while its model is logged: MLflow logs models only to the active run."""
        mlflow = fluent(self._settings)
        mlflow.start_run(run_id=run_id, nested=True, log_system_metrics=False)
        try:
            kind, limits = contents.params.get("network", ""), self._settings.images.limits()
            small = kind == "cnn" and contents.onnx_file is not None
            network = package.NetworkFiles(contents.keras_file, contents.onnx_file, contents.answering_file, small)
            classes, preparation = self._settings.labels.classes, contents.preparation
            name = model_name(self._settings, kind)
            return package.log(network, contents.example, classes, name, limits=limits, preparation=preparation)
        finally:
            mlflow.end_run("RUNNING")  # `finish` sets FINISHED


def _job() -> dict[str, str]:
    """The tags with the Databricks job that this process runs in: MLflow shows it, and puts it into the lineage of the model's versions."""
    from mlflow.utils import databricks_utils, mlflow_tags

    if not databricks_utils.is_in_databricks_job():
        return {}
    found = {
        mlflow_tags.MLFLOW_DATABRICKS_JOB_ID: databricks_utils.get_job_id(),
        mlflow_tags.MLFLOW_DATABRICKS_JOB_RUN_ID: databricks_utils.get_job_run_id(),
    }
    return {key: str(value) for key, value in found.items()}


def summary(run: "Run") -> RunSummary:
    """A run as the ports know it."""
    data, info = run.data, run.info
    started, ended = (datetime.fromtimestamp(at / 1000, UTC) if at else None for at in (info.start_time, info.end_time))
    assert started is not None  # noqa: S101 - every run has a start
    return RunSummary(info.run_id, info.run_name or "", info.status, started, dict(data.metrics), dict(data.tags), ended)


def model_name(settings: Settings, network: str = "") -> str:
    """The name of a logged model: the registered model's last name and the network's."""
    name = f"{settings.tracking.model.rpartition('.')[2]}-{network or settings.training.network}"
    return name.translate(dict.fromkeys(map(ord, _NOT_IN_A_NAME), "_"))


def _metrics(contents: RunContents) -> "list[Metric]":
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    return [Metric(key, float(value), now, 0) for key, value in contents.metrics.items()] + [
        Metric(key, float(value), now, epoch) for key, values in contents.history.items() for epoch, value in enumerate(values, 1)
    ]
