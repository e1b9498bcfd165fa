"""The table of the request log: a row for each photo of each request to an endpoint, never the photo itself.

Pure: a schema.
"""

import pyarrow as pa

from car_damage.data import described
from car_damage.data.ledger import INSTANT

INFERENCE_LOG = described.table(
    "The requests to the endpoint, one row for each photo. The photos themselves are not kept here.",
    [
        described.column("request_id", pa.string(), "Id of the request.", nullable=False),
        described.column("answered", INSTANT, "Time of the answer.", nullable=False),
        described.column("endpoint", pa.string(), "Name of the endpoint."),
        described.column("model_version", pa.int64(), "Version of the registered model that answered."),
        described.column("sha256", pa.string(), "SHA-256 of the photo's bytes, in hexadecimal."),
        described.column("width", pa.int64(), "Pixels of the upright photo."),
        described.column("height", pa.int64(), "Pixels of the upright photo."),
        described.column("brightness", pa.float64(), "Mean luma of what the network sees, from 0 (black) to 1 (white)."),
        described.column("sharpness", pa.float64(), "Variance of the Laplacian of what the network sees; 0 without edges."),
        described.column("label", pa.string(), "The most probable class."),
        described.column("probability", pa.float64(), "Probability of the label."),
        described.column("probabilities", pa.string(), "Probabilities of all classes, as a JSON object."),
        described.column("classes", pa.string(), "Classes that cannot be excluded, as a JSON array; null if not told."),
        described.column("review", pa.bool_(), "Whether a person must look; null if the version does not say."),
        described.column("refused", pa.string(), "Why the model could not use the photo; null if it answered."),
        described.column("milliseconds", pa.float64(), "Time that the answer took."),
        described.column("status", pa.int64(), "HTTP status of the response; not 200: nothing was answered."),
    ],
)
