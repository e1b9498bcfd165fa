"""What bootstrap, deploy and doctor change and report on a real Prefect server, and what its automations do."""

import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pyarrow as pa
import pytest
import yaml
from prefect import flow, tags
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId, FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import StateType
from prefect.events.schemas.automations import AutomationCore
from prefect.logging import disable_run_logger
from prefect.states import Completed, Pending, Running, Scheduled

from car_damage.data.photos.ledger import BRONZE
from car_damage.errors import Unavailable
from car_damage.pipeline import MonitorReport, ValidateReport
from car_damage.promotion.outcome import Outcome
from car_damage.settings import Alerts, Settings
from deployments import automations, deploy, doctor, home_folder, prefect_checks
from deployments.alerts import PREFIX
from deployments.bootstrap import everything
from deployments.items import bootstrap
from deployments.release import version
from deployments.up import reschedule
from flows.retrain import retrain
from tasks import alerts, degradation, doorbell, events
from tasks.flow_runs import in_state
from tests.fakes import Endpoint, Photos, Runs, Table, Versions, World
from tests.prefect.conftest import LocalTarget
from tests.prefect.mailbox import BLOCK, Mailbox
from tests.prefect.service import until

pytestmark = pytest.mark.usefixtures("server")
LOUD = Alerts(notify=BLOCK, kept_in_a_row=2, rejected_files=2)


def names() -> list[str]:
    with get_client(sync_client=True) as client:
        return sorted(found.name for found in client.read_automations() if found.name.startswith(PREFIX))


def test_bootstrap_makes_everything_once_and_changes_nothing_the_second_time() -> None:
    items = everything(Settings())
    bootstrap(items)
    with get_client(sync_client=True) as client:
        before = {
            name: client.read_deployment_by_name(f"{name}/{name}")
            for name in ("retrain", "watch-landing", "promote", "score", "monitor", "forget")
        }
        assert [result.name for result in bootstrap(items) if result.problem] == []
        deploy.deploy()
        after = {name: client.read_deployment_by_name(f"{name}/{name}") for name in before}
    same = {"id", "version", "tags", "description", "parameter_openapi_schema", "work_pool_name", "job_variables", "paused"}
    assert [one.model_dump(include=same) for one in after.values()] == [one.model_dump(include=same) for one in before.values()]
    before_ids, after_ids = ([schedule.id for one in look.values() for schedule in one.schedules] for look in (before, after))
    assert after_ids == before_ids
    assert [result.name for result in bootstrap(items) if result.problem] == []
    found = after["retrain"]
    assert found.version == version()
    assert [(one.slug, one.schedule.cron, one.schedule.timezone, one.active) for one in found.schedules] == [
        ("nightly", "0 2 * * *", "UTC", True)
    ]
    assert found.global_concurrency_limit.limit == 1
    assert found.concurrency_options.collision_strategy == "ENQUEUE"
    form = found.parameter_openapi_schema["properties"]
    assert all(field["description"] for field in form.values())
    assert set(form) == {"dry_run", "train_again", "judge_again", "allow_removals", "retire_other_folders"}
    assert [(one.slug, one.schedule.cron) for one in after["monitor"].schedules] == [("hourly", "17 * * * *")]
    promote = after["promote"].parameter_openapi_schema
    assert promote["required"] == ["reason"]
    assert promote["properties"]["reason"]["minLength"] == 1
    score = after["score"].parameter_openapi_schema
    assert all(field["description"] for field in score["properties"].values())
    assert (set(score["properties"]), score.get("required", [])) == ({"source", "version"}, [])


