"""What an endpoint is asked to be: the version that it serves, its tags, and the table that keeps its requests."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from car_damage.ports import served_name
from car_damage.settings import Settings

if TYPE_CHECKING:
    from databricks.sdk.service.serving import AiGatewayConfig, AiGatewayInferenceTableConfig, EndpointCoreConfigInput, EndpointTag


def core(settings: Settings, version: int) -> "EndpointCoreConfigInput":
    """One version, on CPU, which takes all traffic. An update replaces all of it, so all of it is said each time."""
    from databricks.sdk.service.serving import EndpointCoreConfigInput, Route, ServedEntityInput, ServingModelWorkloadType, TrafficConfig

    model = settings.tracking.model
    entity = ServedEntityInput(
        name=served_name(model, version),
        entity_name=model,
        entity_version=str(version),
        workload_size=settings.serving.workload_size,
        workload_type=ServingModelWorkloadType.CPU,
        scale_to_zero_enabled=settings.serving.scale_to_zero,
    )
    traffic = TrafficConfig(routes=[Route(served_entity_name=entity.name, traffic_percentage=100)])
    return EndpointCoreConfigInput(name=settings.serving.endpoint, served_entities=[entity], traffic_config=traffic)


def missing_tags(settings: Settings, there: Sequence[Any]) -> "list[EndpointTag]":
    """Those of the settings that the endpoint has not, or with another value."""
    from databricks.sdk.service.serving import EndpointTag

    has = {tag.key: tag.value for tag in there}
    return [EndpointTag(key, value) for key, value in settings.serving.tags.items() if has.get(key) != value]


def gateway(settings: Settings) -> "AiGatewayConfig | None":
    """The AI Gateway of an endpoint that is to be created."""
    from databricks.sdk.service.serving import AiGatewayConfig

    table = _table(settings)
    return None if table is None else AiGatewayConfig(inference_table_config=table)


def gateways(settings: Settings, there: Any) -> list[dict[str, Any]]:
    """The updates of its AI Gateway that the settings ask for, in their order; none where the settings name no table.

    Args:
        settings: of this target.
        there: the endpoint's `ai_gateway`, or None. What else is in it is others' and stays: an update replaces everything.
    """
    wanted = _table(settings)
    table = there and there.inference_table_config
    if wanted is None or (table and table.as_dict() == wanted.as_dict()):
        return []
    kept = ("fallback_config", "guardrails", "rate_limits", "usage_tracking_config")
    others = {name: getattr(there, name) for name in kept if there and getattr(there, name) is not None}
    updates = [others | {"inference_table_config": wanted}]
    if table and table.enabled:  # a table gets another name only while it is switched off
        off = type(table).from_dict(table.as_dict() | {"enabled": False})
        updates.insert(0, others | {"inference_table_config": off})
    return updates


def _table(settings: Settings) -> "AiGatewayInferenceTableConfig | None":
    from databricks.sdk.service.serving import AiGatewayInferenceTableConfig

    if settings.serving.inference_table is None:
        return None
    catalog, schema, prefix = settings.serving.inference_table.split(".")
    return AiGatewayInferenceTableConfig(catalog_name=catalog, schema_name=schema, table_name_prefix=prefix, enabled=True)
