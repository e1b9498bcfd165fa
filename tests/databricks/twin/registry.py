"""Registered models in Unity Catalog: versions, aliases, tags, and how a version becomes READY.

It does what differs from MLflow's own registry: a search filters by one field and returns neither tags nor aliases; a version
is PENDING_REGISTRATION until its files are uploaded and it is finalized; the number and length of tags are limited.

Sources: mlflow's store/_unity_catalog/registry/rest_store.py, store/artifact/unity_catalog_models_artifact_repo.py and
databricks_uc_registry_messages.proto,
https://docs.databricks.com/aws/en/database-objects/tags (50 tags, 1,000 characters, keys without . , - = / :)
"""

import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tests.databricks.twin.core import PAGE, Handle, Refused, folded
from tests.databricks.twin.permissions import Permissions, denied

PREFIX = "/api/2.0/mlflow/unity-catalog/"
_TAGS, _VALUE = 50, 1000
_FILTER = re.compile(r"(name|run_id) = '([^']*)'")


@dataclass
class Version:
    """A version of a registered model."""

    number: int
    source: str
    run_id: str
    model_id: str
    tags: dict[str, str]
    status: str = "PENDING_REGISTRATION"
    finalized: bool = False
    looks: int = 0
    """Number of reads since it was finalized."""
    ready_after: int = 0
    """Reads after which it is READY."""
    description: str = ""
    created: float = field(default_factory=time.time)


@dataclass
class Model:
    """A registered model."""

    name: str
    versions: dict[int, Version] = field(default_factory=dict)
    aliases: dict[str, int] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    last: int = 0
    """The highest version number so far, deleted versions included: no number is reused."""


