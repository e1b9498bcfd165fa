"""Takes out of a text what would tell a stranger whose workspace it is, or let him in."""

import os
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from car_damage.settings import Settings
from tasks.workspace import VARIABLES

_SECRET = re.compile(r"TOKEN|SECRET|PASSWORD|PASSWD|_KEY$|AUTH_STRING|CREDENTIAL|CONNECTION_URL", re.IGNORECASE)
"""What the name of an environment variable has that holds a secret."""
_SHORTEST = 6
"""Characters of a secret, at least: a shorter value, such as `true`, is no secret and would be found in other words."""
_SHAPES = (
    (re.compile(r"\?[\w-]+=[^\s\"'<>()#]*"), ""),
    (re.compile(r"(?i)\bbearer\s+\S+"), "<token>"),
    (re.compile(r"\b(?:dapi|dose|dkea|oauth-)[\w-]{8,}|\beyJ[\w-]+\.[\w.-]+|\b(?:AKIA|ASIA)[A-Z0-9]{12,}\b"), "<token>"),
    (re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+"), "<mail>"),
    (re.compile(r"\b[a-z]+://[^\s\"'<>/]+(?:\?[^\s\"'<>]*)?"), "<host>"),
    (re.compile(r"\b[\w-]+(?:\.[\w-]+)*\.(?:com|net|us|cn|org|io|dev)\b(?::\d+)?"), "<host>"),
    (re.compile(r"\b\d{1,3}(?:\.\d{1,3}){3}\b(?::\d+)?"), "<address>"),
    (re.compile(r"\b[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b"), "<id>"),
    (re.compile(r"\b(?:m-)?[0-9a-f]{12,}\b"), "<id>"),
    (re.compile(r"\b\d{4}-\d{6}-\w+\b|\b\d{4,}\b"), "<id>"),
)
"""What such a thing looks like, where its value is not known."""


class Redaction:
    """Replaces known values, and what looks like one.

    Args:
        known: value -> what to write instead. The longest value is replaced first.
    """

    def __init__(self, known: Mapping[str, str]) -> None:
        self.known = dict(known)

    def text(self, text: str) -> str:
        """The text without them."""
        for value, instead in sorted(self.known.items(), key=lambda one: -len(one[0])):
            text = re.sub(rf"(?<![A-Za-z0-9]){re.escape(value)}(?![A-Za-z0-9])", instead.replace("\\", ""), text)
        for shape, instead in _SHAPES:
            text = shape.sub(instead, text)
        return text

    def everywhere(self, value: Any) -> Any:
        """The same for every text in lists and mappings."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {key: self.everywhere(inner) for key, inner in value.items()}
        if isinstance(value, list | tuple):
            return [self.everywhere(inner) for inner in value]
        return value


def of(settings: Settings, schema: str) -> Redaction:
    """What these settings and this environment tell.

    Args:
        settings: of the service, whose names of catalogs and objects are those of a company.
        schema: the throw-away schema.
    """
    names = [
        *settings.tables.all,
        settings.tracking.model,
        settings.landing.folder,
        settings.answers.corrections,
        settings.databricks.handovers,
        settings.databricks.wheels,
    ]
    catalogs = {part for name in names for part in [name.split("/")[2] if name.startswith("/Volumes/") else name.partition(".")[0]]}
    known = {catalog: "<catalog>" for catalog in catalogs if "/" not in catalog} | {schema: "<smoke>"}
    if settings.databricks.service_principal:
        known[settings.databricks.service_principal] = "<service principal>"
    for name, value in os.environ.items():
        if len(value) >= _SHORTEST and (name in VARIABLES or _SECRET.search(name)):
            known |= {value: f"<{name}>", urlsplit(value).netloc: "<host>"}
    return Redaction({value: instead for value, instead in known.items() if value})
