"""The Databricks App: bootstrap makes and deploys it, and a person who has signed in reviews on its page, over volumes and the endpoint."""

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from car_damage.data.people.desk import Desk
from car_damage.platform import Target
from car_damage.settings import Answers, Settings
from deployments import demo_photos
from deployments.databricks import needs, review_app
from deployments.items import bootstrap, plan
from deployments.processes import free_port, service
from deployments.smoke import place
from tests.databricks.conftest import HANDOVERS
from tests.databricks.twin import CLIENT, Twin
from tests.fakes import sha256
from tests.server.browser import chromium
from tests.server.conftest import until

CORRECTIONS, KEPT = HANDOVERS.replace("runs", "corrections"), HANDOVERS.replace("runs", "kept")
ENDPOINT = "car_damage_model_ep"
PEOPLE = {"X-Forwarded-Email": "ann@example.com", "X-Forwarded-User": "7"}


@pytest.fixture
def settings(tmp_path: Path, settings: Settings) -> Settings:
    return settings.model_copy(
        update={
            "answers": Answers(corrections=CORRECTIONS, keep_for_review=KEPT),
            "databricks": settings.databricks.model_copy(update={"app": "car-damage-desk"}),
        }
    )


@pytest.fixture
def ready(twin: Twin, settings: Settings) -> Twin:
    for volume in (CORRECTIONS, KEPT):
        twin.volume(volume).mkdir(parents=True)
    twin.levels["serving-endpoints", "9"] = {CLIENT: "CAN_QUERY"}
    twin.endpoints[ENDPOINT] = "9"
    return twin


def items(settings: Settings) -> list[Any]:
    return [item for item in needs.items(settings) if "the app " in item.name or item.name.startswith(("app ", "wheel "))]


def test_bootstrap_makes_the_app_gives_it_what_it_needs_and_deploys_its_files_once(ready: Twin, settings: Settings) -> None:
    assert [plan(item).problem for item in items(settings)] == ["is missing"] * 3
    bootstrap(items(settings))
    app = ready.apps["car-damage-desk"]
    securables = {one["name"]: one.get("uc_securable") or one["serving_endpoint"] for one in app["resources"]}
    assert {name: of["permission"] for name, of in securables.items()} == {
        "landing": "READ_VOLUME",
        "corrections": "WRITE_VOLUME",
        "kept": "WRITE_VOLUME",
        "endpoint": "CAN_QUERY",
    }
    deployed = app["active_deployment"]
    files = {Path(path).name: data for path, data in ready.workspace_files.items()}
    wheel = Path(needs.wheel_path(settings)).name
    assert sorted(files) == sorted(["app.py", "app.yaml", "requirements.txt", wheel])
    assert files["requirements.txt"].decode().splitlines()[-1] == f"./{wheel}"
    given = {one["name"]: one["value"] for one in deployed["env_vars"]}
    assert (given["CAR_DAMAGE_ANSWERS__KEEP_FOR_REVIEW"], given["CAR_DAMAGE_SERVING__ENDPOINT"]) == (KEPT, ENDPOINT)
    asked = len(ready.asked)
    assert [result.problem for result in bootstrap(items(settings))] == [None] * 3
    assert {call.split()[0] for call in ready.asked[asked:]} <= {"GET", "HEAD"}
    assert len(app["deployments"]) == 1


def test_other_settings_are_another_deployment_and_what_others_have_set_stays(ready: Twin, settings: Settings) -> None:
    bootstrap(items(settings))
    app = ready.apps["car-damage-desk"]
    app["resources"] = [{"name": "theirs", "serving_endpoint": {"name": ENDPOINT, "permission": "CAN_VIEW"}}]
    app["user_api_scopes"] = ["sql"]
    answers = settings.answers.model_copy(update={"keep_days": 3})
    [_, first, second] = bootstrap(items(settings.model_copy(update={"answers": answers})))
    assert first.problem == "differs: its resources corrections, endpoint, kept, landing"
    assert str(second.problem).startswith("differs: /Workspace/Users/")
    app = ready.apps["car-damage-desk"]
    assert ({one["name"] for one in app["resources"]}, app["user_api_scopes"]) == (
        {"theirs", "landing", "corrections", "kept", "endpoint"},
        ["sql"],
    )
    assert len(app["deployments"]) == 2


def test_the_endpoint_may_come_later(ready: Twin, settings: Settings) -> None:
    del ready.endpoints[ENDPOINT]
    bootstrap(items(settings))
    assert "endpoint" not in {one["name"] for one in ready.apps["car-damage-desk"]["resources"]}
    ready.endpoints[ENDPOINT] = "9"
    [_, app, files] = bootstrap(items(settings))
    assert app.problem == "differs: its resources endpoint"
    assert files.problem is None


def test_a_stopped_app_gets_its_files_all_the_same_and_is_no_problem(ready: Twin, settings: Settings) -> None:
    [wheel, app, files] = items(settings)
    bootstrap([wheel, app])
    ready._stop_app("car-damage-desk")
    assert bootstrap([files])[0].problem == "is missing"
    assert [plan(item).problem for item in items(settings)] == [None] * 3
    other = settings.model_copy(update={"answers": settings.answers.model_copy(update={"keep_days": 3})})
    [_, _, result] = bootstrap(items(other))
    assert (str(result.problem).startswith("differs: /Workspace/Users/"), result.unresolved) == (True, None)
    there = ready.apps["car-damage-desk"]
    assert (len(there["deployments"]), [plan(item).problem for item in items(other)]) == (2, [None] * 3)
    assert there["compute_status"]["state"] == "STOPPED", "who has stopped it does not want to pay for it"