def test_what_was_dropped_from_the_file_is_really_retired(tmp_path: Path) -> None:
    text = yaml.safe_load(deploy.FILE.read_text())
    extra = {**text["deployments"][2], "name": "promote-renamed", "schedules": [{"slug": "hourly", "interval": 3600}]}
    retrain_, rest = text["deployments"][0], text["deployments"][1:]
    more = [*retrain_["schedules"], {"slug": "noon", "cron": "0 12 * * *", "timezone": "UTC"}]
    file = deploy.FILE.with_name(".prefect-with-more.yaml")  # paths of flows are relative to this file
    try:
        file.write_text(yaml.safe_dump({**text, "deployments": [{**retrain_, "schedules": more}, *rest, extra]}))
        deploy.deploy(file)
        assert deploy.check(file) is None
        told = deploy.check()
        assert told is not None
        assert "retrain has the schedules" in told
        assert "promote-renamed is not in prefect.yaml" in told
    finally:
        file.unlink(missing_ok=True)
    deploy.deploy()
    assert deploy.check() is None
    with get_client(sync_client=True) as client:
        assert [one.slug for one in client.read_deployment_by_name("retrain/retrain").schedules] == ["nightly"]
        renamed = client.read_deployment_by_name("promote/promote-renamed")
        assert (renamed.paused, renamed.schedules) == (True, [])
        client.delete_deployment(renamed.id)


def test_a_schedule_that_a_person_paused_stays_paused_and_one_that_they_changed_is_put_right() -> None:
    with get_client(sync_client=True) as client:
        found = client.read_deployment_by_name("retrain/retrain")
        client.update_deployment_schedule(found.id, found.schedules[0].id, active=False)
        assert deploy.check() is None
        from prefect.client.schemas.schedules import CronSchedule

        client.update_deployment_schedule(found.id, found.schedules[0].id, schedule=CronSchedule(cron="0 3 * * *", timezone="UTC"))
    assert "retrain has the schedules nightly (0 3 * * * UTC) instead of nightly (0 2 * * * UTC)" in str(deploy.check())
    deploy.deploy()
    assert deploy.check() is None
    with get_client(sync_client=True) as client:
        assert [one.active for one in client.read_deployment_by_name("retrain/retrain").schedules] == [False]


def test_make_up_starts_again_what_it_left_and_takes_away_looks_that_are_late_or_were_cut_off() -> None:
    long_ago = Scheduled(scheduled_time=datetime.now(UTC) - timedelta(hours=1))
    with get_client(sync_client=True) as client:
        found = {name: client.read_deployment_by_name(f"{name}/{name}").id for name in ("promote", "watch-landing")}
        left = client.create_flow_run_from_deployment(found["promote"], parameters={"reason": "a test"}, state=long_ago)
        client.set_flow_run_state(left.id, Running(), force=True)
        late = client.create_flow_run_from_deployment(found["watch-landing"], state=long_ago)
        cut_off = client.create_flow_run_from_deployment(found["watch-landing"])
        for state in (Pending(), Running()):
            client.set_flow_run_state(cut_off.id, state)
        slots = f"deployment:{found['watch-landing']}"
        assert client.read_global_concurrency_limit_by_name(slots).active_slots == 1
        reschedule()
        assert client.read_global_concurrency_limit_by_name(slots).active_slots == 0
        again = client.read_flow_run(left.id).state
        client.delete_flow_run(left.id)
        # Prefect looks every five seconds for runs that are late, and may have cancelled this one, because its slot was taken.
        waits = FlowRunFilter(id=FlowRunFilterId(any_=[late.id]), state=in_state(StateType.SCHEDULED))
        assert client.read_flow_runs(flow_run_filter=waits) == []
    assert again is not None
    assert (again.name, again.message) == ("AwaitingRetry", "`make up` was stopped: started again")


def test_a_run_that_was_taken_long_ago_and_never_began_does_not_silence_the_doorbell() -> None:
    ago = [Scheduled(scheduled_time=datetime.now(UTC) - timedelta(minutes=minutes)) for minutes in (16, 1)]
    due = []
    with get_client(sync_client=True) as client:
        for when in ago:
            run = client.create_flow_run_from_deployment(client.read_deployment_by_name("retrain/retrain").id, state=when)
            client.set_flow_run_state(run.id, Pending(), force=True)
            due.append(doorbell.runs(doorbell.Validation(), None).due)
            client.delete_flow_run(run.id)
    assert due == [False, True]


