"""Runs the pipeline in forked processes that can be killed at any call of a port.

`python -m tests.kill.world` reads commands, one JSON object a line, and answers each with one. It imports all heavy
modules once and then forks a process for each command, so that a run does not pay for imports. Four replacements save
time, because the test is about the order of effects, not about learning: training takes no time and predicts what
TOLD_RIGHT configures; nothing is drawn or exported; the model needs no TensorFlow, and its process at the endpoint server,
which is real, no MLflow (light_model); and the model is checked and judged in this process.
"""

import base64
import hashlib
import importlib
import json
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from mlflow.store.model_registry import sqlalchemy_store as mlflow_registry
from mlflow.store.tracking import sqlalchemy_store as mlflow_tracking
from mlflow.utils import requirements_utils

from car_damage.adapters.mlflow import tracking
from car_damage.data.forgotten import mark_of
from car_damage.data.people import reviews
from car_damage.data.people.desk import Desk
from car_damage.data.people.reviews import REVIEWS
from car_damage.data.people.waiting import Answer
from car_damage.data.photos.assignment import ASSIGNED
from car_damage.data.photos.ledger import BRONZE
from car_damage.model.networks import export, training
from car_damage.model.pixels.photos import Photos
from car_damage.model.quality import plots
from car_damage.model.run_files import PREDICTIONS_FILE, read_predictions
from car_damage.model.served.process import ModelAnswer
from car_damage.photo.columns import probabilities
from car_damage.pipeline import (
    ChooseRequest,
    EndpointRequest,
    ForgetRequest,
    ScoreRequest,
    TidyRequest,
    ValidateRequest,
    live_request,
    promote_request,
    register_request,
    silver_request,
    train_request,
)
from car_damage.platform import Target, as_first_used
from car_damage.settings_sources import load
from car_damage.stage import silent
from car_damage.stages import register
from car_damage.stages.choose import STAGE as CHOOSE
from car_damage.stages.endpoint import STAGE as ENDPOINT
from car_damage.stages.endpoint import is_right, put_right
from car_damage.stages.forget import STAGE as FORGET
from car_damage.stages.live import STAGE as LIVE
from car_damage.stages.register import STAGE as REGISTER
from car_damage.stages.score import STAGE as SCORE
from car_damage.stages.silver import STAGE as SILVER
from car_damage.stages.tidy import STAGE as TIDY
from car_damage.stages.train import STAGE as TRAIN
from car_damage.stages.validate import STAGE as VALIDATE

PORTS = ("files", "tables", "tracking", "registry", "history", "archive", "serving")
HEAVY = (
    "alembic",
    "databricks.sdk",
    "git",
    "deltalake",
    "keras",
    "matplotlib.backends.backend_agg",
    "matplotlib.figure",
    "mlflow.pyfunc.model",
    "mlflow.pyfunc.scoring_server",
    "onnxruntime",
    "opentelemetry.sdk.trace",
    "pyarrow.acero",
    "pyarrow.dataset",
    "sqlalchemy.dialects.sqlite",
    "tf2onnx.tfonnx",
)
"""Modules that a run imports. Importing them before the forks saves six seconds of processor time in each of about a hundred forks."""
LIGHT_MODEL = Path(__file__).with_name("light_model.py")


