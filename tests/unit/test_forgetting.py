"""What Prefect's server itself knows of a forgotten photo: the parameters of runs, and the text and pictures of artifacts."""

import json
from collections.abc import Callable
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from prefect.client.schemas.actions import ArtifactUpdate
from prefect.client.schemas.filters import ArtifactFilter
from prefect.client.schemas.objects import Artifact, FlowRun
from prefect.exceptions import ObjectNotFound
from prefect.logging import disable_run_logger

from car_damage.data.forgotten import mark_of
from car_damage.errors import SettingsError, Unavailable
from car_damage.pipeline import ForgetReport, Trace
from car_damage.settings import Landing, Settings
from tasks import forgetting
from tasks.data_quality import CELL
from tasks.markdown import picture, plain

PHOTO, OTHER = "ab" * 32, "cd" * 32
PATH = "/photos/minor/a_photo with a very long name, so that it is shortened in the artifact.jpg"
SETTINGS = Settings(landing=Landing(folder="/photos"))
SHOWN = picture(b"a thumbnail", "the photo", "jpeg")


class Server:
    """Prefect's server, which gives at most as many things as it is asked for."""

    def __init__(self, runs: int = 0, **artifacts: str) -> None:
        self.runs = {UUID(int=one): FlowRun(id=UUID(int=one), flow_id=uuid4(), parameters={"photo": PHOTO}) for one in range(runs)}
        self.artifacts = {uuid4(): Artifact(key=key.replace("_", "-"), data=text) for key, text in artifacts.items()}
        for found, artifact in self.artifacts.items():
            artifact.id = found
        self.fails, self.deployed = False, True
        self.started = set[str]()
        """Idempotency keys of runs of retrain."""

    def read_flow_runs(self, *, limit: int, offset: int, **_: Any) -> list[FlowRun]:
        self._answer()
        return list(self.runs.values())[offset : offset + limit]

    def update_flow_run(self, run: UUID, parameters: dict[str, Any]) -> None:
        self.runs[run].parameters = parameters

    def read_artifacts(self, *, artifact_filter: ArtifactFilter, limit: int, offset: int, **_: Any) -> list[Artifact]:
        self._answer()
        assert artifact_filter.key
        wanted = artifact_filter.key.any_ or []
        return [one for one in self.artifacts.values() if one.key in wanted][offset : offset + limit]

    def update_artifact(self, artifact: UUID, update: ArtifactUpdate) -> None:
        self.artifacts[artifact].data = update.data

    def read_deployment_by_name(self, name: str) -> Any:
        self._answer()
        if not self.deployed:
            raise ObjectNotFound(Exception(name))
        assert name == "retrain/retrain"
        return SimpleNamespace(id=uuid4())

    def create_flow_run_from_deployment(self, _: UUID, idempotency_key: str) -> None:
        self.started.add(idempotency_key)

    def text(self, key: str) -> str:
        [found] = [str(one.data) for one in self.artifacts.values() if one.key == key]
        return found

    def _answer(self) -> None:
        if self.fails:
            raise httpx.ConnectError("no server")


def on(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    monkeypatch.setattr(forgetting, "get_client", lambda sync_client: nullcontext(server))
    return server


def report(*paths: str, runs: tuple[str, ...] = ()) -> ForgetReport:
    return ForgetReport(mark_of(PHOTO), "Ann", "2026-01-01", tuple(Trace("training", "list", run=run) for run in runs), (), paths=paths)


def test_the_hash_goes_from_the_parameters_of_all_runs_however_many(monkeypatch: pytest.MonkeyPatch) -> None:
    server = on(Server(runs=450), monkeypatch)
    assert forgetting.or_told("the hash", forgetting.hide) == ()
    assert {run.parameters["photo"] for run in server.runs.values()} == {f"mark:{mark_of(PHOTO)}"}


def test_what_the_server_does_not_remove_is_in_the_certificate_until_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    on(Server(), monkeypatch).fails = True
    with disable_run_logger():
        [told] = forgetting.or_told("the hash", forgetting.hide)
    assert (told.place, told.what, told.again) == ("Prefect", "the hash", True)
    assert "forget the photo again" in told.stays


@pytest.mark.parametrize("last", [lambda: forgetting.clean_artifacts(report(), SETTINGS), lambda: forgetting.start_retrain(report())])
def test_what_the_server_does_not_do_at_the_end_is_an_error_that_says_what_to_do(
    last: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    on(Server(), monkeypatch).fails = True
    with pytest.raises(Unavailable, match="forget the photo again: no server"):
        last()


def test_a_training_that_nobody_has_deployed_is_an_error_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    on(Server(), monkeypatch).deployed = False
    with pytest.raises(SettingsError, match="not deployed: run"):
        forgetting.start_retrain(report())


def test_the_photo_s_path_and_hash_go_from_the_text_of_artifacts_and_other_files_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    relative = PATH.removeprefix("/photos/")
    texts = {
        "data_quality": f"| {plain(relative, CELL)} | truncated |\n| {plain('minor/other.jpg', CELL)} | empty |",
        "model": f"such as `{PATH}`, or `/photos/minor/other.jpg`\n| {plain(PATH)} | {PHOTO} | {OTHER} |",
        "landed": json.dumps([{"reason": PATH}, {"reason": "/photos/minor/other.jpg"}]),
        "predictions": json.dumps([{"which": "/photos/grün.jpg"}, {"which": "/photos/dunkelgrün.jpg"}]),
    }
    server = on(Server(**texts), monkeypatch)
    forgetting.clean_artifacts(report(PATH, "/photos/grün.jpg"), SETTINGS)
    assert server.text("data-quality") == f"| forgotten | truncated |\n| {plain('minor/other.jpg', CELL)} | empty |"
    assert server.text("model") == f"such as `forgotten`, or `/photos/minor/other.jpg`\n| forgotten | forgotten | {OTHER} |"
    assert json.loads(server.text("landed")) == [{"reason": "forgotten"}, {"reason": "/photos/minor/other.jpg"}]
    assert json.loads(server.text("predictions")) == [{"which": "forgotten"}, {"which": "/photos/dunkelgrün.jpg"}]


def test_pictures_go_from_files_that_are_not_used_and_from_trainings_that_knew_the_photo(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when the file has gone from the landing folder, and no table knows its path any more."""
    server = on(Server(data_quality=f"| {SHOWN} | minor/gone.jpg |", model=f"run r1 {SHOWN}", decision=f"run r2 {SHOWN}"), monkeypatch)
    forgetting.clean_artifacts(report(runs=("r1",)), SETTINGS)
    assert "base64" not in server.text("data-quality") + server.text("model")
    assert SHOWN in server.text("decision")


def test_a_photo_starts_one_retraining_and_another_when_a_later_version_was_trained_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that was in progress while the photo was forgotten: the certificate asks for another call."""
    server = on(Server(), monkeypatch)
    counts = []
    for versions in ((1,), (1,), (1, 2), (1, 2)):
        found = tuple(Trace(f"version {number}", "was trained with it", version=number) for number in versions)
        forgetting.start_retrain(ForgetReport(mark_of(PHOTO), "Ann", "2026-01-01", found, ()))
        counts.append(len(server.started))
    assert counts == [1, 1, 2, 2]
