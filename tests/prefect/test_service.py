"""The service as its users experience it: new photos start a run, and so do photos that turn dark; runs are queued, cancelled, killed and
retried.

The Prefect server, workers, tables, MLflow and endpoint are real. The tests tell one story in order.
"""

import hashlib
import io
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import psutil
import pytest
import yaml
from PIL import Image
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State, StateType
from prefect.settings import get_current_settings
from prefect.states import Pending

from car_damage.data.answers.inference_log import from_file
from car_damage.data.people.desk import Desk
from car_damage.server.address import token
from car_damage.server.api.page import link
from car_damage.settings import CONFIG_VARIABLE, Alerts
from deployments import automations, demo_photos, deploy
from deployments.items import bootstrap
from flows.monitor import monitor
from flows.watch_landing import watch_landing
from tests.prefect.conftest import LocalTarget, PrefectServer
from tests.prefect.mailbox import BLOCK, Mailbox
from tests.prefect.service import Service, deployed, kill, until
from tests.server.browser import chromium

SEED = 11
RETRAIN, LOOK, PROMOTE, MONITOR = "retrain/retrain", "watch-landing/watch-landing", "promote/promote", "monitor/monitor"
pytestmark = pytest.mark.timeout(1800)
LONG = {"CAR_DAMAGE_TRAINING__EPOCHS": "5000", "CAR_DAMAGE_TRAINING__PATIENCE": "5000"}
"""Training that lasts until the test ends it."""
SOME = {"CAR_DAMAGE_TRAINING__EPOCHS": "20", "CAR_DAMAGE_TRAINING__PATIENCE": "20"}
"""Training that lasts some seconds."""

REVIEWED = demo_photos.photo("moderate", seed=304)
"""The photo that a person reviews on the page."""
WINDOW = 20
"""Photos of a window of the request log. It ends with the photos of one request."""
WATCHED = f"""
[monitoring]
hours = 1e-5
wait = 0
least_rows = {WINDOW}
windows = 3
speaking = 2
retrain_photos = {WINDOW}
"""
SILENCE = 45.0
"""Seconds without a heartbeat after which a run counts as lost; a live run sends a heartbeat every 30 s."""


@pytest.fixture(scope="module")
def service(target: LocalTarget) -> Iterator[Service]:
    """Everything deployed, with all schedules off, so that each test knows what starts a run."""
    target.set(
        PROMOTION__MIN_TEST_PHOTOS="5",
        PROMOTION__MIN_TEST_PHOTOS_PER_CLASS="1",
        PROMOTION__FIRST_VERSION="any",
        PROMOTION__RECALL_FLOOR="{}",
        PROMOTION__MIN_GAIN="0",
        PROMOTION__MIN_CONFIDENCE="0.5",
    )
    epochs(2)
    yield deployed(target.home, target.landing)
    settings_file().write_text("")


def epochs(number: int, more: str = "") -> None:
    """How long the runs train from now on that do not say it themselves, and more settings."""
    settings_file().write_text(f"[training]\nepochs = {number}\n{more}")


def settings_file() -> Path:
    return Path(os.environ[CONFIG_VARIABLE])


@pytest.fixture(scope="class")
def _workers(service: Service) -> Iterator[None]:
    """Two workers, as on two machines."""
    with service.worker("one"), service.worker("two"):
        yield


def look() -> tuple[str, str]:
    """Run one check of the doorbell in this process; in a worker it takes six seconds longer."""
    state = watch_landing(return_state=True)
    return state.name or "", state.message or ""


