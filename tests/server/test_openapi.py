"""The OpenAPI description is correct: it has the application's routes, and the server's responses match its schemas."""

import asyncio
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.openapi.models import OpenAPI
from fastapi.routing import APIRoute
from jsonschema import Draft202012Validator, ValidationError

from car_damage.adapters.clock import SystemClock
from car_damage.adapters.folder import Folder
from car_damage.data.people.desk import Desk
from car_damage.server.api import app as server_app
from car_damage.server.hosting.endpoints import Endpoints
from car_damage.server.state import State
from car_damage.settings import Settings
from tests.server.conftest import Server
from tests.server.test_queries import ENTITY, records

ROOT = Path(__file__).parents[2]


def application(settings: Settings) -> FastAPI:
    """The application with its routes, without a running server."""
    endpoints = Endpoints(settings, State(settings.home))
    asyncio.run(endpoints.close())
    return server_app.api(settings, endpoints, Desk(Folder(), settings.answers, SystemClock()))


DESCRIBED = application(Settings()).openapi()
OPERATIONS = {(method, path): operation for path, methods in DESCRIBED["paths"].items() for method, operation in methods.items()}
ENDPOINT = "/api/2.0/serving-endpoints/car_damage_model_ep"


def fits(value: Any, schema: dict[str, Any]) -> None:
    """Raises ValidationError if a value does not match a schema of the description."""
    Draft202012Validator({**schema, "components": DESCRIBED["components"]}).validate(value)


def answer_fits(response: httpx.Response, method: str, path: str) -> None:
    announced = OPERATIONS[method, path]["responses"][str(response.status_code)]
    fits(response.json(), announced["content"]["application/json"]["schema"])
    assert all(name in response.headers for name in announced.get("headers", ()))


def test_the_server_tells_it_to_whoever_asks(ready: Server) -> None:
    response = httpx.get(ready.url + "/openapi.json")
    assert response.status_code == 200
    assert response.json() == application(ready.settings).openapi()


def test_it_is_an_openapi_document_whose_schemas_are_json_schemas() -> None:
    OpenAPI.model_validate(DESCRIBED)
    for schema in DESCRIBED["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)
    named = set(re.findall(r"#/components/schemas/(\w+)", str(DESCRIBED)))
    assert named <= set(DESCRIBED["components"]["schemas"])
    assert len({operation["operationId"] for operation in OPERATIONS.values()}) == len(OPERATIONS)


def test_every_route_of_the_application_is_described_and_no_other(tmp_path: Path) -> None:
    routes = [route for route in application(Settings(home=tmp_path)).routes if isinstance(route, APIRoute) and route.include_in_schema]
    assert {(method.lower(), route.path) for route in routes for method in route.methods} == set(OPERATIONS)
    needing_no_token = {path for (_, path), operation in OPERATIONS.items() if operation.get("security") == []}
    assert needing_no_token == server_app._WITHOUT_TOKEN & set(DESCRIBED["paths"])


def test_every_error_of_the_documentation_is_an_answer_and_every_error_answer_is_in_the_documentation() -> None:
    said = set(re.findall(r"^\| (\d+) \| `(\w+)` \|", (ROOT / "docs" / "endpoint.md").read_text(), re.MULTILINE))
    answers = set()
    for operation in OPERATIONS.values():
        for status, response in operation["responses"].items():
            if status != "200":
                schema = response["content"]["application/json"]["schema"]
                assert schema["$ref"] == "#/components/schemas/Error"
                answers |= {(status, code) for code in schema.get("properties", {}).get("error_code", {}).get("enum", ())}
    assert ("503", "TEMPORARILY_UNAVAILABLE") in answers
    assert answers == said
    # This error belongs to no operation: the path does not exist.
    assert "ENDPOINT_NOT_FOUND" in DESCRIBED["info"]["description"]


@pytest.mark.parametrize(
    ("method", "path", "described"),
    [
        ("get", "/api/2.0/serving-endpoints", "/api/2.0/serving-endpoints"),
        ("get", ENDPOINT, "/api/2.0/serving-endpoints/{name}"),
        ("get", "/api/2.0/serving-endpoints/nobody", "/api/2.0/serving-endpoints/{name}"),
        (
            "get",
            ENDPOINT + "/served-models/car_damage_classifier-1/logs",
            "/api/2.0/serving-endpoints/{name}/served-models/{served}/logs",
        ),
        ("delete", "/api/2.0/serving-endpoints/nobody", "/api/2.0/serving-endpoints/{name}"),
        ("put", ENDPOINT + "/config", "/api/2.0/serving-endpoints/{name}/config"),
        ("post", "/api/2.0/serving-endpoints", "/api/2.0/serving-endpoints"),
        ("get", "/health", "/health"),
        ("get", "/.well-known/databricks-config", "/.well-known/databricks-config"),
    ],
)
def test_an_answer_is_as_described(ready: Server, method: str, path: str, described: str) -> None:
    answer_fits(ready.call(method.upper(), path), method, described)


def test_answers_about_photos_are_as_described_and_so_are_refusals(ready: Server, photo: bytes) -> None:
    invocations = "/serving-endpoints/{name}/invocations"
    body = OPERATIONS["post", invocations]["requestBody"]["content"]["application/json"]["schema"]
    split = {"dataframe_split": {"columns": ["image"], "data": [[records(photo)["dataframe_records"][0]["image"]]]}}
    for asked in (records(photo, photo), records(photo) | {"params": {"coverage": 0.95}}, split):
        fits(asked, body)
        response = ready.invoke(json=asked)
        assert response.status_code == 200
        answer_fits(response, "post", invocations)
    for refused in ({}, {"dataframe_records": []}, {"dataframe_records": [{"picture": "AAAA"}]}, records(*[b"x"] * 257)):
        with pytest.raises(ValidationError):
            fits(refused, body)
        response = ready.invoke(json=refused)
        assert response.status_code == 400
        answer_fits(response, "post", invocations)


def test_what_the_description_allows_of_a_config_is_what_the_server_takes() -> None:
    create = OPERATIONS["post", "/api/2.0/serving-endpoints"]["requestBody"]["content"]["application/json"]["schema"]
    fits({"name": "ep", "config": {"name": "ep", "served_entities": [ENTITY]}}, create)
    for entity in (ENTITY | {"gpu": 1}, ENTITY | {"entity_version": "0"}, {}):
        with pytest.raises(ValidationError):
            fits({"name": "ep", "config": {"served_entities": [entity]}}, create)
