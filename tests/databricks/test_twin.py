"""The twin refuses what Databricks refuses. The other tests here prove nothing without that."""

from collections import Counter
from typing import Any

import pytest
import requests

from tests.databricks.twin import ADMIN_TOKEN, SECRET, Twin

ABSTRACT = {"answer", "presigned", "take_upload", "_schema_of", "_deployment_job", "_version_is_there"}


ENTITY = {"entity_name": "a.b.c", "entity_version": "1", "workload_size": "Small", "scale_to_zero_enabled": True}
MODELS = "/api/2.0/mlflow/unity-catalog/registered-models"


def ask(twin: Twin, method: str, path: str, body: Any = None, token: str = SECRET) -> tuple[int, str]:
    """Status and error code of the response."""
    answer = requests.request(
        method,
        f"{twin.host}{path}",
        json=body,
        headers={"Authorization": f"Bearer {token}"},
        verify=twin.environment["SSL_CERT_FILE"],
        timeout=120,
    )
    return answer.status_code, "" if answer.ok else answer.json()["error_code"]


@pytest.mark.parametrize(
    ("method", "path", "body", "refusal"),
    [
        ("GET", "/api/2.1/jobs/runs/everything", None, (404, "ENDPOINT_NOT_FOUND")),
        ("GET", "/api/2.2/jobs/list?nmae=x", None, (400, "INVALID_PARAMETER_VALUE")),
        ("POST", "/api/2.1/jobs/run-now", {"job_id": 1, "only": ["x"]}, (400, "INVALID_PARAMETER_VALUE")),
        (
            "POST",
            "/api/2.0/mlflow/unity-catalog/registered-models/create",
            {"name": "a.b.c", "owner": "me"},
            (400, "INVALID_PARAMETER_VALUE"),
        ),
    ],
)
def test_what_is_not_documented_is_refused_and_kept(twin: Twin, method: str, path: str, body: Any, refusal: tuple[int, str]) -> None:
    assert ask(twin, method, path, body) == refusal
    assert len(twin.strange) == 1
    twin.strange.clear()


@pytest.mark.parametrize(
    ("path", "body", "code"),
    [
        ("/api/2.1/jobs/run-now", {}, "INVALID_PARAMETER_VALUE"),
        ("/api/2.1/jobs/run-now", {"job_id": "1"}, "MALFORMED_REQUEST"),
        ("/api/2.1/jobs/run-now", ["job_id"], "MALFORMED_REQUEST"),
        ("/api/2.2/jobs/create", {"name": "x", "tasks": "all"}, "MALFORMED_REQUEST"),
        ("/api/2.1/unity-catalog/schemas", {"name": 7, "catalog_name": "insurance_uc"}, "MALFORMED_REQUEST"),
        ("/api/2.0/mlflow/unity-catalog/registered-models/create", {"name": "two.levels"}, "INVALID_PARAMETER_VALUE"),
        (
            "/api/2.0/serving-endpoints",
            {"name": "e", "config": {"served_entities": [ENTITY | {"name": "a.b-1"}]}},
            "INVALID_PARAMETER_VALUE",
        ),
    ],
)
def test_what_is_missing_or_of_another_type_is_refused(twin: Twin, path: str, body: Any, code: str) -> None:
    assert ask(twin, "POST", path, body) == (400, code)


@pytest.mark.parametrize(("method", "body"), [("GET", None), ("PATCH", {"access_control_list": []})])
def test_permissions_on_what_is_not_there_are_not_found(twin: Twin, method: str, body: Any) -> None:
    assert ask(twin, method, "/api/2.0/permissions/jobs/None", body, token=ADMIN_TOKEN) == (404, "RESOURCE_DOES_NOT_EXIST")


def test_a_longer_idempotency_token_is_refused(twin: Twin) -> None:
    job = next(iter(twin.jobs))
    assert ask(twin, "POST", "/api/2.1/jobs/run-now", {"job_id": job, "idempotency_token": "t" * 65}) == (400, "INVALID_PARAMETER_VALUE")


def test_who_is_not_known_is_refused(twin: Twin) -> None:
    assert ask(twin, "GET", "/api/2.2/jobs/list", token="another") == (401, "UNAUTHENTICATED")  # noqa: S106
    assert ask(twin, "GET", "/presigned/guessed") == (404, "NOT_FOUND")


def test_no_room_of_the_twin_hides_what_another_one_does() -> None:
    defined = Counter(name for room in Twin.__mro__[1:-1] for name in vars(room) if not name.startswith("__"))
    assert [name for name, times in defined.items() if times > 1 and name not in ABSTRACT] == []
