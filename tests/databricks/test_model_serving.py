"""The endpoint in a workspace, managed by the same code as the local one."""

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from car_damage.errors import RequestRefused, Unavailable, UpdateFailed
from car_damage.platform import Target
from car_damage.ports import served_name
from car_damage.settings import Settings
from car_damage.stage import silent
from car_damage.stages.versions.swap import bring, serves
from deployments import demo_photos
from tests.databricks.conftest import HastyClock, Logged
from tests.databricks.twin import Twin

NAME = "car_damage_model_ep"


@dataclass
class Workspace:
    """A workspace with two versions of a model."""

    logged: Logged
    twin: Twin
    settings: Settings

    def target(self, **serving: Any) -> Target:
        settings = self.settings.model_copy(update={"serving": self.settings.serving.model_copy(update=serving)})
        return Target(settings)


@pytest.fixture(scope="module")
def workspace(logged: Logged) -> Workspace:
    for _ in range(2):
        Target(logged.settings).registry.create(logged.run_id, logged.uri, {}, "what it is")
    return Workspace(logged, logged.twin, logged.settings)


def test_an_endpoint_is_made_with_its_tags_and_answers_a_photo(workspace: Workspace) -> None:
    target = workspace.target(inference_table="insurance_uc.gold.asked")
    assert not target.serving.state().exists
    state = bring(target, 1, silent)
    assert serves(state, 1)
    assert workspace.twin.tags[NAME] == {"service": "car-damage"}
    assert workspace.twin.gateways[NAME]["inference_table_config"]["table_name_prefix"] == "asked"
    [answer] = target.serving.query([demo_photos.photo("major", 1)])
    assert answer.served_by == "car_damage_classifier-1"
    assert set(answer.probabilities) == {"minor", "moderate", "major"}


def test_an_update_keeps_what_others_have_set_and_brings_the_table_of_requests(workspace: Workspace) -> None:
    workspace.twin.tags[NAME] = {"team": "claims"}
    limits = {"rate_limits": [{"calls": 100, "renewal_period": "minute"}]}
    other = {"catalog_name": "insurance_uc", "schema_name": "silver", "table_name_prefix": "asked", "enabled": True}
    workspace.twin.gateways[NAME] = limits | {"inference_table_config": other}
    target = workspace.target(inference_table="insurance_uc.gold.car_damage", tags={"service": "car-damage", "cost": "42"})
    assert serves(bring(target, 2, silent), 2)
    assert workspace.twin.tags[NAME] == {"team": "claims", "service": "car-damage", "cost": "42"}
    table = {"catalog_name": "insurance_uc", "schema_name": "gold", "table_name_prefix": "car_damage", "enabled": True}
    assert workspace.twin.gateways == {NAME: limits | {"inference_table_config": table}}
    asked = len(workspace.twin.asked)
    assert serves(bring(target, 1, silent), 1)
    changed = [call for call in workspace.twin.asked[asked:] if "/serving-endpoints" in call and not call.startswith("GET")]
    assert changed == [f"PUT /api/2.0/serving-endpoints/{NAME}/config"], "what is as it should be is not written again"


def test_a_table_that_is_refused_keeps_no_version_from_being_served(workspace: Workspace) -> None:
    workspace.twin.fault("PUT", f"/serving-endpoints/{NAME}/ai-gateway", 403, times=5)
    wanted = 2 if workspace.target().serving.state().served == 1 else 1
    target = workspace.target(inference_table="insurance_uc.gold.another")
    assert serves(bring(target, wanted, silent), wanted)
    workspace.twin.faults.clear()
    assert serves(bring(target, 3 - wanted, silent), 3 - wanted)
    assert workspace.twin.gateways[NAME]["inference_table_config"]["table_name_prefix"] == "another"


def test_a_version_that_is_not_there_is_refused_with_the_workspace_s_words(workspace: Workspace) -> None:
    with pytest.raises(UpdateFailed, match=r"refused to serve version 9: .*car_damage_classifier 9 is not there"):
        bring(workspace.target(), 9, silent)
    assert serves(workspace.target().serving.state(), 1)


def test_an_update_that_never_ends_ends_in_a_failure_that_says_how_long(workspace: Workspace) -> None:
    target = workspace.target(update_timeout=600.0, poll=15.0)
    target.__dict__["clock"] = HastyClock()
    workspace.twin.never_done = True
    try:
        with pytest.raises(UpdateFailed, match=r"was not ready with version 2 after 600 s|has been busy with version .* for 600 s"):
            bring(target, 2, silent)
    finally:
        workspace.twin.never_done = False
    assert serves(bring(workspace.target(), 1, silent), 1)


@pytest.mark.parametrize("kind", [429, 500, 502, 503, 504, "reset before", "reset after"])
def test_a_look_that_fails_is_repeated_or_told_as_an_outage(workspace: Workspace, kind: int | str) -> None:
    fault = workspace.twin.fault("GET", f"/serving-endpoints/{NAME}", kind)
    with contextlib.suppress(Unavailable):
        assert workspace.target().serving.state().ready
    assert fault.seen == 1


@pytest.mark.parametrize("kind", [503, 504, "reset before", "reset after"])
def test_an_update_whose_answer_is_lost_is_asked_for_once(workspace: Workspace, kind: int | str) -> None:
    served = workspace.target().serving.state().served
    wanted = 2 if served == 1 else 1
    fault = workspace.twin.fault("PUT", f"/serving-endpoints/{NAME}/config", kind)
    try:
        state = bring(workspace.target(), wanted, silent)
    except Unavailable:
        assert kind == 504, "the SDK asks again by itself"
        state = bring(workspace.target(), wanted, silent)
    assert serves(state, wanted)
    assert fault.seen == 1


def test_the_build_s_log_is_there_for_a_failure(workspace: Workspace) -> None:
    target = workspace.target()
    served = target.serving.state().served
    assert served is not None
    assert target.serving.build_log(served) != ""
    assert target.serving.build_log(99) == ""


def test_credentials_that_will_not_do_are_told_with_the_permission(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABRICKS_TOKEN", "expired")
    with pytest.raises(RequestRefused, match=r"check the credentials, and CAN MANAGE on the endpoint") as raised:
        workspace.target().serving.state()
    assert "Config:" not in str(raised.value)


def test_a_table_of_requests_is_a_workspace_s(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"the local endpoint server has monitoring\.log_requests"):
        Settings(home=tmp_path, serving={"inference_table": "a.b.c"})


def test_a_model_that_is_named_with_capitals_is_registered_once_and_served(workspace: Workspace) -> None:
    named = workspace.settings.tracking.model_dump() | {"model": "Insurance_UC.models.Cars"}
    target = Target(Settings.model_validate(workspace.settings.model_dump() | {"tracking": named}))
    assert target.registry.create(workspace.logged.run_id, workspace.logged.uri, {}, "what it is").version == 1
    assert [version.version for version in target.registry.versions_for(workspace.logged.run_id)] == [1]
    assert [*workspace.twin.registered][-1] == "insurance_uc.models.cars"
    assert serves(bring(target, 1, silent), 1)


def test_the_name_of_a_served_version_has_only_what_an_endpoint_takes() -> None:
    assert served_name("insurance_uc.models.schäden&mehr", 3) == "sch-den-mehr-3"
