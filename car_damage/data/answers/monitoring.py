"""The table of monitoring: what each window of the request log said of the version that answered. Pure: a schema."""

import pyarrow as pa

from car_damage.data import described
from car_damage.data.photos.ledger import INSTANT


def _number(name: str, comment: str) -> pa.Field:
    return described.column(name, pa.float64(), comment)


MONITORING = described.table(
    "What each window of the request log says of the version that answered, compared with the photos of its training.",
    [
        described.column("endpoint", pa.string(), "Name of the endpoint.", nullable=False),
        described.column("model_version", pa.int64(), "Version of the registered model that answered.", nullable=False),
        described.column("begins", INSTANT, "First moment of the window.", nullable=False),
        described.column("ends", INSTANT, "First moment after the window."),
        described.column("rows", pa.int64(), "Photos of the request log in the window."),
        described.column("answered", pa.int64(), "Photos of these that got a class."),
        _number("review_share", "Share of the answers that asked for a person."),
        _number("refused_share", "Share of the photos that the model could not use."),
        _number("error_share", "Share of the requests with an HTTP status from 500."),
        _number("throttled_share", "Share of the requests with the HTTP status 429."),
        _number("milliseconds_p50", "Median time of an answered request."),
        _number("milliseconds_p95", "95 percent quantile of the time of an answered request."),
        _number("milliseconds_p99", "99 percent quantile of the time of an answered request."),
        _number("estimated_accuracy", "Accuracy as the probabilities say; no label is needed."),
        _number("estimated_macro_f1", "Macro-F1 as the probabilities say; no label is needed."),
        described.column("labelled", pa.int64(), "Photos of the window whose true class is known by now."),
        _number("accuracy", "Accuracy on the labelled photos."),
        _number("accuracy_low", "Lower end of its 95 percent interval."),
        _number("accuracy_high", "Upper end of its 95 percent interval."),
        _number("macro_f1", "Macro-F1 on the labelled photos."),
        _number("macro_f1_low", "Lower end of its 95 percent interval."),
        _number("macro_f1_high", "Upper end of its 95 percent interval."),
        described.column("findings", pa.string(), "Each signal with value, limit and p, as a JSON array."),
        described.column("drifts", pa.string(), "Each compared quantity with its distances, as a JSON array."),
        described.column("speaks", pa.string(), "Names of the signals that are unusual in this window, as a JSON array."),
        described.column("alarm", pa.string(), "Names of those that were unusual often enough, as a JSON array."),
        described.column("said", pa.string(), "The window in one sentence."),
        described.column("baseline", pa.bool_(), "Whether the version has a baseline to compare with."),
        described.column("flow_run", pa.string(), "Prefect flow run that looked at the window."),
    ],
)
KEY = ("endpoint", "model_version", "begins")
TRUTH = ("labelled", "accuracy", "accuracy_low", "accuracy_high", "macro_f1", "macro_f1_low", "macro_f1_high")
"""The columns that change when labels arrive later."""
