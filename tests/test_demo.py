"""`make demo` as a newcomer runs it, followed by the commands that the README names."""

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from car_damage.settings import PREFIX
from car_damage.settings_sources import load
from deployments import demo_photos, demo_settings
from deployments.processes import free_port, service
from deployments.stack import ENDPOINT_START
from tests.prefect.service import until

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


@dataclass
class Newcomer:
    """A fresh terminal in a folder of its own. It exports nothing; only the port of the endpoint is set, because 5055 may be in use."""

    folder: Path
    port: int

    @property
    def home(self) -> Path:
        return self.folder / ".car_damage"

    @property
    def environment(self) -> dict[str, str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith((PREFIX, "PREFECT_"))}
        offline = {"KERAS_HOME": str(self.folder / "keras"), "https_proxy": "http://127.0.0.1:9", "HTTPS_PROXY": "http://127.0.0.1:9"}
        ours = {"CAR_DAMAGE_SERVING__HOST": f"http://127.0.0.1:{self.port}", "COLUMNS": "200", "PYTHONPATH": str(ROOT)}
        return clean | offline | ours

    def run(self, *command: str, timeout: float = 600) -> str:
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    def demo(self, *options: str) -> str:
        return self.run(sys.executable, "-m", "deployments", "demo", *options)


@pytest.fixture(scope="module")
def newcomer(tmp_path_factory: pytest.TempPathFactory) -> Newcomer:
    return Newcomer(tmp_path_factory.mktemp("newcomer"), free_port())


@pytest.fixture(scope="module")
def first(newcomer: Newcomer) -> str:
    return newcomer.demo()


def test_the_demo_ends_with_the_class_of_a_photo_that_the_model_has_not_seen(newcomer: Newcomer, first: str) -> None:
    assert "\nPredicted class: major\n" in first
    assert f"export CAR_DAMAGE_SERVING__HOST=http://127.0.0.1:{newcomer.port}\n" in first
    assert re.search(r"^Promoted: Version 1 is live: no version was live before\.", first, re.MULTILINE)


def test_the_demo_s_summary_has_every_figure(first: str) -> None:
    table = dict(re.findall(r"^  (\w[\w -]*?)  +(.+?) *$", first, re.MULTILINE))
    assert (table["Files seen"], table["Accepted"]) == ("68", "56")
    assert table["Silver table"].startswith("56 rows")
    assert float(table["Test accuracy"]) >= 0.6
    assert table["Registered version"] == "insurance_uc.models.car_damage_classifier version 1, champion"
    assert table["Endpoint"] == "car_damage_model_ep: READY, serves version 1"
    for reason in ("empty", "not an image", "truncated", "corrupt", "too small", "too many pixels", "unknown label", "duplicate"):
        assert reason in first


def test_what_the_demo_started_it_has_stopped(newcomer: Newcomer, first: str) -> None:
    del first
    home = str(newcomer.home)
    left = [
        process.info["cmdline"]
        for process in psutil.process_iter(["environ", "cmdline"])
        if any(home in text for text in [*(process.info["environ"] or {}).values(), *(process.info["cmdline"] or [])])
    ]
    assert left == []


def test_a_second_demo_ends_early_because_nothing_is_new(newcomer: Newcomer, first: str) -> None:
    del first
    again = newcomer.demo()
    assert "Nothing new: No new photos: 56 training photos as before, and version 1 goes on serving." in again
    assert "\nPredicted class: major\n" in again
    assert "epoch" not in again


def test_the_commands_of_the_readme_work_after_it(newcomer: Newcomer, first: str) -> None:
    del first
    binaries = Path(sys.executable).parent
    commands = [line[2:] for line in README.splitlines() if line.startswith("$ .venv/bin/car-damage")]
    assert [command.split()[1] for command in commands] == ["validate", "status", "predict", "history"]
    serve = [str(binaries / "car-damage"), "serve"]
    health = f"http://127.0.0.1:{newcomer.port}/health"
    environment = newcomer.environment | {"CAR_DAMAGE_HOME": str(newcomer.home)}  # `service` starts it in another folder
    with service("endpoint server", serve, newcomer.home / "serve.log", health, environment) as server:
        server.await_ready(ENDPOINT_START)
        for command in commands:
            words = command.replace(".venv/bin/", f"{binaries}/").split()
            told = newcomer.run(*words)
            if words[1] == "status":  # until the server has started the model again
                told = until(lambda ask=words: told if "READY" in (told := newcomer.run(*ask)) else "", "the endpoint is ready")
            if words[1] == "predict":
                assert re.search(r"unseen_major\.jpg: major \(\d+\.\d%; minor 0\.\d+, moderate 0\.\d+, major [01]\.\d+\)", told)
            if words[1] == "status":
                assert "READY" in told
                assert re.search(rf"Settings +{newcomer.folder}/car-damage\.toml", told)
                assert "car_damage_classifier version 1" in told
            if words[1] == "history":
                assert "no version was live before" in told
            if words[1] == "validate":
                assert "rejected: truncated" in told