def test_an_event_that_cannot_be_sent_is_an_error_and_no_endless_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    stuck = threading.Event()
    monkeypatch.setattr(events, "SEND_TIMEOUT", 0.1)
    monkeypatch.setattr(events.EventsWorker, "instance", lambda: SimpleNamespace(wait_until_empty=stuck.wait))
    monkeypatch.setattr(events, "emit_event", lambda *_, **__: None)
    try:
        with pytest.raises(Unavailable, match=r"car-damage\.images\.landed was not sent"):
            doorbell.ring("fingerprint", "/photos")
        with disable_run_logger(), pytest.raises(Unavailable, match=r"car-damage\.images\.rejected was not sent"):
            alerts.of_rejects(ValidateReport(9, 2, {"empty": 7}, (), 0, 0, 0, 1, "f"), LOUD)
    finally:
        stuck.set()


def test_doctor_tells_what_somebody_has_switched_off(tmp_path: Path) -> None:
    with get_client(sync_client=True) as client:
        found = client.read_deployment_by_name("retrain/retrain")
        lost = client.read_automations_by_name(f"{PREFIX}a lost run is started again")[0]
        client.update_deployment_schedule(found.id, found.schedules[0].id, active=False)
        client.pause_automation(lost.id)
        settings = Settings(home=tmp_path)
        world = World(settings, Photos({}), Versions(), Endpoint({}), Runs({}), Table(BRONZE.empty_table()))
        try:
            told = {finding.name: finding for finding in doctor.doctor(settings, world)}  # type: ignore[arg-type]
        finally:
            client.resume_automation(lost.id)
    assert told["switched off"].state == doctor.WARN
    assert f"automation {lost.name}, schedule nightly of retrain" in told["switched off"].detail


def test_automations_are_applied_once_mended_and_removed_with_their_setting(mailbox: Mailbox) -> None:
    del mailbox
    items = automations.items(LOUD)
    bootstrap(items)
    first = names()
    assert len(first) == 8
    assert [result.problem for result in bootstrap(items)] == [None] * 9
    with get_client(sync_client=True) as client:
        (one,) = client.read_automations_by_name(f"{PREFIX}a run failed")
        client.update_automation(
            one.id, AutomationCore(**{**one.model_dump(exclude={"id", "owner_resource"}), "description": "somebody's"})
        )
        client.pause_automation(one.id)
        assert [result.problem for result in bootstrap(items) if result.problem] == ["differs from its declaration"]
        (mended,) = client.read_automations_by_name(f"{PREFIX}a run failed")
        assert (mended.id, mended.enabled, mended.description) == (one.id, False, "Notifies when a run failed or crashed.")
        client.resume_automation(one.id)
    assert names() == first
    bootstrap(automations.items(Alerts()))
    assert names() == [f"{PREFIX}a lost run is started again", f"{PREFIX}a run that is lost too often fails"]


def test_a_notification_block_that_is_not_there_is_an_error_that_names_the_setting() -> None:
    assert str(doctor.block_problem("slack-webhook/nobody")).startswith("alerts.notify names the block slack-webhook/nobody, which is not")


def test_a_failed_run_tells_stage_cause_and_next_step(mailbox: Mailbox, target: LocalTarget) -> None:
    bootstrap(automations.items(LOUD))
    target.set(LANDING__FOLDER="/nowhere")
    with tags("car-damage"):
        assert retrain(return_state=True).is_failed()
    target.set(LANDING__FOLDER=str(target.landing))
    letter = mailbox.about("ended Failed")
    assert letter["subject"].startswith("retrain 20")
    assert (
        "stage validate: the folder /nowhere does not exist or is not a folder: mount it, create it, or set landing.folder"
        in letter["body"]
    )
    assert "python -m deployments doctor" in letter["body"]


