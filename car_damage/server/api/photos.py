"""Bodies of a query, for /openapi.json alone: the server passes them on unread, and the model reads and writes them."""

from typing import Annotated, Any

from pydantic import ConfigDict, Field, with_config
from typing_extensions import TypedDict

_MOST_PHOTOS = 256

Image = Annotated[str, Field(description="A photo's file.", json_schema_extra={"contentEncoding": "base64"})]
Share = Annotated[float, Field(ge=0, le=1)]
Pixels = Annotated[int, Field(description="Pixels of the upright photo.")]


class Photo(TypedDict):
    """One photo."""

    image: Image


class PhotoTable(TypedDict):
    """Photos as a table with one column."""

    columns: Annotated[list[str], Field(json_schema_extra={"contains": {"const": "image"}})]
    data: Annotated[list[list[Image]], Field(min_length=1, max_length=_MOST_PHOTOS)]


@with_config(ConfigDict(json_schema_extra={"example": {"dataframe_records": [{"image": "/9j/4AAQSkZJRg=="}]}}))
class PhotoRecords(TypedDict):
    """Photos as a list of records."""

    dataframe_records: Annotated[list[Photo], Field(min_length=1, max_length=_MOST_PHOTOS)]


class PhotoSplit(TypedDict):
    """Photos as a table."""

    dataframe_split: PhotoTable


class PhotoInputs(TypedDict):
    """Photos as MLflow's scoring server takes them: the column `image`, or a list of records."""

    inputs: Any


@with_config(
    ConfigDict(
        extra="forbid",
        json_schema_extra={
            "patternProperties": {"^probability_": {"type": "number", "minimum": 0, "maximum": 1, "description": "Of one class."}}
        },
    )
)
class Prediction(TypedDict):
    """What the model predicts for one photo."""

    label: str
    probability: Share
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$", description="SHA-256 of the photo's file.")]
    width: Pixels
    height: Pixels
    brightness: Share


class Predictions(TypedDict):
    """One prediction for each photo, in the order of the request."""

    predictions: list[Prediction]
