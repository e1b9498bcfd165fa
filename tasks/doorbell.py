"""The doorbell's state, its view of the runs, and its event, all on the Prefect server.

The state is in two Variables. Only the stage validate writes `car_damage_validated`: what the last validation saw.
`watch-landing` and `make watch` write `car_damage_doorbell`: what the doorbell remembers. If both check at the same moment,
they announce the photos twice, which costs a run with nothing new. The Variables hold fingerprints and times, no file names.
"""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterNextScheduledStartTime,
    FlowRunFilterStartTime,
)
from prefect.client.schemas.objects import StateType

from car_damage.data import doorbell
from car_damage.data.doorbell import Memory, Runs, Signal
from car_damage.ports import Platform
from tasks import events, variables
from tasks.flow_runs import RETRAIN, in_state

VALIDATED = "car_damage_validated"
DOORBELL = "car_damage_doorbell"
LANDED = "car-damage.images.landed"
"""The event that triggers the deployment `retrain`."""
LANDING = "car-damage.landing"
"""Resource of the event."""

SOON = timedelta(seconds=45)
"""A scheduled run counts as due if it starts within this time: Prefect reschedules a run that waits for a slot every 30 s."""
LONGEST_VALIDATION = timedelta(hours=1)
"""A running run that has not validated for so long may be dead, and must not silence the doorbell."""
LONGEST_START = timedelta(minutes=15)
"""A run that a worker took so long ago and did not start may be dead too."""


@dataclass(frozen=True)
class Validation:
    """What the last validation saw."""

    fingerprint: str = ""
    flow_run: str = ""


def look(platform: Platform, quiet: str | None = None) -> Signal:
    """Check the landing folder once, and ring if photos have landed.

    Args:
        platform: only its port `files` is used.
        quiet: fingerprint of a folder that has been quiet for a while, so that no second equal fingerprint is needed.

    Raises:
        SettingsError: the folder does not exist.
        Unavailable: the folder cannot be listed completely.
    """
    settings, now = platform.settings, datetime.now(UTC)
    found, last, known = quiet or doorbell.fingerprint(platform), last_validation(), memory()
    if quiet:
        known = replace(known, seen=quiet)
    repeat_after = timedelta(seconds=settings.doorbell.repeat_after)
    signal = doorbell.decide(found, last.fingerprint, known, runs(last, known.rung_at), now=now, repeat_after=repeat_after)
    # Ring first: after a kill between the two calls the next check rings again, which costs a run with nothing new.
    if signal.ring:
        ring(found, settings.landing.folder)
    variables.write(DOORBELL, signal.memory)
    return signal


def remember_validated(fingerprint: str, flow_run: str) -> None:
    """Save what was validated. Only the stage validate calls this."""
    variables.write(VALIDATED, Validation(fingerprint, flow_run))


def last_validation() -> Validation:
    """What the last validation saw."""
    return variables.read(VALIDATED, Validation)


def memory() -> Memory:
    """The doorbell's memory after its last check."""
    return variables.read(DOORBELL, Memory)


def runs(last: Validation, rung_at: datetime | None) -> Runs:
    """Whether a run of retrain is about to validate, and whether one has started since the last ring."""
    now = datetime.now(UTC)
    with get_client(sync_client=True) as client:
        waiting = FlowRunFilter(
            state=in_state(StateType.SCHEDULED), next_scheduled_start_time=FlowRunFilterNextScheduledStartTime(before_=now + SOON)
        )
        running = FlowRunFilter(state=in_state(StateType.RUNNING), start_time=FlowRunFilterStartTime(after_=now - LONGEST_VALIDATION))
        pending = FlowRunFilter(
            state=in_state(StateType.PENDING), expected_start_time=FlowRunFilterExpectedStartTime(after_=now - LONGEST_START)
        )
        starting = _found(client, waiting) + _found(client, pending)
        busy = [run for run in _found(client, running) if run != last.flow_run]
        came = rung_at is not None and bool(_found(client, FlowRunFilter(start_time=FlowRunFilterStartTime(after_=rung_at))))
    return Runs(due=bool(starting or busy), came=came)


def ring(fingerprint: str, folder: str) -> None:
    """Emit the event that photos have landed, and wait until it is sent. Whether it started a run, the next check finds out.

    Raises:
        Unavailable: the event could not be sent in time.
    """
    events.send(LANDED, {"prefect.resource.id": LANDING, "prefect.resource.name": folder}, {"fingerprint": fingerprint})


def _found(client: SyncPrefectClient, which: FlowRunFilter) -> list[str]:
    return [str(run.id) for run in client.read_flow_runs(flow_filter=RETRAIN, flow_run_filter=which, limit=20)]
