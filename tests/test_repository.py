"""The repository's extras work: pictures, a changelog, pre-commit hooks, a release that a tag starts."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from car_damage import __version__
from tests.pictures import FOLDER, MAX_BYTES, PAGE, RUN

ROOT = Path(__file__).parents[1]
CHANGELOG = ROOT / "CHANGELOG.md"
BIN = ".venv/bin/"
WORKFLOWS = sorted((ROOT / ".github" / "workflows").iterdir())


def release(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, ROOT / ".ci" / "release.py", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def workflow(name: str) -> dict[Any, Any]:
    read: dict[Any, Any] = yaml.safe_load((ROOT / ".github" / "workflows" / name).read_text())
    return read


def hooks() -> list[dict[str, Any]]:
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert repository["repo"] == "local"
    return list(repository["hooks"])


def lint() -> list[list[str]]:
    """The commands of `make lint`, split into words."""
    recipe = (ROOT / "Makefile").read_text().partition("\nlint:")[2].partition("\n\n")[0]
    return [f"{BIN}{command}".split() for command in re.findall(r"^\t@\$\(BIN\)/([^|\n]+)", recipe, re.MULTILINE)]


@pytest.fixture
def released(tmp_path: Path) -> Path:
    """The changelog as it is when this version is released, with an older version below."""
    text = CHANGELOG.read_text()
    if f"\n## {__version__} - " not in text:
        text = text.replace("## Unreleased\n", f"## Unreleased\n\n## {__version__} - 2027-01-31\n", 1)
    path = tmp_path / "CHANGELOG.md"
    path.write_text(text + "\n## 0.0.0 - 2026-01-31\n\n- older\n")
    return path


def test_every_picture_is_light_and_the_readme_shows_it() -> None:
    shown = re.findall(r"!\[[^\]]{20,}\]\((docs/pictures/[^)]+)\)", (ROOT / "README.md").read_text())
    assert sorted(ROOT / name for name in shown) == sorted([RUN, PAGE]) == sorted(FOLDER.iterdir())
    for path in (RUN, PAGE):
        assert path.stat().st_size < MAX_BYTES
        with Image.open(path) as picture:
            assert (picture.format, picture.mode) == ("PNG", "P")
            assert picture.width >= 1000


def test_every_plot_is_light_and_a_page_shows_it() -> None:
    plots = sorted((ROOT / "docs" / "plots").iterdir())
    shown = {name for page in (ROOT / "docs").glob("*.md") for name in re.findall(r"!\[[^\]]{20,}\]\(plots/([^)]+)\)", page.read_text())}
    assert {plot.name for plot in plots} == shown
    assert all(plot.suffix == ".svg" and plot.stat().st_size < 60_000 for plot in plots)


def test_hooks_are_the_parts_of_make_lint() -> None:
    # Ruff's hooks get files instead of a folder, and change them instead of only reporting.
    flags = {"--check", "--quiet", "--force-exclude", "."}
    wanted = [[word for word in command if word not in flags] for command in lint()]
    assert [[word for word in hook["entry"].split() if word not in flags] for hook in hooks()] == wanted
    assert wanted[0] == [f"{BIN}ruff", "format"]


@pytest.mark.parametrize("hook", hooks(), ids=lambda hook: str(hook["id"]))
def test_a_hook_calls_a_command_that_is_there(hook: dict[str, Any]) -> None:
    assert hook["language"] == "system"
    program, *arguments = hook["entry"].split()
    here = Path(sys.executable).parent / program.removeprefix(BIN)
    done = subprocess.run([here, *arguments, "--help"], capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


def test_the_changelog_has_a_section_for_what_is_not_released() -> None:
    first = re.findall(r"^## (.*)$", CHANGELOG.read_text(), re.MULTILINE)[0]
    assert first == "Unreleased"


def test_the_tag_of_this_version_is_released_with_its_section_of_the_changelog(released: Path) -> None:
    done = release(f"v{__version__}", released)
    assert done.returncode == 0, done.stderr
    below = released.read_text().partition(f"\n## {__version__} - ")[2].partition("\n")[2]
    assert done.stdout.strip() == below.partition("\n## ")[0].strip() != ""


@pytest.mark.parametrize("tag", [f"v{__version__}.1", __version__, "v"])
def test_another_tag_is_refused_with_both_names(tag: str, released: Path) -> None:
    done = release(tag, released)
    assert done.returncode == 1
    assert f"the tag is {tag}, but car_damage.__version__ is {__version__}" in done.stderr
    assert not done.stdout


def test_a_version_that_the_changelog_does_not_know_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "CHANGELOG.md"
    path.write_text("# Changelog\n\n## Unreleased\n\n- a change\n")
    done = release(f"v{__version__}", path)
    assert done.returncode == 1
    assert f"says nothing of version {__version__}" in done.stderr


def test_a_tag_starts_the_release_which_looks_at_it_before_it_tests_and_builds() -> None:
    read = workflow("release.yml")
    assert read[True] == {"push": {"tags": ["v*"]}}  # YAML 1.1 reads the key `on` as true
    steps = [step["run"] for step in read["jobs"]["build"]["steps"] if "run" in step]
    order = [".ci/release.py", ".ci/run", "-m build"]
    assert [next(number for number, step in enumerate(steps) if part in step) for part in order] == [0, 1, 2]


def test_only_the_job_that_runs_no_code_of_others_may_write() -> None:
    read = workflow("release.yml")
    assert read["permissions"] == workflow("ci.yml")["permissions"] == {"contents": "read"}
    assert {name for name, job in read["jobs"].items() if "permissions" in job} == {"publish"}
    publish = read["jobs"]["publish"]
    assert publish["needs"] == "build"
    assert [step["run"].split()[0] for step in publish["steps"] if "run" in step] == ["gh"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_use_github_s_own_actions_and_files_that_are_there(path: Path) -> None:
    jobs = workflow(path.name)["jobs"].values()
    steps = [step for job in jobs for step in job.get("steps", [job])]  # a job without steps is a workflow of its own
    used = [step["uses"] for step in steps if "uses" in step]
    assert used
    # Databricks' action installs its command line, and does so in a release that does not move.
    theirs = r"actions/[a-z-]+@v\d+|databricks/setup-cli@v\d+\.\d+\.\d+"
    here = [name.removeprefix("./") for name in used if not re.fullmatch(theirs, name)]
    here += [name for step in steps for name in re.findall(r"\.ci/[\w.]+", step.get("run", ""))]
    assert here or path.name == "databricks-target.yml"
    assert [name for name in here if not (ROOT / name).is_file()] == []


@pytest.mark.parametrize(
    "command", [("car_damage.cli", "serve"), ("car_damage.cli", "status"), ("deployments", "demo"), ("deployments", "up")]
)
def test_a_home_that_cannot_be_made_is_one_line(tmp_path: Path, command: tuple[str, str]) -> None:
    (tmp_path / "file").touch()
    home = {"CAR_DAMAGE_HOME": str(tmp_path / "file" / "home"), "CAR_DAMAGE_CONFIG": str(ROOT / "deployments" / "settings" / "local.toml")}
    environment = os.environ | home | {"CAR_DAMAGE_LANDING__FOLDER": f"{tmp_path}/file/home/landing"}
    module, *rest = command
    done = subprocess.run(
        [sys.executable, "-m", module, *rest], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert done.stderr.startswith("error: ")
    assert str(tmp_path / "file") in done.stderr


@pytest.mark.parametrize("folder", ["", "photos", "O'Brien $HOME", 'two  spaces, "quotes", `date` and \\'])
def test_make_gives_the_demo_its_folder_as_it_was_typed(tmp_path: Path, folder: str) -> None:
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\nfor argument; do printf "%s\\n" "$argument"; done\n')
    python.chmod(0o755)
    command = ["make", "--silent", "--old-file=.venv/installed", "demo", f"BIN={tmp_path}", f"IMAGES={folder}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines() == ["-m", "deployments", "demo", *(["--images", folder] if folder else [])]
