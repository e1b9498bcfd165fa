"""The HTTP side of the local endpoint server: the Databricks serving REST API, in front of the models' own processes.

It checks the token, the size and the queue, and passes photos on unread. It imports neither MLflow nor TensorFlow.
"""

import hmac
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.responses import PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.types import ASGIApp, Receive, Scope, Send

from car_damage.data.people.desk import Desk
from car_damage.server import backlog
from car_damage.server.api import describe, management, page, query, review
from car_damage.server.api.failures import add_errors, response
from car_damage.server.api.management import API
from car_damage.server.api.openapi import NO_TOKEN_NEEDED, TOKEN, ServingApi, errors
from car_damage.server.api.query import Photos
from car_damage.server.api.responses import Discovery, Health
from car_damage.server.api.review import Review
from car_damage.server.errors import ApiError, ErrorKind
from car_damage.server.hosting.endpoints import Endpoints
from car_damage.server.keeping import Keeper
from car_damage.server.metrics.exposition import Metrics
from car_damage.server.request_log import RequestLog
from car_damage.server.requests import Config, NewEndpoint
from car_damage.settings import Settings

_WITHOUT_TOKEN = frozenset({"/health", "/openapi.json", "/.well-known/databricks-config"}) | page.PATHS
"""Paths that need no token."""


def application(settings: Settings, endpoints: Endpoints, desk: Desk, log: RequestLog | None, token: str) -> ASGIApp:
    """The ASGI application. It restores the endpoints when it starts, and when it stops it stops their processes, and
    writes the log and the photos that are kept.
    """
    return _TokenCheck(api(settings, endpoints, desk, log), token)


def api(settings: Settings, endpoints: Endpoints, desk: Desk, log: RequestLog | None = None) -> ServingApi:
    """The application's routes, without the check of the token. Without a log, requests are not noted."""
    keeper = Keeper(desk) if settings.answers.keep_for_review else None

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        try:
            endpoints.restore()
            yield
            await endpoints.close()
        finally:
            await backlog.settle(*(beside.settle for beside in (log, keeper) if beside is not None))

    app = ServingApi(settings, NewEndpoint | Config | Photos | Review, lifespan=lifespan)
    add_errors(app)
    dropped = {"review_desk": lambda: desk.dropped} | ({} if log is None else {"request_log": lambda: log.dropped})
    _add_monitoring(app, endpoints, dropped)
    management.add(app, endpoints, settings.serving.request_timeout)
    query.add(app, endpoints, settings.serving, keeper, log)
    review.add(app, desk, settings)
    page.add(app, settings.serving.max_request_bytes)
    return app


def _add_monitoring(app: FastAPI, endpoints: Endpoints, dropped: Mapping[str, Callable[[], int]]) -> None:
    metrics = Metrics(endpoints, dropped)

    @app.get("/health", openapi_extra=NO_TOKEN_NEEDED)
    async def health() -> Health:
        """Say that the server is alive, and which endpoints are ready."""
        return {"status": "ok", "endpoints": {endpoint.name: describe.readiness(endpoint) for endpoint in endpoints}}

    @app.get("/.well-known/databricks-config", openapi_extra=NO_TOKEN_NEEDED)
    async def databricks_config() -> Discovery:
        """Say that there is no OAuth. databricks-sdk asks this before anything else."""
        # Without this route databricks-sdk would wait long for an answer.
        return {"oidc_endpoint": ""}

    @app.get("/metrics", response_class=PlainTextResponse, responses=errors(*TOKEN))
    async def server_metrics() -> Response:
        """Show all metrics of the server in Prometheus' text format."""
        return Response(metrics.server(), media_type=CONTENT_TYPE_LATEST)

    @app.get(API + "/{name}/metrics", response_class=PlainTextResponse, responses=errors(ErrorKind.NOT_FOUND, *TOKEN))
    async def endpoint_metrics(name: str) -> Response:
        """Show an endpoint's metrics in Prometheus' text format, as a workspace exports them."""
        return Response(metrics.endpoint(endpoints[name]), media_type=CONTENT_TYPE_LATEST)


class _TokenCheck:
    """Checks the token in front of every path, unknown ones included, so that no route can miss the check."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._expected = f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        error = self._problem(scope) if scope["type"] == "http" and scope["path"] not in _WITHOUT_TOKEN else None
        await (response(error) if error else self._app)(scope, receive, send)

    def _problem(self, scope: Scope) -> ApiError | None:
        given = dict(scope["headers"]).get(b"authorization")
        if given is None:
            return ApiError(
                ErrorKind.NO_TOKEN, "the request has no token: send Authorization: Bearer TOKEN; the token is in <home>/endpoint/token"
            )
        if not hmac.compare_digest(given, self._expected):
            return ApiError(ErrorKind.WRONG_TOKEN, "invalid access token: it is incomplete, or the token of another home folder")
        return None
