"""The steps of a smoke test: what bootstrap, doctor, a run of `retrain` and its endpoint do in a workspace, by the same code."""

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any

from car_damage.adapters.databricks import workspace
from car_damage.data.doorbell import fingerprint
from car_damage.errors import Terminal
from car_damage.job.jobs import Jobs
from car_damage.moves import ABANDONED, PROMOTION, Intention
from car_damage.pipeline import (
    EndpointRequest,
    TidyRequest,
    ValidateRequest,
    live_request,
    register_request,
    silver_request,
    train_request,
)
from car_damage.platform import Target
from car_damage.ports import CHALLENGER, CHAMPION
from car_damage.stage import silent
from car_damage.stages.endpoint import STAGE as ENDPOINT
from car_damage.stages.live import STAGE as LIVE
from car_damage.stages.register import STAGE as REGISTER
from car_damage.stages.silver import STAGE as SILVER
from car_damage.stages.tidy import STAGE as TIDY
from car_damage.stages.train import STAGE as TRAIN
from car_damage.stages.validate import STAGE as VALIDATE
from deployments import demo_photos
from deployments.databricks import needs, workspace_checks
from deployments.databricks.principal import Api
from deployments.items import Item, fix
from deployments.smoke.place import Place
from tasks import workspace as entrance
from tasks.databricks_jobs import ENDING, DatabricksJobs, Workspace

PHOTOS = 12
"""Photos, spread evenly over the classes: enough for each split to have one of each class."""


@dataclass(frozen=True)
class Step:
    """One step."""

    name: str
    work: Callable[[], Any]
    """Returns what later steps need. Raises CarDamageError."""
    after: tuple[str, ...] = ()
    """Steps without whose success this one is left out."""


