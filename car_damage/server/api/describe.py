"""Endpoints as the serving REST API describes them."""

from typing import Any

from car_damage.server.hosting.deployment import Deployment
from car_damage.server.hosting.endpoint import Endpoint

CREATOR = "local"


def endpoint(of: Endpoint) -> dict[str, Any]:
    """ServingEndpointDetailed."""
    described = _common(of) | {
        "permission_level": "CAN_MANAGE",
        "route_optimized": False,
    }
    if of.active is not None:
        described["config"] = _config(of.active)
    if of.pending is not None:
        described["pending_config"] = _config(of.pending) | {"start_time": of.pending.created}
    return described


def summary(of: Endpoint) -> dict[str, Any]:
    """ServingEndpoint, as a listing has it."""
    entities = _config(of.active)["served_entities"] if of.active is not None else []
    return _common(of) | {
        "config": {"served_entities": [{key: entity[key] for key in ("name", "entity_name", "entity_version")} for entity in entities]}
    }


def readiness(of: Endpoint) -> str:
    """EndpointStateReady."""
    return "READY" if of.ready else "NOT_READY"


def _common(of: Endpoint) -> dict[str, Any]:
    return {
        "name": of.name,
        "id": of.name,
        "creator": CREATOR,
        "creation_timestamp": of.facts["creation_timestamp"],
        "last_updated_timestamp": of.facts["last_updated_timestamp"],
        "description": of.facts["description"],
        "tags": of.facts["tags"],
        "state": {"ready": readiness(of), "config_update": of.update_state},
    }


def _config(deployment: Deployment) -> dict[str, Any]:
    entity = deployment.config.entity
    name = entity.served_name
    return {
        "config_version": deployment.version,
        "served_entities": [
            {
                "name": name,
                "entity_name": entity.entity_name,
                "entity_version": entity.entity_version,
                "workload_size": entity.workload_size,
                "workload_type": entity.workload_type,
                "scale_to_zero_enabled": entity.scale_to_zero_enabled,
                "creator": CREATOR,
                "creation_timestamp": deployment.created,
                "state": {"deployment": deployment.state, "deployment_state_message": deployment.message},
            }
        ],
        "traffic_config": {"routes": [{"served_entity_name": name, "served_model_name": name, "traffic_percentage": 100}]},
    }
