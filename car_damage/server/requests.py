"""Request bodies of the serving REST API.

A body with an unknown field is refused. The server serves one entity, on CPU, with all traffic. It checks, keeps and shows
`workload_size` as Databricks does, but always serves a version with one process.
"""

import asyncio
import json
from typing import Annotated, Any, Literal, Self, TypeVar

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from car_damage.ports import RAISED_COVERAGE, served_name
from car_damage.server.errors import ApiError, ErrorKind

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$")]


class Body(BaseModel):
    """A body with exactly these fields, of exactly these types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Entity(Body):
    """A version of a registered model, and the size with which Databricks would serve it. The size has no effect here."""

    entity_name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+){0,2}$", max_length=255)]
    entity_version: Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]*$")]
    scale_to_zero_enabled: bool
    workload_size: Literal["Small", "Medium", "Large"]
    workload_type: Literal["CPU"] = "CPU"
    name: Name | None = None
    environment_vars: dict[str, Annotated[str, StringConstraints(pattern=r"^0?\.[0-9]*[1-9][0-9]*$")]] | None = None
    """Databricks takes any variables. Here a model's process gets only the one that raises its coverage, above 0 and below 1."""

    @model_validator(mode="after")
    def _of_the_model(self) -> Self:
        if unknown := sorted({*(self.environment_vars or {})} - {RAISED_COVERAGE}):
            raise ValueError(f"environment_vars has {', '.join(unknown)}, and this server takes only {RAISED_COVERAGE}")
        return self

    @property
    def served_name(self) -> str:
        """The given name, or the usual one."""
        return self.name or served_name(self.entity_name, self.entity_version)


class Route(Body):
    """The share of requests that a served entity gets."""

    traffic_percentage: int
    served_entity_name: Name | None = None
    served_model_name: Name | None = None
    """The older name of the same field."""


class Traffic(Body):
    """The routes of an endpoint."""

    routes: list[Route]


class Config(Body):
    """What an endpoint serves. An update replaces all of it."""

    served_entities: Annotated[list[Entity], Field(min_length=1, max_length=1)]
    traffic_config: Traffic | None = None
    name: Name | None = None
    """databricks-sdk repeats the endpoint's name here when it creates an endpoint."""

    @model_validator(mode="after")
    def _all_traffic(self) -> Self:
        served = self.entity.served_name
        routes = self.traffic_config.routes if self.traffic_config else []
        if self.traffic_config and [(r.served_entity_name or r.served_model_name, r.traffic_percentage) for r in routes] != [(served, 100)]:
            raise ValueError(f"traffic_config must be one route of 100 percent to {served}")
        return self

    @property
    def entity(self) -> Entity:
        """The one served entity."""
        return self.served_entities[0]


class Tag(Body):
    """A tag of an endpoint."""

    key: str
    value: str | None = None


class NewEndpoint(Body):
    """An endpoint to create."""

    name: Name
    config: Config
    description: str | None = None
    tags: list[Tag] = []


T = TypeVar("T", bound=Body)


async def receive(request: Request, limit: int, timeout: float) -> bytes:
    """Read a request's body from the network.

    Raises:
        ApiError: LARGE_BODY if it has more than `limit` bytes, or says so in its head; no more than that are read. SLOW_BODY if it
            has not arrived after `timeout` seconds; otherwise a client that stops in the middle would hold its place for ever.
    """
    body = bytearray()
    announced = request.headers.get("content-length", "")
    _check(int(announced) if announced.isdecimal() else 0, limit)
    try:
        async with asyncio.timeout(timeout):
            async for part in request.stream():
                body += part
                _check(len(body), limit)
    except TimeoutError as error:
        raise ApiError(ErrorKind.SLOW_BODY, f"the request's body did not arrive within {timeout:g} seconds; send it again") from error
    return bytes(body)


def parse(body: type[T], data: bytes) -> T:
    """Parse a request body.

    Raises:
        ApiError: MALFORMED if it is not a JSON object; INVALID if fields are wrong. The message names each of them.
    """
    try:
        value: Any = json.loads(data)
    except (ValueError, RecursionError) as error:  # the second for a body that is nested too deeply
        raise ApiError(ErrorKind.MALFORMED, f"the request body is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise ApiError(ErrorKind.MALFORMED, "the request body must be a JSON object")
    try:
        return body.model_validate(value)
    except ValidationError as error:
        problems = ("{}: {}".format(".".join(map(str, problem["loc"])) or "body", problem["msg"]) for problem in error.errors())
        raise ApiError(ErrorKind.INVALID, "; ".join(problems)) from error


def _check(size: int, limit: int) -> None:
    if size > limit:
        raise ApiError(ErrorKind.LARGE_BODY, f"a request may have {limit} bytes; send fewer or smaller photos at once")