def test_a_champion_kept_again_and_again_is_told_and_so_are_many_rejects(mailbox: Mailbox) -> None:
    @flow(name="retrain")
    def kept() -> Any:
        ending = Outcome("Kept the champion", "Version 3 does not go live: a tie")
        alerts.of_ending(ending, LOUD)
        return Completed(name=ending.name, message=ending.message)

    @flow(name="retrain")
    def rejecting() -> None:
        alerts.of_rejects(ValidateReport(9, 2, {"empty": 5, "corrupt": 2}, (), 0, 0, 0, 1, "f"), LOUD)

    @flow(name="retrain")
    def promoted() -> Any:
        return Completed(name="Promoted")

    bootstrap(automations.items(LOUD))
    promoted()  # ends the series of runs that other tests left on this server
    kept()
    kept()
    letter = mailbox.about("runs in a row brought no better version")
    assert (letter["subject"].split()[0], letter["body"]) == ("2", "Version 3 does not go live: a tie")
    rejecting()
    letter = mailbox.about("new photos cannot be used")
    assert (letter["subject"], letter["body"]) == ("7 of 9 new photos cannot be used", "5 empty, 2 corrupt")


def test_a_worse_version_is_told_once_and_trained_again_where_there_are_enough_labels(mailbox: Mailbox) -> None:
    """The trigger of the deployment retrain starts a run."""
    bootstrap(automations.items(LOUD))
    deploy.deploy()
    settings = Settings(monitoring={"retrain_photos": 30})  # type: ignore[arg-type]
    report = MonitorReport("2026-03-04, worse", 3, "run", 1, "2026-03-04", "2026-03-05", ("brightness",), "brightness 0.80")

    @flow(name="monitor")
    def telling(given: MonitorReport) -> None:
        degradation.tell(given, settings)

    def started() -> set[str]:
        with get_client(sync_client=True) as client:
            deployment = client.read_deployment_by_name("retrain/retrain").id
            runs = client.read_flow_runs(deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[deployment])))
        return {str(run.id) for run in runs if run.auto_scheduled is False}

    before = started()
    telling(replace(report, to_learn=10, unlabelled=70))
    letter = mailbox.about("is worse")
    assert letter["subject"] == "Version 3 is worse: brightness 0.80"
    assert letter["body"].startswith("2026-03-04, worse\n\nA training needs labels for 20 photos. 70 of the latest ones have none.")
    assert f"{settings.serving.host}, under Review" in letter["body"]
    telling(replace(report, to_learn=40))  # the same alarm, and labels have arrived
    until(lambda: started() - before, "a run of retrain", 60)
    telling(replace(report, to_learn=45))
    telling(replace(report, alarm=()))
    telling(replace(report, alarm=("sharpness",), how_much="sharpness 0.70", to_learn=45))  # after it was over, it is told again
    assert "A run of retrain was started when 40 photos had labels. Another needs labels for 25 more." in mailbox.about("sharpness")["body"]
    assert [one["subject"] for one in mailbox.letters if "is worse" in one["subject"]] == [
        "Version 3 is worse: brightness 0.80",
        "Version 3 is worse: sharpness 0.70",
    ]
    assert len(started() - before) == 1


@pytest.mark.parametrize(
    ("endings", "count"),
    [
        ([], 0),
        (["Kept the champion", "Nothing new", "Not promoted", "Promoted", "Kept the champion"], 2),
        (["Dry run", "Awaiting approval", "Kept the champion"], 0),
    ],
)
def test_runs_in_a_row_leave_out_those_that_judged_nothing(endings: list[str], count: int) -> None:
    assert alerts.in_a_row(endings) == count


