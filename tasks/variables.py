"""What a flow run leaves for later ones, as Variables on the Prefect server."""

from typing import Any, TypeVar

from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import VariableCreate, VariableUpdate
from pydantic import TypeAdapter, ValidationError

T = TypeVar("T")


def read(name: str, kind: type[T]) -> T:
    """A Variable's value; the default of its kind if it does not exist or holds anything else."""
    with get_client(sync_client=True) as client:
        found = client.read_variable_by_name(name)
    try:
        return TypeAdapter(kind).validate_python(found.value if found else {})
    except ValidationError:
        return kind()


def write(name: str, content: Any) -> None:
    """Create or overwrite a Variable with the fields of a dataclass."""
    value = TypeAdapter(type(content)).dump_python(content, mode="json")
    with get_client(sync_client=True) as client:
        if client.read_variable_by_name(name) is None:
            client.create_variable(VariableCreate(name=name, value=value, tags=["car-damage"]))
        else:
            client.update_variable(VariableUpdate(name=name, value=value, tags=["car-damage"]))
