"""An administrator prepares a workspace for a service principal. The service principal may then do what a run needs, and no more."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from car_damage.adapters.databricks import workspace
from car_damage.adapters.databricks.volume import Volume
from car_damage.errors import RequestRefused
from car_damage.settings import Settings
from deployments import doctor
from deployments.databricks import descriptions, grants, needs
from deployments.items import Item, apply, plan
from tasks.workspace import start
from tests.databricks import twin as twins
from tests.databricks.conftest import HANDOVERS, LANDING
from tests.databricks.twin import ADMIN, ADMIN_TOKEN, CLIENT, OTHER, OTHER_TOKEN, SECRET, Twin

MODEL = "insurance_uc.models.car_damage_classifier"
EXPERIMENT = "/Shared/claims/car-damage"
JOBS = ("car-damage-ingest", "car-damage-train", "car-damage-score", "car-damage-monitor")
SETTINGS = Settings(
    landing={"folder": LANDING},
    tracking={"uri": "databricks", "registry_uri": "databricks-uc", "experiment": EXPERIMENT},
    serving={"host": None},
    databricks={"stages": "jobs", "handovers": HANDOVERS, "service_principal": CLIENT},
)
LANDING_VOLUME = "insurance_uc.landing.raw_data"
OPS_VOLUMES = {f"insurance_uc.ops.{name}" for name in ("corrections", "runs", "wheels")}


class Person:
    """A user who runs commands against the twin."""

    def __init__(self, twin: Twin, patch: pytest.MonkeyPatch) -> None:
        self.twin, self._patch = twin, patch

    def becomes(self, token: str) -> "Person":
        self._patch.setenv("DATABRICKS_TOKEN", token)
        return self

    def bootstraps(self, items: list[Item] | None = None, *, dry_run: bool = False) -> tuple[bool, list[str], set[str]]:
        """Whether bootstrap succeeded, the lines it showed, and the HTTP methods of its requests."""
        lines: list[str] = []
        asked = len(self.twin.asked)
        well = apply(needs.items(SETTINGS) if items is None else items, dry_run=dry_run, show=lines.append)
        return well, lines, {call.split()[0] for call in self.twin.asked[asked:]}


def but_wheel(items: list[Item]) -> list[Item]:
    """The items without the wheel, because building it takes seconds."""
    return [item for item in items if not item.name.startswith("wheel")]


@pytest.fixture
def person(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Person]:
    """A user of a workspace with nothing but a catalog, where the service principal has no permissions."""
    with twins.workspace(tmp_path / "workspace") as twin:
        for name, value in twin.environment.items():
            monkeypatch.setenv(name, value)
        twin.grants.clear()
        yield Person(twin, monkeypatch)


@pytest.fixture(scope="module")
def at_work(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Person]:
    """The service principal, in a workspace that an administrator has prepared."""
    with twins.workspace(tmp_path_factory.mktemp("ready") / "workspace") as twin, pytest.MonkeyPatch.context() as patch:
        for name, value in twin.environment.items():
            patch.setenv(name, value)
        twin.grants.clear()
        person = Person(twin, patch)
        well, lines, _ = person.becomes(ADMIN_TOKEN).bootstraps()
        assert well, lines
        yield person.becomes(SECRET)


def test_a_second_time_an_administrator_changes_nothing(at_work: Person) -> None:
    well, lines, methods = at_work.becomes(ADMIN_TOKEN).bootstraps()
    at_work.becomes(SECRET)
    assert well
    assert all(line.endswith(": ok") for line in lines)
    assert methods <= {"GET", "HEAD"}


def test_the_service_principal_finds_everything_as_it_should_be(at_work: Person) -> None:
    well, lines, methods = at_work.bootstraps()
    assert well
    assert methods <= {"GET", "HEAD"}
    # Permission to run a job or log to an experiment does not include reading its access control list.
    other = [line.partition(":")[0] for line in lines if not line.endswith(": ok")]
    assert other == [f"permissions on experiment {EXPERIMENT}", *(f"permissions on job {name}" for name in JOBS)]


def test_what_the_service_principal_is_granted(at_work: Person) -> None:
    tables = {"USE_SCHEMA", "CREATE_TABLE", "SELECT", "MODIFY"}
    assert {name: to[CLIENT] for (_, name), to in at_work.twin.grants.items()} == {
        "insurance_uc": {"USE_CATALOG"},
        "insurance_uc.landing": {"USE_SCHEMA"},
        "insurance_uc.bronze": tables,
        "insurance_uc.silver": tables,
        "insurance_uc.gold": tables,
        "insurance_uc.models": {"USE_SCHEMA", "CREATE_MODEL"},
        "insurance_uc.ops": {"USE_SCHEMA"},
        LANDING_VOLUME: {"READ_VOLUME"},
        "insurance_uc.ops.corrections": {"READ_VOLUME", "WRITE_VOLUME"},
        "insurance_uc.ops.runs": {"READ_VOLUME", "WRITE_VOLUME"},
        "insurance_uc.ops.wheels": {"READ_VOLUME", "WRITE_VOLUME"},
    }


def test_the_service_principal_may_do_what_a_run_does(at_work: Person) -> None:
    twin = at_work.twin
    files = Volume()
    (twin.volume(LANDING) / "minor.jpg").touch()
    assert [file.path for file in files.list(LANDING)] == [f"{LANDING}minor.jpg"]
    files.replace(f"{HANDOVERS}flow/request.json", b"{}")
    assert files.read(f"{HANDOVERS}flow/request.json") == b"{}"
    twin.cold = 3600
    for job in twin.jobs.values():
        start(job.job_id, {"flow_run": "f", "request": "/x", "stages": "validate"}, f"token-{job.job_id}")
    assert len(twin.runs()) == 4
    assert twin.models == {MODEL: CLIENT}
    assert {job.settings["run_as"]["service_principal_name"] for job in twin.jobs.values()} == {CLIENT}
    assert twin.levels["experiments", twin.experiments[EXPERIMENT]][CLIENT] == "CAN_EDIT"


def test_the_service_principal_may_do_nothing_that_it_need_not(at_work: Person) -> None:
    from databricks.sdk import WorkspaceClient
    from databricks.sdk.errors import PermissionDenied
    from databricks.sdk.service.catalog import VolumeType
    from databricks.sdk.service.jobs import JobSettings

    with pytest.raises(RequestRefused, match=f"User does not have WRITE VOLUME on Volume '{LANDING_VOLUME}'"):
        Volume().replace(f"{LANDING}mine.jpg", b"x")
    api = WorkspaceClient()
    job = next(iter(at_work.twin.jobs.values()))
    refused: list[Callable[[], object]] = [
        lambda: api.schemas.create("mine", "insurance_uc"),
        lambda: api.volumes.create("insurance_uc", "ops", "mine", VolumeType.MANAGED),
        lambda: api.volumes.update(LANDING_VOLUME, owner=CLIENT),
        lambda: api.jobs.reset(job.job_id, JobSettings.from_dict(job.settings)),
    ]
    for call in refused:
        with pytest.raises(PermissionDenied):
            call()


def test_landing_is_never_handed_over_and_only_read(person: Person) -> None:
    twin = person.twin
    twin.schemas.add("insurance_uc.landing")
    twin.volume(LANDING).mkdir(parents=True)
    twin.owners |= {("schema", "insurance_uc.landing"): "data-team", ("volume", LANDING_VOLUME): "data-team"}
    well, lines, _ = person.becomes(ADMIN_TOKEN).bootstraps(but_wheel(needs.items(SETTINGS)))
    assert well, lines
    assert twin.owners["schema", "insurance_uc.landing"] == twin.owners["volume", LANDING_VOLUME] == "data-team"
    assert twin.grants["schema", "insurance_uc.landing"] == {CLIENT: {"USE_SCHEMA"}}
    assert twin.grants["volume", LANDING_VOLUME] == {CLIENT: {"READ_VOLUME"}}


def test_what_others_were_granted_and_more_than_is_needed_stays(person: Person) -> None:
    person.twin.grants["catalog", "insurance_uc"] = {CLIENT: {"CREATE_SCHEMA"}, OTHER: {"USE_CATALOG"}}
    person.becomes(ADMIN_TOKEN).bootstraps(but_wheel(needs.items(SETTINGS)))
    assert person.twin.grants["catalog", "insurance_uc"] == {CLIENT: {"CREATE_SCHEMA", "USE_CATALOG"}, OTHER: {"USE_CATALOG"}}


def test_an_administrator_prepares_the_approval_on_the_model_s_page(person: Person) -> None:
    """The model's owner needs CAN MANAGE RUN on the job before it can be connected, so the connection comes last."""
    waits = SETTINGS.model_copy(update={"promotion": SETTINGS.promotion.model_copy(update={"mode": "approval"})})
    connection = f"approval on the page of {MODEL}"
    well, lines, _ = person.becomes(ADMIN_TOKEN).bootstraps(but_wheel(needs.items(waits)), dry_run=True)
    assert well
    assert lines[-1] == f"+ {connection}  the job car-damage-approval"
    well, lines, _ = person.bootstraps(but_wheel(needs.items(waits)))
    assert (well, lines[-1]) == (True, f"{connection}: lack the job car-damage-approval: fixed")
    [job] = [job for job in person.twin.jobs.values() if job.name == "car-damage-approval"]
    assert person.twin.connected == {MODEL: job.job_id}
    assert (job.settings["run_as"], person.twin.levels["jobs", str(job.job_id)][CLIENT]) == (
        {"service_principal_name": CLIENT},
        "CAN_MANAGE_RUN",
    )
    well, lines, methods = person.bootstraps(but_wheel(needs.items(waits)))
    assert well, lines
    assert methods <= {"GET", "HEAD"}
    assert (doctor._item(needs.items(waits)[-1]), needs.items(waits)[-1].name) == ("ok", connection)


