"""The photos in the body of a request to an endpoint, in each form that MLflow's scoring takes."""

import json
from typing import Any

from car_damage.photo.encoded import decoded


def photos(body: str | bytes) -> list[bytes | None]:
    """The file of each photo; None for one that is not base64.

    Raises:
        ValueError: the body is not JSON.
        KeyError, TypeError, AttributeError: it has none of the forms.
    """
    return [_photo(image) for image in _images(json.loads(body))]


def _images(body: Any) -> list[Any]:
    if "dataframe_records" in body:
        return [row["image"] for row in body["dataframe_records"]]
    if "dataframe_split" in body:
        at = body["dataframe_split"]["columns"].index("image")
        return [row[at] for row in body["dataframe_split"]["data"]]
    inputs = body["inputs"]
    return list(inputs["image"]) if isinstance(inputs, dict) else [row["image"] if isinstance(row, dict) else row for row in inputs]


def _photo(image: Any) -> bytes | None:
    try:
        return decoded(image)
    except (ValueError, AttributeError, TypeError):
        return None
