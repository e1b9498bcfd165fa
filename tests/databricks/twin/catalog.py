"""Unity Catalog: catalogs, schemas, volumes, registered models, and the grants on them.

Sources: https://docs.databricks.com/api/workspace/schemas, .../volumes, .../registeredmodels, .../grants, and the privileges that
databricks-sdk documents for each call.
"""

from pathlib import Path
from typing import Any
from urllib.parse import unquote

from tests.databricks.twin.core import Handle, Refused, folded
from tests.databricks.twin.permissions import PRINCIPALS, Permissions, denied

ROOT = "/api/2.1/unity-catalog"
KINDS = {"catalogs": "catalog", "schemas": "schema", "volumes": "volume", "models": "function", "tables": "table"}
SEES = {"catalog": "USE_CATALOG", "schema": "USE_SCHEMA", "volume": "READ_VOLUME", "function": "EXECUTE", "table": "SELECT"}
"""The privilege with which a user who does not own a securable can see it."""
_VOLUME = {"READ_VOLUME", "WRITE_VOLUME"}
_SCHEMA = {"USE_SCHEMA", "CREATE_TABLE", "CREATE_VOLUME", "CREATE_MODEL", "CREATE_FUNCTION", "SELECT", "MODIFY", "EXECUTE"} | _VOLUME
GRANTABLE = {
    "catalog": {"USE_CATALOG", "CREATE_SCHEMA"} | _SCHEMA,
    "schema": _SCHEMA,
    "volume": _VOLUME,
    "function": {"EXECUTE", "APPLY_TAG"},
}
ALWAYS = {"MANAGE", "ALL_PRIVILEGES"}
_NAMES = {"name", "catalog_name", "schema_name"}


