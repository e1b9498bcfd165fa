"""What `databricks bundle deploy` does with databricks.yml, by the same API calls, for a workspace without the CLI.

It creates what its state does not know and updates what it knows, so it makes a second job of a name that exists, as the CLI does.

Sources: databricks/cli, bundle/config/mutator/resourcemutator/run_as.go, bundle/permissions/mutator.go,
bundle/deploy/metadata/annotate_jobs.go
"""

import re
from dataclasses import dataclass, field
from typing import Any

import yaml

from deployments.databricks import bundle

_LEVELS = {
    "jobs": {"CAN_MANAGE": "CAN_MANAGE", "CAN_VIEW": "CAN_VIEW", "CAN_RUN": "CAN_MANAGE_RUN"},
    "experiments": {"CAN_MANAGE": "CAN_MANAGE", "CAN_VIEW": "CAN_READ"},
}


@dataclass
class Bundle:
    """A target of the bundle. `state` is what the CLI keeps in the workspace: the id of each resource that it has made."""

    client: Any
    target: str
    without: set[str] = field(default_factory=set)
    """Top-level mappings that are left out."""
    state: dict[str, Any] = field(default_factory=dict)

    def deploy(self, **given: str) -> None:
        """Raises KeyError for a variable without a value, TypeError for a field of a resource that the API does not have."""
        whole = {name: part for name, part in yaml.safe_load(bundle.BUNDLE.read_text()).items() if name not in self.without}
        target = whole["targets"][self.target]
        declared = {name: variable["default"] for name, variable in whole["variables"].items() if "default" in variable}
        values = {f"var.{name}": value for name, value in (declared | target.get("variables", {}) | given).items()}
        for kind, resources in whole["resources"].items():
            for key, resource in resources.items():
                values |= {f"resources.{kind}.{key}.{name}": value for name, value in resource.items() if isinstance(value, str)}
        self._values = values | {"bundle.name": whole["bundle"]["name"], "bundle.target": self.target}
        self.root = self._filled(whole["workspace"]["root_path"])
        permissions = self._filled([*whole.get("permissions", []), *target.get("permissions", [])])
        for kind, resources in whole["resources"].items():
            for key, resource in resources.items():
                fields = {name: value for name, value in self._filled(resource).items() if name != "lifecycle"}
                made = getattr(self, f"_{kind}")(self.state.get(f"{kind}.{key}"), fields, self._filled(whole.get("run_as")))
                self.state[f"{kind}.{key}"] = made
                self._permit(kind, made, permissions)

    def _filled(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: self._filled(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [self._filled(inner) for inner in value]
        return re.sub(r"\$\{([^}]*)\}", lambda found: str(self._values[found[1]]), value) if isinstance(value, str) else value

    def _schemas(self, there: Any, fields: dict[str, Any], _: Any) -> Any:
        return there or self.client.schemas.create(**fields).full_name

    def _volumes(self, there: Any, fields: dict[str, Any], _: Any) -> Any:
        from databricks.sdk.service.catalog import VolumeType

        return there or self.client.volumes.create(**fields | {"volume_type": VolumeType(fields["volume_type"])}).full_name

    def _registered_models(self, there: Any, fields: dict[str, Any], _: Any) -> Any:
        return there or self.client.registered_models.create(**fields).full_name

    def _experiments(self, there: Any, fields: dict[str, Any], _: Any) -> Any:
        return there or self.client.experiments.create_experiment(**fields).experiment_id

    def _jobs(self, there: Any, fields: dict[str, Any], run_as: Any) -> Any:
        from databricks.sdk.service.jobs import JobSettings

        marks = {"deployment": {"kind": "BUNDLE", "metadata_file_path": f"{self.root}/state/metadata.json"}, "edit_mode": "UI_LOCKED"}
        wanted = fields | marks | ({"run_as": run_as} if run_as else {})
        settings = JobSettings.from_dict(wanted)
        if there:
            self.client.jobs.reset(there, settings)
            return there
        return self.client.jobs.create(**{name: getattr(settings, name) for name in wanted}).job_id

    def _permit(self, kind: str, made: Any, permissions: list[dict[str, str]]) -> None:
        from databricks.sdk.service.iam import AccessControlRequest, PermissionLevel

        for given in permissions if kind in _LEVELS else []:
            principal = {name: value for name, value in given.items() if name != "level"}
            request = AccessControlRequest(permission_level=PermissionLevel(_LEVELS[kind][given["level"]]), **principal)
            self.client.permissions.update(kind, str(made), access_control_list=[request])
