"""What follows when the live version gets worse: an event that notifies a person, and one that starts a training where there is something
to train on.

A Variable on the Prefect server remembers what was told, so that each thing is told once, and again only after it was over.
"""

from dataclasses import dataclass

from prefect.logging import get_run_logger

from car_damage.monitoring.findings import OF_THE_ENDPOINT
from car_damage.pipeline import MonitorReport
from car_damage.server.address import is_local
from car_damage.settings import Monitoring, Settings
from tasks import commands, events, variables

DEGRADED = "car-damage.model.degraded"
"""Event: the live version is worse than it was after its training, or its photos are others."""
TRAINABLE = "car-damage.model.trainable"
"""Event: it is, and there are enough photos with labels that it has not learned from. Starts the deployment `retrain`."""
CHAMPION = "car-damage.champion"
"""Resource of both."""
TOLD = "car_damage_monitor"


@dataclass(frozen=True)
class AlarmMemory:
    """What was told of the live version."""

    version: int = 0
    alarm: tuple[str, ...] = ()
    to_learn: int = 0
    """Photos to learn from when a training was started last."""


def tell(report: MonitorReport, settings: Settings) -> None:
    """Send the events that the report asks for, and that were not sent before.

    Raises:
        Unavailable: an event cannot be sent. The next run sends it.
    """
    before = told(report.version)
    now = AlarmMemory(before.version, report.alarm, before.to_learn)
    # The event first: after a kill between the two it is sent again, and not never.
    if set(report.alarm) - set(before.alarm):
        _tell_degraded(report, settings, before)
    if enough(report, settings.monitoring, before):
        get_run_logger().info("%d photos with labels are there to learn from: a run of retrain starts", report.to_learn)
        events.send(TRAINABLE, {"prefect.resource.id": CHAMPION}, {"version": report.version, "to_learn": report.to_learn})
        now = AlarmMemory(now.version, now.alarm, report.to_learn)
    if now != before:
        variables.write(TOLD, now)


def told(version: int | None) -> AlarmMemory:
    """What was told of the version."""
    found = variables.read(TOLD, AlarmMemory)
    return found if found.version == version else AlarmMemory(version or 0)


def enough(report: MonitorReport, monitoring: Monitoring, before: AlarmMemory) -> bool:
    """Whether a training starts."""
    of_the_model = set(report.alarm) - OF_THE_ENDPOINT
    return bool(of_the_model) and monitoring.retrain and report.to_learn - before.to_learn >= monitoring.retrain_photos


def what_next(report: MonitorReport, settings: Settings, before: AlarmMemory) -> str:
    """What happens, or what a person can do, after what was told before."""
    monitoring = settings.monitoring
    if not set(report.alarm) - OF_THE_ENDPOINT:
        return "The endpoint is in trouble, and not the model: look at its log and at what it is sent."
    if enough(report, monitoring, before):
        return f"A run of retrain starts: there are {report.to_learn:,} photos with labels that the version has not learned from."
    if not monitoring.retrain:
        return f"No training starts by itself (monitoring.retrain). {report.to_learn:,} photos with labels are there to learn from."
    host = settings.serving.host or ""
    desk = f"{host}, under Review" if is_local(host) else f"`{commands.REVIEW}`"
    missing = f"{monitoring.retrain_photos - report.to_learn + before.to_learn:,}"
    needed = f"A training needs labels for {missing} photos."
    if before.to_learn:
        needed = f"A run of retrain was started when {before.to_learn:,} photos had labels. Another needs labels for {missing} more."
    return (
        f"{needed} {report.unlabelled:,} of the latest ones "
        f"have none. Give them at {desk}, or put labelled photos into {settings.landing.folder}"
    )


def _tell_degraded(report: MonitorReport, settings: Settings, before: AlarmMemory) -> None:
    get_run_logger().warning("version %s: %s", report.version, report.said)
    payload = {"version": report.version, "what": report.how_much, "said": report.said, "next": what_next(report, settings, before)}
    events.send(DEGRADED, {"prefect.resource.id": CHAMPION, "prefect.resource.name": f"version {report.version}"}, payload)
