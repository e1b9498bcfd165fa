"""On request, bootstrap makes the credentials block from the environment's credentials. It shows no secret."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from prefect.client.orchestration import get_client
from prefect_databricks import DatabricksCredentials
from typer.testing import CliRunner

from car_damage.errors import SettingsError
from car_damage.settings import Settings
from deployments.__main__ import app
from deployments.databricks import credentials_block
from deployments.items import Result, fix, plan
from tasks.workspace import VARIABLES, use_credentials
from tests.databricks import twin as twins
from tests.databricks.twin import ADMIN, ADMIN_TOKEN, OTHER, OTHER_TOKEN, SECRET

HOST = "https://dbc-1.cloud.databricks.com"
NAME = "of-the-environment"
SETTINGS = Settings(databricks={"credentials": NAME})
TOKEN = {"DATABRICKS_TOKEN": "marker-token"}
MACHINE = {"DATABRICKS_CLIENT_ID": "the-id", "DATABRICKS_CLIENT_SECRET": "marker-secret"}
AZURE = {"ARM_CLIENT_ID": "the-id", "ARM_CLIENT_SECRET": "marker-secret", "ARM_TENANT_ID": "the-tenant"}
pytestmark = pytest.mark.usefixtures("prefect", "_environment")


@pytest.fixture
def _environment() -> Iterator[None]:
    """Each test starts without credentials; its changes to the environment are undone."""
    before = dict(os.environ)
    for name in VARIABLES:
        os.environ.pop(name, None)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(autouse=True)
def _no_block(_environment: None) -> None:
    with get_client(sync_client=True) as client:
        for found in client.request("POST", "/block_documents/filter", json={}).json():
            if found["name"] == NAME:
                client.request("DELETE", "/block_documents/{id}", path_params={"id": found["id"]})


def written(given: Mapping[str, str]) -> Result:
    for name in VARIABLES:
        os.environ.pop(name, None)
    os.environ.update({"DATABRICKS_HOST": HOST, **given})
    return fix(credentials_block.item(SETTINGS))


@pytest.mark.parametrize("given", [TOKEN, MACHINE, AZURE], ids=["token", "id and secret", "Azure"])
def test_what_is_written_lets_a_flow_run_in_as_the_environment_did(given: dict[str, str]) -> None:
    assert written(given).problem == "is missing"
    use_credentials(NAME)
    assert {name: os.environ[name] for name in given} == given
    assert os.environ["DATABRICKS_HOST"] == HOST


def test_a_block_that_is_as_it_should_be_is_left_alone_and_another_one_overwritten() -> None:
    written(TOKEN)
    assert written(TOKEN).problem is None
    assert written(MACHINE).problem == "differs: token, client_id, client_secret"
    assert written(MACHINE).problem is None


def test_what_else_somebody_set_in_the_block_stays() -> None:
    DatabricksCredentials(databricks_instance="elsewhere", token="x", client_kwargs={"timeout": 7}).save(NAME)  # noqa: S106
    assert written(TOKEN).problem == "differs: databricks_instance, token"
    assert DatabricksCredentials.load(NAME).client_kwargs == {"timeout": 7}  # type: ignore[union-attr]


def test_a_plan_writes_nothing() -> None:
    os.environ.update({"DATABRICKS_HOST": HOST, **TOKEN})
    item = credentials_block.item(SETTINGS)
    assert [plan(item).problem, plan(item).problem] == ["is missing"] * 2


@pytest.mark.parametrize("given", [TOKEN, MACHINE], ids=["token", "id and secret"])
def test_an_item_that_is_shown_holds_no_secret(given: dict[str, str]) -> None:
    os.environ.update({"DATABRICKS_HOST": HOST, **given})
    assert "marker" not in repr(credentials_block.item(SETTINGS))


@pytest.mark.parametrize("options", [[], ["--own-credentials"]], ids=["as the block", "as oneself"])
def test_who_has_more_rights_than_the_block_can_ask_as_oneself(tmp_path: Path, options: list[str]) -> None:
    with twins.workspace(tmp_path / "workspace") as twin:
        DatabricksCredentials(databricks_instance=twin.host.removeprefix("https://"), token=OTHER_TOKEN).save(NAME)
        os.environ.update(twin.environment | {"DATABRICKS_TOKEN": ADMIN_TOKEN, "CAR_DAMAGE_HOME": str(tmp_path / "home")})
        os.environ.update({"CAR_DAMAGE_DATABRICKS__CREDENTIALS": NAME, "CAR_DAMAGE_DATABRICKS__STAGES": "jobs"})
        looked_at = CliRunner().invoke(app, ["doctor", *options])
        planned = CliRunner().invoke(app, ["bootstrap", "--dry-run", *options])
    [who] = [line for line in looked_at.output.splitlines() if "Databricks credentials" in line]
    assert f"{ADMIN if options else OTHER} by pat" in who
    # The block's principal has no right even to read the catalog.
    assert ("= catalog insurance_uc" in planned.output, planned.exit_code) == ((True, 0) if options else (False, 1))


def test_without_a_name_it_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"databricks\.credentials names no block: set it"):
        credentials_block.item(Settings())


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"DATABRICKS_HOST": HOST}, "holds no way to authenticate, and"),
        ({"DATABRICKS_HOST": HOST, "DATABRICKS_CLIENT_ID": "x"}, "holds no way to authenticate, and"),
        (TOKEN, "holds 1 way to authenticate and no DATABRICKS_HOST"),
        ({"DATABRICKS_HOST": HOST, **TOKEN, **MACHINE}, "holds 2 ways to authenticate"),
    ],
)
def test_an_environment_that_is_no_one_way_into_one_workspace_is_refused(given: dict[str, str], told: str) -> None:
    os.environ.update(given)
    with pytest.raises(SettingsError, match=told) as raised:
        credentials_block.item(SETTINGS)
    assert "marker" not in str(raised.value)


@pytest.mark.parametrize("dry_run", [["--dry-run"], []], ids=["plan", "done"])
def test_the_command_shows_no_secret(dry_run: list[str], tmp_path: Path) -> None:
    with twins.workspace(tmp_path / "workspace") as twin:
        os.environ.update(twin.environment | {"CAR_DAMAGE_DATABRICKS__CREDENTIALS": NAME})
        result = CliRunner().invoke(app, ["bootstrap", "--credentials-block", *dry_run])
    assert result.exit_code == 0, result.output
    first = result.output.splitlines()[0]
    assert first == (f"+ block databricks-credentials/{NAME}" if dry_run else f"block databricks-credentials/{NAME}: is missing: fixed")
    assert SECRET not in result.output


def test_a_block_that_is_missing_names_the_command_that_makes_it() -> None:
    with pytest.raises(SettingsError, match="python -m deployments bootstrap --credentials-block"):
        use_credentials(NAME)


def test_credentials_that_do_not_work_are_told_once_and_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with twins.workspace(tmp_path / "workspace") as twin:
        os.environ.update(twin.environment | {"DATABRICKS_TOKEN": "expired", "CAR_DAMAGE_DATABRICKS__STAGES": "jobs"})
        for arguments in (["bootstrap"], ["bootstrap", "--credentials-block"]):
            os.environ["CAR_DAMAGE_DATABRICKS__CREDENTIALS"] = NAME
            if arguments == ["bootstrap"]:
                del os.environ["CAR_DAMAGE_DATABRICKS__CREDENTIALS"]
            told = CliRunner().invoke(app, arguments)
            assert told.exit_code == 1
            assert "reading the identity of the credentials was refused" in told.output
            assert len(told.output.strip().splitlines()) == 1, told.output
        assert {call.split()[0] for call in twin.asked} == {"GET"}
    assert credentials_block._document(NAME) is None