class Killer:
    """Records the calls of all ports and kills the process with SIGKILL, like `kill -9`, at a given call."""

    def __init__(self, at: tuple[str, int] | None, when: str) -> None:
        """`at`: a call and the number of earlier identical calls. A position among all calls would not do: the number of polls varies."""
        self.calls: list[str] = []
        self.stage = ""
        self._at, self._when = at, when
        self._lock = threading.Lock()

    def call(self, name: str, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        with self._lock:
            call = f"{self.stage} {name}"
            here = (call, self.calls.count(call))
            self.calls.append(call)
        if here == self._at and self._when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = method(*args, **kwargs)
        if here == self._at and self._when == "after":
            os.kill(os.getpid(), signal.SIGKILL)
        return result


class Watched:
    """A port whose calls all go through the killer."""

    def __init__(self, name: str, port: Any, killer: Killer) -> None:
        self._name, self._port, self._killer = name, port, killer

    def __getattr__(self, method: str) -> Any:
        return partial(self._killer.call, f"{self._name}.{method}", getattr(self._port, method))


class WatchedTarget:
    """The local target with every port watched."""

    def __init__(self, killer: Killer) -> None:
        target = Target(load())
        self.settings, self.clock = target.settings, target.clock
        for name in PORTS:
            # delta-rs gets the files port unwatched: its reads of photos are part of `tables.each`.
            setattr(self, name, Watched(name, getattr(target, name), killer))


def pipeline(upto: str, killer: Killer, told: dict[str, Any] | None = None) -> str:
    """Run the stages in the flow's order up to `upto`. Returns `upto`, or "settled" if the flow would end early.

    `told` receives the state after each stage.
    """
    platform: Any = WatchedTarget(killer)
    killer.stage = "before"
    if not is_right(platform):
        put_right(platform, silent)

    def run(stage: Any, request: Any) -> Any:
        killer.stage = stage.name
        report = stage.work(request, platform, silent)
        if told is not None:
            told[stage.name] = world()
        return report

    validated = run(VALIDATE, ValidateRequest("flow"))
    if upto == "validate":
        return upto
    silver = run(SILVER, silver_request(ValidateRequest("flow"), validated))
    if upto == "silver":
        return upto
    asked = live_request(silver, as_first_used(platform.settings))
    live = run(LIVE, asked)
    if live.settled:
        if upto == "tidy":
            run(TIDY, TidyRequest(asked.training_key))
        return "settled"
    trained = run(TRAIN, train_request("flow", silver, live, asked))
    if upto == "train":
        return upto
    run(REGISTER, register_request("flow", silver, trained))
    if upto == "register":
        return upto
    run(ENDPOINT, EndpointRequest("flow", "who"))
    if upto == "tidy":
        run(TIDY, TidyRequest(asked.training_key))
    return upto


def promote(killer: Killer) -> str:
    """Promote version 1, as a person does for a rollback. Returns the outcome."""
    platform: Any = WatchedTarget(killer)
    killer.stage = CHOOSE.name
    chosen = CHOOSE.work(ChooseRequest(1), platform, silent)
    killer.stage = ENDPOINT.name
    return ENDPOINT.work(promote_request("flow", "who", chosen, "why"), platform, silent).outcome


def learn(photo: str) -> dict[str, Any]:
    """Have everything know a photo of the landing folder: it is scored, waits for review, and is reviewed. Returns what is told of it."""
    target = Target(load())
    settings, data = target.settings, Path(photo).read_bytes()
    SCORE.work(ScoreRequest("flow"), target, silent)
    desk = Desk(target.files, settings.answers, target.clock)
    sha256 = hashlib.sha256(data).hexdigest()
    kept = desk.keep(data, Answer("minor", {"minor": 0.5}, (), "model-1", target.clock.now().isoformat()))
    desk.take(sha256, reviews.NOT_A_CAR, "who")
    desk.take(sha256, reviews.UNDONE, "who")
    desk.take(sha256, Path(photo).parent.name, "who", photo=data)
    VALIDATE.work(ValidateRequest("flow"), target, silent)
    return {"kept": kept, "sha256": sha256}


def forget(photo: str, killer: Killer) -> dict[str, Any]:
    """Forget a photo by its hash. Returns the report."""
    platform: Any = WatchedTarget(killer)
    killer.stage = FORGET.name
    return asdict(FORGET.work(ForgetRequest("flow", mark_of(photo), "who"), platform, silent))


def world() -> dict[str, Any]:
    """The complete state after a run, without ids and times."""
    target = Target(load())
    settings = target.settings
    bronze, _ = target.tables.read(settings.tables.bronze, [name for name in BRONZE.names if not name.startswith("ingest")])
    silver, _ = target.tables.read(settings.tables.silver, ["path", "label", "height", "width", "sha256", "split"])
    splits, _ = target.tables.read(settings.tables.splits, ASSIGNED.names)
    words, _ = target.tables.read(settings.tables.reviews, REVIEWS.names)
    runs = [run for run in target.tracking.recent(100) if run.status == "FINISHED"]
    versions = [version for run in runs for version in target.registry.versions_for(run.run_id)]
    champion, challenger, state = target.registry.champion(), target.registry.challenger(), target.serving.state()
    found = {
        "bronze": sorted(json.dumps(row, default=str) for row in bronze.to_pylist()),
        "silver": sorted(json.dumps(row) for row in silver.to_pylist()),
        "splits": sorted(json.dumps(row) for row in splits.to_pylist()),
        "reviews": sorted(json.dumps(row, default=str) for row in words.to_pylist()),
        "finished_runs": sorted(json.dumps(run.metrics, sort_keys=True) for run in runs),
        "versions": sorted((version.version, json.dumps(without_key(version.tags), sort_keys=True)) for version in versions),
        "champion": champion.version if champion else None,
        "challenger": challenger.version if challenger else None,
        "history": [(move.intention.kind, move.intention.replaces, move.intention.version, move.state) for move in target.history.moves()],
        "served": [state.ready, state.updating, state.served, state.pending],
    }
    return dict(json.loads(json.dumps(found).replace(str(settings.home), "HOME")))


def without_key(tags: Mapping[str, str]) -> dict[str, str]:
    """Drop the training key: it depends on the path of the home folder, which differs between grounds."""
    return {name: value for name, value in tags.items() if name != "training_key"}


def serve_version(version: int) -> None:
    """Make the endpoint serve a version, so that the next run starts from there."""
    target = Target(load())
    while (state := target.serving.state()).updating:
        target.clock.sleep(0.1)
    if state.served != version:
        target.serving.put(version)
        while (state := target.serving.state()).updating or state.served != version:
            target.clock.sleep(0.1)


def train_in_no_time(_train: Photos, _validation: Photos, classes: int, *_: Any) -> training.TrainingResult:
    from car_damage.model.networks.cnn import cnn

    curve = {name: [1.0, 0.5] for name in ("loss", "val_loss", "accuracy", "val_accuracy")}
    return training.TrainingResult(cnn(classes), curve, 2)


def predict_as_told(network: Any, photos: Photos) -> np.ndarray:
    """Correct predictions for the share of photos in TOLD_RIGHT, selected by hash; wrong predictions for all others."""
    del network
    right = np.array([int(sha256[:8], 16) / 2**32 < float(os.environ["TOLD_RIGHT"]) for sha256 in photos.sha256s])
    return np.eye(3)[(photos.labels + ~right) % 3]


def answers_here(model: Path, photos: Iterable[bytes], *_: Any) -> list[ModelAnswer]:
    """Replaces car_damage.model.served.process.answers and runs the model in this process."""
    import mlflow.pyfunc
    import pandas as pd

    records = [{"image": base64.b64encode(photo).decode()} for photo in photos]
    rows = mlflow.pyfunc.load_model(str(model)).predict(pd.DataFrame(records)).to_dict("records")
    return [ModelAnswer(row["label"], row["probability"], probabilities(row), row["sha256"]) for row in rows]


def log_light_model(self: tracking.MlflowTracking, run_id: str, contents: Any) -> str:
    import mlflow

    from car_damage.model.served.package import log as _real  # noqa: F401 - fails loudly if the replaced function moves

    predicted = read_predictions((contents.folder / PREDICTIONS_FILE).read_bytes())
    classes = self._settings.labels.classes
    known = {row["sha256"]: [row[f"probability_{name}"] for name in classes] for row in predicted.to_pylist()}
    mlflow.set_tracking_uri(self._settings.tracking_uri)
    mlflow.start_run(run_id=run_id, nested=True, log_system_metrics=False)
    try:
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "predictions.json").write_text(json.dumps({"classes": list(classes), "known": known}))
            import pandas as pd

            info = mlflow.pyfunc.log_model(
                name=tracking.model_name(self._settings),
                python_model=str(LIGHT_MODEL),
                artifacts={"predictions": f"{folder}/predictions.json"},
                input_example=pd.DataFrame({"image": [base64.b64encode(contents.example).decode()]}),
                pip_requirements=[f"mlflow=={mlflow.__version__}"],
            )
        return str(info.model_uri)
    finally:
        mlflow.end_run("RUNNING")


