"""One night: the stages of retrain, in the flow's order, over real files and real Delta tables.

Stages are the product's own, training included; only the network, its plots and the processes of models are replaced.
"""

import copy
import hashlib
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from car_damage.adapters.tables.delta_rs import DeltaRs
from car_damage.errors import CarDamageError, PromotionRefused
from car_damage.model.networks import export, training
from car_damage.model.quality import plots
from car_damage.model.served.process import ModelAnswer
from car_damage.pipeline import (
    ChooseRequest,
    EndpointRequest,
    RegisterReport,
    TidyRequest,
    ValidateRequest,
    live_request,
    promote_request,
    register_request,
    silver_request,
    train_request,
)
from car_damage.promotion import outcome
from car_damage.settings import Settings
from car_damage.stage import Stage, silent
from car_damage.stages import register
from car_damage.stages.choose import STAGE as CHOOSE
from car_damage.stages.endpoint import STAGE as ENDPOINT
from car_damage.stages.endpoint import is_right, put_right
from car_damage.stages.live import STAGE as LIVE
from car_damage.stages.register import STAGE as REGISTER
from car_damage.stages.silver import STAGE as SILVER
from car_damage.stages.tidy import STAGE as TIDY
from car_damage.stages.train import STAGE as TRAIN
from car_damage.stages.validate import STAGE as VALIDATE
from car_damage.stages.versions import judging
from tests.fakes import Moves, Time
from tests.nights import networks
from tests.nights.people import People
from tests.nights.services import Archive, Disk, Models, Served, Trainings

EFFECTS = frozenset(
    {"merge", "tidy", "start", "log", "finish", "attach", "create", "remove", "keep", "move", "tag", "begin", "close", "put"}
)
"""Methods of ports that change something: a run can be killed before each of them."""
PORTS = ("tables", "tracking", "registry", "archive", "history", "serving")
PLOTS = ("confusion_matrix", "confusion_matrices", "training_curve", "worst_mistakes", "reliability_diagram", "doubtful_labels")


class Killed(BaseException):
    """The process of the run has ended. No error, so that nothing catches it."""


@dataclass
class Night:
    """How a run went."""

    ending: str = "Killed"
    """The outcome's name, "Failed" or "Killed"."""
    message: str = ""
    error: CarDamageError | None = None
    done: dict[str, Any] = field(default_factory=dict)
    """Stage -> report."""
    asked: list[str] = field(default_factory=list)
    """sha256 of the photos that the champion was judged on."""
    effects: int = 0
    """Calls of ports that change something."""

    @property
    def registered(self) -> RegisterReport | None:
        return self.done.get("register")


