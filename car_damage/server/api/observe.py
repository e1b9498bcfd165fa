"""Routes for monitors and for clients that look around: health, metrics, and where OAuth is."""

from fastapi import FastAPI
from fastapi.responses import PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST

from car_damage.server.api import describe
from car_damage.server.api.management import API
from car_damage.server.api.openapi import NO_TOKEN_NEEDED, TOKEN, errors
from car_damage.server.api.responses import Discovery, Health
from car_damage.server.errors import ErrorKind
from car_damage.server.hosting.endpoints import Endpoints
from car_damage.server.metrics.exposition import Metrics


def add(app: FastAPI, endpoints: Endpoints) -> None:
    """Add the routes."""
    metrics = Metrics(endpoints)

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
