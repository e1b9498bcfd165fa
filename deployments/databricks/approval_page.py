"""Connects the approval job to the registered model, so that a person can approve a version on its page.

Databricks starts the model's deployment job for each new version. So the job is connected only while versions wait for a person, and
disconnected if `promotion.mode` is automatic. A deployment job of somebody else's stays.
Source: https://docs.databricks.com/aws/en/mlflow/deployment-job#connect-the-deployment-job-to-a-model
"""

import json
from functools import partial

from car_damage.adapters.databricks import registered_model, workspace
from car_damage.errors import SettingsError
from car_damage.settings import Settings
from deployments.administrator import permitted
from deployments.databricks import unity_catalog
from deployments.databricks.access_control import job_id
from deployments.databricks.principal import Api
from deployments.items import ABSENT, DIFFERS, LACK, Item

GONE = "NOT_FOUND"
"""The state of a connection whose job was deleted."""


def items(settings: Settings, api: Api) -> list[Item]:
    """The connection of each registered model. No run fails without it: a person can also start promote."""
    return [
        Item(
            f"approval on the page of {model}",
            partial(_check, api, model, settings.databricks.approval_job, waits=settings.promotion.mode == "approval"),
            partial(_set, api, model, settings.databricks.approval_job, waits=settings.promotion.mode == "approval"),
            vital=False,
        )
        for model in unity_catalog.models(settings)
    ]


def _check(api: Api, model: str, name: str, *, waits: bool) -> str | None:
    from databricks.sdk.errors import NotFound

    with workspace.translated(f"reading the deployment job of {model}", needs="EXECUTE on it"):
        try:
            found = registered_model.read(api(), model)
        except NotFound:
            return f"{LACK}the job {name}" if waits else None
        connected, state = found.get("deployment_job_id", ""), found.get("deployment_job_state", "")
        if not connected:
            return f"{LACK}the job {name}" if waits else None
        ours = job_id(api, name)
    if connected == ours:
        if not waits:
            return f"{DIFFERS}the job {name} -> none, because promotion.mode is automatic"
        return f"{DIFFERS}{state} -> CONNECTED" if state in {GONE, "REQUIRED_PARAMETERS_CHANGED"} else None
    if state == GONE:
        return f"{DIFFERS}the deleted job {connected} -> the job {name}" if waits else None
    if not waits:
        return None
    raise SettingsError(
        f"the deployment job of {model} is {connected}, which is not {name}: approve versions with promote, or disconnect that job on the "
        "model's page"
    )


def _set(api: Api, model: str, name: str, *, waits: bool) -> None:
    job = job_id(api, name) if waits else ""
    if job is None:
        raise SettingsError(f"the job {name} {ABSENT}: see above why it was not created")
    body = json.dumps({"name": model, "deployment_job_id": job})
    needs = "ownership of the model or MANAGE on it, and CAN MANAGE RUN on the job for you and for the model's owner"
    with permitted(
        f"connecting the job {name} to {model}",
        needs=needs,
        command=f"databricks api patch {registered_model.MODELS}/update --json '{body}'",
    ):
        registered_model.set_deployment_job(api(), model, job)
