"""Generates docs/settings.md from the settings: `python -m deployments.settings_page`."""

import inspect
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from car_damage.settings import Section, Settings

PAGE = Path(__file__).parents[1] / "docs" / "settings.md"
HEAD = """# Settings

Each setting has a default; the defaults are those of one laptop. A TOML file overrides them: the one that `CAR_DAMAGE_CONFIG` names,
or `car-damage.toml` in the current folder. Environment variables override the file. The variable for `training.epochs` is
`CAR_DAMAGE_TRAINING__EPOCHS`. Unknown keys and misspelt variables are errors. `car-damage status` says which file it has read.

`deployments/settings/local.toml` has the settings of the demo, and `deployments/settings/databricks.toml` what differs in Databricks.
"""


def page() -> str:
    """The whole page."""
    lines = [HEAD, "| key | default | |", "|---|---|---|"]
    plain = {name: field for name, field in Settings.model_fields.items() if _section(field) is None}
    lines += [_row("", name, field) for name, field in plain.items()]
    for name, field in Settings.model_fields.items():
        section = _section(field)
        if section is None:
            continue
        lines += ["", f"## {name}", "", inspect.cleandoc(section.__doc__ or ""), "", "| key | default | |", "|---|---|---|"]
        lines += [_row(f"{name}.", key, inner) for key, inner in section.model_fields.items()]
    return "\n".join(lines) + "\n"


def _section(field: FieldInfo) -> type[BaseModel] | None:
    annotation = field.annotation
    return annotation if isinstance(annotation, type) and issubclass(annotation, Section) else None


def _row(prefix: str, name: str, field: FieldInfo) -> str:
    description = " ".join((field.description or "").split()).replace("|", "\\|")
    allowed = f" Allowed: {', '.join(f'`{value}`' for value in _choices(field.annotation))}." if _choices(field.annotation) else ""
    return f"| `{prefix}{name}` | {_default(field.default)} | {description}{allowed} |"


def _choices(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if "Literal" in str(get_origin(annotation)) else ()


def _default(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, dict):
        return ", ".join(f"`{key}` = `{_toml(inner)}`" for key, inner in value.items()) or "empty"
    if isinstance(value, tuple):
        return ", ".join(f"`{inner}`" for inner in value)
    return f"`{value}`"


def _toml(value: Any) -> str:
    return "{" + ", ".join(f"{key} = {inner}" for key, inner in value.items()) + "}" if isinstance(value, dict) else str(value)


if __name__ == "__main__":
    PAGE.write_text(page())