def test_what_the_settings_no_longer_name_is_taken_from_the_app(ready: Twin, settings: Settings) -> None:
    bootstrap(items(settings))
    without = settings.model_copy(update={"answers": settings.answers.model_copy(update={"keep_for_review": None})})
    [_, app, _] = bootstrap(items(without))
    assert app.problem == "differs: its resources kept"
    assert {one["name"] for one in ready.apps["car-damage-desk"]["resources"]} == {"landing", "corrections", "endpoint"}


def test_its_files_agree_with_pyproject() -> None:
    ranges = (review_app.FILES / "requirements.txt").read_text().splitlines()[1:]
    local = tomllib.loads((needs.ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["local"]
    assert set(ranges) <= set(local)


def test_it_needs_nothing_but_the_wheel_and_its_requirements() -> None:
    """The packages of the other extras are not there: what is imported of them would end the app at its start."""
    extras = tomllib.loads((needs.ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = {re.match(r"[\w-]+", line)[0] for extra in ("local", "train", "service", "spark") for line in extras[extra]}  # type: ignore[index]
    given = {re.match(r"[\w-]+", line)[0] for line in (review_app.FILES / "requirements.txt").read_text().splitlines()[1:]}  # type: ignore[index]
    absent = {name.replace("-", "_") for name in named - given}
    code = (
        "import runpy, sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.partition('.')[0] in {absent}:\n"
        "            raise ModuleNotFoundError(name, name=name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        f"runpy.run_path({str(review_app.FILES / 'app.py')!r}, run_name='app')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=needs.ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


class App:
    """The app as a process, as Databricks runs it, but with the token of the environment."""

    def __init__(self, url: str) -> None:
        self.url = url

    def call(self, method: str, path: str, headers: dict[str, str] = PEOPLE, **body: Any) -> httpx.Response:
        return httpx.request(method, self.url + path, headers=headers, timeout=60, **body)


@pytest.fixture
def app(ready: Twin, settings: Settings, tmp_path: Path) -> Iterator[App]:
    """Its endpoint answers as one that asks for a person."""
    row = {"label": "minor", "probability": 0.6, "probability_minor": 0.6, "probability_moderate": 0.3, "probability_major": 0.1}
    ready.canned = {"predictions": [row | {"classes": ["minor", "moderate"], "review": True}]}
    port = free_port()
    environment = (
        os.environ | review_app.variables(settings) | {"DATABRICKS_APP_PORT": str(port), "CAR_DAMAGE_HOME": str(tmp_path / "none")}
    )
    command = [sys.executable, str(review_app.FILES / "app.py")]
    environment["PYTHONPATH"] = str(needs.ROOT)
    with service("app", command, tmp_path / "app.log", f"http://127.0.0.1:{port}/health", environment) as running:
        running.await_ready(60)
        yield App(f"http://127.0.0.1:{port}")


def test_a_person_who_has_signed_in_asks_reviews_and_is_named_and_nobody_else_gets_in(
    app: App, ready: Twin, settings: Settings, tmp_path: Path
) -> None:
    target = Target(settings)
    desk, photo = Desk(target.files, settings.answers, target.clock), tmp_path / "car.jpg"
    photo.write_bytes(demo_photos.photo("moderate", 3))
    assert app.call("GET", "/", {}).status_code == app.call("GET", "/reviews", {}).status_code == 401
    assert app.call("GET", "/api/2.0/serving-endpoints/other").status_code == 404
    form = app.call("POST", "/reviews", {**PEOPLE, "Content-Type": "text/plain"}, content='{"label": "major", "by": "Eve"}')
    assert form.status_code == 415, "a page of another site could send this"
    with chromium(tmp_path) as page:
        page.cdp("Network.enable")
        page.cdp("Network.setExtraHTTPHeaders", headers=PEOPLE)
        page.open(app.url)
        page.choose("#photos", photo)
        until(lambda: "A person must look" in page.run("return document.getElementById('answers').textContent"), "the answer")
        until(lambda: len(desk.waiting()) == 1, "the photo on the volume")
        page.click("#to-reviewing")
        until(lambda: page.run("return document.querySelector('#current img')?.naturalWidth > 0"), "the photo")
        assert page.run("return document.getElementById('signed').textContent") == "You say it as ann@example.com."
        page.type("body", "2")
        until(lambda: page.run("return document.getElementById('lately').textContent") == "moderate is noted.", "the word")
        assert page.console() == []
    [word] = desk.said(sha256(photo.read_bytes())).history
    assert (word.label, word.by, word.version, word.answered) == ("moderate", "ann@example.com", 7, "minor")
    told = app.call("POST", "/reviews", json={"label": "major", "by": "Eve", "sha256": word.sha256}).json()
    assert [one["by"] for one in told["history"]] == ["ann@example.com"] * 2
    assert re.fullmatch(r"[0-9a-f]{64}\.jpg", next(ready.volume(CORRECTIONS).glob("photos/*")).name)


def test_the_smoke_test_touches_neither_the_app_nor_the_photos_that_wait(settings: Settings) -> None:
    of_workspace = settings.model_copy(update={"tracking": settings.tracking.model_copy(update={"registry_uri": "databricks-uc"})})
    elsewhere = place.new(of_workspace).settings
    assert (elsewhere.databricks.app, elsewhere.answers.keep_for_review) == (None, None)