class RegistryApi(Permissions):
    """Registered models."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.registered: dict[str, Model] = {}
        self.ready_after = 0
        """Reads after which versions that are finalized next become READY."""
        self.model_files: Literal["files api", "presigned", "cloud"] = "files api"
        """How MLflow's client reaches the files of versions. A workspace says whether by its Files API; otherwise it gives temporary
        credentials for its own storage, which is used through presigned URLs, or for a bucket of the customer's."""

    def _of_registry(self) -> dict[tuple[str, str], Handle]:
        of = {
            ("POST", "registered-models/create"): self._register_model,
            ("GET", "registered-models/get"): self._get_model,
            ("POST", "registered-models/alias"): self._set_alias,
            ("DELETE", "registered-models/alias"): self._delete_alias,
            ("POST", "model-versions/create"): self._create_version,
            ("POST", "model-versions/finalize"): self._finalize,
            ("GET", "model-versions/get"): self._get_version,
            ("GET", "model-versions/search"): self._search,
            ("DELETE", "model-versions/delete"): self._delete_version,
            ("PATCH", "model-versions/update"): self._update_version,
            ("POST", "registered-models/set-tag"): self._set_model_tag,
            ("POST", "model-versions/set-tag"): self._set_tag,
            ("POST", "model-versions/emit-lineage"): self._emit_lineage,
            ("POST", "model-versions/generate-temporary-credentials"): self._credentials,
            ("GET", "model-versions/get-download-uri"): self._download_uri,
            ("GET", "registered-models:is-databricks-sdk-models-artifact-repository-enabled"): self._files_by_sdk,
        }
        return {(method, PREFIX + path): self._folding(handle) for (method, path), handle in of.items()}

    @staticmethod
    def _folding(handle: Handle) -> Handle:
        def folding(query: dict[str, str], body: Any) -> Any:
            query, body = ({**of, "name": folded(of["name"])} if isinstance(of, dict) and "name" in of else of for of in (query, body))
            return handle(query, body)

        return folding

    def _files_by_sdk(self, query: dict[str, str], body: Any) -> Any:
        return {"is_databricks_sdk_models_artifact_repository_enabled": self.model_files == "files api"}

    def _credentials(self, query: dict[str, str], body: Any) -> Any:
        self._only(body, {"name", "version", "operation"}, {"name", "version", "operation"})
        if body["operation"] == "MODEL_VERSION_OPERATION_READ_WRITE":
            self._own(body["name"])
        self._version(body["name"], body["version"])
        key = {"access_key_id": "a", "secret_access_key": "s", "session_token": "t"}
        mode = "DEFAULT_STORAGE" if self.model_files == "presigned" else "CUSTOMER_HOSTED"
        return {"credentials": {"aws_temp_credentials": key, "storage_mode": mode}}

    def _download_uri(self, query: dict[str, str], body: Any) -> Any:
        self._only(query, {"name", "version"}, {"name", "version"})
        return {"artifact_uri": f"s3://bucket/models/{self._version(query['name'], query['version']).number}"}

    def _emit_lineage(self, query: dict[str, str], body: Any) -> Any:
        self._only(body, {"name", "version", "model_version_lineage_info", "securable"}, {"name", "version"})
        return {}

    def _register_model(self, query: dict[str, str], body: Any) -> Any:
        self._only(body, {"name", "tags", "description", "deployment_job_id"}, {"name"})
        name = body["name"]
        if len(name.split(".")) != 3:
            raise Refused(400, "INVALID_PARAMETER_VALUE", f"'{name}' is not a valid name of a model: it must be catalog.schema.model")
        self._schema_of(name)
        self.need("schema", name.rpartition(".")[0], "CREATE_MODEL")
        if name in self.models:
            raise Refused(400, "RESOURCE_ALREADY_EXISTS", f"Registered model '{name}' already exists")
        self.models[name] = self.caller
        self.registered[name] = Model(name)
        self.comments["function", name] = body.get("description", "")
        return {"registered_model": self._model_shown(self.registered[name])}

    def _get_model(self, query: dict[str, str], body: Any) -> Any:
        self._only(query, {"name"}, {"name"})
        return {"registered_model": self._model_shown(self._model(query["name"]))}

    def _set_alias(self, query: dict[str, str], body: Any) -> Any:
        self._only(body, {"name", "alias", "version"}, {"name", "alias", "version"})
        model = self._own(body["name"])
        model.aliases[body["alias"]] = self._version(body["name"], body["version"]).number
        return {}

    def _delete_alias(self, query: dict[str, str], body: Any) -> Any:
        self._only(body, {"name", "alias"}, {"name", "alias"})
        if self._own(body["name"]).aliases.pop(body["alias"], None) is None:
            raise Refused(404, "RESOURCE_DOES_NOT_EXIST", f"Alias '{body['alias']}' does not exist")
        return {}

    def _create_version(self, query: dict[str, str], body: Any) -> Any:
        known = {
            "name", "source", "run_id", "description", "run_tracking_server_id", "feature_deps", "tags",
            "model_version_dependencies", "model_id",
        }  # fmt: skip
        self._only(body, known, {"name", "source"})
        self._typed(body, name=str, source=str, run_id=str, description=str, tags=list)
        model = self._own(body["name"])
        with self.lock:
            model.last += 1
            version = Version(model.last, body["source"], body.get("run_id", ""), body.get("model_id", ""), {})
            version.description = body.get("description", "")
            for tag in body.get("tags", []):
                self._tag(version, tag)
            model.versions[version.number] = version
        return {"model_version": self._version_shown(model, version)}

    def _finalize(self, query: dict[str, str], body: Any) -> Any:
        self._only(body, {"name", "version"}, {"name", "version"})
        version = self._version(body["name"], body["version"])
        if not (self._model_files(body["name"], version.number) / "MLmodel").is_file():
            raise Refused(400, "INVALID_STATE", f"version {version.number} of {body['name']} has no file MLmodel")
        version.finalized, version.ready_after = True, self.ready_after
        version.status = "PENDING_REGISTRATION" if version.ready_after else "READY"
        self._version_is_there(body["name"], version)
        return {"model_version": self._version_shown(self._model(body["name"]), version)}

    def _get_version(self, query: dict[str, str], body: Any) -> Any:
        self._only(query, {"name", "version"}, {"name", "version"})
        version = self._version(query["name"], query["version"])
        if version.finalized and version.status != "READY":
            version.looks += 1
            if version.looks >= version.ready_after:
                version.status = "READY"
        return {"model_version": self._version_shown(self._model(query["name"]), version)}

    def _search(self, query: dict[str, str], body: Any) -> Any:
        self._only(query, {"filter", "max_results", "page_token"})
        found = _FILTER.fullmatch(query.get("filter", ""))
        if found is None:
            raise Refused(
                400, "INVALID_PARAMETER_VALUE", f"filter must be one of name = '...' and run_id = '...', and is {query.get('filter')}"
            )
        matching = [
            self._version_shown(model, version, whole=False)
            for model in self.registered.values()
            for version in model.versions.values()
            if found[2] == (model.name if found[1] == "name" else version.run_id)
        ]
        start = int(query.get("page_token", "0"))
        more = {"next_page_token": str(start + PAGE)} if start + PAGE < len(matching) else {}
        return {"model_versions": matching[start : start + PAGE], **more}

    def _delete_version(self, query: dict[str, str], body: Any) -> Any:
        self._only(body, {"name", "version"}, {"name", "version"})
        version, model = self._version(body["name"], body["version"]), self._own(body["name"])
        if version.number in model.aliases.values():
            raise Refused(400, "INVALID_STATE", f"version {version.number} of {model.name} has an alias")
        del model.versions[version.number]
        return {}

    def _update_version(self, query: dict[str, str], body: Any) -> Any:
        self._only(body, {"name", "version", "description"}, {"name", "version"})
        model, version = self._own(body["name"]), self._version(body["name"], body["version"])
        version.description = body.get("description", version.description)
        return {"model_version": self._version_shown(model, version)}

    def _set_model_tag(self, query: dict[str, str], body: Any) -> Any:
        self._only(body, {"name", "key", "value"}, {"name", "key", "value"})
        model = self._model(body["name"])
        if not (self.manages("function", model.name) or self.has("function", model.name, "APPLY_TAG")):
            raise denied("APPLY TAG", "function", model.name)
        _check_tag(body)
        model.tags[body["key"]] = body["value"]
        return {}

    def _set_tag(self, query: dict[str, str], body: Any) -> Any:
        self._only(body, {"name", "version", "key", "value"}, {"name", "version", "key", "value"})
        self._own(body["name"])
        self._tag(self._version(body["name"], body["version"]), body)
        return {}

    def _tag(self, version: Version, tag: Any) -> None:
        _check_tag(tag)
        version.tags[tag["key"]] = tag["value"]
        if len(version.tags) > _TAGS:
            raise Refused(400, "INVALID_PARAMETER_VALUE", f"version {version.number} has {len(version.tags)} tags, over {_TAGS}")

    def _model(self, name: str) -> Model:
        if name not in self.models:
            raise Refused(404, "RESOURCE_DOES_NOT_EXIST", f"Routine or Model '{name}' does not exist.")
        self.need("function", name, "EXECUTE", administrators=True)  # as databricks-sdk says of RegisteredModelsAPI.get
        return self.registered.setdefault(name, Model(name))

    def _own(self, name: str) -> Model:
        """The model, if the caller may change it (https://docs.databricks.com/aws/en/machine-learning/manage-model-lifecycle)."""
        model = self._model(name)
        if not self.manages("function", name):
            raise denied("MANAGE", "function", name)
        return model

    def _version(self, name: str, number: str) -> Version:
        versions = self._model(name).versions
        if not number.isdigit() or int(number) not in versions:
            raise Refused(404, "RESOURCE_DOES_NOT_EXIST", f"Model version '{name}' version {number} does not exist.")
        return versions[int(number)]

    def _model_files(self, name: str, number: int) -> Path:
        return self.place(f"/Models/{name.replace('.', '/')}/{number}")

    def _schema_of(self, name: str) -> None:
        """Refuse a name in a schema that does not exist."""
        raise NotImplementedError

    def _deployment_job(self, model: Model) -> dict[str, str]:
        """The fields that tell the model's deployment job."""
        raise NotImplementedError

    def _version_is_there(self, name: str, version: Version) -> None:
        """Start the deployment job for a new version."""
        raise NotImplementedError

    def _model_shown(self, model: Model) -> dict[str, Any]:
        aliases = [{"alias": alias, "version": str(version)} for alias, version in model.aliases.items()]
        tags = [{"key": key, "value": value} for key, value in model.tags.items()]
        description = self.comments.get(("function", model.name), "")
        return {"name": model.name, "description": description, "aliases": aliases, "tags": tags, **self._deployment_job(model)}

    @staticmethod
    def _version_shown(model: Model, version: Version, *, whole: bool = True) -> dict[str, Any]:
        shown: dict[str, Any] = {
            "name": model.name,
            "version": str(version.number),
            "source": version.source,
            "run_id": version.run_id,
            "model_id": version.model_id,
            "description": version.description,
            "status": version.status,
            "creation_timestamp": int(version.created * 1000),
        }
        if whole:
            shown["tags"] = [{"key": key, "value": value} for key, value in version.tags.items()]
            shown["aliases"] = [{"alias": alias} for alias, number in model.aliases.items() if number == version.number]
        return shown


def _check_tag(tag: Any) -> None:
    if not tag["key"] or len(tag["key"]) > 255 or set(tag["key"]) & set(".,-=/:"):
        raise Refused(400, "INVALID_PARAMETER_VALUE", f"'{tag['key']}' is no key of a tag")
    if len(tag["value"]) > _VALUE:
        raise Refused(400, "INVALID_PARAMETER_VALUE", f"the value of tag {tag['key']} has {len(tag['value'])} characters, over {_VALUE}")