def test_what_the_service_owns_says_what_it_is_and_the_data_team_s_volume_keeps_its_own_tags(at_work: Person) -> None:
    twin = at_work.twin
    named = {name: comment for (_, name), comment in twin.comments.items()}
    assert set(named) == {*twin.schemas, LANDING_VOLUME, *OPS_VOLUMES, MODEL}
    assert named["insurance_uc.silver"] == "Photos of damaged cars that models are trained and tested on."
    assert named[LANDING_VOLUME] == "Photos of damaged cars, a folder for each class."
    ours = (set(twin.schemas) - {"insurance_uc.landing"}) | OPS_VOLUMES
    assert {name: tags for (_, name), tags in twin.entity_tags.items()} == {name: {"service": "car-damage"} for name in ours}
    assert twin.registered[MODEL].tags == {"service": "car-damage"}


def test_a_comment_or_a_tag_of_a_person_s_stays(person: Person) -> None:
    twin = person.becomes(ADMIN_TOKEN).twin
    twin.schemas.add("insurance_uc.gold")
    twin.owners["schema", "insurance_uc.gold"] = ADMIN
    twin.comments["schema", "insurance_uc.gold"] = "everything for the board"
    twin.entity_tags["schema", "insurance_uc.gold"] = {"service": "reporting"}
    well, lines, _ = person.bootstraps(but_wheel(needs.items(SETTINGS)))
    assert well, lines
    assert twin.comments["schema", "insurance_uc.gold"] == "everything for the board"
    assert twin.entity_tags["schema", "insurance_uc.gold"] == {"service": "reporting"}
    [gold] = [item for item in descriptions.items(SETTINGS, workspace.client) if item.name == "description of schema insurance_uc.gold"]
    unknown = twin.fault("GET", "/unity-catalog/entity-tag-assignments", 404, times=100)
    assert not person.bootstraps([gold])[0], "a workspace may not have the API of tags"
    assert unknown.seen
    assert twin.comments["schema", "insurance_uc.gold"] == "everything for the board"
    twin.faults.remove(unknown)


