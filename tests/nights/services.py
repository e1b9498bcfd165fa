"""The services of the simulation: MLflow, the registry and the endpoint in memory, with networks that answer photos."""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from car_damage.adapters.folder import Folder
from car_damage.errors import Unavailable
from car_damage.ports import KEY_TAG, Prediction, RunContents, RunSummary, TrainedRun
from tests.fakes import Endpoint, Runs, Versions
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


class Trainings(Runs):
    """Port Tracking in memory."""

    def __init__(self) -> None:
        super().__init__({})
        self.tags: dict[str, dict[str, str]] = {}
        self.states: dict[str, str] = {}
        self.metrics: dict[str, dict[str, float]] = {}
        self.networks: dict[str, Network] = {}
        """URI of a logged model -> its network."""

    def run_for(self, training_key: str) -> TrainedRun | None:
        for run_id, tags in reversed(self.tags.items()):
            if tags[KEY_TAG] == training_key and self.states[run_id] == "FINISHED":
                return TrainedRun(run_id, f"models:/m-{run_id}", self.metrics[run_id], tags.get("flow_run", ""))
        return None

    def recent(self, limit: int) -> list[RunSummary]:
        last = list(reversed(self.tags))[:limit]
        return [RunSummary(run, run, self.states[run], datetime.fromtimestamp(0, UTC), self.metrics.get(run, {})) for run in last]

    def start(self, name: str, tags: Mapping[str, str]) -> str:
        del name
        run_id = f"run-{len(self.tags) + 1}"
        self.tags[run_id], self.states[run_id] = dict(tags), "RUNNING"
        return run_id

    def log(self, run_id: str, contents: RunContents) -> str:
        self.files |= {(run_id, file.name): file.read_bytes() for file in contents.folder.iterdir()}
        self.metrics[run_id] = dict(contents.metrics)
        self.networks[f"models:/m-{run_id}"] = Network.load(contents.keras_file)
        return f"models:/m-{run_id}"

    def finish(self, run_id: str, model_uri: str) -> None:
        del model_uri
        self.states[run_id] = "FINISHED"

    def fail(self, run_id: str, message: str) -> None:
        del message
        self.states[run_id] = "FAILED"

    def abandon(self, flow_run: str) -> None:
        for run_id, tags in self.tags.items():
            if tags.get("flow_run") == flow_run and self.states[run_id] == "RUNNING":
                self.states[run_id] = "KILLED"


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