@pytest.mark.usefixtures("_workers")
class TestPhotosThatLand:
    def test_start_one_run_by_themselves_once_the_folder_is_quiet(self, service: Service) -> None:
        demo_photos.write(service.landing, seed=SEED)
        assert look()[0] == "Quiet"
        (service.landing / "major" / "late.jpg").write_bytes(demo_photos.photo("major", seed=300))
        assert look()[1].startswith("The landing folder has changed")
        assert service.runs("retrain") == []
        name, message = service.completed(service.start(LOOK))
        assert (name, message) == ("Announced", "New photos have landed, and the folder has not changed since the previous look.")
        run = until(lambda: service.runs("retrain"), "a run comes by itself")[0]
        assert look()[0] == "Quiet"
        assert service.completed(run.id)[0] == "Promoted"
        assert len(service.runs("retrain")) == 1
        status = service.platform.serving.state()
        assert (status.ready, status.served) == (True, 1)
        assert service.platform.serving.query([demo_photos.photo("minor", seed=301)])[0].served_by.endswith("-1")
        assert service.platform.history.moves()[0].intention.by.startswith("retrain, by")

    def test_a_photo_that_cannot_be_read_does_not_ring_for_ever(self, service: Service) -> None:
        (service.landing / "minor" / "gone.jpg").symlink_to("/nowhere.jpg")
        before = {run.id for run in service.runs("retrain")}
        assert look()[0] == "Quiet"
        assert look()[0] == "Announced"
        run = until(lambda: service.runs("retrain", before), "a run comes")[0]
        name, message = service.completed(run.id)
        assert name == "Nothing new"
        assert "1 file could not be read and will be tried again" in message
        assert look() == ("Quiet", "Everything in the landing folder has been validated.")
        (service.landing / "minor" / "gone.jpg").unlink()

    def test_a_photo_whose_answer_asks_for_a_person_is_reviewed_on_the_page(self, service: Service, tmp_path: Path) -> None:
        settings, photo = service.platform.settings, tmp_path / "asked.jpg"
        photo.write_bytes(REVIEWED)
        with chromium(tmp_path) as page:
            page.open(link(str(settings.serving.host), token(settings.home)))
            page.choose("#photos", photo)
            until(lambda: "A person must look" in page.run("return document.getElementById('answers').textContent"), "the answer")
            page.run("localStorage.setItem('reviewer', 'Ann')")
            page.click("#to-reviewing")
            until(lambda: page.run("return document.querySelector('#current img')?.naturalWidth > 0"), "the photo on the desk")
            page.type("body", "2")
            until(lambda: page.run("return document.getElementById('lately').textContent") == "moderate is noted.", "the word")
        assert look()[1].startswith("The landing folder has changed"), "the doorbell hears a person's word"

    def test_a_run_comes_by_itself_ends_as_one_with_another_of_the_same_second_and_its_version_answers(self, service: Service) -> None:
        """What was reviewed on the page, and what is said here, too, because there may be no browser."""
        platform = service.platform
        answers = platform.settings.answers
        asked = list(Path(answers.corrections, "words").glob("*.json"))
        desk, photo = Desk(platform.files, answers, platform.clock), demo_photos.photo("moderate", seed=302)
        desk.take(hashlib.sha256(photo).hexdigest(), "moderate", "Ann", photo=photo)
        epochs(30)
        before = {run.id for run in service.runs("retrain")}
        look()
        assert look()[0] == "Announced"
        by_hand = service.start(RETRAIN)
        [by_itself] = until(lambda: service.runs("retrain", {*before, by_hand}), "a run comes by itself")
        both = [by_hand, by_itself.id]
        endings = sorted(service.completed(run)[0] for run in both)
        assert endings == ["Nothing new", "Promoted"]
        epochs(2)
        silver, version = platform.tables.read(platform.settings.tables.silver, ["sha256", "label_from"])
        assert version == 1
        assert silver["label_from"].to_pylist().count("review") == len(asked) + 1
        assert len(set(silver["sha256"].to_pylist())) == silver.num_rows == 58 + len(asked)
        runs = platform.tracking.recent(10)
        assert [run.status for run in runs] == ["FINISHED", "FINISHED"]
        assert [len(platform.registry.versions_for(run.run_id)) for run in runs] == [1, 1]
        assert service.slots_of(RETRAIN) == 0
        answered = platform.serving.query([REVIEWED, photo])
        assert [(one.label, one.served_by.rpartition("-")[2]) for one in answered] == [("moderate", "2")] * 2

    def test_when_photos_turn_dark_a_person_is_told_and_their_words_start_a_run_in_which_the_gate_decides(
        self, service: Service, mailbox: Mailbox
    ) -> None:
        platform = service.platform
        live = platform.registry.champion()
        assert live is not None
        bootstrap(automations.items(Alerts(notify=BLOCK)))
        epochs(30, WATCHED)
        by_day = [demo_photos.photo(demo_photos.CLASSES[number % 3], seed=400 + number) for number in range(WINDOW)]
        at_night = {darkened(demo_photos.photo(label, seed=500 + n)): label for n in range(14) for label in demo_photos.CLASSES}
        before, noted = {run.id for run in service.runs("retrain")}, requests(service)
        for photos in (by_day, list(at_night)[:WINDOW], list(at_night)[WINDOW:]):
            platform.serving.query(photos)
        until(lambda: requests(service) >= noted + WINDOW + len(at_night), "the requests are noted", 30)

        name, message = service.completed(service.start(MONITOR))
        assert (name, message.partition(":")[0]) == ("Worse", f"Version {live.version}")
        letter = mailbox.about("is worse")
        assert (letter["subject"].partition(":")[0], "brightness" in letter["subject"]) == (f"Version {live.version} is worse", True)
        assert "A training needs labels for" in letter["body"]
        assert service.runs("retrain", before) == [], "there is nothing to learn from"

        desk = Desk(platform.files, platform.settings.answers, platform.clock)
        for photo, label in list(at_night.items())[: WINDOW + 4]:  # some become test photos
            desk.take(hashlib.sha256(photo).hexdigest(), label, "Ann", photo=photo)
        assert monitor(return_state=True).name == "Worse"
        [run] = until(lambda: service.runs("retrain", before), "a run comes by itself")
        name, _ = service.completed(run.id)
        judged, champion = platform.registry.get(live.version + 1), platform.registry.champion()
        assert champion is not None
        assert judged.tags["judged_against"] == str(live.version)
        decided = (name, judged.tags["decision"], champion.version)
        assert decided in {("Promoted", "promote", judged.version), ("Kept the champion", "keep", live.version)}
        assert platform.serving.state().served == champion.version
        bootstrap(automations.items(Alerts()))
        epochs(2)

    def test_a_run_has_the_code_of_the_repository_that_its_pull_step_clones(self, service: Service, tmp_path: Path) -> None:
        repository = repository_of(deploy.ROOT, tmp_path / "repository", "has been validated.", "has been validated, says the clone.")
        declared = yaml.safe_load(deploy.FILE.read_text())
        declared["pull"] = [{"prefect.deployments.steps.git_clone": {"repository": str(repository)}}]
        declared["deployments"] = [one for one in declared["deployments"] if one["name"] == "watch-landing"]
        file = deploy.FILE.with_name(".prefect-cloned.yaml")  # paths of flows are relative to this file
        try:
            file.write_text(yaml.safe_dump(declared))
            done = of_prefect("--no-prompt", "deploy", "--all", "--prefect-file", str(file))
        finally:
            file.unlink(missing_ok=True)
        assert done.returncode == 0, done.stdout + done.stderr
        look()
        assert service.completed(service.start(LOOK)) == ("Quiet", "Everything in the landing folder has been validated, says the clone.")
        assert "watch-landing starts in another place than the file says, or with other code" in str(deploy.check())

    def test_runs_that_come_late_after_an_outage_each_end_early(self, service: Service) -> None:
        epochs(30)  # as the last training had
        runs = [service.start(RETRAIN, late=timedelta(hours=hours)) for hours in (2, 1)]
        assert [service.completed(run)[0] for run in runs] == ["Nothing new", "Nothing new"]
        epochs(2)