def test_tables_are_tagged_by_their_owner_once_a_run_has_made_them(at_work: Person) -> None:
    in_catalog = SETTINGS.model_copy(update={"tables": SETTINGS.tables.model_copy(update={"names": "catalog", "engine": "spark"})})
    made, tables = "insurance_uc.bronze.raw_images", descriptions.items(in_catalog, workspace.client)
    assert [plan(item).problem for item in tables] == [None] * len(tables), "a table that is not there lacks nothing"
    at_work.twin.tables[made] = "t-1"
    [lacking] = [item for item in tables if item.name == f"description of table {made}"]
    well, lines, _ = at_work.becomes(ADMIN_TOKEN).bootstraps([lacking])
    assert (well, lines[-1]) == (False, f"  ALTER TABLE {made} SET TAGS ('service' = 'car-damage');")
    well, lines, _ = at_work.becomes(SECRET).bootstraps([lacking])
    assert (well, lines) == (True, [f"description of table {made}: lack the tag service: fixed"])
    assert plan(lacking).problem is None
    at_work.twin.tables.clear()


def test_a_key_that_unity_catalog_does_not_take_is_left_to_the_endpoint(at_work: Person) -> None:
    tags = {"cost-center": "7", "team": "claims"}
    tagged = SETTINGS.model_copy(update={"serving": SETTINGS.serving.model_copy(update={"tags": tags})})
    lacking = {plan(item).problem for item in descriptions.items(tagged, workspace.client)}
    assert lacking == {"lack the tag team"}


