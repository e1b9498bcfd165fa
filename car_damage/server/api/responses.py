"""Response bodies of the serving REST API. FastAPI checks responses against them and describes them in /openapi.json."""

from typing import Annotated, Literal, NotRequired

from pydantic import ConfigDict, Field, with_config
from typing_extensions import TypedDict

from car_damage.server.hosting.deployment import DeploymentState
from car_damage.server.hosting.endpoint import UpdateState

Milliseconds = Annotated[int, Field(description="Milliseconds since 1970.")]
Readiness = Literal["READY", "NOT_READY"]
_closed = with_config(ConfigDict(extra="forbid"))


class ServedEntityState(TypedDict):
    """State of a served model's process."""

    deployment: DeploymentState
    deployment_state_message: Annotated[str, Field(description="'Scaled to zero' while the model's process is stopped.")]


class ServedEntityName(TypedDict):
    """A model version that an endpoint serves, in a list of endpoints."""

    name: str
    entity_name: str
    entity_version: str


class ServedEntity(ServedEntityName):
    """A model version that an endpoint serves."""

    workload_size: str
    workload_type: str
    scale_to_zero_enabled: bool
    environment_vars: dict[str, str]
    creator: str
    creation_timestamp: Milliseconds
    state: ServedEntityState


class ServedRoute(TypedDict):
    """The share of requests that a served entity gets."""

    served_entity_name: str
    served_model_name: str
    traffic_percentage: int


class ServedTraffic(TypedDict):
    """The routes of a config."""

    routes: list[ServedRoute]


class EndpointConfig(TypedDict):
    """What an endpoint serves."""

    config_version: int
    served_entities: Annotated[list[ServedEntity], Field(min_length=1, max_length=1)]
    traffic_config: ServedTraffic
    start_time: NotRequired[Milliseconds]


class EndpointConfigSummary(TypedDict):
    """What an endpoint serves, in a list of endpoints."""

    served_entities: list[ServedEntityName]


class EndpointState(TypedDict):
    """Whether an endpoint answers, and whether an update is in progress."""

    ready: Readiness
    config_update: UpdateState


class EndpointTag(TypedDict):
    """A tag of an endpoint."""

    key: str
    value: NotRequired[str]


class EndpointFacts(TypedDict):
    """What both descriptions of an endpoint have in common."""

    name: str
    id: str
    creator: str
    creation_timestamp: Milliseconds
    last_updated_timestamp: Milliseconds
    description: str
    tags: list[EndpointTag]
    state: EndpointState


class EndpointSummary(EndpointFacts):
    """An endpoint in a list."""

    config: EndpointConfigSummary


@_closed
class EndpointDetails(EndpointFacts):
    """An endpoint with its configs."""

    permission_level: str
    route_optimized: bool
    config: NotRequired[EndpointConfig]
    pending_config: NotRequired[EndpointConfig]


class EndpointList(TypedDict):
    """All endpoints of the server."""

    endpoints: list[EndpointSummary]


@_closed
class EmptyObject(TypedDict):
    """An empty object."""


class Logs(TypedDict):
    """Text that a model's process printed."""

    logs: str


class Health(TypedDict):
    """The server is alive; for each endpoint, whether it is ready."""

    status: Literal["ok"]
    endpoints: dict[str, Readiness]


class Discovery(TypedDict):
    """Where OAuth is; empty, because the server has no OAuth."""

    oidc_endpoint: Literal[""]


@_closed
class Error(TypedDict):
    """The body of every error; databricks-sdk makes its exceptions from it."""

    error_code: str
    message: str
