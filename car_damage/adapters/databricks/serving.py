"""The port `Serving` by databricks-sdk: a workspace's Model Serving, or the local server with the same API.

All errors of the SDK are translated here. Temporary ones become Unavailable or UpdateInProgress, permanent ones
RequestRefused. An endpoint that does not exist, or whose last update failed, is a state, not an error.
"""

import base64
import contextlib
import logging
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

from car_damage.adapters.databricks import answers, endpoint_config, endpoint_state, limits, workspace
from car_damage.adapters.databricks.answers import because
from car_damage.errors import CarDamageError, PhotoRefused, RequestRefused, Unavailable, UpdateInProgress
from car_damage.photo.columns import may_be, probabilities
from car_damage.ports import EndpointState, Prediction, served_name
from car_damage.server.address import is_local, token
from car_damage.settings import Settings

_CALL_TIMEOUT = 30.0
"""Seconds that one call of the management API may take."""
_MARGIN = 10.0
"""Seconds that a query waits beyond the endpoint's own limit, so that the endpoint's message arrives before our timeout."""
_SERVED = "served-model-name"
"""The header that names the served entity that answered."""
_RETRIES_LOCAL = 2
"""Seconds during which the SDK itself retries a call to the local server."""
_ABSENT = "RESOURCE_DOES_NOT_EXIST"
"""The error code of a 404 for a missing endpoint."""
_ENDPOINT_CODES = frozenset({_ABSENT, "NOT_IMPLEMENTED"})
"""The error codes of an endpoint server's 404 and 501. Another code means that another program answers."""
_TOO_LARGE = frozenset({"MAX_REQUEST_SIZE_EXCEEDED", "REQUEST_ENTITY_TOO_LARGE", "PAYLOAD_TOO_LARGE", "CONTENT_TOO_LARGE"})

_log = logging.getLogger(__name__)


