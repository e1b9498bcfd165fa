"""The services of the simulation: MLflow, the registry and the endpoint in memory, with networks that answer photos."""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime

from car_damage.adapters.folder import Folder
from car_damage.errors import Unavailable
from car_damage.ports import KEY_TAG, ModelVersion, Prediction, RunContents, RunSummary, TrainedRun
from tests.fakes import Endpoint, Runs, Shelf, Time, Versions
from tests.nights.networks import Network
from tests.nights.photos import Photo


class Disk(Folder):
    """Files of this machine, some of which cannot be read at present."""

    def __init__(self, unreadable: set[str]) -> None:
        self.unreadable = unreadable

    def read(self, path: str) -> bytes:
        if path in self.unreadable:
            raise Unavailable(f"{path} cannot be read: Input/output error")
        return super().read(path)


class Models(Versions):
    """Port Registry in memory, which gives no number twice."""

    def __init__(self) -> None:
        super().__init__()
        self.created = 0

    def create(self, run_id: str, model_uri: str, tags: Mapping[str, str], description: str) -> ModelVersion:
        self.created += 1
        self.descriptions[self.created] = description
        self.versions[self.created] = ModelVersion(self.created, run_id, dict(tags), uri=model_uri)
        return self.versions[self.created]


class Trainings(Runs):
    """Port Tracking in memory."""

    def __init__(self, clock: Time) -> None:
        super().__init__({})
        self.clock = clock
        self.started: dict[str, datetime] = {}
        self.tags: dict[str, dict[str, str]] = {}
        self.states: dict[str, str] = {}
        self.metrics: dict[str, dict[str, float]] = {}
        self.networks: dict[str, Network] = {}
        """URI of a logged model -> its network."""

    def run_for(self, training_key: str, packages: Mapping[str, str]) -> TrainedRun | None:
        del packages  # all runs trained with the same
        for run_id, tags in reversed(self.tags.items()):
            if tags[KEY_TAG] == training_key and self.states[run_id] == "FINISHED":
                return TrainedRun(run_id, f"models:/m-{run_id}", self.metrics[run_id], tags.get("flow_run", ""))
        return None

    def recent(self, limit: int | None = None) -> list[RunSummary]:
        last = list(reversed(self.tags))[:limit]
        return [RunSummary(run, run, self.states[run], self.started[run], self.metrics.get(run, {}), self.tags[run]) for run in last]

    def start(self, name: str, tags: Mapping[str, str]) -> str:
        del name
        run_id = f"run-{len(self.started) + 1}"
        self.started[run_id] = self.clock.now()
        self.tags[run_id], self.states[run_id] = dict(tags), "RUNNING"
        return run_id

    def log(self, run_id: str, contents: RunContents) -> str:
        self.files |= {(run_id, file.name): file.read_bytes() for file in contents.folder.iterdir()}
        self.metrics[run_id] = dict(contents.metrics)
        self.networks[f"models:/m-{run_id}"] = Network.load(contents.keras_file)
        return f"models:/m-{run_id}"

    def finish(self, run_id: str, model_uri: str, training_key: str | None = None) -> None:
        del model_uri
        if training_key is not None:
            self.tags[run_id] = {**self.tags[run_id], "training_key": training_key}
        self.states[run_id] = "FINISHED"

    def fail(self, run_id: str, message: str) -> None:
        del message
        self.states[run_id] = "FAILED"

    def abandon(self, flow_run: str) -> None:
        for run_id, tags in self.tags.items():
            if tags.get("flow_run") == flow_run and self.states[run_id] == "RUNNING":
                self.states[run_id] = "KILLED"


class Archive(Shelf):
    """Port Archive in memory: what it removes is gone from the trainings."""

    def __init__(self, runs: Trainings) -> None:
        super().__init__()
        self.runs = runs

    def remove(self, runs: Sequence[RunSummary]) -> None:
        super().remove(runs)
        for run in runs:
            for kept in (self.runs.tags, self.runs.states, self.runs.metrics):
                kept.pop(run.run_id, None)
            self.runs.networks.pop(f"models:/m-{run.run_id}", None)
            for file in [file for file in self.runs.files if file[0] == run.run_id]:
                del self.runs.files[file]


class Served(Endpoint):
    """Port Serving, whose versions answer with their networks."""

    def __init__(self, registry: Versions, runs: Trainings, subjects: Mapping[str, Photo]) -> None:
        super().__init__({}, looks=1)
        self.registry, self.runs, self.subjects = registry, runs, subjects

    def query(self, photos: Sequence[bytes]) -> list[Prediction]:
        if self.served is None:
            raise Unavailable("the endpoint is not ready")
        network = self.runs.networks[self.registry.get(self.served).uri]
        return [self._answer(network, self.subjects[hashlib.sha256(photo).hexdigest()]) for photo in photos]

    def _answer(self, network: Network, photo: Photo) -> Prediction:
        probabilities = network.probabilities(photo)
        label = network.says(photo)
        return Prediction(label, probabilities[label], probabilities, f"model-{self.served}", 0.01)
