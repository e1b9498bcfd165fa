"""The automations that this service declares: whom the Prefect server tells of what, and how it starts a lost run again."""

from collections.abc import Callable
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
    makers: dict[str, Callable[[], AutomationCore]] = {"a lost run is started again": partial(_lost, alerts)}
    if alerts.notify:
        makers |= {
            "a run failed": partial(_failed, alerts),
            "a run is late": partial(_late, alerts),
            "the doorbell does not work": partial(_deaf, alerts),
            "the champion was kept again and again": partial(
                _told, alerts, KEPT, "{{ event.payload.runs }} runs in a row brought no better version", "{{ event.payload.message }}"
            ),
            "many new photos cannot be used": partial(
                _told,
                alerts,
                REJECTS,
                "{{ event.payload.rejected }} of {{ event.payload.files }} new photos cannot be used",
                "{{ event.payload.reasons }}",
            ),
        }
    return {f"{PREFIX}{name}": make for name, make in makers.items()}


def block_problem(notify: str) -> str | None:
    """What is wrong with the notification block that the settings name, or None."""
    try:
        _block(notify)
    except SettingsError as error:
        return str(error)
    return None


def _lost(alerts: Alerts) -> "AutomationCore":
    from prefect.client.schemas.objects import StateType
    from prefect.events.actions import ChangeFlowRunState
    from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture

    heartbeat = "prefect.flow-run.heartbeat"
    return AutomationCore(
        name=f"{PREFIX}a lost run is started again",
        description="A run that gives no sign of life any more, because its machine is gone, is scheduled again and goes on where it was.",
        trigger=EventTrigger(
            after={heartbeat},
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
            )
        ],
    )


def _failed(alerts: Alerts) -> "AutomationCore":
    from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture

    return AutomationCore(
        name=f"{PREFIX}a run failed",
        description="Tells of every run that failed or crashed.",
        trigger=EventTrigger(
            expect={f"prefect.flow-run.{ending}" for ending in ("Failed", "Crashed", "TimedOut")},
            **_OURS,
            posture=Posture.Reactive,
            threshold=1,
        ),
        actions=[
            _notification(
                alerts,
                f"{RUN} ended {{{{ flow_run.state.name }}}}",
                f"{{{{ flow_run.state.message }}}}\n\nWhat is live was not changed by it unless it says so, and the next run goes on "
                f"where this one ended. To see whether it can: python -m deployments doctor\n{LINK}",
            )
        ],
    )


def _late(alerts: Alerts) -> "AutomationCore":
    from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture

    return AutomationCore(
        name=f"{PREFIX}a run is late",
        description="Tells of a run that has not started long after its time.",
        trigger=EventTrigger(
            after={"prefect.flow-run.Late"},
            expect={"prefect.flow-run.Pending", "prefect.flow-run.Running", "prefect.flow-run.Cancelled"},
            **_OURS,
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=timedelta(seconds=alerts.late_after),
        ),
        actions=[
            _notification(
                alerts,
                f"{RUN} has not started",
                f"No worker has taken it for {alerts.late_after:.0f} s. Is one running on the work pool? "
                f"python -m deployments doctor\n{LINK}",
            )
        ],
    )


def _deaf(alerts: Alerts) -> "AutomationCore":
    from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture

    return AutomationCore(
        name=f"{PREFIX}the doorbell does not work",
        description="Tells when the landing folder cannot be looked at again and again.",
        trigger=EventTrigger(
            expect={"prefect.flow-run.Failed", "prefect.flow-run.Crashed"},
            match={"prefect.resource.id": "prefect.flow-run.*"},
            match_related={"prefect.resource.id": "prefect.tag.car-damage-doorbell", "prefect.resource.role": "tag"},
            posture=Posture.Reactive,
            threshold=5,
            within=timedelta(minutes=15),
        ),
        actions=[
            _notification(
                alerts,
                "The landing folder cannot be looked at",
                "watch-landing failed five times: {{ flow_run.state.message }}\n"
                f"New photos start no run meanwhile; the schedule goes on.\n{LINK}",
            )
        ],
    )


def _told(alerts: Alerts, event: str, subject: str, body: str) -> "AutomationCore":
    """Tells of an event that the flow computed."""
    from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture

    name = {KEPT: "the champion was kept again and again", REJECTS: "many new photos cannot be used"}[event]
    return AutomationCore(
        name=f"{PREFIX}{name}",
        description=f"Tells of the event {event}.",
        trigger=EventTrigger(expect={event}, posture=Posture.Reactive, threshold=1),
        actions=[_notification(alerts, subject, body)],
    )


_OURS: dict[str, Any] = {
    "match": {"prefect.resource.id": "prefect.flow-run.*"},
    "match_related": {"prefect.resource.id": "prefect.tag.car-damage", "prefect.resource.role": "tag"},
}
"""Runs of our deployments, by their tag."""


def _notification(alerts: Alerts, subject: str, body: str) -> "SendNotification":
    from prefect.events.actions import SendNotification

    return SendNotification(block_document_id=_block(alerts.notify or ""), subject=subject, body=body)


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
