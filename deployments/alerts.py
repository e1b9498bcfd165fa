"""The automations of this service: the Prefect server restarts lost runs, and sends notifications."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState, SendNotification
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.exceptions import ObjectNotFound

from car_damage.errors import SettingsError
from car_damage.settings import Alerts
from tasks.alerts import KEPT, REJECTS
from tasks.attempts import ENDED, LOST, MOST, STOPPED, TOO_OFTEN
from tasks.commands import DOCTOR
from tasks.degradation import DEGRADED

PREFIX = "car-damage: "
"""Prefix of the automations that bootstrap creates; those of prefect.yaml belong to their deployments."""
_LOST = f"{PREFIX}a lost run is started again"
_LOST_TOO_OFTEN = f"{PREFIX}a run that is lost too often fails"
RUN = "{{ flow_run.name }}"
LINK = "{{ flow_run|ui_url }}"


def declared(alerts: Alerts) -> dict[str, Callable[[], AutomationCore]]:
    """Name -> function that makes the automation. Automations that only notify are included if `alerts.notify` names a block."""
    found: dict[str, Callable[[], AutomationCore]] = {
        _LOST: partial(_restart_lost_run, alerts),
        _LOST_TOO_OFTEN: partial(_end_run_lost_too_often, alerts),
    }
    if alerts.notify:
        found |= {f"{PREFIX}{one.name}": partial(one.automation, alerts.notify) for one in _notifications(alerts)}
    return found


def block_problem(notify: str) -> str | None:
    """What is wrong with the notification block that `alerts.notify` names, or None."""
    try:
        _block_id(notify)
    except SettingsError as error:
        return str(error)
    return None


def _runs_tagged(tag: str) -> dict[str, Any]:
    return {
        "match": {"prefect.resource.id": "prefect.flow-run.*"},
        "match_related": {"prefect.resource.id": f"prefect.tag.{tag}", "prefect.resource.role": "tag"},
    }


_OURS = _runs_tagged("car-damage")
"""Runs of retrain, promote, score, monitor and forget: their deployments have this tag."""


def _restart_lost_run(alerts: Alerts) -> AutomationCore:
    body = f"No heartbeat for {alerts.zombie_after:.0f} s. The restarted run skips the stages that had completed.\n{LINK}"
    return AutomationCore(
        name=_LOST,
        description="Restarts a run when its heartbeats stop, for example because its machine is gone. It continues where it stopped.",
        trigger=EventTrigger(
            # Pending and Submitting: the worker may die after it took the run and before it starts the process.
            after={"prefect.flow-run.heartbeat", "prefect.flow-run.Pending", "prefect.flow-run.Submitting"},
            # Any event of the run counts: its final state may have a name of our own, such as Promoted. The server may keep the events of
            # states for a quarter of an hour, so a run also sends one of its own at its end.
            expect={"prefect.flow-run.*", ENDED},
            **_OURS,
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=timedelta(seconds=alerts.zombie_after),
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.SCHEDULED, name="AwaitingRetry", message=f"{LOST} {alerts.zombie_after:.0f} s: started again"
            ),
            *([_send(alerts.notify, f"{RUN} was lost and is started again", body)] if alerts.notify else []),
        ],
    )


def _end_run_lost_too_often(alerts: Alerts) -> AutomationCore:
    """For a run whose process ends before its flow begins: the flow counts, too."""
    ours = {**_OURS["match"], "prefect.state-message": [f"{LOST}*", f"{STOPPED}*"]}
    return AutomationCore(
        name=_LOST_TOO_OFTEN,
        description=f"Ends a run that was lost {MOST} times, so that it is not started for ever.",
        trigger=EventTrigger(
            expect={"prefect.flow-run.AwaitingRetry"},
            **{**_OURS, "match": ours},
            for_each={"prefect.resource.id"},
            posture=Posture.Reactive,
            threshold=MOST,
            within=timedelta(days=1) + MOST * timedelta(seconds=alerts.zombie_after),
        ),
        actions=[ChangeFlowRunState(state=StateType.FAILED, name="Failed", message=TOO_OFTEN)],
    )


@dataclass(frozen=True)
class _Notification:
    """An automation that only sends a notification: for each event, unless the trigger sets another threshold or posture."""

    name: str
    description: str
    trigger: Mapping[str, Any]
    subject: str
    body: str

    def automation(self, notify: str) -> AutomationCore:
        return AutomationCore(
            name=f"{PREFIX}{self.name}",
            description=self.description,
            trigger=EventTrigger(**{"posture": "Reactive", "threshold": 1, **self.trigger}),
            actions=[_send(notify, self.subject, self.body)],
        )


def _notifications(alerts: Alerts) -> list[_Notification]:
    return [
        _Notification(
            "a run failed",
            "Notifies when a run failed or crashed.",
            {"expect": {f"prefect.flow-run.{ending}" for ending in ("Failed", "Crashed", "TimedOut")}, **_OURS},
            f"{RUN} ended {{{{ flow_run.state.name }}}}",
            f"{{{{ flow_run.state.message }}}}\n\nThe champion is unchanged unless this message says otherwise. The next run continues "
            f"where this one stopped. To check whether it can: {DOCTOR}\n{LINK}",
        ),
        _Notification(
            "a run is late",
            "Notifies when a run has not started long after its scheduled time.",
            {
                "posture": "Proactive",
                "after": {"prefect.flow-run.Late"},
                "expect": {"prefect.flow-run.Pending", "prefect.flow-run.Running", "prefect.flow-run.Cancelled"},
                **_OURS,
                "for_each": {"prefect.resource.id"},
                "within": timedelta(seconds=alerts.late_after),
            },
            f"{RUN} has not started",
            f"No worker has taken it for {alerts.late_after:.0f} s. Check that a worker is online on the work pool: {DOCTOR}\n{LINK}",
        ),
        _Notification(
            "the doorbell does not work",
            "Notifies when the landing folder cannot be listed several times in a row.",
            {
                "expect": {"prefect.flow-run.Failed", "prefect.flow-run.Crashed"},
                **_runs_tagged("car-damage-doorbell"),
                "threshold": 5,
                "within": timedelta(minutes=15),
            },
            "The landing folder cannot be listed",
            "watch-landing failed five times: {{ flow_run.state.message }}\n"
            f"Until this is fixed new photos start no run; the nightly run still takes them.\n{LINK}",
        ),
        _Notification(
            "the champion was kept again and again",
            f"Notifies on the event {KEPT}.",
            {"expect": {KEPT}},
            "{{ event.payload.runs }} runs in a row brought no better version",
            "{{ event.payload.message }}",
        ),
        _Notification(
            "many new photos cannot be used",
            f"Notifies on the event {REJECTS}.",
            {"expect": {REJECTS}},
            "{{ event.payload.rejected }} of {{ event.payload.files }} new photos cannot be used",
            "{{ event.payload.reasons }}",
        ),
        _Notification(
            "the live version is worse",
            f"Notifies on the event {DEGRADED}.",
            {"expect": {DEGRADED}},
            "Version {{ event.payload.version }} is worse: {{ event.payload.what }}",
            "{{ event.payload.said }}\n\n{{ event.payload.next }}",
        ),
    ]


def _send(notify: str, subject: str, body: str) -> SendNotification:
    return SendNotification(block_document_id=_block_id(notify), subject=subject, body=body)


def _block_id(notify: str) -> UUID:
    """The id of the notification block. Raises SettingsError when the server has no block of that name."""
    kind, _, name = notify.partition("/")
    with get_client(sync_client=True) as client:
        try:
            return client.read_block_document_by_name(name, kind).id
        except ObjectNotFound as error:
            raise SettingsError(
                f"alerts.notify names the block {notify}, which is not on the Prefect server: create it in the UI under Blocks"
            ) from error
