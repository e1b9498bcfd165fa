"""The configuration of an endpoint: the version that it serves, its tags, and the table that stores its requests."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from car_damage.ports import RAISED_COVERAGE, served_name
from car_damage.settings import Settings

if TYPE_CHECKING:
    from databricks.sdk.service.serving import AiGatewayConfig, AiGatewayInferenceTableConfig, EndpointCoreConfigInput, EndpointTag


def core(settings: Settings, version: int, coverage: float | None = None) -> "EndpointCoreConfigInput":
    """One version, on CPU, which gets all traffic. The config is always complete, because an update replaces all of it."""
    from databricks.sdk.service.serving import EndpointCoreConfigInput, Route, ServedEntityInput, ServingModelWorkloadType, TrafficConfig

    model = settings.tracking.model
    entity = ServedEntityInput(
        name=served_name(model, version),
        entity_name=model,
        entity_version=str(version),
        workload_size=settings.serving.workload_size,
        workload_type=ServingModelWorkloadType.CPU,
        scale_to_zero_enabled=settings.serving.scale_to_zero,
        environment_vars=None if coverage is None else {RAISED_COVERAGE: f"{coverage:g}"},
    )
    traffic = TrafficConfig(routes=[Route(served_entity_name=entity.name, traffic_percentage=100)])
    return EndpointCoreConfigInput(name=settings.serving.endpoint, served_entities=[entity], traffic_config=traffic)


def missing_tags(settings: Settings, there: Sequence[Any]) -> "list[EndpointTag]":
    """Tags of the settings that are missing from the endpoint or have a different value."""
    from databricks.sdk.service.serving import EndpointTag

    has = {tag.key: tag.value for tag in there}
    return [EndpointTag(key, value) for key, value in settings.serving.tags.items() if has.get(key) != value]


def gateway(settings: Settings) -> "AiGatewayConfig | None":
    """The AI Gateway of an endpoint to be created; None if the settings name no inference table."""
    from databricks.sdk.service.serving import AiGatewayConfig

    table = _table(settings)
    return None if table is None else AiGatewayConfig(inference_table_config=table)


def gateways(settings: Settings, there: Any) -> list[dict[str, Any]]:
    """The updates that bring an endpoint's `ai_gateway` to the settings, in order; none if the settings name no table.

    Its other parts belong to others and are kept: an update replaces everything.
    """
    wanted = _table(settings)
    table = there and there.inference_table_config
    if wanted is None or (table and table.as_dict() == wanted.as_dict()):
        return []
    kept = ("fallback_config", "guardrails", "rate_limits", "usage_tracking_config")
    others = {name: getattr(there, name) for name in kept if there and getattr(there, name) is not None}
    updates = [others | {"inference_table_config": wanted}]
    if table and table.enabled:  # a table can be renamed only while it is disabled
        off = type(table).from_dict(table.as_dict() | {"enabled": False})
        updates.insert(0, others | {"inference_table_config": off})
    return updates


def _table(settings: Settings) -> "AiGatewayInferenceTableConfig | None":
    from databricks.sdk.service.serving import AiGatewayInferenceTableConfig

    if settings.serving.inference_table is None:
        return None
    catalog, schema, prefix = settings.serving.inference_table.split(".")
    return AiGatewayInferenceTableConfig(catalog_name=catalog, schema_name=schema, table_name_prefix=prefix, enabled=True)
