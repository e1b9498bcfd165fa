"""Sends an event to the Prefect server, and waits until it is sent."""

import threading
from collections.abc import Mapping
from typing import Any

from prefect.events import RelatedResource, emit_event
from prefect.events.worker import EventsWorker

from car_damage.errors import Unavailable

SEND_TIMEOUT = 30.0
"""Seconds that sending an event may take."""


def send(event: str, resource: Mapping[str, str], payload: Mapping[str, Any], related: "list[RelatedResource] | None" = None) -> None:
    """Emit an event, and wait until it is sent.

    Args:
        event: its name.
        resource: labels of what it is about, among them `prefect.resource.id`.
        payload: what its readers need to know.
        related: other resources, such as tags, by which automations choose events.

    Raises:
        Unavailable: the event could not be sent in time.
    """
    emit_event(event, resource=dict(resource), payload=dict(payload), related=related)
    # An events client that cannot connect gives up silently, and its queue then never becomes empty.
    sending = threading.Thread(target=EventsWorker.instance().wait_until_empty, daemon=True)
    sending.start()
    sending.join(SEND_TIMEOUT)
    if sending.is_alive():
        raise Unavailable(f"the event {event} was not sent within {SEND_TIMEOUT:.0f} s: check that no proxy blocks the server's websockets")
