"""The trials of a search in MLflow: child runs of the run of its training."""

import json
import math
import operator
import uuid
from collections.abc import Mapping

from car_damage.adapters.mlflow.client import MlflowAdapter, experiment_id, translated
from car_damage.ports import Trial

SEARCH_TAG, TRIAL_TAG = "search_of", "trial"
"""Tags of a trial of a search: the training key that it is for; and its number, what it changed and what came of it, as JSON."""
PARENT_TAG = "mlflow.parentRunId"
"""MLflow shows a run with this tag below the run that it names."""
START_TAG = "start"
"""The same for all runs that one start has made: at most one of them is used."""


class MlflowTrials(MlflowAdapter):
    """The part of the port `Tracking` that a search needs."""

    def trials(self, training_key: str, run_id: str) -> list[Trial]:
        with translated("looking for the trials of an earlier search"):
            runs = self._runs(f"tags.{SEARCH_TAG} = '{training_key}'")
            for run in runs:
                if run.data.tags.get(PARENT_TAG) != run_id:
                    self._client.set_tag(run.info.run_id, PARENT_TAG, run_id)
                if run.info.status == "RUNNING":
                    self._client.set_terminated(run.info.run_id, "KILLED")
        found = sorted((json.loads(run.data.tags[TRIAL_TAG]) for run in runs), key=operator.itemgetter("number"))
        return [Trial(trial["changes"], math.inf if trial["loss"] is None else trial["loss"], trial["seconds"]) for trial in found]

    def begin_trial(self, training_key: str, run_id: str, number: int, trial: Trial) -> str:
        from mlflow.entities import Param

        with translated(f"beginning trial {number} of run {run_id}"):
            child = self._create(f"trial-{number}", {SEARCH_TAG: training_key, PARENT_TAG: run_id, TRIAL_TAG: _said(number, trial)})
            self._client.log_batch(child, params=[Param(name, str(value)) for name, value in trial.changes.items()])
        return child

    def end_trial(self, child: str, number: int, trial: Trial) -> None:
        with translated(f"logging trial {number}, run {child}"):
            self._client.set_tag(child, TRIAL_TAG, _said(number, trial))
            for name, value in {"seconds": trial.seconds, "loss": trial.loss}.items():
                if math.isfinite(value):
                    self._client.log_metric(child, name, value)
            self._client.set_terminated(child, "FINISHED")

    def _create(self, name: str, tags: Mapping[str, str]) -> str:
        this = uuid.uuid4().hex
        tags = {**tags, START_TAG: this}
        run_id = str(self._client.create_run(experiment_id(self._client, self._settings), tags=tags, run_name=name).info.run_id)
        # MLflow's client sends the request again if its answer was lost, and then there are two runs.
        for run in self._runs(f"tags.{START_TAG} = '{this}' and attributes.status = 'RUNNING'"):
            if run.info.run_id != run_id:
                self._client.delete_run(run.info.run_id)
        return run_id


def _said(number: int, trial: Trial) -> str:
    loss = trial.loss if math.isfinite(trial.loss) else None
    return json.dumps({"number": number, "changes": trial.changes, "loss": loss, "seconds": trial.seconds})
