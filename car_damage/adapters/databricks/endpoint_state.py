"""Translates an endpoint's state from databricks-sdk to `EndpointState`.

A version counts as served only if the endpoint is READY, the version is its only entity, is deployed, and gets all traffic.
"""

from typing import Any

from car_damage.ports import RAISED_COVERAGE, EndpointState


def read(endpoint: Any, model: str) -> EndpointState:
    """Translate the SDK's ServingEndpointDetailed, any part of which may be missing. Entities of other models are ignored."""
    ready = _word(endpoint.state and endpoint.state.ready) == "READY"
    update = _word(endpoint.state and endpoint.state.config_update)
    active, pending = _entity(endpoint.config, model), _entity(endpoint.pending_config, model)
    serves = active is not None and ready and _deployment(active) == "DEPLOYMENT_READY" and _all_traffic(endpoint.config, active.name)
    updating = update == "IN_PROGRESS"
    # While an endpoint is being created, its config may contain the pending entity.
    coming = (pending or (None if ready else active)) if updating else None
    failed = update in {"UPDATE_FAILED", "UPDATE_CANCELED"}
    described = (pending or active) if failed or updating or not ready else active
    return EndpointState(
        exists=True,
        ready=ready,
        updating=updating,
        served=int(active.entity_version) if serves and active is not None else None,
        entity=str(active.name) if serves and active is not None else "",
        pending=int(coming.entity_version) if coming is not None else None,
        failed=failed,
        coverage=_coverage(active) if serves else None,
        message=str((described is not None and described.state and described.state.deployment_state_message) or ""),
    )


def _coverage(entity: Any) -> float | None:
    given = (entity.environment_vars or {}).get(RAISED_COVERAGE)
    return float(given) if given else None


def _entity(config: Any, model: str) -> Any:
    """The config's served entity if it is the only one and a version of our model, else None."""
    entities = (config and config.served_entities) or []
    return entities[0] if len(entities) == 1 and entities[0].entity_name == model else None


def _all_traffic(config: Any, name: str) -> bool:
    """Whether all traffic goes to the entity. Without routes it does."""
    routes = (config.traffic_config and config.traffic_config.routes) or []
    return all((route.served_entity_name or route.served_model_name) == name for route in routes if route.traffic_percentage)


def _deployment(entity: Any) -> str:
    return _word(entity.state and entity.state.deployment)


def _word(value: Any) -> str:
    """The value of an enum of the SDK; empty for None."""
    return str(value.value) if value is not None else ""
