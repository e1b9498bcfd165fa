"""The documentation is correct: its code runs, and its settings, links, commands and lists match the project."""

import ast
import importlib
import inspect
import re
import shlex
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

from car_damage.settings import CONFIG_VARIABLE, PREFIX, TABLES, Section, Settings
from car_damage.settings_sources import load
from deployments.settings_page import page as settings_page

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
DOCS = ROOT / "docs"
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(DOCS.rglob("*.md"))]


def blocks(language: str) -> list[tuple[str, str]]:
    found = []
    for path in PAGES:
        for number, text in enumerate(re.findall(rf"^```{language}\n(.*?)^```", path.read_text(), re.DOTALL | re.MULTILINE), 1):
            found.append((f"{path.name} {number}", text))
    return found


def block(page: str, index: int) -> str:
    """The index-th Python block of a page, counted from 1. For tests that run it against a server."""
    return dict(blocks("python"))[f"{page} {index}"]


def commands(*parts: str) -> list[str]:
    """Lines of the console blocks that contain one of these parts, without the prompt."""
    lines = sorted({line[2:] for _, text in blocks("console") for line in text.splitlines() if line.startswith("$ ")})
    return [line for line in lines if any(part in line for part in parts)]


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import os

    for name in list(os.environ):
        if name.startswith(PREFIX) and name != CONFIG_VARIABLE:
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


def test_the_settings_of_another_place_name_every_table() -> None:
    [staging] = [tomllib.loads(text) for _, text in blocks("toml") if "insurance_staging.silver" in text]
    assert sorted(staging["tables"]) == sorted(TABLES)


