"""Unity Catalog: catalogs, schemas, volumes.

Source: https://docs.databricks.com/api/workspace/schemas
"""

from pathlib import Path
from typing import Any
from urllib.parse import unquote

from tests.databricks.twin.core import Core, Handle, Refused


class CatalogApi(Core):
    """Securables."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.catalog = "insurance_uc"
        self.schemas: set[str] = set()
        """Those that were made by the API; others are where a volume is."""

    def _of_catalog(self) -> dict[tuple[str, str], Handle]:
        return {
            ("POST", "/api/2.1/unity-catalog/schemas"): self._create_schema,
            ("POST", "/api/2.1/unity-catalog/volumes"): self._create_volume,
        }

    def _named(self, method: str, path: str, query: dict[str, str], body: Any) -> Any:
        """A securable by its name, or None: it is none of these."""
        for kind in ("catalog", "schema", "volume"):
            start = f"/api/2.1/unity-catalog/{kind}s/"
            if method == "GET" and path.startswith(start):
                return self._securable(kind, unquote(path.removeprefix(start)), query)
        return None

    def _securable(self, kind: str, name: str, query: dict[str, str]) -> Any:
        self._only(query, {"include_browse"})
        parts = name.split(".")
        there = {"catalog": name == self.catalog, "schema": name in self.schemas}
        if not self.storage.joinpath(*parts).is_dir() and not there.get(kind):
            raise Refused(404, f"{kind.upper()}_DOES_NOT_EXIST", f"{kind.title()} '{name}' does not exist.")
        return {"name": parts[-1], "full_name": name, "catalog_name": parts[0]}

    def _create_schema(self, query: dict[str, str], body: Any) -> Any:
        self._only(body, {"name", "catalog_name", "comment"}, {"name", "catalog_name"})
        if body["catalog_name"] != self.catalog:
            raise Refused(404, "CATALOG_DOES_NOT_EXIST", f"Catalog '{body['catalog_name']}' does not exist.")
        name = f"{body['catalog_name']}.{body['name']}"
        if name in self.schemas:
            raise Refused(400, "SCHEMA_ALREADY_EXISTS", f"Schema '{name}' already exists")
        self.schemas.add(name)
        return {"name": body["name"], "full_name": name, "catalog_name": body["catalog_name"]}

    def _create_volume(self, query: dict[str, str], body: Any) -> Any:
        needed = {"name", "catalog_name", "schema_name", "volume_type"}
        self._only(body, needed | {"comment", "storage_location"}, needed)
        schema = f"{body['catalog_name']}.{body['schema_name']}"
        if schema not in self.schemas:
            raise Refused(404, "SCHEMA_DOES_NOT_EXIST", f"Schema '{schema}' does not exist.")
        folder = self.storage / body["catalog_name"] / body["schema_name"] / body["name"]
        if folder.exists():
            raise Refused(400, "VOLUME_ALREADY_EXISTS", f"Volume '{body['name']}' already exists")
        folder.mkdir(parents=True)
        return {"name": body["name"], "full_name": f"{schema}.{body['name']}", "volume_type": body["volume_type"]}