def test_doctor_has_a_line_for_everything_and_says_what_to_do(target: LocalTarget) -> None:
    settings = target.platform.settings
    bootstrap(everything(settings))
    found = {finding.name: finding for finding in doctor.doctor(settings, target.platform)}
    assert {name for name, finding in found.items() if finding.state == doctor.FAIL} == {"worker"}
    assert "so no run starts: start one with `make up`" in found["worker"].detail
    assert found["notifications"].state == doctor.WARN
    assert (found["password"].state, found["password"].detail) == (doctor.OK, "the server asks for one")
    assert {"Prefect server", "work pool car-damage", "deployments", "slots", "leases", "landing folder", "tables", "registry"} <= set(
        found
    )
    assert found["endpoint"].detail == "car_damage_model_ep: does not exist yet; the first version that goes live creates it"


@pytest.mark.parametrize(("status", "told"), [(200, "the server asks for none, so everybody"), (404, "404")])
def test_doctor_warns_about_a_prefect_server_that_does_not_ask_for_a_password(
    monkeypatch: pytest.MonkeyPatch, status: int, told: str
) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(status, json="3.0", request=request)

    def client() -> SyncPrefectClient:
        return SyncPrefectClient("http://127.0.0.1:9/api", httpx_settings={"transport": httpx.MockTransport(answer)})

    monkeypatch.setattr(prefect_checks, "_client", client)
    assert told in doctor._finding("password", prefect_checks.password, doctor.WARN).detail


def test_doctor_tells_how_many_photos_of_other_folders_are_used_and_how_to_retire_them(tmp_path: Path) -> None:
    paths = ("/landing/minor/1.jpg", "/before/minor/1.jpg", "/before/minor/2.jpg")
    rows = [{"path": path, "status": "valid", "sha256": path} for path in paths]
    settings = Settings(home=tmp_path, landing={"folder": "/landing"})  # type: ignore[arg-type]
    world = World(settings, Photos({}), Versions(), Endpoint({}), Runs({}), Table(pa.Table.from_pylist(rows)))
    found = {one.name: one for one in doctor.doctor(settings, world)}["photos elsewhere"]  # type: ignore[arg-type]
    assert found.state == doctor.WARN
    assert found.detail.startswith("2 photos of other folders than /landing")
    assert "flows.retrain --retire-other-folders" in found.detail


def test_doctor_tells_where_the_home_folder_was_before_and_what_keeps_a_run_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told(home: Path) -> dict[str, doctor.Finding]:
        settings = Settings(home=home)
        world = World(settings, Photos({}), Versions(), Endpoint({}), Runs({}), Table(BRONZE.empty_table()))
        return {one.name: one for one in doctor.doctor(settings, world)}  # type: ignore[arg-type]

    home, there = tmp_path / "home", tmp_path / "there"
    first = told(home)["home folder"]
    assert (first.state, first.detail.startswith(f"{home}, ")) == (doctor.OK, True)
    home.rename(there)
    assert told(there)["home folder"].detail.endswith(f"; it was {home} before, and the paths stored in it are rewritten")
    monkeypatch.setattr(home_folder, "LEAST", 1 << 62)
    full = told(there)
    assert full["home folder"].state == doctor.FAIL
    assert "bytes left on its disk" in full["home folder"].detail
    (tmp_path / "file").write_text("")
    lost = told(tmp_path / "file" / "home")
    assert lost["home folder"].detail.startswith(f"the home folder {tmp_path}/file/home cannot be used: ")
    assert "registry" not in lost


def test_doctor_goes_on_where_parts_do_not_answer(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    endpoint = Endpoint({}, outages=[Unavailable("nothing answers at the endpoint")])
    world = World(settings, Photos({}), Versions(), endpoint, Runs({}), Table(BRONZE.empty_table()))
    findings = {one.name: one for one in doctor.doctor(settings, world)}  # type: ignore[arg-type]
    assert (findings["endpoint"].state, findings["endpoint"].detail) == (doctor.FAIL, "nothing answers at the endpoint")
