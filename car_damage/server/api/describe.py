"""Endpoints as the serving REST API describes them."""

from typing import Any

from car_damage.server.api.responses import EndpointConfig, EndpointDetails, Readiness
from car_damage.server.hosting.deployment import Deployment
from car_damage.server.hosting.endpoint import Endpoint

CREATOR = "local"


def details(endpoint: Endpoint) -> EndpointDetails:
    """An endpoint with its configs."""
    described: EndpointDetails = {
        "name": endpoint.name,
        "id": endpoint.name,
        "creator": CREATOR,
        "creation_timestamp": endpoint.facts["creation_timestamp"],
        "last_updated_timestamp": endpoint.facts["last_updated_timestamp"],
        "description": endpoint.facts["description"],
        "tags": endpoint.facts["tags"],
        "state": {"ready": readiness(endpoint), "config_update": endpoint.update_state},
        "permission_level": "CAN_MANAGE",
        "route_optimized": False,
    }
    if endpoint.active is not None:
        described["config"] = _config(endpoint.active)
    if endpoint.pending is not None:
        described["pending_config"] = {**_config(endpoint.pending), "start_time": endpoint.pending.created}
    return described


def summary(endpoint: Endpoint) -> dict[str, Any]:
    """An endpoint in a list: FastAPI drops the fields that EndpointSummary does not have."""
    return {"config": {"served_entities": []}, **details(endpoint)}


def readiness(endpoint: Endpoint) -> Readiness:
    """Whether an endpoint is ready, as the API says it."""
    return "READY" if endpoint.ready else "NOT_READY"


def _config(deployment: Deployment) -> EndpointConfig:
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
                "environment_vars": entity.environment_vars or {},
                "creator": CREATOR,
                "creation_timestamp": deployment.created,
                "state": {"deployment": deployment.state, "deployment_state_message": deployment.message},
            }
        ],
        "traffic_config": {"routes": [{"served_entity_name": name, "served_model_name": name, "traffic_percentage": 100}]},
    }
