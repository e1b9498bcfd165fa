"""Writes what the scored photos of each claim say together. A part of the stage score."""

import json

import pyarrow as pa
import pyarrow.compute as pc

from car_damage.data.answers import claims, predictions
from car_damage.data.answers.claims import CLAIMS
from car_damage.data.photos import ledger
from car_damage.pipeline import ScoreRequest
from car_damage.ports import Platform


def write(request: ScoreRequest, source: str, version: int, photos: pa.Table, of: pa.Table, platform: Platform) -> pa.Table:  # noqa: PLR0917
    """Bring the table of claims up to date with the predictions of a model version.

    Args:
        request: of the stage.
        source: folder or table.
        version: of the model.
        photos: the columns `FILE` of all photos of the source.
        of: the columns `LINK` of the source.
        platform: has both tables.

    Returns:
        The columns claim and `CONTENT`, a row for each claim of the source.
    """
    settings, tables = platform.settings, platform.tables
    columns = [*predictions.FILE, "model_version", "label", *predictions.ADDED]
    known, _ = tables.read(settings.tables.predictions, columns, optional=predictions.ADDED)
    now = claims.claims(of, _possible(predictions.answered(photos, known, version)), settings.labels.classes)
    before, _ = tables.read(settings.tables.claims, CLAIMS.names)
    of_source = (pc.field("source") == source) & (pc.field("model_version") == version)
    rows = claims.changed(now, ledger.conform(before, CLAIMS, CLAIMS.names).filter(of_source))
    same = {"source": source, "model_version": version, "flow_run": request.flow_run, "scored": platform.clock.now()}
    for name, value in same.items():
        rows = rows.append_column(name, pa.repeat(pa.scalar(value, CLAIMS.field(name).type), rows.num_rows))
    if rows.num_rows:
        tables.merge(settings.tables.claims, rows.select(CLAIMS.names).cast(CLAIMS), claims.KEY)
    return now


def _possible(answers: pa.Table) -> pa.Table:
    """Path and possible: see `car_damage.data.answers.claims.claims`."""
    columns = (answers[name].to_pylist() for name in ("label", "classes", "review"))
    possible = [claims.possible(label, json.loads(classes or "[]"), review) for label, classes, review in zip(*columns, strict=True)]
    return pa.table({"path": answers["path"], "possible": pa.array(possible, pa.list_(pa.string()))})