class TestARunThatIsEnded:
    def test_by_sigkill_is_retried_by_hand_and_survives_the_end_of_its_worker_and_a_restart_of_the_server(
        self, service: Service, prefect: PrefectServer
    ) -> None:
        (service.landing / "minor" / "third.jpg").write_bytes(demo_photos.photo("minor", seed=303))
        with service.worker("three") as worker:
            run = service.start(RETRAIN, SOME)
            service.training(run)
            kill(service.process_of(run))
            assert service.ended(run, 30).state_name == "Crashed"
            # The worker reports the crash again after the hooks of the first report, and a retry before that would be crashed by it.
            until(lambda: worker.log.read_text().count("exceeded its memory allocation") == 2, "the worker has reported the crash twice")
            bronze = service.platform.tables.read(service.platform.settings.tables.bronze, ["path"])[1]
            _retry(run)
            service.training(run, starts=2)
            worker.kill()
            prefect.restart()
            name, _ = service.completed(run)
        assert name in ("Promoted", "Kept the champion")
        states = service.tasks(run)
        assert (states["validate_images"], states["write_silver"]) == (["Completed", "Cached"], ["Completed", "Cached"])
        assert states["train_model"][1:] == ["Completed"]
        assert service.platform.tables.read(service.platform.settings.tables.bronze, ["path"])[1] == bronze
        assert [training.status for training in service.platform.tracking.recent(2)] == ["FINISHED", "KILLED"]
        assert (service.slots_of(RETRAIN), service.slots("car-damage-endpoint")) == (0, 0)

    def test_with_its_machine_is_started_again_and_a_cancellation_ends_it(self, service: Service) -> None:
        bootstrap(automations.items(Alerts.model_construct(**{**Alerts().model_dump(), "zombie_after": SILENCE})))
        taken = service.start(PROMOTE, reason="its worker dies before its process starts")
        with get_client(sync_client=True) as client:
            client.set_flow_run_state(taken, Pending())
        with service.worker("four") as worker:
            quiet = service.start(RETRAIN, SOME)
            assert service.completed(quiet)[0] == "Nothing new"
            run = service.start(RETRAIN, LONG, train_again=True)
            until(lambda: service.tasks(run).get("write_silver") == ["Completed"], "silver is written")
            process = service.process_of(run)
            worker.kill()
            kill(process)
        assert service.read(run).state_name == "Running"
        waiting = until(lambda: (found := service.read(run)).state_name != "Running" and found, "it is noticed")
        assert waiting.state is not None
        assert (waiting.state.name, waiting.state.message) == ("AwaitingRetry", f"no heartbeat for {SILENCE:.0f} s: started again")
        bootstrap(automations.items(Alerts()))
        until(lambda: "AwaitingRetry" in service.states(taken), "one that was taken and never began is noticed too")
        with get_client(sync_client=True) as client:
            client.delete_flow_run(taken)
        silver = service.platform.tables.read(service.platform.settings.tables.silver, ["sha256"])[1]
        with service.worker("five"):
            service.training(run)
            assert service.tasks(run)["validate_images"] == ["Completed", "Cached"]
            process = service.process_of(run)
            family = [process, *process.children(recursive=True)]
            with get_client(sync_client=True) as client:
                client.set_flow_run_state(run, State(type=StateType.CANCELLING))
            assert service.ended(run).state_name == "Cancelled"
            _, alive = psutil.wait_procs(family, timeout=15)
            assert alive == []
            until(lambda: service.platform.tracking.recent(1)[0].status == "KILLED", "its training has ended in MLflow too", 30)
        assert service.platform.tables.read(service.platform.settings.tables.silver, ["sha256"])[1] == silver
        assert (service.slots_of(RETRAIN), service.slots("car-damage-endpoint")) == (0, 0)
        # The automation ignores a run that has ended, whatever the name of its final state.
        left = service.read(quiet)
        assert (left.state_name, left.run_count) == ("Nothing new", 1)


