"""Comments and tags of what the service owns in Unity Catalog, so that people find it and know what it is.

A comment or a tag of a person's stays. The landing volume and its schema belong to the data team: they only get a comment when they are
created. A table gets its comments when it is created, because the API does not change them (databricks-sdk, TablesAPI.update).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from car_damage.adapters.databricks import registered_model, workspace
from car_damage.adapters.mlflow.registry import DESCRIPTION
from car_damage.adapters.tables.spark_work import literal
from car_damage.settings import Settings
from deployments.administrator import permitted, quoted
from deployments.databricks import unity_catalog
from deployments.databricks.existence import create_once
from deployments.databricks.principal import Api
from deployments.items import LACK, Item

SERVICES = {"schema": "schemas", "volume": "volumes", "model": "registered_models", "table": "tables"}
"""Kind of object -> its API in databricks-sdk."""
NOT_IN_A_KEY = frozenset(".,-=/:")
"""Characters that no key of a tag may have: https://docs.databricks.com/aws/en/database-objects/tags#constraint"""


@dataclass(frozen=True)
class Entry:
    """An object of the catalog."""

    kind: str
    """One of SERVICES."""
    name: str
    comment: str = ""
    """What it is. Empty: its comment is not written here."""


def items(settings: Settings, api: Api) -> list[Item]:
    """The description of each schema, volume, model and table of the service. No run needs one."""
    tags = {key: value for key, value in settings.serving.tags.items() if not NOT_IN_A_KEY & set(key)}
    return [
        Item(f"description of {one.kind} {one.name}", partial(_check, api, one, tags), partial(_describe, api, one, tags), vital=False)
        for one in _entries(settings)
    ]


def _entries(settings: Settings) -> list[Entry]:
    comments = unity_catalog.comments(settings)
    theirs = {volume.rpartition(".")[0] for volume in [*unity_catalog.landing(settings), *unity_catalog.backbones(settings)]}
    tables = unity_catalog.tables(settings) if settings.tables.names == "catalog" else []
    return [
        *(Entry("schema", name, comments[name]) for name in unity_catalog.schemas(settings) if name not in theirs),
        *(Entry("volume", name, comments[name]) for name in unity_catalog.volumes(settings)),
        *(Entry("model", name, DESCRIPTION) for name in unity_catalog.models(settings)),
        *(Entry("table", name) for name in tables),
    ]


def _service(api: Api, one: Entry) -> Any:
    return getattr(api(), SERVICES[one.kind])


def _check(api: Api, one: Entry, tags: Mapping[str, str]) -> str | None:
    comment, lacking = _lacking(api, one, tags)
    words = [*(["a comment"] if comment else []), *(f"the tag {key}" for key in lacking)]
    return f"{LACK}{', '.join(words)}" if words else None


def _lacking(api: Api, one: Entry, tags: Mapping[str, str]) -> tuple[bool, dict[str, str]]:
    """Whether it lacks a comment, and the tags that it lacks. A table that does not exist lacks nothing: a run creates it."""
    from databricks.sdk.errors import NotFound

    with workspace.translated(f"reading the {one.kind} {one.name}", needs="a privilege on it"):
        try:
            service = _service(api, one)
            comment = (service.read if one.kind == "volume" else service.get)(one.name).comment
        except NotFound:
            return bool(one.comment), {} if one.kind == "table" else dict(tags)
        has = _tags(api, one)
    return bool(one.comment) and not comment, {key: value for key, value in tags.items() if key not in has}


def _tags(api: Api, one: Entry) -> Mapping[str, str | None]:
    """The tags API has neither models nor their versions: see databricks-sdk, EntityTagAssignmentsAPI."""
    if one.kind == "model":
        return registered_model.tags_of(registered_model.read(api(), one.name))
    return {tag.tag_key: tag.tag_value for tag in api().entity_tag_assignments.list(f"{one.kind}s", one.name)}


def _describe(api: Api, one: Entry, tags: Mapping[str, str]) -> None:
    comment, lacking = _lacking(api, one, tags)
    if comment:
        command = f"COMMENT ON {one.kind.upper()} {quoted(one.name)} IS {literal(one.comment)};"
        if one.kind == "model":
            command = f"databricks registered-models update {one.name} --comment '{one.comment}'"
        with permitted(f"commenting on the {one.kind} {one.name}", needs="ownership of it, or MANAGE on it", command=command):
            _service(api, one).update(one.name, comment=one.comment)
    for key, value in lacking.items():
        command = f"ALTER {one.kind.upper()} {quoted(one.name)} SET TAGS ({literal(key)} = {literal(value)});"
        if one.kind == "model":
            body = json.dumps({"name": one.name, "key": key, "value": value})
            command = f"databricks api post {registered_model.MODELS}/set-tag --json '{body}'"
        with permitted(f"tagging the {one.kind} {one.name}", needs="ownership of it, or APPLY TAG on it", command=command):
            _set_tag(api, one, key, value)


def _set_tag(api: Api, one: Entry, key: str, value: str) -> None:
    from databricks.sdk.service.catalog import EntityTagAssignment

    if one.kind == "model":
        registered_model.set_tag(api(), one.name, key, value)
        return
    wanted = EntityTagAssignment(one.name, key, f"{one.kind}s", tag_value=value)
    create_once(lambda: api().entity_tag_assignments.create(wanted))
