"""What the documentation says is true: its code runs, its settings are settings, its links and commands are there."""

import re
import subprocess
from pathlib import Path

import pytest

from car_damage.settings import PREFIX, load
from deployments.settings_page import page

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(language: str) -> list[tuple[str, str]]:
    found = []
    for path in PAGES:
        for number, text in enumerate(re.findall(rf"^```{language}\n(.*?)^```", path.read_text(), re.DOTALL | re.MULTILINE), 1):
            found.append((f"{path.name} {number}", text))
    return found


def commands() -> list[str]:
    return sorted({line[2:] for _, text in blocks("console") for line in text.splitlines() if line.startswith("$ ")})


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import os

    for name in list(os.environ):
        if name.startswith(PREFIX):
            monkeypatch.delenv(name)
    monkeypatch.setenv("CAR_DAMAGE_HOME", str(tmp_path))


@pytest.mark.parametrize(("where", "code"), blocks("python"), ids=[where for where, _ in blocks("python")])
def test_python_in_the_documentation_runs(where: str, code: str) -> None:
    exec(compile(code, where, "exec"), {"__name__": "documentation"})  # noqa: S102 - our own documentation


@pytest.mark.parametrize(("where", "text"), blocks("toml"), ids=[where for where, _ in blocks("toml")])
def test_settings_in_the_documentation_are_settings(where: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    del where
    path = tmp_path / "settings.toml"
    path.write_text(text)
    monkeypatch.setenv("CAR_DAMAGE_CONFIG", str(path))
    load()


@pytest.mark.parametrize("command", [command for command in commands() if command.startswith("make ")])
def test_make_targets_in_the_documentation_are_there(command: str) -> None:
    done = subprocess.run(
        ["/usr/bin/env", "make", "--dry-run", *command.split()[1:]], cwd=ROOT, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", [command for command in commands() if "car-damage " in command or "-m deployments" in command])
def test_commands_in_the_documentation_are_there(command: str) -> None:
    from typer.testing import CliRunner

    from car_damage.cli import app
    from deployments.__main__ import app as deployments

    words = command.split()
    runner, name = (app, words[1]) if words[0].endswith("car-damage") else (deployments, words[words.index("deployments") + 1])
    assert CliRunner().invoke(runner, [name, "--help"]).exit_code == 0


def test_links_in_the_documentation_lead_somewhere() -> None:
    broken = [
        f"{path.name}: {link}"
        for path in PAGES
        for link in re.findall(r"\]\(([^)#:]+)\)", path.read_text())
        if not (path.parent / link).exists()
    ]
    assert broken == []


def test_the_page_of_settings_is_the_settings() -> None:
    assert (ROOT / "docs" / "settings.md").read_text() == page(), "write it again: python -m deployments.settings_page"


def test_the_readme_has_two_screens_at_most() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120
