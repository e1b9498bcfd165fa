"""Passes requests on to an endpoint in the workspace as they are, for the page of a Databricks App."""

from typing import TYPE_CHECKING, Any

from car_damage.adapters.databricks import workspace
from car_damage.adapters.databricks.serving import workspace_host
from car_damage.server.api.workspace import Answer
from car_damage.settings import Settings

if TYPE_CHECKING:
    from databricks.sdk import WorkspaceClient

_MARGIN = 10.0
"""Seconds beyond the endpoint's own limit, so that its message arrives before our timeout."""


class Invocations:
    """`car_damage.server.api.workspace.Ask` by the credentials that databricks-sdk finds. Nothing is repeated: the page does that."""

    def __init__(self, settings: Settings) -> None:
        self._host, self._timeout = workspace_host(settings), settings.serving.request_timeout + _MARGIN
        self._made: WorkspaceClient | None = None

    def __call__(self, method: str, path: str, body: bytes) -> Answer:
        import requests

        with workspace.translated(f"asking {path}", needs="CAN QUERY on the endpoint"):
            config = self._client.config
            headers = {**config.authenticate(), "Content-Type": "application/json"}
            given = requests.request(
                method, f"{config.host}{path}", headers=headers, data=body, timeout=self._timeout, allow_redirects=False
            )
            return Answer(given.status_code, given.content, given.headers.get("served-model-name", ""))

    @property
    def _client(self) -> Any:
        if self._made is None:
            self._made = workspace.client(self._host)
        return self._made
