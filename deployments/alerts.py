"""The automations that this service declares: whom the Prefect server tells of what, and how it starts a lost run again."""

from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID

from car_damage.errors import SettingsError
from car_damage.settings import Alerts
from tasks.alerts import KEPT, REJECTS

if TYPE_CHECKING:
    from prefect.events.actions import SendNotification
    from prefect.events.schemas.automations import AutomationCore

PREFIX = "car-damage: "
"""How our automations' names begin; those of prefect.yaml belong to their deployments."""
RUN = "{{ flow_run.name }}"
LINK = "{{ flow_run|ui_url }}"


def declared(alerts: Alerts) -> dict[str, "Callable[[], AutomationCore]"]:
    """Name -> how the automation is made. Those that tell somebody are there only where `alerts.notify` names a block."""
    makers: dict[str, Callable[[Alerts, str], AutomationCore]] = {"a lost run is started again": _lost}
    if alerts.notify:
        makers |= {
            "a run failed": _failed,
            "a run is late": _late,
            "the doorbell does not work": _deaf,
            "the champion was kept again and again": _kept,
            "many new photos cannot be used": _rejects,
        }
    return {f"{PREFIX}{name}": partial(make, alerts, f"{PREFIX}{name}") for name, make in makers.items()}


def block_problem(notify: str) -> str | None:
    """What is wrong with the notification block that the settings name, or None."""
    try:
        _block(notify)
    except SettingsError as error:
        return str(error)
    return None


def _runs_tagged(tag: str) -> dict[str, Any]:
    return {
        "match": {"prefect.resource.id": "prefect.flow-run.*"},
        "match_related": {"prefect.resource.id": f"prefect.tag.{tag}", "prefect.resource.role": "tag"},
    }


_OURS = _runs_tagged("car-damage")
"""Runs of retrain and promote, by the tag of their deployments."""


def _lost(alerts: Alerts, name: str) -> "AutomationCore":
    from prefect.client.schemas.objects import StateType
    from prefect.events.actions import ChangeFlowRunState
    from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture

    body = f"It gave no sign of life for {alerts.zombie_after:.0f} s. What it had completed is not done again.\n{LINK}"
    return AutomationCore(
        name=name,
        description="A run that gives no sign of life any more, because its machine is gone, is scheduled again and goes on where it was.",
        trigger=EventTrigger(
            # Or its worker died between taking it and starting its process.
            after={"prefect.flow-run.heartbeat", "prefect.flow-run.Pending", "prefect.flow-run.Submitting"},
            # Whatever it says is a sign of life, and the last one is how it ended: our endings have names of their own.
            expect={"prefect.flow-run.*"},
            **_OURS,
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=timedelta(seconds=alerts.zombie_after),
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.SCHEDULED, name="AwaitingRetry", message=f"no sign of life for {alerts.zombie_after:.0f} s: started again"
            ),
            *_letters(alerts, f"{RUN} was lost and is started again", body),
        ],
    )


def _failed(alerts: Alerts, name: str) -> "AutomationCore":
    return _tells(
        alerts,
        name,
        "Tells of every run that failed or crashed.",
        {"expect": {f"prefect.flow-run.{ending}" for ending in ("Failed", "Crashed", "TimedOut")}, **_OURS},
        f"{RUN} ended {{{{ flow_run.state.name }}}}",
        f"{{{{ flow_run.state.message }}}}\n\nWhat is live was not changed by it unless it says so, and the next run goes on "
        f"where this one ended. To see whether it can: python -m deployments doctor\n{LINK}",
    )


def _late(alerts: Alerts, name: str) -> "AutomationCore":
    return _tells(
        alerts,
        name,
        "Tells of a run that has not started long after its time.",
        {
            "posture": "Proactive",
            "after": {"prefect.flow-run.Late"},
            "expect": {"prefect.flow-run.Pending", "prefect.flow-run.Running", "prefect.flow-run.Cancelled"},
            **_OURS,
            "for_each": {"prefect.resource.id"},
            "within": timedelta(seconds=alerts.late_after),
        },
        f"{RUN} has not started",
        f"No worker has taken it for {alerts.late_after:.0f} s. Is one running on the work pool? python -m deployments doctor\n{LINK}",
    )


def _deaf(alerts: Alerts, name: str) -> "AutomationCore":
    return _tells(
        alerts,
        name,
        "Tells when the landing folder cannot be looked at again and again.",
        {
            "expect": {"prefect.flow-run.Failed", "prefect.flow-run.Crashed"},
            **_runs_tagged("car-damage-doorbell"),
            "threshold": 5,
            "within": timedelta(minutes=15),
        },
        "The landing folder cannot be looked at",
        "watch-landing failed five times: {{ flow_run.state.message }}\n"
        f"New photos start no run meanwhile; the schedule goes on.\n{LINK}",
    )


def _kept(alerts: Alerts, name: str) -> "AutomationCore":
    subject = "{{ event.payload.runs }} runs in a row brought no better version"
    return _tells(alerts, name, f"Tells of the event {KEPT}.", {"expect": {KEPT}}, subject, "{{ event.payload.message }}")


def _rejects(alerts: Alerts, name: str) -> "AutomationCore":
    subject = "{{ event.payload.rejected }} of {{ event.payload.files }} new photos cannot be used"
    return _tells(alerts, name, f"Tells of the event {REJECTS}.", {"expect": {REJECTS}}, subject, "{{ event.payload.reasons }}")


def _tells(  # noqa: PLR0917 - what it is called, when it acts, and the letter
    alerts: Alerts, name: str, description: str, trigger: Mapping[str, Any], subject: str, body: str
) -> "AutomationCore":
    """An automation that sends a letter; each time, unless the trigger says otherwise."""
    from prefect.events.schemas.automations import AutomationCore, EventTrigger

    return AutomationCore(
        name=name,
        description=description,
        trigger=EventTrigger(**{"posture": "Reactive", "threshold": 1, **trigger}),
        actions=_letters(alerts, subject, body),
    )


def _letters(alerts: Alerts, subject: str, body: str) -> "list[SendNotification]":
    """One to whom the settings name; none where they name nobody."""
    from prefect.events.actions import SendNotification

    return [SendNotification(block_document_id=_block(alerts.notify), subject=subject, body=body)] if alerts.notify else []


def _block(notify: str) -> UUID:
    """The id of the notification block. Raises SettingsError when the server has none of that name."""
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound

    kind, _, name = notify.partition("/")
    with get_client(sync_client=True) as client:
        try:
            return client.read_block_document_by_name(name, kind).id
        except ObjectNotFound as error:
            raise SettingsError(
                f"alerts.notify names the block {notify}, which is not on the Prefect server: make it in the UI under Blocks"
            ) from error
