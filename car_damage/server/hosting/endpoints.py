"""All endpoints of one server. They are saved on disk."""

import asyncio
from collections.abc import Iterator
from typing import Any

from car_damage.errors import Terminal
from car_damage.machine import Scratch, memory
from car_damage.server.errors import ApiError, ErrorKind
from car_damage.server.hosting.deployment import Deployment, TimeLimits
from car_damage.server.hosting.endpoint import Endpoint, now
from car_damage.server.hosting.model_server import DeploymentFiles, ModelLimits, ModelServer
from car_damage.server.requests import Config, NewEndpoint
from car_damage.server.state import State
from car_damage.settings import Settings

_LOG_TAIL = 64 << 10
"""Bytes of a model's log that the server returns."""
_SLOWEST_WAKE = 300.0
"""Seconds in which a model must be able to start again, also where requests may take less."""
_LEAST_MEMORY = 2 << 30
"""Bytes. TensorFlow takes 0.9 GiB, and a request of the largest photos as much again."""
_MARGIN = 1.0
"""Seconds beyond `serving.request_timeout` after which the server gives up on a request."""


class Endpoints:
    """The endpoints by name. All calls run on one event loop, so no lock is needed."""

    def __init__(self, settings: Settings, state: State) -> None:
        self._settings, self._state = settings, state
        self._by_name: dict[str, Endpoint] = {}
        # The path of a unix socket has at most 107 characters; below the home folder it may become longer.
        self._sockets = Scratch("sockets")
        self._sockets_made = 0

    def __iter__(self) -> Iterator[Endpoint]:
        return iter(self._by_name.values())

    def __getitem__(self, name: str) -> Endpoint:
        """Raises ApiError NOT_FOUND when there is none."""
        if name not in self._by_name:
            raise ApiError(ErrorKind.NOT_FOUND, f"endpoint {name} does not exist; the first run that takes a version live creates it")
        return self._by_name[name]

    def restore(self) -> None:
        """Restore every endpoint as the last server left it."""
        for kept in self._state.read():
            endpoint = self._endpoint(kept["name"], kept["facts"])
            active, pending = (Config.model_validate(kept[key]) if kept[key] else None for key in ("active", "pending"))
            endpoint.restore(active, pending, kept["update_state"], kept["active_version"])
        self._sweep()

    def create(self, request: NewEndpoint) -> Endpoint:
        """Create an endpoint and begin to start its model.

        Raises:
            ApiError: an endpoint of this name exists.
            Terminal: the endpoint cannot be saved, so it is not created.
        """
        if request.name in self._by_name:
            raise ApiError(ErrorKind.EXISTS, f"endpoint {request.name} already exists; update its config instead")
        at = now()
        endpoint = self._endpoint(
            request.name,
            {
                "description": request.description or "",
                "tags": [tag.model_dump(exclude_none=True) for tag in request.tags],
                "creation_timestamp": at,
                "last_updated_timestamp": at,
                "config_version": 0,
            },
        )
        try:
            endpoint.update(request.config)
        except Terminal:
            del self._by_name[request.name]
            raise
        return endpoint

    def update(self, name: str, config: Config) -> Endpoint:
        """Begin to serve another config."""
        self[name].update(config)
        return self[name]

    async def delete(self, name: str) -> None:
        """Stop an endpoint and delete it, with its logs.

        Raises:
            Terminal: the deletion cannot be saved; the endpoint continues to serve.
        """
        endpoint = self[name]
        del self._by_name[name]
        try:
            self._save()
        except Terminal:
            self._by_name[name] = endpoint
            raise
        self._state.delete_logs(name)
        await endpoint.close()
        self._sweep()

    def build_log(self, name: str, served_name: str) -> str:
        """The output of the last start of a deployment's process, until its model was ready."""
        deployment = self._deployment(name, served_name)
        began, built = deployment.server.began, deployment.server.built
        return self._read_log(name, deployment)[began : built or None].decode(errors="replace")

    def server_log(self, name: str, served_name: str) -> str:
        """The end of all other output of a deployment's processes: of earlier ones, and of the current one since it was ready."""
        deployment = self._deployment(name, served_name)
        began, built = deployment.server.began, deployment.server.built
        data = self._read_log(name, deployment)
        return (data[:began] + (data[built:] if built else b""))[-_LOG_TAIL:].decode(errors="replace")

    async def close(self) -> None:
        """Stop every process. The files stay on disk, so that the next server restores the endpoints."""
        await asyncio.gather(*(endpoint.close() for endpoint in self))
        self._sockets.close()

    def _endpoint(self, name: str, facts: dict[str, Any]) -> Endpoint:
        serving = self._settings.serving

        def make(config: Config, version: int) -> ModelServer:
            self._sockets_made += 1
            return ModelServer(
                f"models:/{config.entity.entity_name}/{config.entity.entity_version}",
                self._sockets.path / str(self._sockets_made),
                DeploymentFiles(self._state.model(name, version), self._state.log(name, version)),
                {"MLFLOW_TRACKING_URI": self._settings.tracking_uri, "MLFLOW_REGISTRY_URI": self._settings.registry_uri},
                ModelLimits(serving.request_timeout, serving.max_memory_bytes or max(memory() // 2, _LEAST_MEMORY)),
                config.entity.environment_vars or {},
            )

        # The model's own time limit ends first: then the client learns that its request is too large, and does not try it again.
        limits = TimeLimits(
            ready=serving.update_timeout,
            answer=serving.request_timeout + _MARGIN,
            again=max(serving.request_timeout, _SLOWEST_WAKE),
            idle=serving.idle_timeout,
        )
        self._by_name[name] = Endpoint(name, facts, make, limits, self._save)
        return self._by_name[name]

    def _save(self) -> None:
        self._state.write(
            [
                {
                    "name": endpoint.name,
                    "facts": endpoint.facts,
                    "update_state": endpoint.update_state,
                    "active": endpoint.active.config.model_dump(mode="json", exclude_none=True) if endpoint.active else None,
                    "active_version": endpoint.active.version if endpoint.active else 0,
                    "pending": endpoint.pending.config.model_dump(mode="json", exclude_none=True) if endpoint.pending else None,
                }
                for endpoint in self
            ]
        )
        self._sweep()

    def _sweep(self) -> None:
        self._state.sweep((endpoint.name, version) for endpoint in self for version in endpoint.needed)

    def _deployment(self, name: str, served_name: str) -> Deployment:
        deployment = self[name].deployment(served_name)
        if deployment is None:
            raise ApiError(ErrorKind.NOT_FOUND, f"endpoint {name} serves no entity named {served_name}")
        return deployment

    def _read_log(self, name: str, deployment: Deployment) -> bytes:
        path = self._state.log(name, deployment.version)
        return path.read_bytes() if path.is_file() else b""
