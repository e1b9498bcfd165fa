"""Puts the declared automations on the Prefect server, known there by their names.

Applied again, nothing changes. One that is not declared any more is removed; one that somebody has switched off in the
UI stays off.
"""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID

from car_damage.settings import Alerts
from deployments.alerts import PREFIX, declared
from deployments.items import Item

if TYPE_CHECKING:
    from prefect.events.schemas.automations import AutomationCore


def items(alerts: Alerts) -> list[Item]:
    """One item an automation, and one for those that must not be there any more."""
    wanted = declared(alerts)
    made = [Item(f"automation {name}", partial(_look, name, make), partial(_fix, name, make), vital=False) for name, make in wanted.items()]
    return [
        *made,
        Item("no automations of an earlier time", partial(_look_at_rest, set(wanted)), partial(_remove_rest, set(wanted)), vital=False),
    ]


def _look(name: str, make: "Callable[[], AutomationCore]") -> str | None:
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        found = client.read_automations_by_name(name)
    if not found:
        return "is not there"
    if len(found) > 1:
        return f"is there {len(found)} times"
    return None if _content(found[0]) == _content(make()) else "is not as declared"


def _fix(name: str, make: "Callable[[], AutomationCore]") -> None:
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        found = client.read_automations_by_name(name)
        wanted = make()
        for double in found[1:]:
            client.delete_automation(double.id)
        if found:
            client.update_automation(found[0].id, wanted.model_copy(update={"enabled": found[0].enabled}))
        else:
            client.create_automation(wanted)


def _look_at_rest(wanted: set[str]) -> str | None:
    rest = sorted(name for name, _ in _rest(wanted))
    return f"there is {', '.join(rest)}" if rest else None


def _remove_rest(wanted: set[str]) -> None:
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        for _, automation in _rest(wanted):
            client.delete_automation(automation)


def _rest(wanted: set[str]) -> list[tuple[str, UUID]]:
    """Ours by their name, of no deployment, and not declared."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        found = client.read_automations()
    return [(one.name, one.id) for one in found if one.name.startswith(PREFIX) and one.name not in wanted and one.owner_resource is None]


def _content(automation: "AutomationCore") -> Any:
    """What is declared of an automation, comparable: sets come back from the server in any order."""
    return _ordered(automation.model_dump(mode="json", include={"name", "description", "trigger", "actions"}))


def _ordered(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _ordered(inner) for key, inner in value.items() if key != "id"}
    if isinstance(value, list) and all(isinstance(inner, str) for inner in value):
        return sorted(value)
    return [_ordered(inner) for inner in value] if isinstance(value, list) else value
