"""The doorbell's memory, its view of the runs, and its ring, all on the Prefect server.

Two Variables: `car_damage_validated` is what the last validation saw, written by the stage validate alone;
`car_damage_doorbell` is what the doorbell remembers, written by watch-landing and by `make watch`. Where both look at the
same moment the photos are announced twice, which costs a run with nothing new. They hold fingerprints and times, never
photos' names.
"""

import threading
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import VariableCreate, VariableUpdate
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterNextScheduledStartTime,
    FlowRunFilterStartTime,
)
from prefect.client.schemas.objects import StateType
from prefect.events import emit_event
from prefect.events.worker import EventsWorker
from pydantic import TypeAdapter, ValidationError

from car_damage.data import doorbell
from car_damage.data.doorbell import Memory, Runs, Signal
from car_damage.errors import Unavailable
from car_damage.ports import Platform
from tasks.flow_runs import RETRAIN, in_state

T = TypeVar("T")

VALIDATED = "car_damage_validated"
DOORBELL = "car_damage_doorbell"
LANDED = "car-damage.images.landed"
"""The event for which the deployment `retrain` has a trigger."""
LANDING = "car-damage.landing"
"""Its resource."""

SOON = timedelta(seconds=45)
"""A run that waits for another one's end is scheduled anew every 30 s: it is due all the same."""
LONGEST_VALIDATION = timedelta(hours=1)
"""A run that has not validated after so long may be a dead one, and must not silence the doorbell."""
LONGEST_START = timedelta(minutes=15)
"""Nor may one that a worker took so long ago and never began."""
SENT_WITHIN = 30.0
"""Seconds that an event may take to be sent."""


@dataclass(frozen=True)
class Validated:
    """What the last validation saw."""

    fingerprint: str = ""
    flow_run: str = ""


def look(platform: Platform, quiet: str | None = None) -> Signal:
    """One look at the landing folder, and a ring where photos have landed.

    Args:
        platform: of which only the port `files` is used.
        quiet: the fingerprint of a folder that has been quiet for a while, so that it needs no second equal look.

    Raises:
        SettingsError: the folder is not there.
        Unavailable: it cannot be listed completely.
    """
    settings, now = platform.settings, datetime.now(UTC)
    found, last, known = quiet or doorbell.fingerprint(platform), validated(), memory()
    if quiet:
        known = replace(known, seen=quiet)
    repeat_after = timedelta(seconds=settings.doorbell.repeat_after)
    signal = doorbell.decide(found, last.fingerprint, known, runs(last, known.rung_at), now=now, repeat_after=repeat_after)
    # The ring first: a kill between the two repeats it, which costs a run that finds nothing new.
    if signal.ring:
        ring(found, settings.landing.folder)
    _write(DOORBELL, signal.memory)
    return signal


def remember_validated(fingerprint: str, flow_run: str) -> None:
    """Note what has been validated; by the stage validate, and nobody else."""
    _write(VALIDATED, Validated(fingerprint, flow_run))


def validated() -> Validated:
    """What has been validated last."""
    return _read(VALIDATED, Validated)


def memory() -> Memory:
    """What the doorbell knew after its last look."""
    return _read(DOORBELL, Memory)


def runs(last: Validated, rung_at: datetime | None) -> Runs:
    """The retraining's runs: whether one is about to validate, and whether one has come since the last ring."""
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
    """Tell the server that photos have landed, and wait until that is sent. Whether it was heard shows in the runs.

    Raises:
        Unavailable: it could not be sent in time.
    """
    emit_event(
        LANDED,
        resource={"prefect.resource.id": LANDING, "prefect.resource.name": folder},
        payload={"fingerprint": fingerprint},
    )
    # A client of events that cannot connect gives up without a word, and its queue is then never empty.
    sending = threading.Thread(target=EventsWorker.instance().wait_until_empty, daemon=True)
    sending.start()
    sending.join(SENT_WITHIN)
    if sending.is_alive():
        raise Unavailable(f"the event {LANDED} could not be sent within {SENT_WITHIN:.0f} s: does a proxy refuse the server's websockets?")


def _found(client: SyncPrefectClient, which: FlowRunFilter) -> list[str]:
    return [str(run.id) for run in client.read_flow_runs(flow_filter=RETRAIN, flow_run_filter=which, limit=20)]


def _read(name: str, kind: type[T]) -> T:
    """A Variable that is not there, or that somebody has written something else into, says nothing."""
    with get_client(sync_client=True) as client:
        found = client.read_variable_by_name(name)
    try:
        return TypeAdapter(kind).validate_python(found.value if found else {})
    except ValidationError:
        return kind()


def _write(name: str, content: Memory | Validated) -> None:
    value = TypeAdapter(type(content)).dump_python(content, mode="json")
    with get_client(sync_client=True) as client:
        if client.read_variable_by_name(name) is None:
            client.create_variable(VariableCreate(name=name, value=value, tags=["car-damage"]))
        else:
            client.update_variable(VariableUpdate(name=name, value=value, tags=["car-damage"]))