def test_doctor_tells_whether_the_workspace_tidies_the_tables(at_work: Person) -> None:
    def told() -> doctor.Finding:
        [found] = [one for one in doctor.in_databricks(SETTINGS) if one.name == "predictive optimisation"]
        return found

    assert (told().state, told().detail) == ("ok", "on")
    before = dict(at_work.twin.optimised)
    at_work.twin.optimised |= {"value": "DISABLE", "inherited_from_type": "CATALOG", "inherited_from_name": "insurance_uc"}
    off = told()
    at_work.twin.optimised.clear()
    unknown = told()
    at_work.twin.optimised |= before
    assert off.state == "warn"
    assert off.detail.startswith("it is off for insurance_uc.bronze, by the catalog insurance_uc, so nothing compacts")
    assert off.detail.endswith("an owner can run ALTER SCHEMA insurance_uc.bronze ENABLE PREDICTIVE OPTIMIZATION;")
    assert (unknown.state, unknown.detail) == ("ok", "the workspace does not tell whether it is on for insurance_uc.bronze")


def test_a_plan_is_a_diff_and_changes_nothing(person: Person) -> None:
    well, lines, methods = person.becomes(ADMIN_TOKEN).bootstraps(dry_run=True)
    assert well
    assert methods == {"GET", "HEAD"}
    assert lines[:2] == ["= catalog insurance_uc", "+ schema insurance_uc.landing"]
    assert f"+ grants on schema insurance_uc.bronze  USE SCHEMA, CREATE TABLE, SELECT, MODIFY for {CLIENT}" in lines
    assert f"~ owner of registered model {MODEL}  {ADMIN} -> {CLIENT}" in lines
    assert f"+ permissions on job car-damage-train  CAN MANAGE RUN for {CLIENT}" in lines


def test_a_plan_shows_what_would_change_in_a_job(at_work: Person) -> None:
    job = next(job for job in at_work.twin.jobs.values() if job.name == "car-damage-train")
    job.settings["tasks"][0]["max_retries"] = 3
    before = job.settings.pop("run_as")
    job.settings["run_as"] = {"user_name": OTHER}
    _, lines, _ = at_work.bootstraps(dry_run=True)
    job.settings["tasks"][0]["max_retries"], job.settings["run_as"] = 0, before
    assert f"~ job car-damage-train  tasks[stages].max_retries: 3 -> 0; run_as: '{OTHER}' -> '{CLIENT}'" in lines


def test_a_service_principal_that_may_grant_nothing_gets_the_commands_for_an_administrator(at_work: Person) -> None:
    lost = [("schema", "insurance_uc.gold", "CREATE_TABLE"), ("volume", LANDING_VOLUME, "READ_VOLUME")]
    for kind, name, privilege in lost:
        at_work.twin.grants[kind, name][CLIENT].remove(privilege)
    at_work.twin.models[MODEL] = ADMIN
    at_work.twin.grants["function", MODEL] = {CLIENT: {"EXECUTE"}}
    well, lines, _ = at_work.bootstraps()
    for kind, name, privilege in lost:
        at_work.twin.grants[kind, name][CLIENT].add(privilege)
    at_work.twin.models[MODEL] = CLIENT
    del at_work.twin.grants["function", MODEL]
    assert not well
    assert lines[-4:] == [
        "An administrator must run these commands; then run bootstrap again:",
        f"  GRANT CREATE TABLE ON SCHEMA insurance_uc.gold TO `{CLIENT}`;",
        f"  GRANT READ VOLUME ON VOLUME insurance_uc.landing.raw_data TO `{CLIENT}`;",
        f"  databricks registered-models update {MODEL} --owner {CLIENT}",
    ]


