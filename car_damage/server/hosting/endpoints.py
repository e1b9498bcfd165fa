"""All endpoints of one server, and their memory on disk."""

import asyncio
from collections.abc import Iterator
from typing import Any

from car_damage.errors import Terminal
from car_damage.machine import Scratch
from car_damage.server.errors import ApiError, absent
from car_damage.server.hosting.deployment import Deployment, Patience
from car_damage.server.hosting.endpoint import Endpoint, now
from car_damage.server.hosting.model_server import ModelServer, Place
from car_damage.server.requests import Config, Create
from car_damage.server.state import State
from car_damage.settings import Settings

_LOG_TAIL = 64 << 10
"""Bytes of a running model's log that a request for it gets."""
_LONGER = 1.0
"""Seconds beyond `serving.request_timeout` after which a request is given up, whatever became of it."""


class Endpoints:
    """The endpoints by name. Everything happens on one event loop, so nothing needs a lock."""

    def __init__(self, settings: Settings, state: State) -> None:
        self._settings, self._state = settings, state
        self._by_name: dict[str, Endpoint] = {}
        # The path of a unix socket may hold 107 characters only, so sockets cannot lie below any home folder.
        self._sockets = Scratch("sockets")
        self._sockets_made = 0

    def __iter__(self) -> Iterator[Endpoint]:
        return iter(self._by_name.values())

    def __getitem__(self, name: str) -> Endpoint:
        """Raises ApiError 404 when there is none."""
        if name not in self._by_name:
            raise absent(f"endpoint {name} does not exist; it is there from the first run that takes a version live")
        return self._by_name[name]

    def restore(self) -> None:
        """Bring back every endpoint as the last server left it."""
        for kept in self._state.read():
            endpoint = self._endpoint(kept["name"], kept["facts"])
            active, pending = (Config.model_validate(kept[key]) if kept[key] else None for key in ("active", "pending"))
            endpoint.restore(active, pending, kept["update_state"], kept["active_version"])
        self._sweep()

    def create(self, request: Create) -> Endpoint:
        """Create an endpoint, which begins to start its model.

        Raises:
            ApiError: there is one of that name.
            Terminal: it cannot be written down; there is none.
        """
        if request.name in self._by_name:
            raise ApiError(400, "RESOURCE_ALREADY_EXISTS", f"endpoint {request.name} already exists; update its config instead")
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
        """Stop and forget an endpoint, its logs too. Raises Terminal when that cannot be written down; it then goes on."""
        endpoint = self[name]
        del self._by_name[name]
        try:
            self._save()
        except Terminal:
            self._by_name[name] = endpoint
            raise
        self._state.forget(name)
        await endpoint.close()
        self._sweep()

    def build_log(self, name: str, served_name: str) -> str:
        """What a deployment's process printed until its model was ready, at its last start."""
        deployment = self._deployment(name, served_name)
        began, built = deployment.server.began, deployment.server.built
        return self._read_log(name, deployment)[began : built or None].decode(errors="replace")

    def server_log(self, name: str, served_name: str) -> str:
        """The end of everything else that its processes printed: this one since, and those that ended before it."""
        deployment = self._deployment(name, served_name)
        began, built = deployment.server.began, deployment.server.built
        data = self._read_log(name, deployment)
        return (data[:began] + (data[built:] if built else b""))[-_LOG_TAIL:].decode(errors="replace")

    async def close(self) -> None:
        """Stop every process. What is on disk stays, so that the next server brings it back."""
        await asyncio.gather(*(endpoint.close() for endpoint in self))
        self._sockets.close()

    def _endpoint(self, name: str, facts: dict[str, Any]) -> Endpoint:
        serving = self._settings.serving

        def make(config: Config, version: int) -> ModelServer:
            self._sockets_made += 1
            return ModelServer(
                f"models:/{config.entity.entity_name}/{config.entity.entity_version}",
                self._sockets.path / str(self._sockets_made),
                Place(self._state.model(name, version), self._state.log(name, version)),
                {"MLFLOW_TRACKING_URI": self._settings.tracking_uri, "MLFLOW_REGISTRY_URI": self._settings.registry_uri},
                serving.request_timeout,
            )

        # The model's own limit comes first: a request that is too much for it is told so, and not to try again.
        patience = Patience(serving.update_timeout, serving.request_timeout + _LONGER, serving.idle_timeout)
        self._by_name[name] = Endpoint(name, facts, make, patience, self._save)
        return self._by_name[name]

    def _save(self) -> None:
        self._state.write(
            [
                {
                    "name": endpoint.name,
                    "facts": endpoint.facts,
                    "update_state": endpoint.update_state,
                    "active": endpoint.active.config.model_dump(mode="json") if endpoint.active else None,
                    "active_version": endpoint.active.version if endpoint.active else 0,
                    "pending": endpoint.pending.config.model_dump(mode="json") if endpoint.pending else None,
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
            raise absent(f"endpoint {name} serves nothing named {served_name}")
        return deployment

    def _read_log(self, name: str, deployment: Deployment) -> bytes:
        path = self._state.log(name, deployment.version)
        return path.read_bytes() if path.is_file() else b""
