"""JSON Schemas of what is asked about photos, and of every answer: the part of car_damage.server.api.openapi that is data."""

from collections.abc import Mapping
from typing import Any


def ref(name: str) -> dict[str, Any]:
    """A reference to one of the schemas."""
    return {"$ref": f"#/components/schemas/{name}"}


def _object(required: Mapping[str, Any], optional: Mapping[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return {"type": "object", "required": [*required], "properties": {**required, **(optional or {})}, **more}


def _array(items: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "array", "items": items, **more}


_TEXT = {"type": "string"}
_MILLISECONDS = {"type": "integer", "description": "Milliseconds since 1970."}
_SHARE = {"type": "number", "minimum": 0, "maximum": 1}
_IMAGE = {"type": "string", "contentEncoding": "base64", "description": "A photo's file."}
_MOST = 256
"""Photos that a model takes in one request."""
_READY = {"enum": ["READY", "NOT_READY"]}

_ENTITY = _object(
    {
        "name": _TEXT,
        "entity_name": _TEXT,
        "entity_version": _TEXT,
        "workload_size": _TEXT,
        "workload_type": _TEXT,
        "scale_to_zero_enabled": {"type": "boolean"},
        "creator": _TEXT,
        "creation_timestamp": _MILLISECONDS,
        "state": _object(
            {
                "deployment": {"enum": ["DEPLOYMENT_CREATING", "DEPLOYMENT_READY", "DEPLOYMENT_RECOVERING", "DEPLOYMENT_FAILED"]},
                "deployment_state_message": {"type": "string", "description": "'Scaled to zero' while the model is asleep."},
            }
        ),
    }
)
_CONFIG = _object(
    {
        "config_version": {"type": "integer"},
        "served_entities": _array(_ENTITY, minItems=1, maxItems=1),
        "traffic_config": _object({"routes": _array(ref("Route"))}),
    },
    {"start_time": _MILLISECONDS},
)
_COMMON: Mapping[str, Any] = {
    "name": _TEXT,
    "id": _TEXT,
    "creator": _TEXT,
    "creation_timestamp": _MILLISECONDS,
    "last_updated_timestamp": _MILLISECONDS,
    "description": _TEXT,
    "tags": _array(ref("Tag")),
    "state": _object({"ready": _READY, "config_update": {"enum": ["NOT_UPDATING", "IN_PROGRESS", "UPDATE_FAILED"]}}),
}
_SHORT_ENTITY = _object({"name": _TEXT, "entity_name": _TEXT, "entity_version": _TEXT})

ANSWERS: Mapping[str, Any] = {
    "Photos": _object(
        {},
        {
            "dataframe_records": _array(_object({"image": _IMAGE}), minItems=1, maxItems=_MOST),
            "dataframe_split": _object(
                {
                    "columns": _array(_TEXT, contains={"const": "image"}),
                    "data": _array(_array(_IMAGE), minItems=1, maxItems=_MOST),
                }
            ),
            "inputs": {"description": "As MLflow's scoring server takes it: the column, or a list of records."},
        },
        oneOf=[{"required": [name]} for name in ("dataframe_records", "dataframe_split", "inputs")],
        description="Photos in exactly one of three forms, with one column: image.",
        example={"dataframe_records": [{"image": "/9j/4AAQSkZJRg=="}]},
    ),
    "Predictions": _object({"predictions": _array(ref("Prediction"), description="One a photo, in the order of the request.")}),
    "Prediction": _object(
        {
            "label": _TEXT,
            "probability": _SHARE,
            "sha256": {"type": "string", "pattern": "^[0-9a-f]{64}$", "description": "Of the photo's file."},
            "width": {"type": "integer", "description": "Pixels, as the photo is looked at."},
            "height": {"type": "integer", "description": "Pixels, as the photo is looked at."},
            "brightness": _SHARE,
        },
        patternProperties={"^probability_": _SHARE | {"description": "Of one class."}},
        additionalProperties=False,
    ),
    "Endpoint": _object(
        {**_COMMON, "permission_level": _TEXT, "route_optimized": {"type": "boolean"}},
        {"config": _CONFIG, "pending_config": _CONFIG},
        additionalProperties=False,
    ),
    "Endpoints": _object({"endpoints": _array(_object({**_COMMON, "config": _object({"served_entities": _array(_SHORT_ENTITY)})}))}),
    "Logs": _object({"logs": _TEXT}),
    "Health": _object({"status": {"const": "ok"}, "endpoints": {"type": "object", "additionalProperties": _READY}}),
    "Discovery": _object({"oidc_endpoint": {"const": ""}}),
    "Nothing": {"type": "object", "maxProperties": 0},
    "Error": _object({"error_code": _TEXT, "message": _TEXT}, additionalProperties=False),
}