def test_a_caller_without_manage_gets_every_command_and_no_permission_by_accident(at_work: Person) -> None:
    twin = at_work.twin
    twin.grants["catalog", "insurance_uc"][OTHER] = {"USE_CATALOG", "USE_SCHEMA", "READ_VOLUME"}
    for job in twin.jobs.values():
        twin.levels["jobs", str(job.job_id)][OTHER] = "CAN_VIEW"
    well, lines, methods = at_work.becomes(OTHER_TOKEN).bootstraps()
    at_work.becomes(SECRET)
    del twin.grants["catalog", "insurance_uc"][OTHER]
    for job in twin.jobs.values():
        del twin.levels["jobs", str(job.job_id)][OTHER]
    assert not well
    assert methods <= {"GET", "HEAD"}
    train = next(job.job_id for job in twin.jobs.values() if job.name == "car-damage-train")
    given = f'{{"access_control_list": [{{"service_principal_name": "{CLIENT}", "permission_level": "CAN_MANAGE_RUN"}}]}}'
    assert {
        f"  GRANT USE CATALOG ON CATALOG insurance_uc TO `{CLIENT}`;",
        f"  GRANT USE SCHEMA, CREATE MODEL ON SCHEMA insurance_uc.models TO `{CLIENT}`;",
        f"  GRANT READ VOLUME, WRITE VOLUME ON VOLUME insurance_uc.ops.runs TO `{CLIENT}`;",
        f"  databricks permissions update jobs {train} --json '{given}'",
    } <= set(lines)


def test_permissions_on_a_job_that_was_not_made_are_not_put_right(person: Person) -> None:
    person.twin.service_principal_users.clear()
    well, lines, _ = person.becomes(ADMIN_TOKEN).bootstraps(but_wheel(needs.items(SETTINGS)))
    assert not well
    told = "the job car-damage-train is missing: see above why it was not created"
    assert f"permissions on job car-damage-train: {told}" in lines
    assert not any("/permissions/jobs/" in call for call in person.twin.asked)


def test_a_deleted_experiment_is_told_with_the_command_that_restores_it(at_work: Person) -> None:
    number = at_work.twin.experiments[EXPERIMENT]
    at_work.twin.deleted.add(number)
    found = {finding.name: finding for finding in doctor.in_databricks(SETTINGS)}
    at_work.twin.deleted.clear()
    for name in (f"experiment {EXPERIMENT}", f"permissions on experiment {EXPERIMENT}"):
        assert found[name].state == doctor.FAIL
        assert f"is deleted: run `databricks experiments restore-experiment {number}`" in found[name].detail


def test_whom_a_job_runs_as_takes_a_role_that_is_named(person: Person) -> None:
    person.twin.service_principal_users.clear()
    items = [item for item in needs.items(SETTINGS) if not item.name.startswith(("wheel", "permissions"))]
    well, lines, _ = person.becomes(ADMIN_TOKEN).bootstraps(items)
    assert not well
    assert f"the role Service Principal: User on {CLIENT}" in next(line for line in lines if line.startswith("job car-damage-ingest"))
    assert person.twin.jobs == {}


def test_without_a_service_principal_who_runs_it_works_with_what_is_its_own(person: Person) -> None:
    settings = SETTINGS.model_copy(update={"databricks": SETTINGS.databricks.model_copy(update={"service_principal": None})})
    person.twin.grants["catalog", "insurance_uc"] = {CLIENT: {"USE_CATALOG", "CREATE_SCHEMA"}}
    well, lines, _ = person.becomes(SECRET).bootstraps(but_wheel(needs.items(settings)))
    assert well, lines
    assert not any(call.startswith("PATCH") for call in person.twin.asked)


def test_what_a_group_was_granted_is_not_missing(at_work: Person) -> None:
    runs = at_work.twin.grants["volume", "insurance_uc.ops.runs"]
    runs[CLIENT].remove("WRITE_VOLUME")
    runs["account users"] = {"WRITE_VOLUME"}
    # Only a user who may manage the volume sees the grants of others.
    _, lines, _ = at_work.becomes(ADMIN_TOKEN).bootstraps(dry_run=True)
    at_work.becomes(SECRET)
    del runs["account users"]
    runs[CLIENT].add("WRITE_VOLUME")
    assert "= grants on volume insurance_uc.ops.runs" in lines


