"""Endpoints as the serving REST API describes them."""

from car_damage.server.api.responses import (
    EndpointConfig,
    EndpointConfigs,
    EndpointConfigSummary,
    EndpointDetails,
    EndpointFacts,
    EndpointSummary,
    Readiness,
)
from car_damage.server.hosting.deployment import Deployment
from car_damage.server.hosting.endpoint import Endpoint

CREATOR = "local"


def details(endpoint: Endpoint) -> EndpointDetails:
    """An endpoint with its configs."""
    return {**_facts(endpoint), **_configs(endpoint), "permission_level": "CAN_MANAGE", "route_optimized": False}


def summary(endpoint: Endpoint) -> EndpointSummary:
    """An endpoint in a list."""
    return {**_facts(endpoint), "config": _names(endpoint.active)}


def readiness(endpoint: Endpoint) -> Readiness:
    """Whether an endpoint answers, in the API's word."""
    return "READY" if endpoint.ready else "NOT_READY"


def _facts(endpoint: Endpoint) -> EndpointFacts:
    return {
        "name": endpoint.name,
        "id": endpoint.name,
        "creator": CREATOR,
        "creation_timestamp": endpoint.facts["creation_timestamp"],
        "last_updated_timestamp": endpoint.facts["last_updated_timestamp"],
        "description": endpoint.facts["description"],
        "tags": endpoint.facts["tags"],
        "state": {"ready": readiness(endpoint), "config_update": endpoint.update_state},
    }


def _configs(endpoint: Endpoint) -> EndpointConfigs:
    configs: EndpointConfigs = {}
    if endpoint.active is not None:
        configs["config"] = _config(endpoint.active)
    if endpoint.pending is not None:
        configs["pending_config"] = {**_config(endpoint.pending), "start_time": endpoint.pending.created}
    return configs


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
                "creator": CREATOR,
                "creation_timestamp": deployment.created,
                "state": {"deployment": deployment.state, "deployment_state_message": deployment.message},
            }
        ],
        "traffic_config": {"routes": [{"served_entity_name": name, "served_model_name": name, "traffic_percentage": 100}]},
    }


def _names(deployment: Deployment | None) -> EndpointConfigSummary:
    if deployment is None:
        return {"served_entities": []}
    entity = deployment.config.entity
    return {"served_entities": [{"name": entity.served_name, "entity_name": entity.entity_name, "entity_version": entity.entity_version}]}
