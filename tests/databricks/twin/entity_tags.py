"""Tags of schemas, tables and volumes in Unity Catalog.

Source: databricks-sdk, EntityTagAssignmentsAPI. It has no registered models, and no caller here tags catalogs or columns.
"""

from pathlib import Path
from typing import Any
from urllib.parse import unquote

from tests.databricks.twin.catalog import ROOT, SEES, CatalogApi
from tests.databricks.twin.core import Refused

TAGS = f"{ROOT}/entity-tag-assignments"
KINDS = {"schemas": "schema", "tables": "table", "volumes": "volume"}


class EntityTagsApi(CatalogApi):
    """Assignments of tags."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.entity_tags: dict[tuple[str, str], dict[str, str]] = {}
        """(kind, full name) -> key -> value of a tag."""

    def _of_tags(self, method: str, path: str, query: dict[str, str], body: Any) -> Any:
        """The answer, or None for a path of another API."""
        if (method, path) == ("POST", TAGS):
            return self._tag_entity(body)
        if method == "GET" and path.startswith(f"{TAGS}/") and path.endswith("/tags"):
            return self._tags_of(*unquote(path.removeprefix(f"{TAGS}/").removesuffix("/tags")).split("/"), query)
        return None

    def _tag_entity(self, body: Any) -> Any:
        needed = {"entity_name", "entity_type", "tag_key"}
        self._only(body, needed | {"tag_value"}, needed)
        kind, name, key = self._tagged(body["entity_type"]), body["entity_name"], body["tag_key"]
        self._exists(kind, name)
        self.need(kind, name, "APPLY_TAG")
        if not key or set(key) & set(".,-=/:"):
            raise Refused(400, "INVALID_PARAMETER_VALUE", f"'{key}' is no key of a tag")
        tags = self.entity_tags.setdefault((kind, name), {})
        if key in tags:
            raise Refused(409, "ALREADY_EXISTS", f"Tag assignment {key} already exists")
        tags[key] = body.get("tag_value", "")
        return body

    def _tags_of(self, entity: str, name: str, query: dict[str, str]) -> Any:
        self._only(query, {"max_results", "page_token"})
        kind = self._tagged(entity)
        self._exists(kind, name)
        self.need(kind, name, SEES[kind], administrators=True)
        tags = self.entity_tags.get((kind, name), {})
        return {"tag_assignments": [{"entity_type": entity, "entity_name": name, "tag_key": key, "tag_value": tags[key]} for key in tags]}

    @staticmethod
    def _tagged(entity: str) -> str:
        if entity not in KINDS:
            raise Refused(400, "INVALID_PARAMETER_VALUE", f"Entity type {entity} is not supported.")
        return KINDS[entity]
