"""Connects a flow run to a Databricks workspace: credentials, starting a job's run, and the link to that run."""

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

from car_damage.adapters.databricks import answers, limits, workspace
from car_damage.errors import SettingsError, Unavailable
from car_damage.job.jobs import JobRun, Jobs
from car_damage.platform import Target
from tasks.commands import BOOTSTRAP, SAVE_CREDENTIALS
from tasks.databricks_jobs import DatabricksJobs, StartRefused, Workspace
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
"""The environment variables that choose the workspace and the credentials."""


def use_credentials(block: str | None) -> None:
    """Make databricks-sdk and MLflow in this process use the credentials of a Prefect block. Does nothing if `block` is None.

    It sets environment variables, because MLflow reads the credentials from nowhere else. It sets the client id and secret rather
    than a token if the block has them, so that a long run can renew its token.

    Raises:
        SettingsError: the block does not exist, or holds no way to authenticate.
    """
    if block is None:
        return
    from prefect_databricks import DatabricksCredentials

    try:
        found: Any = DatabricksCredentials.load(block)
    except (ValueError, RuntimeError) as error:
        named = f"databricks.credentials names the block databricks-credentials/{block}, which "
        # `from None`, because Prefect's error may contain the block's values.
        if "Unable to find" in str(error):
            raise SettingsError(
                f"{named}is not on the Prefect server: correct the name, or create it in the UI (Blocks, Databricks Credentials), or save "
                f"the credentials of the environment with `{SAVE_CREDENTIALS}`"
            ) from None
        raise SettingsError(f"{named}needs either a token, or a client id and its secret: correct it in the UI (Blocks)") from None
    given = {"DATABRICKS_HOST": f"https://{found.databricks_instance}"}
    if found.token is not None:
        given |= {"DATABRICKS_TOKEN": found.token.get_secret_value(), "DATABRICKS_AUTH_TYPE": "pat"}
    elif found.tenant_id is not None:
        given |= {"ARM_TENANT_ID": found.tenant_id, "DATABRICKS_AUTH_TYPE": "azure-client-secret"}
        given |= {"ARM_CLIENT_ID": found.client_id, "ARM_CLIENT_SECRET": found.client_secret.get_secret_value()}
    else:
        given |= {"DATABRICKS_CLIENT_ID": found.client_id, "DATABRICKS_AUTH_TYPE": "oauth-m2m"}
        given |= {"DATABRICKS_CLIENT_SECRET": found.client_secret.get_secret_value()}
    for name in VARIABLES:  # so that the block's credentials are not mixed with those of the environment
        os.environ.pop(name, None)
    os.environ.update(given)


def runner(target: Target) -> DatabricksJobs:
    """The runner that runs stages as jobs of the workspace."""
    options = {name: value for name, value in (runtime.flow_run.parameters or {}).items() if isinstance(value, bool)}
    reach = Workspace(target.handovers, Jobs(), start, options=options, cancelled=being_cancelled, linked=link, since=before_this_flow_run)
    return DatabricksJobs(target, reach)


def before_this_flow_run() -> datetime:
    """A day before this flow run was created; a day, because clocks may differ. Raises Unavailable."""
    try:
        with get_client(sync_client=True) as client:
            flow_run = client.read_flow_run(UUID(str(runtime.flow_run.id)))
    except (httpx.HTTPError, PrefectException) as error:
        raise Unavailable(f"the Prefect server does not answer: {error}") from error
    return (flow_run.created or datetime.now(UTC)) - timedelta(days=1)


def start(job: int, parameters: Mapping[str, str], token: str) -> int:
    """Start a run of a job with prefect-databricks; return its id. A token that was used before returns the run it started then.

    Raises:
        Unavailable: the workspace does not answer, or is temporarily unable to.
        StartRefused: the workspace refused the request, or has deleted the run that the token started.
        RequestRefused: the workspace refused the credentials.
    """
    from prefect_databricks import DatabricksCredentials
    from prefect_databricks.jobs import jobs_run_now

    doing = f"starting the job {job}"
    with workspace.translated(doing, needs="CAN MANAGE RUN on the job"):
        config = workspace.client().config
        bearer = config.authenticate()["Authorization"].removeprefix("Bearer ")
        credentials = DatabricksCredentials(
            databricks_instance=urlsplit(config.host).netloc, token=bearer, client_kwargs={"timeout": limits.CALL}
        )
        try:
            # `.fn` calls the plain function: a task would appear in the flow run and store a useless result.
            call = jobs_run_now.fn(credentials, job_id=job, idempotency_token=token, job_parameters=dict(parameters))
            answer: Any = run_coro_as_sync(call)
        except httpx.HTTPStatusError as error:
            raise _refusal(doing, error.response) from error
        except httpx.HTTPError as error:
            raise Unavailable(f"{doing}: the workspace does not answer: {error or type(error).__name__}") from error
    if not isinstance(answer, dict) or "run_id" not in answer:
        raise Unavailable(f"{doing}: the response is not that of a workspace: {str(answer)[:200]}")
    return int(answer["run_id"])


def _refusal(doing: str, response: httpx.Response) -> Exception:
    """databricks-sdk's error; StartRefused where neither time nor a permission would help."""
    error = answers.error_of(response)
    if answers.is_foreign(error) or answers.may_pass(error) or response.status_code in {401, 403}:
        return error
    return StartRefused(f"{doing} was refused{answers.because(error)}; `{BOOTSTRAP}` creates or updates the job")


def being_cancelled() -> bool:
    """Whether somebody has cancelled this flow run. The server knows; the signal gets lost if the worker has ended."""
    flow_run = runtime.flow_run.id
    if flow_run is None:
        return False
    try:
        with get_client(sync_client=True) as client:
            state = client.read_flow_run(flow_run).state
    except (httpx.HTTPError, PrefectException):
        return False  # the next poll tries again
    ended: Sequence[StateType] = (StateType.CANCELLING, StateType.CANCELLED)
    return state is not None and state.type in ended


def link(stage: str, run: JobRun) -> None:
    """Show a link to the run in Databricks."""
    with if_possible("the link to the run in Databricks"):
        create_link_artifact(run.url, f"run {run.run_id}", key=f"databricks-{stage}", description=f"The stage {stage} in Databricks.")