@dataclass
class Smoke:
    """The steps in a place, and what they have returned so far."""

    place: Place
    service_principal: str | None = None
    """As which the service runs. None: as the caller."""
    client: Api = workspace.client
    flow_run: str = field(default_factory=lambda: str(uuid.uuid4()))
    found: dict[str, Any] = field(default_factory=dict)
    """Name of a step that succeeded -> what it returned."""

    def __post_init__(self) -> None:
        """Make the clients' owners once, as a flow run does."""
        self.target = Target(self.place.settings)
        started = self.target.clock.now() - timedelta(days=1)
        reach = Workspace(
            self.target.handovers,
            Jobs(self.client),
            entrance.start,
            options={},
            cancelled=lambda: False,
            linked=lambda _stage, _run: None,
            since=lambda: started,
        )
        self.runner = DatabricksJobs(self.target, reach)

    def steps(self, *, endpoint: bool) -> Iterator[Step]:
        """All steps, in their order. The items of bootstrap are known only when the earlier steps are done."""
        yield Step("sign in", lambda: workspace_checks.sign_in(self.place.settings, self.client))
        items = needs.items(self.place.settings, self.client)
        for item in items:
            yield Step(f"bootstrap: {item.name}", partial(fix, item), ("sign in",))
        yield Step("upload photos", self._upload, ("sign in",))
        yield Step("list photos", self._list, ("upload photos",))
        for name, check in workspace_checks.checks(self.place.settings, self.client).items():
            yield Step(f"doctor: {name}", check, ("sign in",))
        yield Step("validate", lambda: self._stage(VALIDATE, ValidateRequest(self.flow_run)), ("upload photos",))
        yield Step("silver", self._silver, ("validate",))
        yield Step("look at what is live", self._live, ("silver",))
        yield Step("train", self._train, ("look at what is live",))
        yield Step("register", self._register, ("train",))
        yield Step("aliases, tags and files of the version", self._version, ("register",))
        yield Step("history", self._history, ("register",))
        yield Step("archive", lambda: self.target.archive.keep({"smoke.json": b"{}"}), ("register",))
        if endpoint:
            yield Step("endpoint", self._endpoint, ("register",))
        yield Step("cancel a run", self._cancel, ("upload photos",))
        yield Step("tidy up", self._tidy, ("register",))
        for item in items:
            yield Step(f"bootstrap again: {item.name}", partial(_unchanged, item), (f"bootstrap: {item.name}",))
        for item in self._of_the_service_principal():
            yield Step(f"for the service principal: {item.name}", partial(fix, item), ("sign in",))

    def _of_the_service_principal(self) -> list[Item]:
        """The jobs that run as it, its grants and permissions, and the ownership of the model."""
        if self.service_principal is None:
            return []
        databricks = self.place.settings.databricks.model_copy(update={"service_principal": self.service_principal})
        items = needs.items(self.place.settings.model_copy(update={"databricks": databricks}), self.client)
        return [item for item in items if item.name.startswith(("job ", "grants ", "owner ", "permissions "))]

    def _upload(self) -> None:
        for number in range(PHOTOS):
            label = demo_photos.CLASSES[number % len(demo_photos.CLASSES)]
            path = f"{self.place.settings.landing.folder}{label}/{number:02}.jpg"
            self.target.files.write_once(path, demo_photos.photo(label, number))

    def _list(self) -> None:
        files = list(self.target.files.list(self.place.settings.landing.folder))
        if len(files) != PHOTOS:
            raise Terminal(f"{len(files)} files are listed after {PHOTOS} were uploaded")
        self.target.files.read(files[0].path)
        fingerprint(self.target)

    def _stage(self, stage: Any, request: Any) -> Any:
        return self.runner.run(stage, request, silent)

    def _silver(self) -> Any:
        return self._stage(SILVER, silver_request(ValidateRequest(self.flow_run), self.found["validate"]))

    def _live(self) -> Any:
        query = live_request(self.found["silver"], self.place.settings)
        return query, self._stage(LIVE, query)

    def _train(self) -> Any:
        query, live = self.found["look at what is live"]
        return self._stage(TRAIN, train_request(self.flow_run, self.found["silver"], live, query))

    def _register(self) -> Any:
        return self._stage(REGISTER, register_request(self.flow_run, self.found["silver"], self.found["train"]))

    def _version(self) -> None:
        """What the flows promote and retrain do with a version, and what the commands show."""
        registry, version = self.target.registry, self.found["register"].version
        registry.tag(version, {"smoke": "1"})
        intended = registry.challenger()
        registry.move(CHALLENGER, None)
        registry.move(CHAMPION, version)
        champion = registry.champion()
        if champion is None or champion.version != version or champion.tags.get("smoke") != "1":
            raise Terminal(f"the alias or the tag of version {version} cannot be read back: {champion}")
        registry.move(CHAMPION, None)
        registry.move(CHALLENGER, version if intended is not None else None)
        registry.requirements(champion.uri)
        registry.all_versions()
        self.target.tracking.recent(5)
        self.target.tracking.url(champion.run_id)

    def _history(self) -> None:
        intention = Intention(PROMOTION, self.found["register"].version, None, "smoke test", "smoke test", self.flow_run)
        self.target.history.close(self.target.history.begin(intention), ABANDONED, "smoke test")
        self.target.history.moves()

    def _cancel(self) -> None:
        """What cancelling a flow run does, and reading why a run ended without a report."""
        jobs, clock = self.runner.jobs, self.target.clock
        job = jobs.find(self.place.settings.databricks.score_job)
        run = entrance.start(job, {"flow_run": self.flow_run, "request": "", "stages": "score"}, uuid.uuid4().hex)
        self.runner.cancel(self.flow_run)
        limit = clock.monotonic() + ENDING
        while not jobs.look(run).ended:
            if clock.monotonic() > limit:
                raise Terminal(f"the run has not ended {ENDING:.0f} s after it was cancelled")
            clock.sleep(self.place.settings.databricks.poll)
        jobs.output(run)

    def _tidy(self) -> None:
        """The step of the same name, and the removals that it would do some weeks later."""
        self._stage(TIDY, TidyRequest())
        self.target.handovers.remove(f"{self.place.settings.databricks.handovers}{self.flow_run}")
        self.target.archive.remove(self.target.tracking.recent(1))

    def _endpoint(self) -> Any:
        """The endpoint serves the version, which answers a photo. Then an update begins, as for the next version."""
        report = self._stage(ENDPOINT, EndpointRequest(self.flow_run, "smoke test"))
        self.target.serving.build_log(self.found["register"].version)
        if report.champion != self.found["register"].version:
            raise Terminal(f"the endpoint does not serve the version: {report.message}")
        self.target.serving.put(report.champion)
        return report


def _unchanged(item: Item) -> None:
    """Raise Terminal if the item differs again after it was fixed: bootstrap would change it for ever."""
    if problem := item.check():
        raise Terminal(f"differs again after it was fixed: {problem}")