class CatalogApi(Permissions):
    """Securables."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.schemas: set[str] = set()
        """Schemas that were created through the API. Other schemas exist because they have a folder with volumes."""
        self.tables: dict[str, str] = {}
        """Full name of a table -> its id. Spark here has no catalog, so only tests create tables."""
        self.optimised: dict[str, str] = {"value": "ENABLE", "inherited_from_type": "METASTORE", "inherited_from_name": "metastore"}
        """As databricks/cli records it of a schema: acceptance tests, bundle/direct/dresources."""

    def _of_catalog(self) -> dict[tuple[str, str], Handle]:
        return {
            ("POST", f"{ROOT}/schemas"): self._create_schema,
            ("POST", f"{ROOT}/volumes"): self._create_volume,
            ("POST", f"{ROOT}/models"): self._create_model,
        }

    def _named(self, method: str, path: str, query: dict[str, str], body: Any) -> Any:
        """The answer to a request that names a securable, or None for a path of another API."""
        if not path.startswith(f"{ROOT}/"):
            return None
        what, _, name = unquote(path.removeprefix(f"{ROOT}/")).partition("/")
        name = folded(name)
        if what in KINDS and name and "/" not in name:
            if method == "GET":
                return self._securable(KINDS[what], name, query)
            if method == "PATCH" and what not in {"catalogs", "tables"}:
                return self._change(KINDS[what], name, body)
        kind, _, name = name.partition("/")
        if what == "permissions" and kind in GRANTABLE and method == "PATCH":
            return self._grant(kind, name, body)
        if what in {"permissions", "effective-permissions"} and kind in GRANTABLE and method == "GET":
            return self._granted(kind, name, query, inherited=what != "permissions")
        return None

    def _exists(self, kind: str, name: str) -> None:
        parts = name.split(".")
        there = {
            "catalog": name == self.catalog,
            "schema": name in self.schemas,
            "function": name in self.models,
            "table": name in self.tables,
        }
        folder = kind not in {"function", "table"} and self.storage.joinpath(*parts).is_dir()
        if not folder and not there.get(kind):
            code, word = ("MODEL", "Registered Model") if kind == "function" else (kind.upper(), kind.title())
            # A caller who may not look into a schema does not learn what is missing there.
            if len(parts) > 1 and self._is(".".join(parts[:-1])):
                above = "catalog" if len(parts) == 2 else "schema"
                self.need(above, ".".join(parts[:-1]), f"USE_{above.upper()}", administrators=True)
            raise Refused(404, f"{code}_DOES_NOT_EXIST", f"{word} '{name}' does not exist.")

    def _is(self, name: str) -> bool:
        return name == self.catalog or name in self.schemas or self.storage.joinpath(*name.split(".")).is_dir()

    def _securable(self, kind: str, name: str, query: dict[str, str]) -> Any:
        self._only(query, {"include_browse", "include_aliases"} if kind == "function" else {"include_browse"})
        self._exists(kind, name)
        self.need(kind, name, SEES[kind], administrators=True)
        return self._told(kind, name)

    def _told(self, kind: str, name: str) -> dict[str, Any]:
        parts = name.split(".")
        schema = {"schema_name": parts[1]} if len(parts) > 2 else {}
        told = {"name": parts[-1], "full_name": name, "catalog_name": parts[0], "owner": self.owner(kind, name), **schema}
        if comment := self.comments.get((kind, name)):
            told["comment"] = comment
        if kind == "schema":
            told["schema_id"] = f"id-of-{name}"
        if kind == "schema" and self.optimised:
            told["effective_predictive_optimization_flag"] = dict(self.optimised)
        return told | ({"table_id": self.tables[name]} if kind == "table" else {})

    def _change(self, kind: str, name: str, body: Any) -> Any:
        """Change the owner or the comment. "If the caller is a metastore admin, only the owner field can be changed." (databricks-sdk)"""
        self._only(body, {"owner", "comment"})
        self._exists(kind, name)
        if not self.manages(kind, name) or ("comment" in body and not self.has(kind, name, "MANAGE")):
            raise denied("MANAGE", kind, name)
        if "comment" in body:
            self.comments[kind, name] = body["comment"]
            return self._told(kind, name)
        self._known(body["owner"])
        if kind == "function":
            self.models[name] = body["owner"]
        else:
            self.owners[kind, name] = body["owner"]
        return self._told(kind, name)

    def _grant(self, kind: str, name: str, body: Any) -> Any:
        self._only(body, {"changes"}, {"changes"})
        self._exists(kind, name)
        if not self.manages(kind, name):
            raise denied("MANAGE", kind, name)
        for change in body["changes"]:
            self._only(change, {"principal", "add", "remove"}, {"principal"})
            self._known(change["principal"])
            wanted = {*change.get("add", []), *change.get("remove", [])}
            if unknown := wanted - GRANTABLE[kind] - ALWAYS:
                raise Refused(400, "INVALID_PARAMETER_VALUE", f"Privilege {sorted(unknown)} is not applicable to this entity [{name}]")
            has = self.grants.setdefault((kind, name), {}).setdefault(change["principal"], set())
            has |= set(change.get("add", []))
            has -= set(change.get("remove", []))
        return self._granted(kind, name, {}, inherited=False)

    def _granted(self, kind: str, name: str, query: dict[str, str], *, inherited: bool) -> Any:
        """As with SHOW GRANTS, owners, administrators and holders of MANAGE see all grants; others see their own."""
        self._only(query, {"principal", "max_results", "page_token"})
        self._exists(kind, name)
        wanted = query.get("principal")
        if wanted is not None:
            self._known(wanted)
        if not self.manages(kind, name) and wanted != self.caller:
            raise denied("MANAGE", kind, name)
        # "A page may contain zero results while still providing a next_page_token."
        if query.get("max_results") == "0" and "page_token" not in query:
            return {"next_page_token": "1"}
        assignments = []
        for principal in sorted(PRINCIPALS if wanted is None else {wanted}):
            rows = sorted(row for row in self.effective(principal, kind, name) if inherited or row[1:] == (kind, name))
            if rows and inherited:
                given: list[Any] = []
                for privilege, above, whose in rows:
                    source = {} if whose == name else {"inherited_from_type": above.upper(), "inherited_from_name": whose}
                    given.append({"privilege": privilege, **source})
                assignments.append({"principal": principal, "privileges": given})
            elif rows:
                assignments.append({"principal": principal, "privileges": [row[0] for row in rows]})
        return {"privilege_assignments": assignments}

    @staticmethod
    def _known(principal: str) -> None:
        if principal not in PRINCIPALS:
            raise Refused(404, "PRINCIPAL_DOES_NOT_EXIST", f"Could not find principal with name {principal}")

    def _create_schema(self, query: dict[str, str], body: Any) -> Any:
        self._only(body, {"name", "catalog_name", "comment"}, {"name", "catalog_name"})
        self._typed(body, name=str, catalog_name=str)
        body = {key: folded(value) if key in _NAMES else value for key, value in body.items()}
        self._exists("catalog", body["catalog_name"])
        self.need("catalog", body["catalog_name"], "USE_CATALOG")
        self.need("catalog", body["catalog_name"], "CREATE_SCHEMA")
        name = f"{body['catalog_name']}.{body['name']}"
        if name in self.schemas:
            raise Refused(400, "SCHEMA_ALREADY_EXISTS", f"Schema '{name}' already exists")
        self.schemas.add(name)
        self.owners["schema", name] = self.caller
        self._commented("schema", name, body)
        return self._told("schema", name)

    def _create_volume(self, query: dict[str, str], body: Any) -> Any:
        needed = {"name", "catalog_name", "schema_name", "volume_type"}
        self._only(body, needed | {"comment", "storage_location"}, needed)
        body = {key: folded(value) if key in _NAMES else value for key, value in body.items()}
        schema = f"{body['catalog_name']}.{body['schema_name']}"
        self._exists("schema", schema)
        self._makes_in(schema, "CREATE_VOLUME")
        folder = self.storage / body["catalog_name"] / body["schema_name"] / body["name"]
        if folder.exists():
            raise Refused(400, "VOLUME_ALREADY_EXISTS", f"Volume '{body['name']}' already exists")
        folder.mkdir(parents=True)
        name = f"{schema}.{body['name']}"
        self.owners["volume", name] = self.caller
        self._commented("volume", name, body)
        return {**self._told("volume", name), "volume_type": body["volume_type"]}

    def _create_model(self, query: dict[str, str], body: Any) -> Any:
        needed = {"name", "catalog_name", "schema_name"}
        self._only(body, needed | {"comment", "storage_location"}, needed)
        body = {key: folded(value) if key in _NAMES else value for key, value in body.items()}
        schema = f"{body['catalog_name']}.{body['schema_name']}"
        self._exists("schema", schema)
        self._makes_in(schema, "CREATE_MODEL")
        name = f"{schema}.{body['name']}"
        if name in self.models:
            raise Refused(400, "RESOURCE_ALREADY_EXISTS", f"Registered Model '{name}' already exists")
        self.models[name] = self.caller
        self._commented("function", name, body)
        return self._told("function", name)

    def _commented(self, kind: str, name: str, body: Any) -> None:
        if body.get("comment"):
            self.comments[kind, name] = body["comment"]

    def _makes_in(self, schema: str, privilege: str) -> None:
        self.need("schema", schema, "USE_SCHEMA")
        self.need("schema", schema, privilege)