def test_a_folder_of_one_s_own_is_taken_where_it_lies_and_severe_means_major(newcomer: Newcomer, tmp_path: Path) -> None:
    (newcomer.home / "unseen_major.jpg").unlink()
    demo_photos.write(tmp_path, seed=4, unusable=False)
    (tmp_path / "major").rename(tmp_path / "severe")
    before = sorted(path.stat().st_mtime_ns for path in tmp_path.rglob("*"))
    told = newcomer.demo("--images", str(tmp_path))
    assert re.search(r"^Predicted class: (minor|moderate|major)$", told, re.MULTILINE)
    assert re.search(r"^  Silver table +56 rows \(\d+ minor, \d+ moderate, \d+ major\)", told, re.MULTILINE)
    assert f"{tmp_path}/severe/" in told
    assert "network 1 of 1: cnn, because the weights imagenet of EfficientNetV2B0 cannot be had" in told
    assert sorted(path.stat().st_mtime_ns for path in tmp_path.rglob("*")) == before
    assert list(newcomer.home.glob("images-*/mlflow.db"))
    assert (newcomer.home / "unseen_major.jpg").is_file()  # the README names it
    binary = str(Path(sys.executable).parent / "car-damage")
    assert re.search(r"^ *valid +56 *$", newcomer.run(binary, "validate"), re.MULTILINE)
    told = newcomer.run(binary, "status")
    assert re.search(rf"Landing folder +{tmp_path}/ ", told)
    assert "car_damage_classifier version 1" in told


def test_a_settings_file_that_a_person_wrote_stays_and_its_home_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        monkeypatch.delenv(name)
    assert demo_settings.is_free()
    Path(".car_damage").mkdir()
    Path(".car_damage/mlflow.db").touch()  # of `make up`
    assert not demo_settings.is_free()
    Path("car-damage.toml").write_text(demo_settings.settings_file("/home", "/photos/", own=True))
    assert (demo_settings.is_free(), load().training.network) == (True, "auto")
    Path("car-damage.toml").write_text(demo_settings.settings_file('/a home/with "quotes"', "/photos/"))
    assert demo_settings.is_free()
    assert (load().home, load().landing.folder) == (Path('/a home/with "quotes"'), "/photos/")
    for text in (Path("car-damage.toml").read_text().replace("0.8", "0.9"), "[landing]\nfolder = '/photos'\n", "not TOML"):
        Path("car-damage.toml").write_text(text)
        assert not demo_settings.is_free()
    for name in (*demo_settings.PLACES, demo_settings.NETWORK, "CAR_DAMAGE_SERVING__HOST"):
        monkeypatch.setenv(name, "")  # so that it is put back after the test
        monkeypatch.delenv(name)
    own, found_by_file = demo_settings.demo_settings(None)
    assert not found_by_file
    assert (own.home, own.landing.folder) == (tmp_path / ".car_damage" / "demo", f"{tmp_path}/.car_damage/demo/landing/")


def test_a_folder_that_is_not_there_is_one_line(newcomer: Newcomer) -> None:
    command = [sys.executable, "-m", "deployments", "demo", "--images", "/nowhere"]
    done = subprocess.run(command, cwd=newcomer.folder, env=newcomer.environment, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.startswith("error: IMAGES=/nowhere is not a folder")


@pytest.mark.parametrize(
    ("below", "advice"),
    [
        ("major", "use the parent folder: IMAGES={0}\n"),
        ("../{0}/major", "use the parent folder: IMAGES={0}\n"),
        ("all", "sort the photos into such folders, or map your folder names to classes in labels.aliases\n"),
    ],
)
def test_a_folder_in_which_no_photo_has_a_class_is_one_line_at_once(newcomer: Newcomer, tmp_path: Path, below: str, advice: str) -> None:
    given = tmp_path / below.format(tmp_path.name)
    lies = Path(os.path.abspath(given))  # noqa: PTH100 - must not resolve links
    lies.mkdir()
    (lies / "photo.jpg").write_bytes(demo_photos.photo("major", 3))
    command = [sys.executable, "-m", "deployments", "demo", "--images", str(given)]
    environment = newcomer.environment | {"CAR_DAMAGE_HOME": str(tmp_path / "home")}
    done = subprocess.run(command, cwd=newcomer.folder, env=environment, capture_output=True, text=True, timeout=120, check=False)
    problem = f"error: no file below {lies} is in a folder named after a class (minor, moderate, major): "
    assert (done.returncode, done.stderr) == (1, problem + advice.format(tmp_path))
    assert not (tmp_path / "home").exists()
