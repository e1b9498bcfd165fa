"""What an endpoint says, in our words: the name of a version that it serves, and the state that databricks-sdk returns.

Done means more than READY: the one entity is a version of our model, deployed, and takes all traffic.
"""

from typing import Any

from car_damage.ports import EndpointState


def read(endpoint: Any, model: str) -> EndpointState:
    """Say in our words what the SDK's ServingEndpointDetailed says.

    Args:
        endpoint: as the SDK returns it; any part of it may be missing.
        model: the registered model whose versions count; an entity of another one is none of ours.
    """
    ready = _word(endpoint.state and endpoint.state.ready) == "READY"
    update = _word(endpoint.state and endpoint.state.config_update)
    active, pending = _entity(endpoint.config, model), _entity(endpoint.pending_config, model)
    serves = active is not None and ready and _deployment(active) == "DEPLOYMENT_READY" and _all_traffic(endpoint.config, active.name)
    updating = update == "IN_PROGRESS"
    # While an endpoint is being created, what is pending may be shown as its config.
    coming = (pending or (None if ready else active)) if updating else None
    failed = update in {"UPDATE_FAILED", "UPDATE_CANCELED"}
    told = (pending or active) if failed or updating or not ready else active
    return EndpointState(
        exists=True,
        ready=ready,
        updating=updating,
        served=int(active.entity_version) if serves and active is not None else None,
        entity=str(active.name) if serves and active is not None else "",
        pending=int(coming.entity_version) if coming is not None else None,
        failed=failed,
        message=str((told is not None and told.state and told.state.deployment_state_message) or ""),
    )


def _entity(config: Any, model: str) -> Any:
    """The config's one served entity, when it is a version of our model."""
    entities = (config and config.served_entities) or []
    return entities[0] if len(entities) == 1 and entities[0].entity_name == model else None


def _all_traffic(config: Any, name: str) -> bool:
    """Without routes all traffic goes to the one entity."""
    routes = (config.traffic_config and config.traffic_config.routes) or []
    return all((route.served_entity_name or route.served_model_name) == name for route in routes if route.traffic_percentage)


def _deployment(entity: Any) -> str:
    return _word(entity.state and entity.state.deployment)


def _word(value: Any) -> str:
    """An enum of the SDK, or nothing, as a string."""
    return str(value.value) if value is not None else ""