def test_what_a_group_owns_needs_no_grant(at_work: Person) -> None:
    runs = ("volume", "insurance_uc.ops.runs")
    at_work.twin.grants[runs][CLIENT].remove("WRITE_VOLUME")
    owner, at_work.twin.owners[runs] = at_work.twin.owners[runs], "account users"
    _, lines, _ = at_work.becomes(ADMIN_TOKEN).bootstraps(dry_run=True)
    at_work.becomes(SECRET)
    at_work.twin.owners[runs] = owner
    at_work.twin.grants[runs][CLIENT].add("WRITE_VOLUME")
    assert "= grants on volume insurance_uc.ops.runs" in lines


ONE_BY_ONE = [(one.kind, one.name, privilege) for one in grants.required(SETTINGS) for privilege in one.privileges]


@pytest.mark.parametrize(("kind", "name", "privilege"), ONE_BY_ONE)
def test_a_privilege_that_is_taken_away_is_named(at_work: Person, kind: str, name: str, privilege: str) -> None:
    at_work.twin.grants[kind, name][CLIENT].remove(privilege)
    found = {finding.name: finding for finding in doctor.in_databricks(SETTINGS)}
    at_work.twin.grants[kind, name][CLIENT].add(privilege)
    finding = found[f"grants on {kind} {name}"]
    assert finding.state == doctor.FAIL
    assert finding.detail == f"lack {privilege.replace('_', ' ')} for {CLIENT}: {doctor.FIX}"


def test_a_model_of_somebody_else_s_is_named(at_work: Person) -> None:
    at_work.twin.models[MODEL] = ADMIN
    at_work.twin.grants["function", MODEL] = {CLIENT: {"EXECUTE"}}
    found = {finding.name: finding for finding in doctor.in_databricks(SETTINGS)}
    at_work.twin.models[MODEL] = CLIENT
    del at_work.twin.grants["function", MODEL]
    assert [finding.name for finding in found.values() if finding.state == doctor.FAIL] == [f"owner of registered model {MODEL}"]
    assert found[f"owner of registered model {MODEL}"].detail == f"differs: {ADMIN} -> {CLIENT}: {doctor.FIX}"


def test_a_folder_on_no_volume_is_one_finding_and_the_others_are_told_too(at_work: Person) -> None:
    settings = SETTINGS.model_copy(update={"databricks": SETTINGS.databricks.model_copy(update={"handovers": "/tmp/runs/"})})  # noqa: S108
    first, names = doctor.in_databricks(settings)
    assert (first.state, names.state) == (doctor.OK, doctor.FAIL)
    assert names.detail.startswith("databricks.handovers is /tmp/runs/; it must lie on a volume")


def test_a_catalog_that_is_not_there_is_refused_in_a_plan_and_nothing_that_bootstrap_puts_right(person: Person) -> None:
    person.twin.catalog = "other"
    told = "the catalog insurance_uc is missing: let an administrator create it, or name another one in the settings"
    well, lines, _ = person.becomes(ADMIN_TOKEN).bootstraps(dry_run=True)
    assert (well, lines[0]) == (False, f"! catalog insurance_uc  {told}")
    found = {finding.name: finding for finding in doctor.in_databricks(SETTINGS)}
    assert (found["catalog insurance_uc"].state, found["catalog insurance_uc"].detail) == (doctor.FAIL, told)


def test_who_may_make_no_model_is_told_the_command_that_does(person: Person) -> None:
    person.twin.schemas.add("insurance_uc.models")
    person.twin.owners["schema", "insurance_uc.models"] = ADMIN
    person.twin.grants["catalog", "insurance_uc"] = {CLIENT: {"USE_CATALOG", "USE_SCHEMA"}}
    items = [item for item in needs.items(SETTINGS) if item.name.startswith("registered model")]
    _, lines, _ = person.becomes(SECRET).bootstraps(items)
    given = '{"catalog_name": "insurance_uc", "schema_name": "models", "name": "car_damage_classifier"}'
    assert lines[-1] == f"  databricks registered-models create --json '{given}'"


