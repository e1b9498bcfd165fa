"""A registered model of Unity Catalog by the requests that MLflow's client sends.

databricks-sdk has no methods for tags and for the deployment job of a model, and MLflow is not installed in every job.
Source: mlflow's store/_unity_catalog/registry/rest_store.py and databricks_uc_registry_messages.proto
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from databricks.sdk import WorkspaceClient

MODELS = "/api/2.0/mlflow/unity-catalog/registered-models"
VERSIONS = "/api/2.0/mlflow/unity-catalog/model-versions"


def read(api: "WorkspaceClient", name: str) -> dict[str, Any]:
    """The model: description, tags, deployment_job_id, deployment_job_state. Fields without a value may be missing.

    Raises:
        databricks.sdk.errors.DatabricksError: among them NotFound.
    """
    answer: Any = api.api_client.do("GET", f"{MODELS}/get", query={"name": name})
    found: dict[str, Any] = answer["registered_model"]
    return found


def set_deployment_job(api: "WorkspaceClient", name: str, job: str) -> None:
    """Connect a job to the model; an empty id disconnects the present one."""
    api.api_client.do("PATCH", f"{MODELS}/update", body={"name": name, "deployment_job_id": job})


def set_tag(api: "WorkspaceClient", name: str, key: str, value: str) -> None:
    """Set a tag of the model."""
    api.api_client.do("POST", f"{MODELS}/set-tag", body={"name": name, "key": key, "value": value})


def version_tags(api: "WorkspaceClient", name: str, version: str) -> dict[str, str]:
    """The tags of a version."""
    answer: Any = api.api_client.do("GET", f"{VERSIONS}/get", query={"name": name, "version": version})
    return tags_of(answer["model_version"])


def tags_of(found: dict[str, Any]) -> dict[str, str]:
    """The tags of a model or a version. A tag need not have a value."""
    return {tag["key"]: tag.get("value", "") for tag in found.get("tags", [])}