def darkened(photo: bytes) -> bytes:
    """The photo as at dusk."""
    buffer = io.BytesIO()
    Image.open(io.BytesIO(photo)).point(lambda value: value // 4).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def requests(service: Service) -> int:
    """Photos in the request log that no run has taken up yet."""
    return sum(from_file(file.read_bytes()).num_rows for file in (service.home / "requests").glob("*.parquet"))


def _retry(run: UUID) -> None:
    """Retry a run on the command line, as a person does."""
    done = of_prefect("flow-run", "retry", str(run))
    assert done.returncode == 0, done.stdout + done.stderr


def of_prefect(*words: str) -> "subprocess.CompletedProcess[str]":
    """Run a command of Prefect in the checkout, as a person does."""
    environment = os.environ | get_current_settings().to_environment_variables(exclude_unset=True)
    command = [sys.executable, "-m", "prefect", *words]
    return subprocess.run(command, cwd=deploy.ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)


def repository_of(checkout: Path, folder: Path, text: str, other: str) -> Path:
    """A git repository with the code of a checkout, in which the doorbell has another text."""
    for floor in ("car_damage", "tasks", "flows"):
        shutil.copytree(checkout / floor, folder / floor, ignore=shutil.ignore_patterns("__pycache__"))
    doorbell = folder / "car_damage" / "data" / "doorbell.py"
    assert text in doorbell.read_text()
    doorbell.write_text(doorbell.read_text().replace(text, other))
    for words in (("init", "--quiet"), ("add", "."), ("commit", "--quiet", "--message", "other words")):
        author = ("-c", "user.name=a test", "-c", "user.email=test@example.com")
        subprocess.run(["git", "-C", str(folder), *author, *words], check=True, timeout=60)  # noqa: S607 - whichever git is there
    return folder