@pytest.mark.parametrize("host", [None, "databricks", "the workspace"])
def test_the_endpoint_s_permission_is_looked_at_wherever_the_workspace_is_named(at_work: Person, host: str | None) -> None:
    twin = at_work.twin
    twin.endpoints["car_damage_model_ep"] = "e1"
    twin.levels["serving-endpoints", "e1"] = {}
    named = twin.host if host == "the workspace" else host
    settings = SETTINGS.model_copy(update={"serving": SETTINGS.serving.model_copy(update={"host": named})})
    at_work.becomes(ADMIN_TOKEN)
    found = {item.name: item.check() for item in needs.items(settings) if item.name.startswith("permissions on endpoint")}
    at_work.becomes(SECRET)
    twin.endpoints.clear()
    assert found == {"permissions on endpoint car_damage_model_ep": f"lack CAN MANAGE for {CLIENT}"}


@pytest.mark.parametrize("what", [f"experiment {EXPERIMENT}", *(f"job {name}" for name in JOBS), "endpoint car_damage_model_ep"])
def test_a_permission_that_is_taken_away_is_named_to_who_may_see_it(at_work: Person, what: str) -> None:
    twin = at_work.twin
    ids = {f"job {job.name}": ("jobs", str(job.job_id)) for job in twin.jobs.values()}
    ids |= {f"experiment {EXPERIMENT}": ("experiments", twin.experiments[EXPERIMENT])}
    ids |= {"endpoint car_damage_model_ep": ("serving-endpoints", "e1")}
    twin.endpoints["car_damage_model_ep"] = "e1"
    levels = twin.levels.setdefault(ids[what], {})
    before = levels.pop(CLIENT, None)
    found = {finding.name: finding for finding in at_work.becomes(ADMIN_TOKEN) and doctor.in_databricks(SETTINGS)}
    at_work.becomes(SECRET)
    twin.endpoints.clear()
    if before:
        levels[CLIENT] = before
    finding = found[f"permissions on {what}"]
    assert finding.state == doctor.FAIL
    assert f" for {CLIENT}: {doctor.FIX}" in finding.detail
    assert all(other.state != doctor.FAIL for other in found.values() if other is not finding and "endpoint" not in other.name)


def test_a_workspace_that_is_ready_is_found_so(at_work: Person) -> None:
    found = doctor.in_databricks(SETTINGS)
    assert found[0].detail == f"{CLIENT} by pat at {at_work.twin.host}"
    assert [finding for finding in found if finding.state == doctor.FAIL] == []


def test_an_administrator_s_doctor_says_whose_credentials_the_worker_needs(at_work: Person) -> None:
    at_work.becomes(ADMIN_TOKEN)
    first = doctor.in_databricks(SETTINGS)[0]
    at_work.becomes(SECRET)
    assert first.state == doctor.WARN
    assert f"{ADMIN} by pat" in first.detail
    assert f"the worker must run as {CLIENT}" in first.detail


def test_credentials_that_are_refused_are_one_line_and_not_one_for_each_thing(at_work: Person) -> None:
    at_work.becomes("nobody's")
    found = doctor.in_databricks(SETTINGS)
    at_work.becomes(SECRET)
    assert [(finding.name, finding.state) for finding in found] == [("Databricks credentials", doctor.FAIL)]


def test_a_bundle_s_job_with_another_wheel_is_told_to_who_deploys_it(at_work: Person) -> None:
    job = next(job for job in at_work.twin.jobs.values() if job.name == "car-damage-ingest")
    [environment] = job.settings["environments"]
    dependencies = environment["spec"]["dependencies"]
    job.settings["deployment"], environment["spec"]["dependencies"] = {"kind": "BUNDLE"}, ["/Volumes/old.whl"]
    found = {finding.name: finding for finding in doctor.in_databricks(SETTINGS)}
    del job.settings["deployment"]
    environment["spec"]["dependencies"] = dependencies
    wheel = found["wheel of car-damage-ingest"]
    assert wheel.state == doctor.FAIL
    assert "installs /Volumes/old.whl" in wheel.detail
    assert f"`databricks bundle deploy --var wheel={needs.wheel_path(SETTINGS)}` fixes it" in wheel.detail


def test_handovers_that_cannot_be_listed_are_named(at_work: Person) -> None:
    at_work.twin.fault("GET", "/fs/directories/Volumes/insurance_uc/ops/runs", 403, times=1)
    found = {finding.name: finding for finding in doctor.in_databricks(SETTINGS)}
    assert found["hand-overs"].state == doctor.FAIL
    assert "READ VOLUME on the volume" in found["hand-overs"].detail