class World:
    """A platform for the stages: a home folder with tables, and services in memory."""

    def __init__(self, home: Path, people: People) -> None:
        self.people, self.landing, self.home = people, people.landing, home
        home.mkdir(exist_ok=True)
        self.clock = Time()
        self.registry, self.history, self.tracking = Models(), Moves(), Trainings(self.clock)
        self.archive = Archive(self.tracking)
        self.serving = Served(self.registry, self.tracking, self.landing.subjects)
        self.files = Disk(people.unreadable)
        self.trained: set[str] = set()
        """sha256 of every photo that any network was trained on."""
        self.configure()

    def configure(self) -> None:
        """Read the settings that people have changed, as each run does."""
        sections = copy.deepcopy(self.people.sections)
        self.settings = Settings(
            home=self.home,
            landing={"folder": str(self.landing.folder)},
            answers={"corrections": self.landing.corrections},
            tables={"keep_days": 0},
            tracking={"uri": "memory"},
            # So few test photos would convince the rule too seldom for sixty nights.
            promotion={"min_test_photos": 10, "min_test_photos_per_class": 1, "min_confidence": 0.5, "resamples": 200},
            **sections,
        )
        self.tables = DeltaRs(self.home / "tables", self.files, self.settings.images)

    def twin(self, home: Path) -> "World":
        """A copy of everything but the landing folder and the people."""
        twin = World(home, self.people)
        shutil.copytree(self.home, home, dirs_exist_ok=True)
        parts = (self.registry, self.history, self.tracking, self.archive, self.serving, self.clock)
        shared = (self.landing.subjects, *self.tracking.networks.values())
        copies = copy.deepcopy(parts, {id(one): one for one in shared})
        twin.registry, twin.history, twin.tracking, twin.archive, twin.serving, twin.clock = copies
        return twin

    def roll_back(self, flow_run: str) -> bool:
        """Take the champion before the present one live, as a person does. False where there is none."""
        self.configure()
        platform = Watched(self, Night(), None)
        try:
            chosen = CHOOSE.work(ChooseRequest("previous"), platform, silent)
        except PromotionRefused:
            return False
        ENDPOINT.work(promote_request(flow_run, "a person", chosen, "its answers are odd"), platform, silent)
        return True

    def run(self, flow_run: str, kill_before: int | None = None, **options: bool) -> Night:
        """Retrain, as flows/retrain.py does, with the options of a person.

        Args:
            flow_run: its id.
            kill_before: end at this call of a port that changes something, counted from 0.
            options: parameters of the flow.
        """
        self.clock.seconds = self.people.now
        self.configure()
        night = Night()
        watched: Any = Watched(self, night, kill_before)
        with self._networks(night):
            try:
                ending = _retrain(flow_run, watched, partial(_work, watched, night), options)
                return replace(night, ending=ending.name, message=ending.message)
            except CarDamageError as error:
                return replace(night, ending="Failed", message=str(error), error=error)
            except Killed:
                return night

    @contextmanager
    def _networks(self, night: Night) -> Iterator[None]:
        """Networks of the simulation take the place of TensorFlow's."""
        subjects, settings, classes = self.landing.subjects, self.settings.training, self.settings.labels.classes

        live = self.registry.champion()
        champion = self.tracking.networks[live.uri] if live else None

        def train(train: Any, validation: Any, *_: Any) -> training.TrainingResult:
            for happen in self.people.while_training:
                happen()
            self.trained.update(train.sha256s, validation.sha256s)
            return networks.train(train, validation, classes, settings, subjects)

        def answers(model: Path, photos: Iterable[bytes], *_: Any) -> list[ModelAnswer]:
            network = self._network_of(model)
            shas = [hashlib.sha256(photo).hexdigest() for photo in photos]
            if network is champion:
                night.asked += shas
            return [ModelAnswer(network.says(subjects[sha]), networks.SURE, network.probabilities(subjects[sha]), sha) for sha in shas]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(training, "train", train)
            patch.setattr(training, "predict", lambda network, photos: networks.predict(network, photos, subjects))
            for stage in (register, judging):
                patch.setattr(stage, "answers", answers)
            patch.setattr(export, "served", lambda network, *_: export.ServedNetwork(network, None))
            for plot in PLOTS:
                patch.setattr(plots, plot, lambda *_: b"a plot")
            yield

    def _network_of(self, model: Path) -> networks.Network:
        """The network in the folder that the registry has made of a model's URI."""
        return next(network for uri, network in self.tracking.networks.items() if uri.replace("/", "_") == model.name)


class Watched:
    """A platform whose run ends at a given effect."""

    def __init__(self, world: World, night: Night, kill_before: int | None) -> None:
        self._night, self._kill_before = night, kill_before
        self.settings, self.files, self.clock = world.settings, world.files, world.clock
        for name in PORTS:
            setattr(self, name, _Port(getattr(world, name), self._effect))

    def _effect(self) -> None:
        if self._night.effects == self._kill_before:
            raise Killed
        self._night.effects += 1


class _Port:
    def __init__(self, port: Any, effect: Callable[[], None]) -> None:
        self._port, self._effect = port, effect

    def __getattr__(self, name: str) -> Any:
        if name in EFFECTS:
            self._effect()
        return getattr(self._port, name)


def _work(platform: Any, night: Night, stage: "Stage[Any, Any]", request: Any) -> Any:
    night.done[stage.name] = stage.run(request, platform, silent)
    return night.done[stage.name]


def _retrain(flow_run: str, platform: Any, stage: Callable[..., Any], options: dict[str, bool]) -> outcome.Outcome:
    """The flow's order. `options` go to the requests that have them."""
    if not (options.get("dry_run") or is_right(platform)):
        put_right(platform, silent)
    landing = _with(ValidateRequest(flow_run), options)
    validated = stage(VALIDATE, landing)
    silver = stage(SILVER, silver_request(landing, validated))
    asked = live_request(silver, platform.settings)
    live = stage(LIVE, asked)
    leftovers = TidyRequest(asked.training_key)
    if live.settled and not (options.get("train_again") or options.get("judge_again")):
        return outcome.after_tidying(outcome.nothing_new(validated, silver, live), stage(TIDY, leftovers))
    trained = stage(TRAIN, _with(train_request(flow_run, silver, live, asked), options))
    registered = stage(REGISTER, _with(register_request(flow_run, silver, trained), options))
    endpoint = stage(ENDPOINT, EndpointRequest(flow_run, "the simulation"))
    return outcome.after_tidying(outcome.after_endpoint(validated, registered, endpoint), stage(TIDY, leftovers))


def _with(request: Any, options: dict[str, bool]) -> Any:
    return replace(request, **{name: value for name, value in options.items() if hasattr(request, name)})
