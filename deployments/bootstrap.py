"""What must exist on the Prefect server, and in Databricks if stages run there, before the flows can run."""

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitUpdate
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_API_URL

from car_damage.errors import SettingsError
from car_damage.settings import Settings
from deployments import automations, deploy, work_pool
from deployments.databricks import needs
from deployments.items import ABSENT, Item
from tasks.stages import ENDPOINT_LIMIT

HEALTH_TIMEOUT = 10.0
"""Seconds that the Prefect server may take to answer its health check."""


def limits() -> list[Item]:
    """What a flow that is run by hand needs on the Prefect server."""
    return [Item(f"concurrency limit {ENDPOINT_LIMIT}", _check_limit, _fix_limit)]


def everything(settings: Settings) -> list[Item]:
    """What scheduled runs need, in the order in which it must be created."""
    return on_the_server(settings) + (needs.items(settings) if settings.databricks.stages == "jobs" else [])


def on_the_server(settings: Settings) -> list[Item]:
    """What scheduled runs need on the Prefect server."""
    deployments = Item("deployments", deploy.check, deploy.deploy)
    code = Item("deployed code", deploy.check_code, deploy.deploy, vital=False)
    return [*limits(), work_pool.item(settings), deployments, code, *automations.items(settings.alerts)]


def server_url() -> str:
    """The URL of the Prefect server's API.

    Raises:
        SettingsError: none is set; Prefect would start a temporary server for this command and lose the result.
    """
    if url := PREFECT_API_URL.value():
        return str(url)
    raise SettingsError(
        "no Prefect server is running with this home folder, and PREFECT_API_URL is not set: run `make up`, or export your server's "
        "URL, or choose a profile with `prefect profile use`"
    )


def reach_server() -> None:
    """Raise SettingsError if PREFECT_API_URL is not set, or the server does not answer."""
    url = server_url()
    with get_client(sync_client=True) as client:
        try:
            client.request("GET", "/health", timeout=HEALTH_TIMEOUT)
        except httpx.HTTPError as error:
            raise SettingsError(
                f"the Prefect server at {url} does not answer ({str(error) or type(error).__name__}): start it, or correct PREFECT_API_URL"
            ) from error


def _check_limit() -> str | None:
    with get_client(sync_client=True) as client:
        try:
            limit = client.read_global_concurrency_limit_by_name(ENDPOINT_LIMIT)
        except ObjectNotFound:
            return ABSENT
    if not limit.active:
        return "is not active"
    return None if limit.limit == 1 else f"allows {limit.limit} runs at once instead of 1"


def _fix_limit() -> None:
    with get_client(sync_client=True) as client:
        client.upsert_global_concurrency_limit_by_name(ENDPOINT_LIMIT, 1)
        # The upsert does not activate a limit that somebody has deactivated.
        client.update_global_concurrency_limit(ENDPOINT_LIMIT, GlobalConcurrencyLimitUpdate(active=True, limit=1))
