"""Starts promote for a version that a person has approved on its page in the registry.

A run of retrain that ends with a version that waits for approval notes it in the Variable `car_damage_waiting`. Each look of
watch-landing reads these versions only, so it asks the registry nothing while none waits. The flow promote checks the evidence, as for
every person. A decision that was approved is never promoted twice, and one that was refused is not tried again, because the
run of promote has an idempotency key. If the Variable is lost, the next run of retrain notes the version again.
"""

from dataclasses import dataclass

from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound

from car_damage.errors import RegistryError, SettingsError
from car_damage.pipeline import AWAIT
from car_damage.ports import FLOW_RUN_TAG, ModelVersion, Platform
from car_damage.promotion.tags import DECISION, is_approved
from car_damage.settings import Settings
from tasks import variables
from tasks.author import DECIDED_BY
from tasks.commands import BOOTSTRAP

WAITING = "car_damage_waiting"
DEPLOYMENT = "promote/promote"
MOST = 20
"""Versions that are looked at; of more, the oldest are forgotten."""


@dataclass(frozen=True)
class Waiting:
    """The versions that wait for a person's approval, the latest last."""

    versions: tuple[int, ...] = ()


def remember(version: int) -> None:
    """Note that a version waits."""
    before = variables.read(WAITING, Waiting).versions
    if version not in before:
        variables.write(WAITING, Waiting((*before, version)[-MOST:]))


def look(platform: Platform) -> list[int]:
    """Start promote for each waiting version that was approved.

    Args:
        platform: only its port `registry` is used.

    Returns:
        The approved versions.

    Raises:
        RegistryError, Unavailable: the registry refuses, or does not answer. No approval is forgotten.
        SettingsError: the flow promote is not deployed.
    """
    numbers = variables.read(WAITING, Waiting).versions
    found = {number: _waiting(platform, number) for number in numbers}
    approved = [number for number, version in found.items() if version is not None and is_approved(version)]
    for number in approved:
        version = found[number]
        assert version is not None  # noqa: S101 - for the type checker
        _start(version, platform.settings)
    left = tuple(number for number in numbers if found[number] is not None and number not in approved)
    if left != numbers:  # last: after a kill before it the next look starts nothing twice
        variables.write(WAITING, Waiting(left))
    return approved


def _waiting(platform: Platform, number: int) -> ModelVersion | None:
    """The version; None if it waits no longer: it was deleted, or decided on."""
    try:
        version = platform.registry.get(number)
    except RegistryError:
        if any(other.version == number for other in platform.registry.all_versions()):
            raise
        return None
    return version if version.tags.get(DECISION) == AWAIT else None


def _start(version: ModelVersion, settings: Settings) -> None:
    """Create the run of promote, once for each decision on the version."""
    place = "Unity Catalog" if settings.registry_uri.startswith("databricks-uc") else "MLflow"
    key = f"approval-{settings.tracking.model}-{version.version}-{version.tags.get(FLOW_RUN_TAG, '')}"
    with get_client(sync_client=True) as client:
        try:
            deployment = client.read_deployment_by_name(DEPLOYMENT)
        except ObjectNotFound as error:
            raise SettingsError(
                f"version {version.version} was approved, but the flow promote is not deployed: run `{BOOTSTRAP}`"
            ) from error
        client.create_flow_run_from_deployment(
            deployment.id,
            parameters={"version": version.version, "reason": f"approved on the model's page in {place}"},
            idempotency_key=key,
            labels={DECIDED_BY: f"a person in {place}"},
        )
