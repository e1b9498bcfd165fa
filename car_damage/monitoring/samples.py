"""What is compared of photos: how they look, what was answered to them, and what they truly are.

A sample is made from the baseline that a training has written, or from rows of the request log. Pure: Arrow tables in, arrays out.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from car_damage.data.answers.inference_log import once
from car_damage.model.answering import Answering, needs_a_person
from car_damage.photo.columns import probability_column
from car_damage.photo.signals import Signals

Numbers = npt.NDArray[np.float64]
UNKNOWN = -1
"""The class number of a photo without a label."""

BASELINE = pa.schema(
    [
        pa.field("sha256", pa.string()),
        pa.field("split", pa.string()),
        pa.field("label", pa.string()),
        pa.field("width", pa.int64()),
        pa.field("height", pa.int64()),
        *(pa.field(name, pa.float64()) for name in Signals._fields),
        pa.field("review", pa.bool_()),
    ]
)
"""The columns of a baseline, one row for each photo. A column for each class follows, as `probability_column` names it. These and review
are null for photos that the model has learned from, because it is surer of them than of others. brightness, sharpness and warmth are null
for those of them that the training did not decode."""


@dataclass(frozen=True)
class Sample:
    """Some photos. Of those that were answered, n, there are more facts."""

    inputs: Mapping[str, Numbers]
    """brightness, sharpness, warmth, size and aspect -> (m,) of the photos of which it is known: size is the binary logarithm of the
    number of pixels, and aspect that of width / height."""
    probabilities: Numbers
    """(n, classes), calibrated."""
    labels: npt.NDArray[np.int64]
    """(n,) true class numbers; UNKNOWN where nobody has said."""
    review: npt.NDArray[np.bool_]
    """(n,) whether the answer asks for a person with the coverage of the model's own."""

    @property
    def predicted(self) -> npt.NDArray[np.int64]:
        """(n,) the answered class."""
        return np.asarray(self.probabilities.argmax(axis=1), np.int64)

    @property
    def known(self) -> npt.NDArray[np.bool_]:
        """(n,) which photos have a label."""
        return np.asarray(self.labels != UNKNOWN)


def classes_of(baseline: pa.Table) -> tuple[str, ...]:
    """The classes of the model, in the order of its columns."""
    start = probability_column("")
    return tuple(name.removeprefix(start) for name in baseline.column_names if name.startswith(start))


def of_baseline(baseline: pa.Table) -> Sample:
    """The sample of a baseline: its inputs are those of all photos, its answers those of photos that the model has not learned from."""
    classes = classes_of(baseline)
    held_out = baseline.filter(pc.is_valid(baseline["review"]))
    columns = [_numbers(held_out[probability_column(name)]) for name in classes]
    probabilities = np.column_stack(columns) if columns else np.zeros((0, 0))
    return Sample(_inputs(baseline), probabilities, _labels(held_out["label"], classes), np.asarray(held_out["review"], bool))


def of_log(rows: pa.Table, classes: Sequence[str], labels: Mapping[str, str], answering: Answering | None = None) -> Sample:
    """The sample of a window.

    Args:
        rows: of the request log, all of one version. Of the answers to one photo only the first one counts: a photo that is sent again, as
            the service's own test photo is, says nothing more.
        classes: of the version.
        labels: sha256 -> what the photo truly is, as far as anybody has said.
        answering: of the version. By it follows which answers ask for a person: the log has what they did with the coverage to which the
            endpoint had raised its own, or that a request had asked for. None: as the log says.
    """
    rows = once(pa.concat_tables([rows.filter(has(rows["probabilities"])) for has in (pc.is_valid, pc.is_null)]), "sha256")
    answered = rows.filter(pc.is_valid(rows["probabilities"]))
    said = [json.loads(text) for text in answered["probabilities"].to_pylist()]
    probabilities = np.array([[float(of.get(name, 0.0)) for name in classes] for of in said]).reshape(len(said), len(classes))
    truth = pa.chunked_array([pa.array([labels.get(sha256) for sha256 in answered["sha256"].to_pylist()], pa.string())])
    if answering is None:
        review = np.asarray(pc.fill_null(answered["review"], False), bool)
    else:
        review = needs_a_person(answering.sets(probabilities), probabilities)
    return Sample(_inputs(rows), probabilities, _labels(truth, classes), review)


def of_windows(
    windows: Sequence[pa.Table], classes: Sequence[str], labels: Mapping[str, str], answering: Answering | None = None
) -> list[Sample]:
    """The samples of windows, oldest first, each as by `of_log`. A photo that several have counts in the latest of them only."""
    found, later = list[Sample](), pa.array([], pa.string())
    for rows in reversed(windows):
        found.append(of_log(rows.filter(pc.invert(pc.is_in(rows["sha256"], value_set=later))), classes, labels, answering))
        later = pc.unique(pa.concat_arrays([later, *rows["sha256"].drop_null().chunks]))
    return found[::-1]


def together(samples: Sequence[Sample]) -> Sample:
    """The photos of all of these, of which there is one at least."""
    inputs = {name: np.concatenate([one.inputs[name] for one in samples]) for name in samples[0].inputs}
    return Sample(inputs, *(np.concatenate([getattr(one, name) for one in samples]) for name in ("probabilities", "labels", "review")))


def _inputs(rows: pa.Table) -> dict[str, Numbers]:
    width, height = _numbers(rows["width"]), _numbers(rows["height"])
    with np.errstate(divide="ignore", invalid="ignore"):
        found = {
            **{name: _numbers(rows[name]) for name in Signals._fields},
            "size": np.log2(width * height),
            "aspect": np.log2(width / height),
        }
    return {name: values[np.isfinite(values)] for name, values in found.items()}


def _numbers(column: pa.ChunkedArray) -> Numbers:
    return np.asarray(pc.fill_null(column.cast(pa.float64()), np.nan), np.float64)


def _labels(column: pa.ChunkedArray, classes: Sequence[str]) -> npt.NDArray[np.int64]:
    return np.asarray(pc.fill_null(pc.index_in(column, value_set=pa.array(classes, pa.string())), UNKNOWN), np.int64)
