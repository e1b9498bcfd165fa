"""The silver table as MLflow's datasets of a training run, from which the lineage of the model's versions follows in Unity Catalog."""

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from car_damage.adapters.databricks import workspace
from car_damage.ports import Dataset
from car_damage.settings import Settings
from car_damage.showing import if_possible

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput

_DIGEST = 16
"""Characters of a dataset's digest; MLflow takes 36."""
_TYPES: Mapping[str, str] = MappingProxyType({"string": "string", "int64": "long"})
"""Arrow's names of the silver table's types -> MLflow's."""


def inputs(dataset: Dataset, settings: Settings) -> "list[DatasetInput]":
    """A dataset for each split, with the split as its context: MLflow takes a name and digest once a run, and one context each."""
    from mlflow.entities import Dataset as Logged
    from mlflow.entities import DatasetInput, InputTag

    source, schema, digest = _source(dataset, settings), _schema(dataset), dataset.fingerprint[:_DIGEST]
    return [
        DatasetInput(
            Logged(f"silver-{split}", digest, "delta_table", source, schema, profile=json.dumps({"num_rows": photos})),
            [InputTag("mlflow.data.context", split)],
        )
        for split, photos in dataset.photos.items()
    ]


def _source(dataset: Dataset, settings: Settings) -> str:
    """As MLflow's own DeltaDatasetSource would write it; that class would start Spark for a table's name."""
    where = dataset.table
    if "/" in where or "\\" in where:
        return json.dumps({"path": where, "delta_table_version": dataset.version})
    return json.dumps({"delta_table_name": where, "delta_table_version": dataset.version, **_in_unity_catalog(where, settings)})


def _in_unity_catalog(table: str, settings: Settings) -> dict[str, object]:
    """What MLflow needs to name the table in the lineage of a version; nothing for a table of another catalog."""
    if settings.registry_uri.startswith("databricks-uc"):
        with if_possible(f"the table {table}, for the model's lineage"):
            return {"is_databricks_uc_table": True, "delta_table_id": workspace.client().tables.get(table).table_id}
    return {}


def _schema(dataset: Dataset) -> str:
    """As MLflow's own PandasDataset would write it."""
    from mlflow.types import ColSpec, Schema

    columns = Schema([ColSpec(_TYPES[str(field.type)], field.name, required=not field.nullable) for field in dataset.schema])
    return json.dumps({"mlflow_colspec": columns.to_dict()})