def forked(work: Callable[[], Any]) -> dict[str, Any]:
    """Run `work` in a forked process; return its exit code and its result."""
    with tempfile.NamedTemporaryFile("r") as answer:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                Path(answer.name).write_text(json.dumps(work()))
                code = 0
            except BaseException:  # noqa: BLE001 - any error is printed and sets the exit code
                import traceback

                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(code)
        _, status = os.waitpid(child, 0)
        text = answer.read()
        return {"code": os.waitstatus_to_exitcode(status), "answer": json.loads(text) if text else None}


def open_stores() -> None:
    """Open MLflow's stores for all later forks: to check the schema and to build the statements takes most of a command's time.

    The forks inherit no connection.
    """
    target = Target(load())
    for run in target.tracking.recent(100):
        target.registry.versions_for(run.run_id)
    target.registry.champion()
    target.history.moves()
    for store in (mlflow_tracking.SqlAlchemyStore, mlflow_registry.SqlAlchemyStore):
        for engine in store._engine_map.values():
            engine.dispose()


def do(command: Mapping[str, Any]) -> Any:
    os.environ.update(command.get("environment", {}))
    if command["do"] == "world":
        return world()
    if command["do"] == "learn":
        return learn(command["photo"])
    if command["do"] == "serve":
        return serve_version(command["version"])
    at = (command["call"], command["nth"]) if "call" in command else None
    killer, worlds = Killer(at, command.get("when", "")), {} if command.get("worlds") else None
    if command["do"] == "forget":
        return {"ended": forget(command["photo"], killer), "calls": killer.calls, "world": world()}
    ended = promote(killer) if command["do"] == "promote" else pipeline(command["upto"], killer, worlds)
    return {"ended": ended, "calls": killer.calls, "worlds": worlds}


def main(lines: Sequence[str]) -> None:
    for module in HEAVY:
        importlib.import_module(module)
    requirements_utils._init_modules_to_packages_map()  # MLflow reads every installed package's list of files, once a process
    training.train = train_in_no_time  # type: ignore[assignment]
    training.predict = predict_as_told
    export.served = lambda network, *_: export.ServedNetwork(network, None)  # type: ignore[assignment]
    for plot in ("confusion_matrix", "training_curve", "worst_mistakes", "reliability_diagram"):
        setattr(plots, plot, lambda *_: b"a plot")
    register.answers = answers_here  # type: ignore[assignment]
    tracking.MlflowTracking._log_model = log_light_model  # type: ignore[method-assign]
    for number, line in enumerate(lines):
        sys.stdout.write(json.dumps(forked(partial(do, json.loads(line)))) + "\n")
        sys.stdout.flush()
        if number == 0:  # it has made the database
            open_stores()


if __name__ == "__main__":
    main(sys.stdin)  # type: ignore[arg-type]
