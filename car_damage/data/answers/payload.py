"""An inference table, in which Databricks logs the requests to an endpoint as they were sent: its rows as requests of the request log.

The columns are those of an endpoint with AI Gateway: https://docs.databricks.com/aws/en/ai-gateway/inference-tables-serving-endpoints.
It names a served entity, whose version a table of the account has.

Pure: rows in, requests out.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from car_damage.data.answers.inference_log import Request

COLUMNS = ("databricks_request_id", "request_time", "status_code", "execution_duration_ms", "response", "served_entity_id")
"""What is read of each request. Its body, `request`, has the photos."""
SERVED_ENTITIES = "system.serving.served_entities"
ENTITY = ("served_entity_id", "entity_name", "entity_version")


def request(row: Mapping[str, Any], endpoint: str, versions: Mapping[str, int | None], asked: str | None = None) -> Request:
    """The request of a row.

    Args:
        row: the columns `COLUMNS`; the first two are not null.
        endpoint: its name.
        versions: served entity -> version.
        asked: the body of the request, if it was refused; Databricks logs none that is too large.
    """
    milliseconds = row["execution_duration_ms"]
    return Request(
        request_id=row["databricks_request_id"],
        answered=row["request_time"] + timedelta(milliseconds=milliseconds or 0),
        endpoint=endpoint,
        model_version=versions.get(row["served_entity_id"]),
        status=row["status_code"],
        milliseconds=milliseconds,
        response=row["response"],
        asked=asked,
    )


def versions(entities: Sequence[Mapping[str, Any]], model: str) -> dict[str, int | None]:
    """Served entity -> version of the registered model; None for an entity of something else. An entity may have several rows.

    Args:
        entities: the columns `ENTITY`.
        model: its name.
    """
    ours = [row for row in entities if row["entity_name"] == model and str(row["entity_version"] or "").isdecimal()]
    found: dict[str, int | None] = {row["served_entity_id"]: None for row in entities}
    return found | {row["served_entity_id"]: int(row["entity_version"]) for row in ours}
