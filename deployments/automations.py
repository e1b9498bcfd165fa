"""Creates, updates and deletes the automations on the Prefect server, which identifies them by name.

A second run changes nothing. An automation that is not declared is deleted; one that was disabled in the UI stays disabled.
"""

from collections.abc import Callable
from functools import partial
from typing import Any
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.events.schemas.automations import AutomationCore

from car_damage.settings import Alerts
from deployments.alerts import PREFIX, declared
from deployments.items import ABSENT, Item


def items(alerts: Alerts) -> list[Item]:
    """One item for each automation, and one for those that are not declared."""
    wanted = declared(alerts)
    made = [
        Item(f"automation {name}", partial(_check, name, make), partial(_fix, name, make), vital=False) for name, make in wanted.items()
    ]
    return [
        *made,
        Item("no undeclared automations", partial(_check_undeclared, set(wanted)), partial(_delete_undeclared, set(wanted)), vital=False),
    ]


def _check(name: str, make: Callable[[], AutomationCore]) -> str | None:
    with get_client(sync_client=True) as client:
        found = client.read_automations_by_name(name)
    if not found:
        return ABSENT
    if len(found) > 1:
        return f"exists {len(found)} times"
    return None if _content(found[0]) == _content(make()) else "differs from its declaration"


def _fix(name: str, make: Callable[[], AutomationCore]) -> None:
    with get_client(sync_client=True) as client:
        found = client.read_automations_by_name(name)
        wanted = make()
        for duplicate in found[1:]:
            client.delete_automation(duplicate.id)
        if found:
            client.update_automation(found[0].id, wanted.model_copy(update={"enabled": found[0].enabled}))
        else:
            client.create_automation(wanted)


def _check_undeclared(wanted: set[str]) -> str | None:
    names = sorted(name for name, _ in _undeclared(wanted))
    return f"{', '.join(names)} exists" if names else None


def _delete_undeclared(wanted: set[str]) -> None:
    with get_client(sync_client=True) as client:
        for _, automation in _undeclared(wanted):
            client.delete_automation(automation)


def _undeclared(wanted: set[str]) -> list[tuple[str, UUID]]:
    """Automations with our prefix that are not declared and belong to no deployment."""
    with get_client(sync_client=True) as client:
        found = client.read_automations()
    return [(one.name, one.id) for one in found if one.name.startswith(PREFIX) and one.name not in wanted and one.owner_resource is None]


def _content(automation: AutomationCore) -> Any:
    """The declared fields of an automation, sorted, because the server returns sets in any order."""
    return _sorted(automation.model_dump(mode="json", include={"name", "description", "trigger", "actions"}))


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sorted(inner) for key, inner in value.items() if key != "id"}
    if isinstance(value, list) and all(isinstance(inner, str) for inner in value):
        return sorted(value)
    return [_sorted(inner) for inner in value] if isinstance(value, list) else value