def test_numbers_of_deployments_in_the_documentation_are_right() -> None:
    count = len(yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"])
    numbers = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    said = {number for path in PAGES for number in re.findall(r"(\w+) deployments of \[prefect", path.read_text())}
    assert said == {numbers[count - 1]}


def test_keys_of_settings_in_the_documentation_are_there() -> None:
    sections = {name: field.annotation for name, field in Settings.model_fields.items()}
    sections = {name: kind for name, kind in sections.items() if isinstance(kind, type) and issubclass(kind, Section)}
    named = {key for path in PAGES for key in re.findall(r"`([a-z_]+\.[a-z_]+)`", path.read_text()) if key.split(".")[0] in sections}
    assert {"landing.max_vanished_share", "serving.max_queue"} <= named
    assert [key for key in sorted(named) if key.split(".")[1] not in {*sections[key.split(".")[0]].model_fields, "py", "yml", "toml"}] == []


@pytest.mark.parametrize("command", commands("make "))
def test_make_targets_in_the_documentation_are_there(command: str) -> None:
    words = shlex.split(command)
    words.insert(words.index("make") + 1, "--dry-run")
    done = subprocess.run(["/usr/bin/env", *words], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", commands("car-damage ", "-m deployments"))
def test_commands_in_the_documentation_are_there(command: str) -> None:
    from typer.testing import CliRunner

    from car_damage.cli import app
    from deployments.__main__ import app as deployments

    words = command.split()
    runner, name = (app, words[1]) if words[0].endswith("car-damage") else (deployments, words[words.index("deployments") + 1])
    assert CliRunner().invoke(runner, [name.removesuffix(')"'), "--help"]).exit_code == 0


@pytest.mark.parametrize("command", commands("export "))
def test_variables_in_the_documentation_mean_something(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import prefect.settings

    monkeypatch.chdir(ROOT)
    for word in shlex.split(command)[1:]:
        name, _, value = word.partition("=")
        if name.startswith("PREFECT_"):
            getattr(prefect.settings, name)  # raises for an unknown setting; Prefect would ignore the variable
        else:
            monkeypatch.setenv(name, value)
    load()


def test_the_flow_s_options_are_in_the_readme_and_no_others_are_used() -> None:
    from flows.retrain import main

    options = {"--" + name.replace("_", "-") for name in inspect.signature(main).parameters}
    assert "--dry-run" in options
    assert {option for option in options if f"`{option}`" not in README.read_text()} == set()
    assert {option for command in commands("flows.retrain") for option in re.findall(r"--[a-z-]+", command)} <= options


@pytest.mark.parametrize("flow", ["promote", "score"])
def test_the_options_of_a_flow_in_the_documentation_are_its_own(flow: str) -> None:
    main = importlib.import_module(f"flows.{flow}").main
    options = {"--" + name for name in inspect.signature(main).parameters}
    assert {option for command in commands(f"flows.{flow}") for option in re.findall(r"--[a-z-]+", command)} == options


@pytest.mark.parametrize("command", commands(".venv/bin/prefect "))
def test_commands_of_prefect_in_the_documentation_are_there_with_their_options(command: str) -> None:
    from prefect.cli._app import _app

    words = shlex.split(command)[1:]
    app = _app
    while words and words[0] in set(app):
        app = app[words.pop(0)]
    known = {name for argument in app.assemble_argument_collection() for name in argument.names}
    assert app is not _app
    assert app.default_command is not None, f"{command} names a group of commands"
    assert {word for word in words if word.startswith("-")} <= known


def test_prefect_s_variables_in_the_documentation_and_the_units_are_its_settings() -> None:
    import prefect.settings

    places = [*PAGES, *(path for folder in ("systemd", "containers") for path in (ROOT / "deployments" / folder).iterdir())]
    named = {name for path in places for name in re.findall(r"PREFECT_[A-Z_]*[A-Z]", path.read_text())}
    assert "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE" in named
    assert [name for name in sorted(named) if not hasattr(prefect.settings, name)] == []


def test_deployments_in_the_documentation_are_there_with_their_parameters() -> None:
    from flows import forget, monitor, promote, retrain, score

    flows = {
        "retrain": retrain.retrain,
        "promote": promote.promote,
        "score": score.score,
        "monitor": monitor.monitor,
        "forget": forget.forget,
    }
    known = {f"{name}/{name}": flow for name, flow in flows.items()}
    runs = commands("prefect deployment run")
    assert runs
    for command in runs:
        words = shlex.split(command)
        given = [words[index + 1].partition("=")[0] for index, word in enumerate(words) if word == "--param"]
        assert set(given) <= set(inspect.signature(known[words[3]].fn).parameters), command


def test_every_page_of_the_runbook_is_in_its_index() -> None:
    listed = set(re.findall(r"\]\(([^)]+\.md)\)", (DOCS / "runbook" / "README.md").read_text()))
    assert listed == {path.name for path in (DOCS / "runbook").glob("*.md")} - {"README.md"}


def test_what_the_runbook_quotes_is_what_the_code_says() -> None:
    said = _said()
    texts = [re.sub(r"^ *```.*?^ *```", "", path.read_text(), flags=re.DOTALL | re.MULTILINE) for path in (DOCS / "runbook").glob("*.md")]
    quotes = {quote for text in texts for quote in re.findall(r"`([^`\n]+)`", text) if quote.count(" ") > 1} - OTHERS_SAY
    commands_ = (".venv/", "journalctl ", "systemctl ")  # our commands have their own test; the others are the system's
    # The code fills in numbers, names and addresses; `...` omits something.
    filled = r"(?<=stage )\w+|\.\.\.|http://\S+|\d+%?|\bcar-damage(?:-endpoint)?\b"
    parts = {quote: re.split(filled, quote) for quote in quotes if not quote.startswith(commands_)}
    assert "no heartbeat for 120 s: started again" in parts
    assert {quote: part for quote, all_of_it in parts.items() for part in all_of_it if part.strip() not in said} == {}


OTHERS_SAY = {
    "No space left on device",  # the operating system
    "database is locked",  # SQLite
    "database or disk is full",  # SQLite
    "new photos start a run",  # a trigger of prefect.yaml
}
"""Quotes in the runbook that do not come from our Python code."""


def _said() -> str:
    """Every string in the code, with a line break in place of each filled-in value."""
    texts = []
    for path in (path for floor in ("car_damage", "tasks", "flows", "deployments") for path in (ROOT / floor).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                texts.append("".join(str(part.value) if isinstance(part, ast.Constant) else "\n" for part in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
    return "\n\n".join(texts)


def test_every_automation_has_its_row() -> None:
    from car_damage.settings import Alerts
    from deployments.alerts import PREFIX, declared

    rows = set(re.findall(r"^\| (?!automation)([a-z' ]+) \|", (DOCS / "operations.md").read_text(), re.MULTILINE))
    assert {name.removeprefix(PREFIX) for name in declared(Alerts(notify="slack-webhook/x"))} <= rows


def test_benchmarks_in_the_documentation_are_there() -> None:
    from benchmarks import MODULES

    named = {name for command in commands("-m benchmarks") for name in command.split()[3:]}
    assert named
    assert named <= set(MODULES)


@pytest.mark.parametrize("name", ["trials", "trials_fine_tuning"])
def test_a_table_of_trials_has_the_rows_that_its_command_writes(name: str) -> None:
    table = (DOCS / "model.md").read_text().partition(f"written by python -m benchmarks {name} -->")[2].partition("<!-- end")[0]
    _, *recipes = [line.split(" | ")[0].removeprefix("| ") for line in table.splitlines() if line.startswith("| ")]
    assert recipes == [trial.name for trial in importlib.import_module(f"benchmarks.{name}").TRIALS]


def test_every_reason_has_its_row() -> None:
    from car_damage.photo.reasons import REASONS

    first_cells = " ".join(re.findall(r"^\| (`.*?) \|", (DOCS / "data.md").read_text(), re.MULTILINE))
    assert set(re.findall(r"`(.*?)`", first_cells)) == REASONS


def test_every_error_of_the_endpoint_has_its_row() -> None:
    from car_damage.server.errors import ErrorKind

    said = set(re.findall(r"^\| ([\d, ]+) \| `(\w+)` \|", (DOCS / "endpoint.md").read_text(), re.MULTILINE))
    said = {(status, code) for statuses, code in said for status in statuses.split(", ")}
    assert {(str(kind.status), kind.code) for kind in ErrorKind} - said == set()


def test_every_metric_has_its_row_and_every_row_its_metric() -> None:
    text = (DOCS / "endpoint.md").read_text()
    said = set(re.findall(r"`(car_damage_[a-z_]+?)(?:_total)?`", text.partition("## Metrics")[2].partition("## Errors")[0]))
    sources = [(ROOT / "car_damage" / "server" / name).read_text() for name in ("hosting/measures.py", "metrics/exposition.py")]
    assert {name for source in sources for name in re.findall(r'"(car_damage_[a-z_]+)"', source)} == said


def test_files_and_folders_in_the_documentation_are_there() -> None:
    named = {name for path in PAGES for name in re.findall(r"`((?:car_damage|deployments|flows|tasks|tests)/[\w/.]*)`", path.read_text())}
    assert "tests/kill/world.py" in named
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_the_floor_plan_is_the_one_that_lint_imports_checks() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    [layers] = [contract["layers"] for contract in contracts if contract.get("containers") == ["car_damage"]]
    text = (DOCS / "development.md").read_text().partition("## Rooms of car_damage/")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`.*?) \|", text, re.MULTILINE)
    assert [set(re.findall(r"`(.*?)`", row)) for row in rows] == [set(layer.split(" | ")) for layer in layers]


def test_links_in_the_documentation_lead_somewhere() -> None:
    broken = [
        f"{path.name}: {link}"
        for path in PAGES
        for link in re.findall(r"\]\(([^)#:]+)\)", path.read_text())
        if not (path.parent / link).exists()
    ]
    assert broken == []


def test_the_page_of_settings_is_the_settings() -> None:
    assert (DOCS / "settings.md").read_text() == settings_page(), "write it again: python -m deployments.settings_page"


def test_the_readme_has_two_screens_at_most() -> None:
    assert len(README.read_text().splitlines()) <= 120
