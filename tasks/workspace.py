"""A flow run's way into a Databricks workspace: its credentials, the start of a job's run, and what a person sees of it."""

import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import httpx
from prefect import runtime
from prefect.artifacts import create_link_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import StateType
from prefect.exceptions import PrefectException
from prefect.utilities.asyncutils import run_coro_as_sync

from car_damage.adapters.databricks import workspace
from car_damage.errors import RequestRefused, SettingsError, Unavailable
from car_damage.job.jobs import JobRun, Jobs
from car_damage.platform import Target
from tasks.databricks_jobs import DatabricksJobs, Workspace
from tasks.progress import if_possible

VARIABLES = (
    "DATABRICKS_HOST",
    "DATABRICKS_TOKEN",
    "DATABRICKS_CLIENT_ID",
    "DATABRICKS_CLIENT_SECRET",
    "DATABRICKS_CONFIG_PROFILE",
    "DATABRICKS_AUTH_TYPE",
    "ARM_CLIENT_ID",
    "ARM_CLIENT_SECRET",
    "ARM_TENANT_ID",
    "ARM_ENVIRONMENT",
    "DATABRICKS_ACCOUNT_ID",
    "DATABRICKS_AZURE_RESOURCE_ID",
    "DATABRICKS_CONFIG_FILE",
)
"""All that says who asks a workspace, and which one."""


def use_credentials(block: str | None) -> None:
    """Let everything in this process that talks to Databricks, MLflow among it, use the credentials of a Prefect block.

    By the environment, because MLflow looks nowhere else; and by the id and secret themselves where there are some, so that
    tokens are made anew for as long as the run takes. Without a block's name nothing changes.

    Raises:
        SettingsError: there is no such block, or it holds no way to authenticate.
    """
    if block is None:
        return
    from prefect_databricks import DatabricksCredentials

    try:
        found: Any = DatabricksCredentials.load(block)
    except (ValueError, RuntimeError) as error:
        named = f"databricks.credentials names the block databricks-credentials/{block}, which "
        # Without what it came of: that may show what is in the block.
        if "Unable to find" in str(error):
            raise SettingsError(
                f"{named}is not on the Prefect server: make it in the UI (Blocks, Databricks Credentials), or of the credentials in the "
                "environment by `.venv/bin/python -m deployments bootstrap --credentials-block`, or correct the name"
            ) from None
        raise SettingsError(f"{named}must have either a token, or a client id and its secret: correct it in the UI (Blocks)") from None
    given = {"DATABRICKS_HOST": f"https://{found.databricks_instance}"}
    if found.token is not None:
        given |= {"DATABRICKS_TOKEN": found.token.get_secret_value(), "DATABRICKS_AUTH_TYPE": "pat"}
    elif found.tenant_id is not None:
        given |= {"ARM_TENANT_ID": found.tenant_id, "DATABRICKS_AUTH_TYPE": "azure-client-secret"}
        given |= {"ARM_CLIENT_ID": found.client_id, "ARM_CLIENT_SECRET": found.client_secret.get_secret_value()}
    else:
        given |= {"DATABRICKS_CLIENT_ID": found.client_id, "DATABRICKS_AUTH_TYPE": "oauth-m2m"}
        given |= {"DATABRICKS_CLIENT_SECRET": found.client_secret.get_secret_value()}
    for name in VARIABLES:  # what was set for somebody else must not be mixed in
        os.environ.pop(name, None)
    os.environ.update(given)


def runner(target: Target) -> DatabricksJobs:
    """The runner that hands stages to the workspace's jobs."""
    options = {name: value for name, value in (runtime.flow_run.parameters or {}).items() if isinstance(value, bool)}
    reach = Workspace(target.handovers, Jobs(), start, options=options, cancelled=being_cancelled, linked=link, since=before_this_flow_run)
    return DatabricksJobs(target, reach)


def before_this_flow_run() -> datetime:
    """A day before it was made: no two clocks differ more. Raises Unavailable."""
    try:
        with get_client(sync_client=True) as client:
            flow_run = client.read_flow_run(UUID(str(runtime.flow_run.id)))
    except (httpx.HTTPError, PrefectException) as error:
        raise Unavailable(f"the Prefect server does not answer: {error}") from error
    return (flow_run.created or datetime.now(UTC)) - timedelta(days=1)


def start(job: int, parameters: Mapping[str, str], token: str) -> int:
    """Start a run of a job, by prefect-databricks; returns the run's id, or that of the run which this token has started.

    Raises:
        Unavailable: the workspace does not answer, or not now.
        RequestRefused: it refused the credentials or the request.
    """
    from prefect_databricks import DatabricksCredentials
    from prefect_databricks.jobs import jobs_run_now

    doing = f"starting the job {job}"
    with workspace.translated(doing, needs="CAN MANAGE RUN on the job"):
        config = workspace.client().config
        bearer = config.authenticate()["Authorization"].removeprefix("Bearer ")
    credentials = DatabricksCredentials(
        databricks_instance=urlsplit(config.host).netloc, token=bearer, client_kwargs={"timeout": workspace.CALL_TIMEOUT}
    )
    try:
        # Its plain function: as a task it would show up in the flow run, and its result, which holds nothing of use, be kept.
        answer: Any = run_coro_as_sync(jobs_run_now.fn(credentials, job_id=job, idempotency_token=token, job_parameters=dict(parameters)))
    except httpx.HTTPStatusError as error:
        status = error.response.status_code
        if status == 429 or status >= 500:
            raise Unavailable(f"{doing}: the workspace cannot now: {error}") from error
        permission = "check the credentials, and CAN MANAGE RUN on the job"
        advice = permission if status in {401, 403} else "`.venv/bin/python -m deployments bootstrap` makes the job anew"
        raise RequestRefused(f"{doing} was refused: {error}; {advice}") from error
    except httpx.HTTPError as error:
        raise Unavailable(f"{doing}: the workspace does not answer: {error or type(error).__name__}") from error
    if not isinstance(answer, dict) or "run_id" not in answer:
        raise Unavailable(f"{doing}: what answers is no workspace, but says {str(answer)[:200]}")
    return int(answer["run_id"])


def being_cancelled() -> bool:
    """Whether somebody has cancelled this flow run. The signal that says so is lost when its worker has ended."""
    flow_run = runtime.flow_run.id
    if flow_run is None:
        return False
    try:
        with get_client(sync_client=True) as client:
            state = client.read_flow_run(flow_run).state
    except (httpx.HTTPError, PrefectException):
        return False  # asked again at the next look
    ended: Sequence[StateType] = (StateType.CANCELLING, StateType.CANCELLED)
    return state is not None and state.type in ended


def link(stage: str, run: JobRun) -> None:
    """Show a person where the stage runs."""
    with if_possible("the run in Databricks"):
        create_link_artifact(run.url, f"run {run.run_id}", key=f"databricks-{stage}", description=f"The stage {stage} in Databricks.")
