"""The smoke test of a workspace, in the twin: it makes the service's calls, says what failed, and leaves nothing."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from car_damage.errors import SettingsError, Terminal
from car_damage.settings import Settings
from deployments.processes import free_port
from deployments.smoke import place, redaction, removal, steps
from deployments.smoke.command import smoke
from deployments.smoke.report import Report
from tests.databricks import twin as twins
from tests.databricks.twin import ADMIN_TOKEN, CLIENT, SECRET, Twin

DOCS = Path(__file__).parents[2] / "docs" / "databricks.md"
OTHERS_SECRET = "slack-hook-marker-secret"  # noqa: S105


@pytest.fixture
def twin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Twin]:
    """A workspace that contains only a catalog; this process is its administrator."""
    with twins.workspace(tmp_path / "workspace") as twin:
        for name, value in twin.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("DATABRICKS_TOKEN", ADMIN_TOKEN)
        monkeypatch.setenv("SLACK_TOKEN", OTHERS_SECRET)
        yield twin


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        home=tmp_path / "home",
        tracking={"uri": "databricks", "registry_uri": "databricks-uc"},
        serving={"host": "databricks", "poll": 0.2},
        databricks={"stages": "jobs", "poll": 0.5, "patience": 5, "service_principal": CLIENT},
    )


def run(settings: Settings, folder: Path) -> tuple[Report, dict[str, Any], str]:
    """A smoke test with an endpoint: what it returns, and its two files."""
    found = smoke(settings, folder, endpoint=True, show=lambda _: None)
    return found, *files(folder)


def files(folder: Path) -> tuple[dict[str, Any], str]:
    ((data,), (page,)) = (list(folder.glob(f"*.{ending}")) for ending in ("json", "txt"))
    return json.loads(data.read_text()), page.read_text()


def general(path: str) -> str:
    """A path without names, as the table of docs/databricks.md has it."""
    path = re.sub(r"(unity-catalog/(?:effective-)?permissions)/\w+/", r"\1/*/", path)
    path = re.sub(r"/(Volumes|WorkspaceInternal|Models)/.*", "/*", path)
    return re.sub(r"/[^/]*<[^/]*|(?<=/served-models)/[\w-]+|/\d+$", "/*", path)


def nothing_is_left(twin: Twin) -> None:
    left = [*twin.schemas, *twin.models, *twin.jobs, *twin.endpoints, *(set(twin.experiments.values()) - twin.deleted)]
    assert left == []
    assert [path for path in twin.storage.rglob("*") if path.is_file()] == []


def test_one_refused_call_is_in_the_report_every_other_step_is_done_and_all_is_removed(
    twin: Twin, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABRICKS_TOKEN", SECRET)
    twin.fault("DELETE", "/mlflow/unity-catalog/registered-models/alias", 403, times=1)
    found, data, page = run(settings, tmp_path / "report")
    failed = {step["name"]: step["error"] for step in data["steps"] if step["state"] != "ok"}
    assert list(failed) == ["aliases, tags and files of the version"], page
    assert failed["aliases, tags and files of the version"].startswith(
        "moving the alias challenger of <catalog>.<smoke>.classifier: MLflow"
    )
    refused = [call for call in data["calls"] if call["status"] == 403]
    assert [(call["method"], call["path"]) for call in refused] == [("DELETE", "/api/2.0/mlflow/unity-catalog/registered-models/alias")]
    assert (found.succeeded, found.left) == (False, [])
    nothing_is_left(twin)
    called = {f"{call['method']} {general(call['path'])}" for call in data["calls"]}
    table = DOCS.read_text().partition("## What trust rests on")[2]
    assert "POST /serving-endpoints/*/invocations" in called
    assert [one for one in sorted(called) if "/presigned/" not in one and f"`{one}`" not in table] == []
    text = "".join(path.read_text() for path in (tmp_path / "report").iterdir())
    hidden = [SECRET, ADMIN_TOKEN, OTHERS_SECRET, CLIENT, "admin@example.com", "insurance_uc", twin.host.partition("//")[2]]
    assert [one for one in hidden if one in text] == []
    assert not re.search(r"car_damage_smoke_[0-9a-f]", text)


def test_an_interruption_is_reported_after_everything_is_removed(
    twin: Twin, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> bytes:
        raise KeyboardInterrupt

    monkeypatch.setattr(steps.demo_photos, "photo", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(settings, tmp_path / "report")
    data, page = files(tmp_path / "report")
    assert data["interrupted"]
    assert data["steps"][-1] == {
        "name": "upload photos",
        "state": "FAILED",
        "seconds": data["steps"][-1]["seconds"],
        "error": "interrupted",
    }
    assert "; it was interrupted" in page
    nothing_is_left(twin)


def test_what_cannot_be_removed_is_named(twin: Twin, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: Any) -> bytes:
        raise Terminal("no photo can be drawn")

    monkeypatch.setattr(steps.demo_photos, "photo", failing)
    twin.fault("DELETE", "/unity-catalog/volumes", 403, times=1)
    said: list[str] = []
    smoke(settings, tmp_path / "report", endpoint=False, show=said.append)
    data, _ = files(tmp_path / "report")
    states = {step["name"]: step["state"] for step in data["steps"]}
    assert {states[name] for name in ("validate", "register", "tidy up")} == {"not reached"}
    assert states["for the service principal: owner of registered model <catalog>.<smoke>.classifier"] == "ok"
    left = {one["what"]: one["error"] for one in data["removals"] if one["state"] == "LEFT"}
    assert list(left) == ["volume <catalog>.<smoke>.photos", "schema <catalog>.<smoke>"]
    assert "removing it was refused: not now" in left["volume <catalog>.<smoke>.photos"]
    (schema,) = twin.schemas
    assert [line for line in said if line.startswith("LEFT")][-1].startswith(f"LEFT  schema {schema}: ")


@pytest.mark.usefixtures("twin")
def test_a_workspace_that_does_not_answer_is_reported(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABRICKS_HOST", f"https://127.0.0.1:{free_port()}")
    monkeypatch.setenv("MLFLOW_DATABRICKS_ENDPOINT_HTTP_RETRY_TIMEOUT", "1")
    smoke(settings, tmp_path / "report", endpoint=False, show=lambda _: None)
    data, _ = files(tmp_path / "report")
    assert data["steps"][0]["state"] == "FAILED"
    assert data["steps"][0]["error"].startswith("looking for credentials: the workspace does not answer at <")
    assert (data["interrupted"], data["removals"]) == (False, [])


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (requests.ConnectionError("gone"), "removing it: the workspace does not answer: gone"),
        (TypeError("object of type '_io.BytesIO' has no len()"), "TypeError: object of type '_io.BytesIO' has no len()"),
    ],
)
def test_everything_is_named_that_a_workspace_has_kept(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, error: Exception, told: str
) -> None:
    def client() -> Any:
        raise error

    monkeypatch.setattr(removal, "_WAITS", ())
    run = steps.Smoke(place.new(settings), client=client)
    found = removal.remove(run, lambda _: None)
    assert {one.state for one in found} == {removal.LEFT}
    assert [one.what for one in found if one.error == told]
    assert found[-1].what == f"schema {run.place.schema}"


def test_settings_of_a_laptop_are_refused() -> None:
    with pytest.raises(SettingsError, match="needs settings of a workspace"):
        smoke(Settings(), Path(), endpoint=False)


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("https://adb-123.4.azuredatabricks.net/?o=12345#job/775544", "<host>/#job/<id>"),
        ("owner is jane.doe@corp.example.com", "owner is <mail>"),
        ("run 0f8fad5b-d9cb-469f-a165-70867728950e of 123456789", "run <id> of <id>"),
        ("Bearer abc.def and dapi0123456789abcdef", "<token> and <token>"),
        ("https://b.s3.amazonaws.com/x?X-Amz-Credential=ASIAABCDEFGHIJKLMNOP%2Feu&X-Amz-Security-Token=Fwo%2FabC==", "<host>/x"),
        ("with url: /x?X-Goog-Credential=a-b%40c&X-Goog-Signature=Zz9 (Caused by", "with url: /x (Caused by"),
        ("<AWSAccessKeyId>ASIAABCDEFGHIJKLMNOP</AWSAccessKeyId>", "<AWSAccessKeyId><token></AWSAccessKeyId>"),
        ("Source IP address: 203.0.113.7 is blocked for workspace: 1234567", "Source IP address: <address> is blocked for workspace: <id>"),
        ("insurance_uc.bronze in 'insurance_uc'; insurance_uc2", "<catalog>.bronze in '<catalog>'; insurance_uc2"),
    ],
)
def test_what_looks_like_a_name_or_a_secret_is_not_in_a_report(text: str, redacted: str) -> None:
    assert redaction.of(Settings(), "car_damage_smoke_0").text(text) == redacted