class DatabricksServing:
    """The endpoint that `settings.serving` names."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._name = settings.serving.endpoint
        self._model = settings.tracking.model

    def state(self) -> EndpointState:
        endpoint = self._get()
        return EndpointState(exists=False) if endpoint is None else endpoint_state.read(endpoint, self._model)

    def put(self, version: int, coverage: float | None = None) -> None:
        """See the port. Also updates the tags and the inference table."""
        config = endpoint_config.core(self._settings, version, coverage)
        there = self._get()
        try:
            with self._translated(f"starting version {version} on"):
                api = self._management.serving_endpoints
                if there is None:
                    tags, gateway = endpoint_config.missing_tags(self._settings, ()), endpoint_config.gateway(self._settings)
                    api.create(self._name, config=config, tags=tags, ai_gateway=gateway)
                else:
                    api.update_config(self._name, served_entities=config.served_entities, traffic_config=config.traffic_config)
        except UpdateInProgress:
            # The SDK repeats a PUT whose response was lost, and then meets the update that it started itself.
            state = self.state()
            if not (state.updating and state.pending == version):
                raise
        if there is not None:
            self._update_tags_and_gateway(there)

    def _update_tags_and_gateway(self, endpoint: Any) -> None:
        """Update the parts that belong to the endpoint and not to a version. A failure is logged, and does not fail the update."""
        if is_local(self._settings.serving.host):
            return
        try:
            with self._translated("setting tags and the inference table of"):
                api = self._management.serving_endpoints
                if tags := endpoint_config.missing_tags(self._settings, endpoint.tags or ()):
                    api.patch(self._name, add_tags=tags)
                for update in endpoint_config.gateways(self._settings, endpoint.ai_gateway):
                    api.put_ai_gateway(self._name, **update)
        except CarDamageError as error:
            _log.warning("%s; the next update of the endpoint will try again", error)

    def query(self, photos: Sequence[bytes], *, explain: bool = False) -> list[Prediction]:
        records = [{"image": base64.b64encode(photo).decode()} for photo in photos]
        size, limit = sum(len(record["image"]) for record in records), self._settings.serving.max_request_bytes
        if size > limit:
            raise PhotoRefused(
                f"{len(photos)} photos are {size} bytes in base64, and the limit of a request is {limit}; send fewer or smaller photos"
            )
        with self._translated(f"sending {'a photo' if len(photos) == 1 else f'{len(photos)} photos'} to", PhotoRefused):
            client = self._queries
            start = time.perf_counter()
            response = self._invoked(client, {"dataframe_records": records} | ({"params": {"explain": True}} if explain else {}))
            latency = time.perf_counter() - start
        try:
            given = [_answer(row, response.get(_SERVED) or "", latency) for row in response["predictions"]]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise RequestRefused(f"the answer of endpoint {self._name} is not from a car damage model: {error!r}") from error
        if len(given) != len(photos):
            raise RequestRefused(f"endpoint {self._name} returned {len(given)} predictions for {len(photos)} photos: check its model")
        return given

    def _invoked(self, client: Any, body: dict[str, Any]) -> dict[str, Any]:
        """The answer's body and the header `_SERVED`. As databricks-sdk's `serving_endpoints.query`, which knows no params of a model."""
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        if client.config.workspace_id:
            headers["X-Databricks-Workspace-Id"] = client.config.workspace_id
        path = f"/serving-endpoints/{self._name}/invocations"
        answer: dict[str, Any] = client.api_client.do("POST", path, body=body, headers=headers, response_headers=[_SERVED])
        return answer

    def build_log(self, version: int) -> str:
        from databricks.sdk.errors import NotFound

        with self._translated("reading the build log of"):
            try:
                return str(self._management.serving_endpoints.build_logs(self._name, served_name(self._model, version)).logs)
            except NotFound:
                return ""

    def _get(self) -> Any:
        from databricks.sdk.errors import NotFound

        with self._translated("reading the state of"):
            try:
                return self._management.serving_endpoints.get(self._name)
            except NotFound as error:
                if error.error_code == _ABSENT:
                    return None
                raise

    @cached_property
    def _management(self) -> Any:
        return self._client(_CALL_TIMEOUT)

    @cached_property
    def _queries(self) -> Any:
        return self._client(self._settings.serving.request_timeout + _MARGIN)

    def _client(self, timeout: float) -> Any:
        host = self._settings.serving.host
        if not is_local(host):
            return workspace.client(workspace_host(self._settings), timeout)
        limits.impose()
        from databricks.sdk import WorkspaceClient
        from databricks.sdk.config import Config

        token_here = token(self._settings.home)
        _check_reachable(host or "")
        # auth_type, because the SDK refuses to choose if the environment has other credentials.
        config = Config(host=host, token=token_here, auth_type="pat", http_timeout_seconds=timeout, retry_timeout_seconds=_RETRIES_LOCAL)
        return WorkspaceClient(config=config)

    @contextlib.contextmanager
    def _translated(self, doing: str, refusal: type[RequestRefused] = RequestRefused) -> Iterator[None]:
        """Translate the errors of the SDK.

        Args:
            doing: the beginning of the messages; the name of the endpoint follows it.
            refusal: what to raise if the endpoint refuses what it was sent.
        """
        from databricks.sdk import errors

        what = f"{doing} endpoint {self._name}"
        host = self._settings.serving.host or ""
        needs = "CAN MANAGE on the endpoint, or CAN QUERY to send photos"
        with _of_the_local_server(what, host) if is_local(host) else workspace.translated(what, needs=needs):
            try:
                yield
            except errors.ResourceConflict as error:
                raise UpdateInProgress(f"{what}{because(error)}") from error
            except errors.BadRequest as error:
                raise refusal(f"{what} was refused{because(error)}") from error
            except (errors.NotFound, errors.NotImplemented) as error:
                if is_local(host) and error.error_code not in _ENDPOINT_CODES:
                    raise
                raise RequestRefused(f"{what} was refused{because(error)}") from error
            except errors.DatabricksError as error:
                if error.error_code in _TOO_LARGE:
                    raise refusal(f"{what} was refused{because(error)}") from error
                raise


@contextlib.contextmanager
def _of_the_local_server(what: str, host: str) -> Iterator[None]:
    """Like car_damage.adapters.databricks.workspace.translated, with advice for this machine's endpoint server."""
    import requests
    from databricks.sdk import errors

    try:
        yield
    except (errors.PermissionDenied, errors.Unauthenticated) as error:
        raise RequestRefused(
            f"{what} was refused{because(error)}; the server at {host} belongs to another home folder, or its token was changed: "
            "stop the server, or set CAR_DAMAGE_HOME to its home folder"
        ) from error
    except errors.DatabricksError as error:
        if (status := answers.status_of(error)) in {404, 501}:
            raise RequestRefused(
                f"{host} answers with HTTP {status} and is not an endpoint server: another program listens there; check serving.host"
            ) from error
        if answers.is_foreign(error) and not answers.may_pass(error):
            raise RequestRefused(f"{what} was refused by {host}{answers.in_full(error)}") from error
        raise workspace.unavailable(f"{what}: {host} is temporarily unavailable{answers.in_full(error)}", error) from error
    except (requests.RequestException, TimeoutError) as error:
        raise Unavailable(f"{what}: nothing answers at {host}; start the endpoint server (`car-damage serve`)") from error
    except ValueError as error:
        raise RequestRefused(f"{what}: databricks-sdk finds no usable credentials{because(error)}") from error


def workspace_host(settings: Settings) -> str | None:
    """The URL of the workspace that has the endpoint; None: the workspace of the credentials."""
    return None if settings.serving.host == "databricks" else settings.serving.host


def _check_reachable(host: str) -> None:
    """Fail fast if nothing listens: for a dead host the SDK would retry its request for configuration for minutes."""
    parts = urlsplit(host)
    try:
        socket.create_connection((parts.hostname or "", parts.port or 80), timeout=2).close()
    except OSError as error:
        raise Unavailable(f"nothing answers at {host}; start the endpoint server (`car-damage serve`)") from error


def _answer(row: Mapping[str, Any], served_by: str, latency: float) -> Prediction:
    given = probabilities(row)
    of_map = row.get("map")
    seen = None if of_map is None else tuple(tuple(map(float, line)) for line in of_map)
    return Prediction(str(row["label"]), float(row["probability"]), given, served_by, latency, may_be(row), row.get("review"), seen)
